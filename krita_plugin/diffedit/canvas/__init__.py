"""Krita's documents as the plugin sees them: the only files of the plugin that import `krita`.

Everything here runs on Krita's main thread. What may take long is a generator of steps: each step is a short piece of
work, and `StepRunner` (or a timer of one's own) runs one per turn of the event loop, so that Krita never freezes.
"""
