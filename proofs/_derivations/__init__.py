"""Derivations as a textbook writes them; each step is decided for all sizes.

``terms`` defines the language, ``decide`` reads it as terms of the normal form and decides, and
``derivation`` is a chain of steps. ``notation`` has the names and sums that several chapters use.
The other files are the derivations, one chapter each.
"""
