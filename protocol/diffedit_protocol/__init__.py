"""What crosses the wire between Krita and the DiffEdit backend. Needs msgpack and pyzmq only."""

__version__ = "0.1.0"
PROTOCOL_VERSION = 1
