"""Asks the prover for verdicts on backward passes that are given as jaxprs, such as mutants."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from jax.extend import core
from xent_jax.proofs._prover import claims
from xent_jax.proofs._prover.decision import TIMEOUT, Decision
from xent_jax.proofs._prover.layers import without_names
from xent_jax.proofs._prover.read import read
from xent_jax.proofs._prover.sizes import Sizes
from xent_jax.proofs._prover.spec import Spec
from xent_jax.proofs._prover.trace import Arguments
from xent_jax.proofs._prover.verdict import Verdict


def prove_backward(
    value: core.ClosedJaxpr,
    backward: core.ClosedJaxpr,
    args: Mapping[str, Spec],
    wrt: Sequence[str],
    reference: claims.Function,
    *,
    least: Mapping[str, int] | None = None,
) -> Verdict:
    """Returns the verdict of ``prove_vjp`` on jaxprs, without a search for counterexamples.

    The jaxprs are traced at ``arguments(args).shapes``. Conditions on sizes that Python code
    checks while it is traced are not known here, so the verdict is about sizes that have these
    jaxprs.

    Args:
        value: a jaxpr from the arguments to one array.
        backward: a jaxpr from the output's cotangent and the arguments to a cotangent for each
            of ``wrt``.
        args, wrt, reference, least: as for ``prove_vjp``.
    """
    return _OfJaxprs(
        "prove_backward",
        lambda a: _claims(value, backward, a, wrt, reference),
        lambda *_: None,
        TIMEOUT,
        search=False,
    ).verdict(args, least)


class _OfJaxprs(Decision):
    """A decision that asks for no other sizes, because jaxprs cannot be traced again at those."""

    def _at(self, sizes: Sizes, book: Any, wanted: Any, ends: float) -> Any:
        verdict, _ = super()._at(sizes, book, {}, ends)
        return verdict, ()


def _claims(
    value: core.ClosedJaxpr,
    backward: core.ClosedJaxpr,
    a: Arguments,
    wrt: Sequence[str],
    reference: claims.Function,
) -> claims.Claims:
    """Returns the gradients of a traced backward beside those of the reference's terms."""
    without_names("a traced backward")
    outs = claims._outputs(reference, a)
    claims.require(claims._beside("the value", read(value, a.tensors), outs))
    claims._finite("the value", *outs)
    g = list(claims._cotangents(a, outs).values())
    return claims._gradient_claims(read(backward, [*g, *a.tensors]), outs, g, a, wrt)
