"""Benchmarks that a user can run: `diffedit bench NAME`. Importing this package needs no torch."""
