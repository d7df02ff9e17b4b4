"""Derivations as a textbook writes them; SymPy decides each step for all sizes.

``terms`` defines the language and ``decide`` the rules. ``numbers`` is a check that shares none of
the rules, and ``derivation`` a chain of steps. The other files are the derivations.
"""
