"""Gather the records of a cell: slices travel through the shuffle as claim checks."""
