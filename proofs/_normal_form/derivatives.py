"""The derivative of a term; almost everywhere, where ``usual`` says so, that of its pieces."""

from __future__ import annotations

from .cases import Kinked, off_kinks
from .functions import reciprocal
from .indices import Symbol, fresh, same_place, substitute
from .sums import opened, total
from .terms import ZERO, Atom, Monomial, Number, Poly, Refused, add_all, poly, product
from .zero import is_zero


def derivative(p: Poly, symbol: Symbol, *place: Atom | int) -> Poly:
    """The derivative of a term to the entry of ``symbol`` at ``place``."""
    memo: dict[Atom, Poly] = {}

    def of(a: Atom) -> Poly:
        if a not in memo:
            memo[a] = _of_atom(a, symbol, place)
        return memo[a]

    parts = []
    for m, c in p.terms.items():
        for a, e in m:
            slope = of(a)
            if slope.terms:
                parts.append(_lowered(m, a, e) * (c * e) * slope)
    return add_all(parts)


def _lowered(m: Monomial, a: Atom, e: Number) -> Poly:
    return product([*((b, n) for b, n in m if b is not a), (a, e - 1)])


def _of_atom(a: Atom, symbol: Symbol, place: tuple[Atom | int, ...]) -> Poly:
    if not any(b.kind == "entry" and b.args[0] == symbol for b in a.inside):
        return ZERO
    if a.kind == "entry":
        if a.args[0] != symbol:
            raise Refused(f"an index {a} that is differentiated")
        return same_place(a.args[1], place)
    if a.kind == "sum":
        i, body = opened(a)
        return total(derivative(body, symbol, *place), i)
    of = a.of
    if of.kink or of.slope is None:
        what = f"the derivative of {of.kink or a.kind}, in {symbol}: {a}"
        if not of.kink or any(b.kind in {"any_number", "fewer_bits"} for b in a.inside):
            raise Refused(what)
        if not off_kinks():
            raise Kinked(what)
    if a.kind == "max":
        return _of_maximum(a, symbol, place)
    if of.slope is None:
        return ZERO
    inner = a.args[-1] if isinstance(a.args[-1], Poly) else poly(a.args[-1])
    if of.zeroed:
        _discrete(inner, symbol)
    return of.slope(a) * derivative(inner, symbol, *place)


def _of_maximum(a: Atom, symbol: Symbol, place: tuple[Atom | int, ...]) -> Poly:
    """The derivative of a maximum over an index, off a set of measure 0.

    Where several terms are the maximum together on a larger set, they have the same derivative
    there, and it is computed as their mean.
    """
    i = fresh(a.args[0].args[1])
    body, inside = (substitute(p, {a.args[0]: poly(i)}) for p in a.args[1:])
    here = inside * is_zero(body - poly(a))
    slope = total(here * derivative(body, symbol, *place), i)
    return slope * reciprocal(total(here, i))


def _discrete(p: Poly, symbol: Symbol) -> None:
    """Raises Kinked if where p vanishes depends on the symbol.

    At zeros of p, the terms log p, 1 / p and sqrt p are defined as 0. Almost everywhere, p then
    vanishes in a neighbourhood too, and the derivatives of these terms are 0.
    """
    where = is_zero(p)
    if not off_kinks() and any(a.kind == "entry" and a.args[0] == symbol for a in where.inside()):
        raise Kinked(f"the derivative of a function of {p}, which may be 0")
