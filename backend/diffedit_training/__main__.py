"""`python -m diffedit_training`: `diffedit train-bundled` where nothing is installed."""

import argparse
import sys

from . import command as train_bundled

if __name__ == "__main__":
    parser = argparse.ArgumentParser(prog="diffedit train-bundled", description=train_bundled.HELP)
    train_bundled.add_arguments(parser)
    sys.exit(train_bundled.run(parser.parse_args()))
