"""Checks of the closed-form gradients, by SymPy, at three classes.

Each check differentiates a textbook loss with ``sympy.diff`` and asks whether the closed
form that the library ships is the same expression. What this does not say: anything
about other numbers of classes, about the traced code, or about rounding.
"""

from ._fixed_size import CHECKS as CHECKS
from ._fixed_size import check as check

__all__ = ["CHECKS", "check"]
