"""Reading of comparisons, truth values, and choices by them."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import jax.numpy as jnp
import numpy as np

from .. import _normal_form as f
from .._normal_form import ONE, ZERO, Poly, Refused
from .read import assume, reads, result
from .tensor import Tensor, either


def above_floor(x: Tensor, y: Tensor) -> bool:
    """Whether y is a number below all normal ones, and x a positive term: taken to be above."""
    number = y.value.number() if y.finite else None
    if number is None or number <= 0 or not jnp.issubdtype(y.dtype, jnp.floating):
        return False
    if number > float(jnp.finfo(y.dtype).tiny) or not x.finite or not f.above_zero(x.value):
        return False
    assume(f"positive numbers that are kept above {float(number):.3g} are above it")
    return True


def greater(x: Tensor, y: Tensor) -> Poly:
    """``[x > y]``, where neither is bad."""
    if above_floor(x, y):
        return ONE
    if above_floor(y, x):
        return ZERO
    finite = f.greater(x.value - y.value)
    return (1 - x.lowest) * (y.lowest + (1 - y.lowest) * finite)


def _compare(eqn: Any, x: Tensor, y: Tensor, value: Poly) -> Tensor:
    return result(eqn, value, bad=either(x.bad, y.bad))


@reads("gt")
def _gt(eqn: Any, x: Tensor, y: Tensor) -> Tensor:
    if x.infinite or y.infinite:
        return _beside_infinity(eqn, x, y, x.infinite)
    return _compare(eqn, x, y, greater(x, y))


@reads("lt")
def _lt(eqn: Any, x: Tensor, y: Tensor) -> Tensor:
    return _gt(eqn, y, x)


@reads("le")
def _le(eqn: Any, x: Tensor, y: Tensor) -> Tensor:
    out = _gt(eqn, x, y)
    return replace(out, value=1 - out.value)


@reads("ge")
def _ge(eqn: Any, x: Tensor, y: Tensor) -> Tensor:
    return _le(eqn, y, x)


@reads("eq")
def _eq(eqn: Any, x: Tensor, y: Tensor) -> Tensor:
    if x.infinite or y.infinite:
        return _beside_infinity(eqn, x, y, False)
    if above_floor(x, y) or above_floor(y, x):
        return result(eqn, ZERO)
    finite = (1 - x.lowest) * (1 - y.lowest)
    value = x.lowest * y.lowest + finite * f.is_zero(x.value - y.value)
    return _compare(eqn, x, y, value)


@reads("ne")
def _ne(eqn: Any, x: Tensor, y: Tensor) -> Tensor:
    out = _eq(eqn, x, y)
    return replace(out, value=1 - out.value)


def _beside_infinity(eqn: Any, x: Tensor, y: Tensor, holds: bool) -> Tensor:
    other = x if y.infinite else y
    if other.infinite:
        raise Refused("a comparison of infinities")
    return result(eqn, ONE if holds else ZERO, bad=other.bad)


def _booleans(eqn: Any) -> None:
    if np.dtype(eqn.outvars[0].aval.dtype) != np.bool_:
        raise Refused("bits of integers")


@reads("and")
def _and(eqn: Any, x: Tensor, y: Tensor) -> Tensor:
    _booleans(eqn)
    return result(eqn, x.value * y.value, bad=either(x.bad, y.bad))


@reads("or")
def _or(eqn: Any, x: Tensor, y: Tensor) -> Tensor:
    _booleans(eqn)
    return result(eqn, either(x.value, y.value), bad=either(x.bad, y.bad))


@reads("xor")
def _xor(eqn: Any, x: Tensor, y: Tensor) -> Tensor:
    _booleans(eqn)
    value = x.value + y.value - 2 * x.value * y.value
    return result(eqn, value, bad=either(x.bad, y.bad))


@reads("not")
def _not(eqn: Any, x: Tensor) -> Tensor:
    _booleans(eqn)
    return result(eqn, 1 - x.value, bad=x.bad)


@reads("is_finite")
def _is_finite(eqn: Any, x: Tensor) -> Tensor:
    return result(eqn, 1 - either(x.lowest, x.bad))


@reads("select_n")
def _select_n(eqn: Any, which: Tensor, *cases: Tensor) -> Tensor:
    if len(cases) != 2 or which.value * which.value != which.value:
        raise Refused("a choice among more than two")
    no, yes = cases
    w = which.value

    def mixed(a: Poly, b: Poly) -> Poly:
        return a + w * (b - a)

    nowhere = [ONE in (t.lowest, t.bad) for t in cases]  # there the term means nothing
    value = yes.value if nowhere[0] else no.value if nowhere[1] else mixed(no.value, yes.value)
    return Tensor(
        no.shape or yes.shape or which.shape,
        value,
        mixed(no.lowest, yes.lowest),
        either(mixed(no.bad, yes.bad), which.bad),
        yes.dtype,
    )
