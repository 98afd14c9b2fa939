"""For every test: one thread for torch, here and in the processes that tests start.

Two threads wait for each other on a machine that does other work beside; the small models gain nothing from them.
"""

import os

os.environ.setdefault("OMP_NUM_THREADS", "1")
