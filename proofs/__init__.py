"""Proofs of what ships: derivations by SymPy, and the prover of code, for all sizes.

``prove_vjp`` decides, for all sizes, whether the backward that JAX will run is the
derivative of a function, anybody's; so do ``prove_jvp`` for forward mode and
``prove_equal`` for values; ``assert_vjp_proved`` makes a test of it.

``DERIVATIONS`` holds the derivations by name, each a chain of expressions that ``check``
decides step by step. ``python -m xent_jax.proofs`` checks all; ``_derivation`` says what a
check means. Names are loaded at first use, so that the command can say that SymPy is
missing.
"""

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from ._catalogue import DERIVATIONS as DERIVATIONS
    from ._derivation import Assumption as Assumption
    from ._derivation import Derivation as Derivation
    from ._derivation import Step as Step
    from ._prove import assert_vjp_proved as assert_vjp_proved
    from ._prove import prove_equal as prove_equal
    from ._prove import prove_jvp as prove_jvp
    from ._prove import prove_vjp as prove_vjp
    from ._spec import array as array
    from ._spec import labels as labels
    from ._spec import scalar as scalar
    from ._verdict import Verdict as Verdict

_HOME = {
    "Assumption": "_derivation",
    "DERIVATIONS": "_catalogue",
    "Derivation": "_derivation",
    "Step": "_derivation",
    "Verdict": "_verdict",
    "array": "_spec",
    "assert_vjp_proved": "_prove",
    "labels": "_spec",
    "prove_equal": "_prove",
    "prove_jvp": "_prove",
    "prove_vjp": "_prove",
    "scalar": "_spec",
}

__all__ = list(_HOME)


def __getattr__(name: str) -> Any:
    if name not in _HOME:
        raise AttributeError(f"module {__name__} has no attribute {name!r}")
    try:
        return getattr(importlib.import_module(f".{_HOME[name]}", __name__), name)
    except ModuleNotFoundError as error:
        if error.name not in ("sympy", "rich"):
            raise
        needs = f"{__name__}.{name} needs {error.name}: pip install 'xent-jax[proofs]'"
        raise ModuleNotFoundError(needs, name=error.name) from None
