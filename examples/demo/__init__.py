"""The demonstration that ``make run`` shows: one run, five destinations, with servers of its own on this machine."""
