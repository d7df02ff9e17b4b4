"""Arrays of terms: what the reader of jaxprs computes with.

An array is one term in its axes' indices, and two flags, terms that are 0 or 1: where it
is -inf, and where it is NaN or +inf ("bad"). Where a flag is set the term means nothing.
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
    infinite: bool = False  # the number +inf, for comparisons

    @property
    def finite(self) -> bool:
        """Whether no flag can be set."""
        return not self.lowest.terms and not self.bad.terms

    def at(self, new: dict[Atom, Poly]) -> Tensor:
        """Indices replaced."""
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
    """The index of an axis; an axis of size 1 has none."""
    return 0 if dim == ONE else index(f"a{position}", dim)


def axes(shape: tuple[Poly, ...]) -> tuple[Atom | int, ...]:
    """The indices of all axes."""
    return tuple(axis(i, d) for i, d in enumerate(shape))


def fresh_axis(dim: Poly) -> Atom | int:
    """A new index for an axis; an axis of size 1 has none."""
    return 0 if dim == ONE else fresh(dim)


def inner_axes(shape: Iterable[Poly], *terms: Poly) -> dict[int, Atom | int]:
    """Returns an index for each axis that none of these terms has, or 0 if its size is 1."""
    inner: dict[int, Atom | int] = {}
    for i, dim in enumerate(shape):
        inner[i] = 0 if dim == ONE else unused(dim, *terms, *map(poly, inner.values()))
    return inner


def new_tensor(symbol: Symbol, like: Tensor) -> Tensor:
    """An array of any numbers: a cotangent, a tangent, or a carry."""
    return Tensor(like.shape, entry(symbol, *axes(like.shape)), dtype=like.dtype)


def summed(p: Poly, indices: Iterable[Atom | int]) -> Poly:
    """Returns the sum over the indices of some axes; an axis of size 1 has no index."""
    return total(p, *(i for i in indices if isinstance(i, Atom)))


def either(*flags: Poly) -> Poly:
    """Whether any of some 0-1 terms is 1."""
    result = ZERO
    for f in flags:
        result = result + f - result * f
    return result


def chosen(which: Poly, yes: Tensor, no: Tensor) -> Tensor:
    """Returns one array where a 0-1 term is 1, and the other elsewhere.

    An array that is infinite or NaN everywhere has terms that mean nothing.
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
    """Whether a 0-1 term is 1 at any index."""
    return 1 - is_zero(total(flag, i)) if flag.terms else ZERO
