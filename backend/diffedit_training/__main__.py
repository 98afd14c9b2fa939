"""`python -m diffedit_training`: `diffedit train-bundled` where nothing is installed."""

import sys

from diffedit_backend.cli import main

if __name__ == "__main__":
    sys.exit(main(["train-bundled", *sys.argv[1:]]))
