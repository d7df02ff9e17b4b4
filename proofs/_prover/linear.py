"""Computes vector-Jacobian and Jacobian-vector products of arrays of terms."""

from __future__ import annotations

from collections.abc import Sequence

from .._normal_form import ZERO, Symbol, derivative, poly
from .tensor import Tensor, axes, inner_axes, summed


def pull(outs: Sequence[Tensor], cotangents: Sequence[Tensor], to: Symbol, like: Tensor) -> Tensor:
    """Returns ``sum_o cotangent_o  d out_o / d to``, an array shaped like the argument."""
    place = (*axes(like.shape), *to.mark)
    value = ZERO
    for out, cotangent in zip(outs, cotangents, strict=True):
        inner = inner_axes(out.shape, out.value, cotangent.value, *map(poly, place))
        slope = derivative(out.placed(inner).value, to, *place)
        value = value + summed(cotangent.placed(inner).value * slope, inner.values())
    return Tensor(like.shape, value, dtype=like.dtype)


def push(out: Tensor, arguments: Sequence[tuple[Symbol, Tensor]]) -> Tensor:
    """Returns ``sum_a  d out / d argument_a  tangent_a``, an array shaped like the output."""
    value = ZERO
    for symbol, tangent in arguments:
        inner = inner_axes(tangent.shape, out.value, tangent.value)
        slope = derivative(out.value, symbol, *inner.values())
        value = value + summed(slope * tangent.placed(inner).value, inner.values())
    return Tensor(out.shape, value, dtype=out.dtype)
