"""`diffedit bench processor`. Precisions and numbers of threads on this machine's processor."""
