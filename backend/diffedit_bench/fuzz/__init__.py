"""`diffedit bench fuzz`. Random and mutated messages at a running backend, bounded in count."""
