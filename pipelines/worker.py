"""A worker process of a local run: Beam's own, whose lines go to the runner only, however Beam was installed."""

from __future__ import annotations

import logging
import sys

from apache_beam.runners.worker.sdk_worker_main import main

from transforms.memory import keep_little

if __name__ == "__main__":
    # What `pipelines` put in place for the import: from here on, what is logged goes to the runner.
    logging.getLogger().handlers.clear()
    keep_little()
    main(sys.argv)
