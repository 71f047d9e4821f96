"""The command line: a thin layer over the Python functions of the same names."""

import time

STARTED = time.perf_counter()  # of the process, as nearly as it can tell: a time budget counts from here
