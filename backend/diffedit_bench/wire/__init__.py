"""`diffedit bench wire`. The protocol beside bare ZeroMQ and raw TCP."""
