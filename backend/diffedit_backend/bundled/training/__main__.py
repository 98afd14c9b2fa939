"""`python -m diffedit_backend.bundled.training`: the same as `diffedit train-bundled`."""
