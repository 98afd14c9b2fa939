"""For every test: one thread for torch and no compiling by numba, here and in the processes that tests start.

Two threads wait for each other on a machine that does other work beside; the small models gain nothing from them.
pymatting compiles all of its functions when it is first imported, which takes a minute; run as Python, the few that
small pictures need take a fraction of a second.
"""

import os

os.environ.setdefault("OMP_NUM_THREADS", "1")
os.environ.setdefault("NUMBA_DISABLE_JIT", "1")
