"""What a live job does with a slice when it comes, and with a cell when it is flushed: pure functions, without Beam."""
