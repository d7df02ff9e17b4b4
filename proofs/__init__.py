"""Proves facts about losses and their code, by derivations in SymPy and a prover that reads jaxprs.

``prove_vjp`` decides, for all sizes, whether the backward pass that JAX will run is the derivative
of a function, which may be your own. ``prove_jvp`` does the same for forward mode, and
``prove_equal`` compares the values of two functions. ``assert_vjp_proved`` is ``prove_vjp`` for use
in a test.

``DERIVATIONS`` maps names to derivations. Each is a chain of expressions, and its method ``check``
decides whether each step holds; ``_derivations.derivation`` explains what a check means.
``python -m xent_jax.proofs`` checks everything. Names are loaded at first use, so that the command
can say that SymPy is missing.
"""

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from ._catalogue import DERIVATIONS as DERIVATIONS
    from ._derivations.decide import Assumption as Assumption
    from ._derivations.derivation import Derivation as Derivation
    from ._derivations.derivation import Step as Step
    from ._prover.prove import assert_vjp_proved as assert_vjp_proved
    from ._prover.prove import prove_equal as prove_equal
    from ._prover.prove import prove_jvp as prove_jvp
    from ._prover.prove import prove_vjp as prove_vjp
    from ._prover.spec import array as array
    from ._prover.spec import labels as labels
    from ._prover.spec import permutation as permutation
    from ._prover.spec import scalar as scalar
    from ._prover.verdict import Verdict as Verdict

_HOME = {
    "Assumption": "_derivations.decide",
    "DERIVATIONS": "_catalogue",
    "Derivation": "_derivations.derivation",
    "Step": "_derivations.derivation",
    "Verdict": "_prover.verdict",
    "array": "_prover.spec",
    "assert_vjp_proved": "_prover.prove",
    "labels": "_prover.spec",
    "permutation": "_prover.spec",
    "prove_equal": "_prover.prove",
    "prove_jvp": "_prover.prove",
    "prove_vjp": "_prover.prove",
    "scalar": "_prover.spec",
}

__all__ = list(_HOME)


def __getattr__(name: str) -> Any:
    if name not in _HOME:
        raise AttributeError(f"module {__name__} has no attribute {name!r}")
    try:
        return getattr(importlib.import_module(f".{_HOME[name]}", __name__), name)
    except ModuleNotFoundError as error:
        missing = (error.name or "").partition(".")[0]
        if missing not in ("sympy", "rich"):
            raise
        needs = f"{__name__}.{name} needs {missing}: pip install 'xent-jax[proofs]'"
        raise ModuleNotFoundError(needs, name=missing) from None
