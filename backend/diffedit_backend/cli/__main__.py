"""`python -m diffedit_backend.cli`: the console script where nothing is installed."""

import sys

from .program import main

sys.exit(main())
