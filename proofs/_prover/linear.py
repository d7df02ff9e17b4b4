"""Transposed and forward derivatives of arrays of terms."""

from __future__ import annotations

from collections.abc import Sequence

from .._normal_form import ZERO, Atom, Poly, Symbol, derivative, substitute, total
from .tensor import Tensor, axes, renamed


def pull(outs: Sequence[Tensor], cotangents: Sequence[Tensor], to: Symbol, like: Tensor) -> Tensor:
    """``sum_o cotangent_o  d out_o / d to``, an array shaped like the argument."""
    place = (*axes(like.shape), *to.mark)
    value = ZERO
    for out, cotangent in zip(outs, cotangents, strict=True):
        inner, new = renamed(out.shape)
        slope = derivative(substitute(out.value, new), to, *place)
        value = value + _over(inner, substitute(cotangent.value, new) * slope)
    return Tensor(like.shape, value, dtype=like.dtype)


def push(out: Tensor, arguments: Sequence[tuple[Symbol, Tensor]]) -> Tensor:
    """``sum_a  d out / d argument_a  tangent_a``, an array shaped like the output."""
    value = ZERO
    for symbol, tangent in arguments:
        inner, new = renamed(tangent.shape)
        slope = derivative(out.value, symbol, *inner)
        value = value + _over(inner, slope * substitute(tangent.value, new))
    return Tensor(out.shape, value, dtype=out.dtype)


def _over(inner: tuple[Atom | int, ...], p: Poly) -> Poly:
    for i in inner:
        p = total(p, i) if isinstance(i, Atom) else p
    return p
