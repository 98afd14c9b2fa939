"""The GPU side of DiffEdit for Krita: the method, the models, the server and the command line."""

from diffedit_protocol import __version__

__all__ = ["__version__"]
