"""Drop duplicates: exact by (kind, id) over the run's whole input, and within a cell over what others have
committed.
"""
