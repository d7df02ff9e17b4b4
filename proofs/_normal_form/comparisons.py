"""``[p > 0]``, and the comparisons with half a sum among them."""

from __future__ import annotations

import itertools
from collections.abc import Mapping
from fractions import Fraction

from .cases import by_cases
from .facts import facts
from .indices import as_index, fresh, index_range, later
from .kinks import off_kinks
from .polynomial import (
    ONE,
    ZERO,
    Atom,
    Number,
    Poly,
    add_all,
    atom,
    first_positive,
    monomial_key,
    poly,
    product,
)
from .quotients import content, together
from .rounding import digits, integral
from .signs import nonnegative, positive
from .substitution import rebuilds, substitute
from .sums import bind_all, each_nest, peek, total
from .zero import chosen, counted, is_zero, kept_above


def greater(p: Poly) -> Poly:
    """``[p > 0]``, 0 or 1."""
    return by_cases(_greater, p)


def _greater(p: Poly) -> Poly:
    numerator, _ = together(p)
    if not numerator.terms:
        return ZERO
    _, _, rest = content(numerator)
    if positive(rest):
        return ONE
    if nonnegative(-rest):
        return ZERO
    if nonnegative(rest) or counted(rest) is not None:
        return 1 - is_zero(rest)
    if kept := kept_above(rest):
        return chosen(greater, rest, kept)
    for rule in (_greater_of_product, _dominance, _greater_of_digits, _greater_of_integers):
        result = rule(rest)
        if result is not None:
            return result
    ordered = first_positive(rest)
    if ordered == rest or _of_indices(rest):
        return poly(atom("positive", rest))
    return 1 - poly(atom("positive", ordered)) - is_zero(rest)


def _greater_of_digits(p: Poly) -> Poly | None:
    """``a d + b > 0`` for integers with -d < b <= 0, d a dimension: a > 0."""
    for high, low, d in digits(p):
        if positive(poly(d) + low) and nonnegative(-low):
            return greater(high)
    return None


def _of_indices(p: Poly) -> bool:
    """Whether p is the difference of two indices: a sum renames them, and must not turn it."""
    return len(p.terms) == 2 and all(a.kind == "index" for a in p.atoms()) and len(p.atoms()) == 2


def _greater_of_product(p: Poly) -> Poly | None:
    """``a q > 0``: both are above 0, or both below. Pieces are told by it."""
    common = frozenset.intersection(*(frozenset(m) for m in p.terms)) if off_kinks() else ()
    for a in sorted((a for a, e in common if e == 1), key=lambda a: a.key):
        q = add_all(product(m - {(a, 1)}, c) for m, c in p.terms.items())
        if q.number() is None:
            return greater(poly(a)) * greater(q) + greater(-poly(a)) * greater(-q)
    return None


def _greater_of_integers(p: Poly) -> Poly | None:
    """``p > 0`` for an integer p: ``p = 1`` if it is 1 at most; or not ``1 - p > 0``.

    The latter where the first coefficient is below 0; but ``a + 1 > 0`` without dimensions is not
    ``-a > 0``, so that ``a > 0``, ``a = 0`` and ``a < 0`` are three cases of one comparison.
    """
    if not integral(p):
        return None
    if nonnegative(1 - p):
        return is_zero(1 - p)
    number = p.terms.get(frozenset(), 0)
    if number in (0, 1) and not any(a.kind == "dim" for a in p.atoms()):
        return 1 - greater(1 - p) if number else None
    first = min((m for m in p.terms if m), key=monomial_key)
    return 1 - greater(1 - p) if p.terms[first] < 0 else poly(atom("positive", p))


def _dominance(p: Poly) -> Poly | None:
    """``c a_t > d sum_j a_j`` with a >= 0 and d / c >= 1/2: true of one t at most."""
    if len(p.terms) != 2:
        return None
    for m, c in p.terms.items():
        ((n, d),) = (t for t in p.terms.items() if t[0] != m)
        if c < 0 or d > 0 or -d / Fraction(c) < Fraction(1, 2):
            continue
        for a, e in n:
            if a.kind == "sum" and e == 1 and nonnegative(peek(a)):
                kept = product((b, f) for b, f in n if b is not a)
                if not positive(kept):
                    continue
                for binders, body in each_nest(a):
                    at = _where_instance(binders, body, kept, Poly({m: 1}))
                    if at is not None:
                        places, guards = at
                        return guards * _dominant(binders, body, -d / Fraction(c), places)
    return None


def _dominant(
    binders: tuple[Atom, ...], body: Poly, threshold: Number, places: tuple[Atom | int, ...]
) -> Poly:
    names, (inner,) = bind_all(binders, body)
    return poly(atom("dominant", names, inner, threshold, places, binders=names))


def _where_instance(
    binders: tuple[Atom, ...], body: Poly, kept: Poly, m: Poly
) -> tuple[tuple[Atom | int, ...], Poly] | None:
    """t with ``kept * body(t) = m``, where guards of the body that are known to hold count 1."""
    candidates = sorted(
        {t for t in m.inside() if t.kind == "index" or (t.kind == "entry" and t.args[0].dim)},
        key=lambda t: t.key,
    )
    fitting = ([t for t in candidates if index_range(t) == i.args[1]] for i in binders)
    for places in itertools.product(*fitting):
        here = {i: poly(t) for i, t in zip(binders, places, strict=True)}
        there = substitute(body, here)
        guards = ONE
        for b in sorted(there.atoms(), key=lambda b: b.key):
            if b.boolean and poly(b) in facts():
                guards = guards * poly(b)
                there = substitute(there, {b: ONE})
        if kept * there == m:
            return places, guards
    return None


@rebuilds("positive")
def _(a: Atom, new: Mapping[Atom, Poly]) -> Poly:
    return greater(substitute(a.args[0], new))


@rebuilds("dominant")
def _(a: Atom, new: Mapping[Atom, Poly]) -> Poly:
    names, body, threshold, t = a.args
    binders = tuple(fresh(substitute(name.args[1], new)) for name in names)
    opening = {name: poly(i) for name, i in zip(names, binders, strict=True)}
    inner = substitute(body, {**new, **opening})
    places = tuple(p if isinstance(p, int) else as_index(substitute(poly(p), new)) for p in t)
    term = inner.single()
    if term is not None and term[1] == 1 and set(binders) <= inner.free():
        return _dominant(binders, inner, threshold, places)
    there = {i: poly(p) for i, p in zip(binders, places, strict=True)}
    every = inner
    for i in binders:
        every = total(every, i)
    return greater(substitute(inner, there) - threshold * every)


later["greater"] = greater
