"""`diffedit bench load`. Several artists at once on one backend."""
