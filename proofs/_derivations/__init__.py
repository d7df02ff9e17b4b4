"""Derivations as a textbook writes them; each step is decided for all sizes.

``terms`` defines the language, ``decide`` reads it as terms of the normal form and decides, and
``derivation`` is a chain of steps. The other files are the derivations.
"""
