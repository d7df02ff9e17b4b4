"""Proves theorems exactly at small concrete shapes, through ``sympy.diff``.

This runs the traced function on exact numbers, differentiates its value with SymPy, and decides
whether JAX's backward pass computes the same function, for every labelling and mask and every order
of the logits, ties included. It shares with the engine for all sizes only the form of questions and
answers, and the removal of dead code, which is JAX's own.
"""

import functools
import time
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import jax
from xent_jax.proofs._jax_internals import doubt, untested, without_dead_code
from xent_jax.proofs._prover.verdict import Verdict

from .inputs import distinct, shape_of, written
from .proof import Claim, Derivative, prove_traced

SIZES = (
    {"n": 1, "k": 1, "m": 1, "s": 1, "d": 1, "b": 2},
    {"n": 1, "k": 2, "m": 2, "s": 1, "d": 1, "b": 1},
    {"n": 1, "k": 3, "m": 1, "s": 1, "d": 1, "b": 1},
    {"n": 2, "k": 2, "m": 1, "s": 1, "d": 2, "b": 1},
)
"""The shapes at which a function is proved.

They have n rows and k classes; m shards, or m chunks of s tokens of width d; and b batch shards.
"""


def prove_concrete(
    fun: Callable[..., Any],
    args: Mapping[str, Any],
    wrt: Sequence[str],
    reference: Callable[..., Any] | None = None,
    sizes: Sequence[Mapping[str, int]] = SIZES,
    derivative: Derivative = "vjp",
) -> Verdict:
    """Proves at concrete shapes that what JAX derives of ``fun`` is its derivative.

    Args:
        fun: a function of the arguments, in their order, that returns one array.
        args: ``{name: spec}``, as for ``prove_vjp``.
        wrt: the names of the arguments by which ``fun`` is differentiated.
        reference: a function that ``fun`` must equal.
        sizes: the shapes to prove at; each maps the name of a dimension to its size.
        derivative: "vjp" for the cotangents, "jvp" for the tangents, "second order" for the
            vjp and the jvp of the cotangents, or "value" for the value alone.

    Returns:
        The verdict; its assumptions list the shapes and how many labellings were proved at each.
    """
    if why := untested():
        return Verdict("refused", reason=why)
    start, remarks = time.perf_counter(), [text for text in (doubt(),) if text]
    verdict = Verdict("proved")
    for size in distinct(sizes, args):
        shapes = [shape_of(spec, size) for spec in args.values()]
        claim = trace(fun, shapes, [list(args).index(name) for name in wrt], derivative)
        truth = None if reference is None else jax.make_jaxpr(reference)(*shapes)
        verdict = prove_traced(claim, args, wrt, truth, size)
        remarks += [r for r in verdict.assumptions if r not in remarks]
        if not verdict.proved:
            break
    seconds = time.perf_counter() - start
    reason, counterexample = verdict.reason, verdict.counterexample
    return Verdict(verdict.status, counterexample, tuple(remarks), reason, None, seconds)


_BY_KIND: dict[str, Derivative] = {
    "value": "value",
    "gradient": "vjp",
    "second order": "second order",
    "forward mode": "jvp",
}


def prove_theorem(theorem: Any, sizes: Sequence[Mapping[str, int]] = SIZES) -> Verdict:
    """Proves the claim of a theorem of ``THEOREMS`` by this engine, at the sizes that it covers."""
    build = theorem.build
    allowed, derivative = _allowed(theorem, sizes), _BY_KIND[theorem.kind]
    return prove_concrete(build.fun, build.args, build.wrt, build.reference, allowed, derivative)


def sizes_of(theorem: Any) -> str:
    """Returns a text that lists the shapes at which a theorem is proved."""
    return "; ".join(map(written, distinct(_allowed(theorem, SIZES), theorem.build.args)))


def _allowed(theorem: Any, sizes: Sequence[Mapping[str, int]]) -> list[Mapping[str, int]]:
    least = theorem.build.least
    return [s for s in sizes if all(s[d] >= n for d, n in least.items())]


def trace(
    fun: Callable[..., Any], shapes: Sequence[Any], places: Sequence[int], derivative: Derivative
) -> Claim:
    """Traces ``fun`` and JAX's derivative by the arguments at ``places``, without dead code."""
    value = without_dead_code(jax.make_jaxpr(fun)(*shapes))
    if len(value.out_avals) != 1:
        raise TypeError("prove_concrete: the function must return one array.")
    if derivative == "value":
        return Claim(value, value, derivative)
    (out,) = value.out_avals
    cotangent = jax.ShapeDtypeStruct(out.shape, out.dtype)
    directions = [shapes[i] for i in places]
    run = functools.partial(_derivative, fun, places, derivative)
    first = [] if derivative == "jvp" else [cotangent]
    second = [] if derivative == "vjp" else directions
    claimed = jax.make_jaxpr(lambda *all_: run(len(first), len(second), all_))(
        *first, *second, *shapes
    )
    return Claim(value, without_dead_code(claimed), derivative)


def _derivative(fun, places, derivative: Derivative, n_first: int, n_second: int, all_):
    g, v, args = all_[:n_first], all_[n_first : n_first + n_second], all_[n_first + n_second :]
    moving = [args[i] for i in places]

    def function(*moving):
        given = list(args)
        for place, x in zip(places, moving, strict=True):
            given[place] = x
        return fun(*given)

    def backward(g, *moving):
        return jax.vjp(function, *moving)[1](g)

    if derivative == "vjp":
        value, pullback = jax.vjp(function, *moving)
        return value, *pullback(*g)
    if derivative == "jvp":
        value, tangent = jax.jvp(function, moving, list(v))
        return value, tangent
    forward = jax.jvp(functools.partial(backward, *g), moving, list(v))[1]
    by_cotangent, *by_moving = jax.vjp(backward, *g, *moving)[1](tuple(v))
    return *by_moving, by_cotangent, *forward
