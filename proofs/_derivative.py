"""The trusted base, 4: the derivative of a term, and whether a term is 0."""

from __future__ import annotations

from fractions import Fraction

from ._functions import inverse, is_zero, together
from ._normal_form import (
    ONE,
    ZERO,
    Atom,
    Monomial,
    Number,
    Poly,
    Refused,
    Symbol,
    add_all,
    atom,
    delta,
    fresh,
    opened,
    poly,
    product,
    substitute,
    total,
)

_KINKED = {
    "zero": "an equality",
    "positive": "an inequality",
    "dominant": "a comparison with half a sum",
    "max": "a maximum",
    "floor": "a rounding",
    "round": "a rounding",
    "at_least_one": "a maximum",
}


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
        return _same_place(a.args[1], place)
    if a.kind == "exp":
        return poly(a) * derivative(a.args[0], symbol, *place)
    if a.kind == "log":
        _discrete(a.args[0], symbol)
        slope = derivative(a.args[0], symbol, *place)
        return _reciprocal(a.args[0]) * slope
    if a.kind == "group":
        return derivative(a.args[0], symbol, *place)
    if a.kind == "recip":
        base = poly(a.args[0])
        _discrete(base, symbol)
        return -(poly(a) ** 2) * derivative(base, symbol, *place)
    if a.kind == "sum":
        i, body = opened(a)
        return total(derivative(body, symbol, *place), i)
    raise Refused(f"the derivative of {_KINKED.get(a.kind, a.kind)}, in {symbol}: {a}")


def _same_place(here: tuple[Atom | int, ...], there: tuple[Atom | int, ...]) -> Poly:
    result = ONE
    for i, j in zip(here, there, strict=True):
        result = result * delta(i, j)
    return result


def _discrete(p: Poly, symbol: Symbol) -> None:
    """Where p vanishes must not depend on the symbol: there log and recip are made up."""
    where = is_zero(p)
    if any(a.kind == "entry" and a.args[0] == symbol for a in where.inside()):
        raise Refused(f"the derivative of a function of {p}, which may be 0")


def _reciprocal(p: Poly) -> Poly:
    term = p.single()
    if term is not None and len(term[0]) == 1:
        ((a, e),) = term[0]
        if e == 1 and is_zero(p).terms:
            return poly(atom("recip", a)) * (Fraction(1) / term[1])
    return inverse(p)


def vanishes(p: Poly) -> bool:
    """Whether a term is 0 everywhere. True is a proof; False says nothing."""
    if not p.terms:
        return True
    numerator, _ = together(p)
    return not numerator.terms or not _merged(numerator).terms


def _merged(p: Poly) -> Poly:
    """Sums with the same factor beside them, dropped where their bodies together vanish."""
    groups: dict[tuple[Monomial, Poly], list[tuple[Monomial, Number, Atom]]] = {}
    for m, c in p.terms.items():
        for a, e in m:
            if a.kind == "sum" and e == 1:
                beside = frozenset(m - {(a, e)})
                groups.setdefault((beside, a.args[0].args[1]), []).append((m, c, a))
    for (_, dim), members in sorted(groups.items(), key=lambda g: -len(g[1])):
        here = [(m, c, a) for m, c, a in members if m in p.terms]
        if len(here) < 2:
            continue
        i = fresh(dim)
        body = add_all(substitute(a.args[1], {a.args[0]: poly(i)}) * c for _, c, a in here)
        if vanishes(body):
            gone = {m for m, _, _ in here}
            p = Poly({m: c for m, c in p.terms.items() if m not in gone})
    return p
