"""The derivative of a term; almost everywhere, where ``usual`` says so, that of its pieces."""
from __future__ import annotations

from fractions import Fraction

from .cases import Kinked, off_kinks
from .functions import cos, inverse, reciprocal, sin
from .functions import slope as slope_of
from .indices import Symbol, fresh, same_place, substitute
from .sums import opened, total
from .terms import ZERO, Atom, Monomial, Number, Poly, Refused, add_all, atom, poly, product
from .zero import greater, is_zero

_KINKED = {
    "zero": "an equality",
    "positive": "an inequality",
    "dominant": "a comparison with half a sum",
    "max": "a maximum",
    "floor": "a rounding",
    "round": "a rounding",
    "at_least": "a maximum",
    "ramp": "a maximum",
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
    if a.kind in {"erf", "atan"}:
        return slope_of(a) * derivative(a.args[0], symbol, *place)
    if a.kind == "group":
        return derivative(a.args[0], symbol, *place)
    if a.kind == "recip":
        base = poly(a.args[0])
        _discrete(base, symbol)
        return -(poly(a) ** 2) * derivative(base, symbol, *place)
    if a.kind == "sqrt":
        _discrete(a.args[0], symbol)
        slope = derivative(a.args[0], symbol, *place)
        return reciprocal(poly(a)) * slope * Fraction(1, 2)
    if a.kind == "sum":
        i, body = opened(a)
        return total(derivative(body, symbol, *place), i)
    what = f"the derivative of {_KINKED.get(a.kind, a.kind)}, in {symbol}: {a}"
    if a.kind not in _KINKED or any(b.kind in {"any_number", "fewer_bits"} for b in a.inside):
        raise Refused(what)
    if not off_kinks():
        raise Kinked(what)
    return _of_piece(a, symbol, place)


def _of_piece(a: Atom, symbol: Symbol, place: tuple[Atom | int, ...]) -> Poly:
    """Returns the derivative of a comparison, a rounding or a maximum, off a set of measure 0.

    Where several terms are the maximum together on a larger set, they have the same derivative
    there, and it is computed as their mean.
    """
    if a.kind in {"at_least", "ramp"}:
        number, p = a.args if len(a.args) == 2 else (0, *a.args)
        return greater(p - number) * derivative(p, symbol, *place)
    if a.kind != "max":
        return ZERO
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


def _reciprocal(p: Poly) -> Poly:
    term = p.single()
    if term is not None and len(term[0]) == 1:
        ((a, e),) = term[0]
        if e == 1 and is_zero(p).terms:
            return poly(atom("recip", a)) * (Fraction(1) / term[1])
    return inverse(p)
