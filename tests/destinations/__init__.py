"""One contract for every destination, against real and emulated servers."""
