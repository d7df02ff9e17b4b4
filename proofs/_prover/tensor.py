"""Defines arrays of terms, with which the reader of jaxprs computes.

An array is one term in the indices of its axes, and two flags. A flag is a term that is 1 where the
array is -inf ("lowest"), or where it is NaN or +inf ("bad"), and 0 elsewhere. Where a flag is 1,
the term of the array means nothing.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from typing import Any

from .._normal_form import (
    ONE,
    ZERO,
    Atom,
    Poly,
    Symbol,
    entry,
    fresh,
    index,
    is_zero,
    poly,
    substitute,
    total,
    unused,
)


@dataclass(frozen=True)
class Tensor:
    """An array of terms."""

    shape: tuple[Poly, ...]
    value: Poly
    lowest: Poly = ZERO  # where it is -inf
    bad: Poly = ZERO  # where it is NaN or +inf
    dtype: Any = None
    infinite: bool = False  # whether it is the constant +inf, for comparisons

    @property
    def finite(self) -> bool:
        """Whether both flags are certain to be 0 everywhere."""
        return not self.lowest.terms and not self.bad.terms

    def at(self, new: dict[Atom, Poly]) -> Tensor:
        """Returns the array with indices replaced by terms."""
        return replace(
            self,
            value=substitute(self.value, new),
            lowest=substitute(self.lowest, new),
            bad=substitute(self.bad, new),
        )

    def placed(self, places: Mapping[int, Poly | Atom | int]) -> Tensor:
        """Returns the entries at these places of some axes."""
        here = {i: axis(i, self.shape[i]) for i in places}
        return self.at({a: poly(places[i]) for i, a in here.items() if isinstance(a, Atom)})


def axis(position: int, dim: Poly) -> Atom | int:
    """Returns the index of the axis at a position, or 0 if its size is 1."""
    return 0 if dim == ONE else index(f"a{position}", dim)


def axes(shape: tuple[Poly, ...]) -> tuple[Atom | int, ...]:
    """Returns the indices of all axes."""
    return tuple(axis(i, d) for i, d in enumerate(shape))


def fresh_axis(dim: Poly) -> Atom | int:
    """Returns a new index for an axis, or 0 if its size is 1."""
    return 0 if dim == ONE else fresh(dim)


def inner_axes(shape: Iterable[Poly], *terms: Poly) -> dict[int, Atom | int]:
    """Returns an index for each axis that none of these terms has, or 0 if its size is 1."""
    inner: dict[int, Atom | int] = {}
    for i, dim in enumerate(shape):
        inner[i] = 0 if dim == ONE else unused(dim, *terms, *map(poly, inner.values()))
    return inner


def new_tensor(symbol: Symbol, like: Tensor) -> Tensor:
    """Returns an array of any numbers, such as a cotangent, a tangent, or a carry of a loop."""
    return Tensor(like.shape, entry(symbol, *axes(like.shape)), dtype=like.dtype)


def summed(p: Poly, indices: Iterable[Atom | int]) -> Poly:
    """Returns the sum over the indices of some axes; an axis of size 1 has no index."""
    return total(p, *(i for i in indices if isinstance(i, Atom)))


def either(*flags: Poly) -> Poly:
    """Returns a term that is 1 where any of these 0-1 terms is 1, else 0."""
    result = ZERO
    for f in flags:
        result = result + f - result * f
    return result


def chosen(which: Poly, yes: Tensor, no: Tensor) -> Tensor:
    """Returns one array where a 0-1 term is 1, and the other elsewhere.

    Where one array is infinite or NaN everywhere, its term means nothing, and only the other's is
    used.
    """

    def mixed(a: Poly, b: Poly) -> Poly:
        return b + which * (a - b)

    if ONE in (no.lowest, no.bad):
        value = yes.value
    elif ONE in (yes.lowest, yes.bad):
        value = no.value
    else:
        value = mixed(yes.value, no.value)
    return Tensor((), value, mixed(yes.lowest, no.lowest), mixed(yes.bad, no.bad))


def anywhere(flag: Poly, i: Atom) -> Poly:
    """Returns a term that is 1 if a 0-1 term is 1 at any value of the index i, else 0."""
    return 1 - is_zero(total(flag, i)) if flag.terms else ZERO
