"""One module per subcommand of `diffedit`: HELP, add_arguments(parser), run(args) -> exit code.

Modules import torch and friends inside `run` only: the base install has none of them.
"""
