"""The way to the backend: the connection's thread, a backend on this machine, and what is sent and received."""
