"""Holds derivations as a textbook writes them; each step is decided for all sizes.

``terms`` defines the language of formulas. ``decide`` reads formulas as terms of the normal form
and decides whether they are equal. ``derivation`` defines a derivation as a chain of steps.
``notation`` has the names and sums that several chapters use. Each of the other files is a chapter
of derivations.
"""
