"""Families of flow models: how each calls its network, encodes texts and pictures, and spaces its levels.

The conventions are those of the diffusers pipelines that each file names; the tests hold the two equal.
"""
