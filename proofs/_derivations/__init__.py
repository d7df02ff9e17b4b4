"""Derivations as a textbook writes them, each step decided by SymPy for all sizes.

``terms`` is the language, ``decide`` the rules, ``numbers`` a guard that shares none of
them, ``derivation`` a chain of steps; the other files are the derivations.
"""
