"""Benchmarks: the job against its peers, over the same files, in one run, interleaved.

    make bench         # 3 million records
    make bench-full    # and 30 million; says first how much disk and time it needs

`python -m benchmarks --help` tells the options; ``docs/benchmarks.md`` the figures. Ratios are what counts: single
times depend on the machine and on what else it does.
"""
