"""Reads comparisons, operations on booleans, and choices by booleans."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import jax.numpy as jnp

from .. import _normal_form as f
from .._normal_form import ONE, ZERO, Poly, Refused
from .read import assume, only_booleans, reads, result
from .tensor import Tensor, chosen, either


def above_floor(x: Tensor, y: Tensor) -> bool:
    """Returns whether x is positive and y a tiny number, and if so notes the assumption x > y."""
    number = y.value.number() if y.finite else None
    if number is None or number <= 0 or not jnp.issubdtype(y.dtype, jnp.floating):
        return False
    if number > float(jnp.finfo(y.dtype).tiny) or not x.finite or not f.above_zero(x.value):
        return False
    assume(f"positive numbers that are kept above {float(number):.3g} are above it")
    return True


def greater(x: Tensor, y: Tensor) -> Poly:
    """Returns ``[x > y]``: 1 where x is above y, else 0, if neither is bad there."""
    if above_floor(x, y):
        return ONE
    if above_floor(y, x):
        return ZERO
    finite = f.greater(x.value - y.value)
    return (1 - x.lowest) * (y.lowest + (1 - y.lowest) * finite)


@reads("gt")
def _gt(eqn: Any, x: Tensor, y: Tensor) -> Tensor:
    if x.infinite or y.infinite:
        return _beside_infinity(eqn, x, y, x.infinite)
    return result(eqn, greater(x, y), bad=either(x.bad, y.bad))


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
    return result(eqn, value, bad=either(x.bad, y.bad))


@reads("ne")
def _ne(eqn: Any, x: Tensor, y: Tensor) -> Tensor:
    out = _eq(eqn, x, y)
    return replace(out, value=1 - out.value)


def _beside_infinity(eqn: Any, x: Tensor, y: Tensor, holds: bool) -> Tensor:
    other = x if y.infinite else y
    if other.infinite:
        raise Refused("a comparison of infinities")
    return result(eqn, ONE if holds else ZERO, bad=other.bad)


_CONNECTIVES: dict[str, Callable[..., Poly]] = {
    "and": lambda x, y: x * y,
    "or": either,
    "xor": lambda x, y: x + y - 2 * x * y,
    "not": lambda x: 1 - x,
}


@reads(*_CONNECTIVES)
def _connective(eqn: Any, *xs: Tensor) -> Tensor:
    only_booleans(eqn)
    value = _CONNECTIVES[eqn.primitive.name](*(x.value for x in xs))
    return result(eqn, value, bad=either(*(x.bad for x in xs)))


@reads("is_finite")
def _is_finite(eqn: Any, x: Tensor) -> Tensor:
    return result(eqn, 1 - either(x.lowest, x.bad))


@reads("select_n")
def _select_n(eqn: Any, which: Tensor, *cases: Tensor) -> Tensor:
    if len(cases) != 2 or which.value * which.value != which.value:
        raise Refused("a choice among more than two")
    no, yes = cases
    out = chosen(which.value, yes, no)
    shape = no.shape or yes.shape or which.shape
    return replace(out, shape=shape, bad=either(out.bad, which.bad), dtype=yes.dtype)
