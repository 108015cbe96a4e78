"""The demonstration that ``make run`` shows: one run, six destinations, with servers of its own on this machine."""
