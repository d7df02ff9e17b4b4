"""Converts terms to SymPy expressions for people to read; no proof depends on them."""

from __future__ import annotations

from typing import Any

import sympy as sp

from .._normal_form import Atom, Monomial, Number, Poly, look, poly, substitute
from .._normal_form.state import remembered


def to_sympy(p: Poly) -> Any:
    """Returns a term as a SymPy expression; ``a0, a1, ...`` are the indices of the array's axes."""
    return sp.Add(*(_term(m, c) for m, c in p.terms.items()))


def _term(m: Monomial, c: Number) -> Any:
    look()
    powers = sorted(m, key=lambda t: t[0].key)
    return sp.Mul(sp.Rational(c), *(_atom(a) ** sp.Rational(e) for a, e in powers))


def _index(t: Atom | int) -> Any:
    if isinstance(t, int):
        return sp.Integer(t)
    return _atom(t)


@remembered
def _atom(a: Atom) -> Any:
    args = a.args
    if a.kind == "entry":
        if len(args[1]) == len(args[0].mark):
            return sp.Symbol(args[0].name, real=True)
        places = args[1][: len(args[1]) - len(args[0].mark)]
        return sp.IndexedBase(repr(args[0]), real=True)[tuple(map(_index, places))]
    if a.kind in {"place", "group"}:
        return to_sympy(args[0])
    if a.kind == "div":
        return sp.floor(_atom(args[0]) / to_sympy(args[1]))
    if a.kind == "mod":
        return sp.Mod(_atom(args[0]), to_sympy(args[1]))
    if a.kind == "index":
        return sp.Symbol(_plain(str(args[0])), integer=True)
    if a.kind == "dim":
        return sp.Symbol(args[0], integer=True, positive=True)
    if a.kind == "delta":
        return sp.KroneckerDelta(*map(_index, args))
    if a.kind in {"sum", "max"}:
        return _bound(a)
    return _function(a)


def _plain(name: str) -> str:
    return name.replace("#", "j").replace("_", "i")


def _bound(a: Atom) -> Any:
    name, body = a.args[:2]
    i = _atom(name)
    inner = to_sympy(body)
    if a.kind == "max":
        return sp.Function("Max")(inner, i)
    return sp.Sum(inner, (i, 0, to_sympy(name.args[1]) - 1))


_SAME_NAME = {"exp", "sqrt", "log", "sin", "cos", "erf", "atan", "floor"}


def _function(a: Atom) -> Any:
    args = a.args
    if a.kind in _SAME_NAME:
        return getattr(sp, a.kind)(to_sympy(args[0]))
    if a.kind == "prime":
        return sp.Integer(args[0])
    if a.kind == "pi":
        return sp.pi
    if a.kind == "recip":
        return 1 / _atom(args[0])
    if a.kind == "ramp":
        return sp.Max(to_sympy(args[0]), 0)
    if a.kind == "at_least":
        return sp.Max(to_sympy(args[1]), sp.Rational(args[0]))
    if a.kind in {"zero", "positive"}:
        relation = sp.Eq if a.kind == "zero" else sp.Gt
        return sp.Piecewise((1, relation(to_sympy(args[0]), 0)), (0, True))
    if a.kind == "dominant":
        names, body, threshold, places = args
        there = to_sympy(substitute(body, dict(zip(names, map(poly, places), strict=True))))
        ranges = ((_atom(i), 0, to_sympy(i.args[1]) - 1) for i in names)
        every = sp.Sum(to_sympy(body), *ranges)
        return sp.Piecewise((1, there > sp.Rational(threshold) * every), (0, True))
    return sp.Function(a.kind)(*(to_sympy(x) for x in args if isinstance(x, Poly)))
