"""Krita on this machine: where its files live, how the plugin gets into it, and how to run one in a profile of its own.

Standard library only: used by `diffedit demo`, by the tests in a real Krita, and by whoever installs the plugin.
"""
