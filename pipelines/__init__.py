"""Jobs that can be launched: wiring and options only."""

import logging
import os

# Arrow's allocator hands freed memory back to the system ten milliseconds after the last use, and the next batch pays
# for it with page faults (docs/decisions.md has the figures). It reads this when Arrow is loaded, so it comes before
# any import.
os.environ.setdefault("MIMALLOC_PURGE_DELAY", "500")


def _not_about_apitools(record: logging.LogRecord) -> bool:
    return not str(record.msg).startswith("apitools not found")


# Without the extra ``gcp``, Beam warns of it when it is imported, by `logging.warning`: a line that says nothing to
# whoever needs no Google Cloud. A filter of the root logger sees only what is logged there directly, and takes out this
# line only. `logging.warning` also sets up a handler where there is none, which would print the lines of all workers;
# the handler of last resort does what happens without any: warnings go to standard error.
logging.getLogger().addFilter(_not_about_apitools)
if not logging.getLogger().handlers and logging.lastResort is not None:
    logging.getLogger().addHandler(logging.lastResort)
