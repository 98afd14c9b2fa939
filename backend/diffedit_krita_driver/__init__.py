"""A real Krita, driven from outside: profiles, a virtual screen, tasks on Krita's main thread, and the demo.

Used by `diffedit demo`, by `diffedit bench krita` and by the tests in a real Krita; no part of the installed product.
"""
