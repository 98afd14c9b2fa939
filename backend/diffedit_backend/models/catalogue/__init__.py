"""The models and adapters that lie on this machine: where, what, how large. No torch."""
