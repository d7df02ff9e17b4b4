"""Proofs of what ships: derivations by SymPy, for any number of classes.

``DERIVATIONS`` holds them by name, each a chain of expressions that ``check`` decides
step by step. ``python -m xent_jax.proofs`` checks all; ``_derivation`` says what a check
means. Names are loaded at first use, so that the command can say that SymPy is missing.
"""

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from ._catalogue import DERIVATIONS as DERIVATIONS
    from ._derivation import Assumption as Assumption
    from ._derivation import Derivation as Derivation
    from ._derivation import Step as Step

_HOME = {
    "Assumption": "_derivation",
    "DERIVATIONS": "_catalogue",
    "Derivation": "_derivation",
    "Step": "_derivation",
}

__all__ = list(_HOME)


def __getattr__(name: str) -> Any:
    if name not in _HOME:
        raise AttributeError(f"module {__name__} has no attribute {name!r}")
    return getattr(importlib.import_module(f".{_HOME[name]}", __name__), name)
