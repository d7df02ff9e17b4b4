"""Transposed and forward derivatives of arrays of terms."""

from __future__ import annotations

from collections.abc import Sequence

from .._normal_form import ZERO, Symbol, derivative, substitute
from .tensor import Tensor, axes, renamed, summed


def pull(outs: Sequence[Tensor], cotangents: Sequence[Tensor], to: Symbol, like: Tensor) -> Tensor:
    """``sum_o cotangent_o  d out_o / d to``, an array shaped like the argument."""
    place = (*axes(like.shape), *to.mark)
    value = ZERO
    for out, cotangent in zip(outs, cotangents, strict=True):
        inner, new = renamed(out.shape)
        slope = derivative(substitute(out.value, new), to, *place)
        value = value + summed(substitute(cotangent.value, new) * slope, inner)
    return Tensor(like.shape, value, dtype=like.dtype)


def push(out: Tensor, arguments: Sequence[tuple[Symbol, Tensor]]) -> Tensor:
    """``sum_a  d out / d argument_a  tangent_a``, an array shaped like the output."""
    value = ZERO
    for symbol, tangent in arguments:
        inner, new = renamed(tangent.shape)
        slope = derivative(out.value, symbol, *inner)
        value = value + summed(slope * substitute(tangent.value, new), inner)
    return Tensor(out.shape, value, dtype=out.dtype)
