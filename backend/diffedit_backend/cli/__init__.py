"""The console script `diffedit`. One module per subcommand: HELP, add_arguments(parser), run(args) -> exit code.

`program.py` is the parser; `pictures/` holds what `edit` and `mask` share. Modules import torch inside
`run` only: the base installation has none of them.
"""

from .program import main

__all__ = ["main"]
