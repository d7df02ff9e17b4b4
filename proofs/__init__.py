"""Symbolic checks of the shipped gradients, with SymPy."""
