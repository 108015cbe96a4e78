"""Route: which streams take which rows. One predicate per stream, all evaluated once per batch of rows.

`compile_filters` makes a `Router` of stream definitions; `Router.masks` evaluates it. `describe` tells in words how a
filter was read, `explain_row` which clause decided for a row. `transforms.route.definitions`
reads a streams file.
"""

from transforms.route.explain import Decision, describe, explain_row
from transforms.route.predicates import Router, compile_filters

__all__ = ["Decision", "Router", "compile_filters", "describe", "explain_row"]
