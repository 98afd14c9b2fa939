"""`diffedit bench krita`. How long a real Krita's main thread is held up, and how fast the live mask follows."""
