"""The prover of shipped derivatives, and checks of the closed forms at three classes.

``prove_vjp`` decides, for all sizes, whether the backward that JAX will run is the
derivative of a function; so do ``prove_jvp`` for forward mode and ``prove_equal`` for
values. ``CHECKS`` are the older checks, by SymPy at three classes.

Each check differentiates a textbook loss with ``sympy.diff`` and asks whether the closed
form that the library ships is the same expression. What this does not say: anything
about other numbers of classes, about the traced code, or about rounding.
"""

from ._fixed_size import CHECKS as CHECKS
from ._fixed_size import check as check
from ._prove import assert_vjp_proved as assert_vjp_proved
from ._prove import prove_equal as prove_equal
from ._prove import prove_jvp as prove_jvp
from ._prove import prove_vjp as prove_vjp
from ._spec import array as array
from ._spec import labels as labels
from ._spec import scalar as scalar
from ._verdict import Verdict as Verdict

__all__ = [
    "CHECKS",
    "Verdict",
    "array",
    "assert_vjp_proved",
    "check",
    "labels",
    "prove_equal",
    "prove_jvp",
    "prove_vjp",
    "scalar",
]
