"""Krita on this machine: where its files live, how the plugin gets into it, and the plugin's zip.

Standard library only.
"""
