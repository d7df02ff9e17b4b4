"""Transposed and forward derivatives of arrays of terms."""

from __future__ import annotations

from collections.abc import Sequence

from .._normal_form import ZERO, Symbol, derivative
from .tensor import Tensor, axes, fresh_axis, summed


def pull(outs: Sequence[Tensor], cotangents: Sequence[Tensor], to: Symbol, like: Tensor) -> Tensor:
    """``sum_o cotangent_o  d out_o / d to``, an array shaped like the argument."""
    place = (*axes(like.shape), *to.mark)
    value = ZERO
    for out, cotangent in zip(outs, cotangents, strict=True):
        inner = dict(enumerate(map(fresh_axis, out.shape)))
        slope = derivative(out.placed(inner).value, to, *place)
        value = value + summed(cotangent.placed(inner).value * slope, inner.values())
    return Tensor(like.shape, value, dtype=like.dtype)


def push(out: Tensor, arguments: Sequence[tuple[Symbol, Tensor]]) -> Tensor:
    """``sum_a  d out / d argument_a  tangent_a``, an array shaped like the output."""
    value = ZERO
    for symbol, tangent in arguments:
        inner = dict(enumerate(map(fresh_axis, tangent.shape)))
        slope = derivative(out.value, symbol, *inner.values())
        value = value + summed(slope * tangent.placed(inner).value, inner.values())
    return Tensor(out.shape, value, dtype=out.dtype)
