"""`diffedit bench speed`. Ours and the library's pipeline by turns in one run."""
