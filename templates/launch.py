"""What the flex template's launcher starts, with the template's parameters as command line options.

A file of its own, so that nothing of the job lives in ``__main__``: what does is pickled by value into the job.
"""

import sys

from pipelines.data_streamer import main

if __name__ == "__main__":
    sys.exit(main())
