"""pymatting, ready in seconds.

On its first import on a machine pymatting compiles all that it has: 45 s of work (numba), during which nothing can be
told or cancelled. Closed-form matting needs one of those functions, 2 s. So pymatting is imported with numba switched
off, and that one function is compiled; numba keeps it on the disk, and the next process has it at once.
"""

from __future__ import annotations

import importlib
import sys
from functools import cache
from types import ModuleType

LAPLACIAN = "pymatting.laplacian.cf_laplacian"
LOOP = "_cf_laplacian"  # over every px; without a compiler it would take minutes


@cache
def closed_form() -> ModuleType:
    """The module pymatting, of which `estimate_alpha_cf` and `jacobi` are fit for use.

    Of the rest, what numba should compile is slow in this process, unless pymatting had been imported before.
    """
    if "pymatting" in sys.modules:
        return sys.modules["pymatting"]
    import numba

    switched_off = numba.config.DISABLE_JIT
    numba.config.DISABLE_JIT = True
    try:
        pymatting = importlib.import_module("pymatting")
    finally:
        numba.config.DISABLE_JIT = switched_off
    laplacian = sys.modules[LAPLACIAN]
    setattr(laplacian, LOOP, numba.njit(cache=True, nogil=True)(getattr(laplacian, LOOP)))
    return pymatting
