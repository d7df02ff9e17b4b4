"""The derivative of a term."""

from __future__ import annotations

from fractions import Fraction

from .angles import cos, sin
from .indices import Symbol, same_place
from .polynomial import ZERO, Atom, Monomial, Number, Poly, Refused, add_all, atom, poly, product
from .quotients import inverse
from .sums import opened, total
from .zero import is_zero

_KINKED = {
    "zero": "an equality",
    "positive": "an inequality",
    "dominant": "a comparison with half a sum",
    "max": "a maximum",
    "floor": "a rounding",
    "round": "a rounding",
    "at_least": "a maximum",
    "fewer_bits": "a rounding",
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
        return same_place(a.args[1], place)
    if a.kind == "exp":
        return poly(a) * derivative(a.args[0], symbol, *place)
    if a.kind == "sin":
        return cos(a.args[0]) * derivative(a.args[0], symbol, *place)
    if a.kind == "cos":
        return -sin(a.args[0]) * derivative(a.args[0], symbol, *place)
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
