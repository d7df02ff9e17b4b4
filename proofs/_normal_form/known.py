"""Finds the 0-1 atoms that are known to be 1, and the values of atoms where ``p = 0``."""

from __future__ import annotations

from collections.abc import Iterable
from fractions import Fraction

from .indices import is_index, of_size, row_kept, substitute
from .state import facts, remembered
from .sums import aligned, opened, total, unnested
from .terms import ZERO, Atom, Poly, poly, product


def holds(b: Atom) -> bool:
    row = row_kept(b)
    return poly(b) in facts() or (row is not None and poly(row) in facts())


def all_hold(mask: Poly) -> bool:
    """Returns whether ``mask`` is a product of 0-1 atoms, each of which is known to be 1."""
    term = mask.single()
    return term is not None and term[1] == 1 and all(b.boolean and holds(b) for b, _ in term[0])


def known_ones() -> set[Atom]:
    """Returns the indices and labels inside the 0-1 atoms that the facts say are 1."""
    guards = {b for p in facts() if len(p.terms) == 1 for b in p.atoms() if b.boolean}
    return {t for b in guards for t in b.inside if is_index(t)}


def known_where_zero(zero: Atom, others: Iterable[Atom]) -> dict[Atom, Poly]:
    """Returns values of atoms in ``others`` that follow from ``zero``, which says that p is 0.

    If p is a sum of 0-1 terms, every sum whose terms have these terms as factors is 0. If p is a
    variance, each number is the mean. For another p, the equation is solved for one atom.
    """
    others = set(others)
    inside = frozenset().union(*(b.inside for b in others))
    a = sum_of_booleans(zero)
    if a is not None:
        return {b: ZERO for b in inside if b.kind == "sum" and _has_factors_of(b, a)}
    spread = spread_of(zero.args[0])
    if spread is not None:
        whole, mean, i, y = spread
        beside = frozenset().union(*(b.inside for b in others if b is not whole))
        return {b: mean for b in beside if _is_term(b, y, i)}
    solved = solution(zero.args[0])
    return {} if solved is None or solved[0] not in inside else {solved[0]: solved[1]}


@remembered
def spread_of(p: Poly) -> tuple[Atom, Poly, Atom, Atom] | None:
    """Returns ``sum_i y``, the mean of y, i and y if p is a variance of y over i, or else None.

    The variance is ``n sum_i y² - (sum_i y)²`` for n values of i, or minus this.
    """
    for a in p.atoms() if len(p.terms) == 2 else ():
        if a.kind == "sum":
            i, y = opened(a)
            size = i.args[1].single()
            b, e, c = y.power() or (a, 0, 0)
            if size is None or c != 1:
                continue
            whole = i.args[1] * total(y * y, i) - poly(a) ** 2
            if e == 1 and not b.boolean and p in (whole, -whole):
                mean = poly(a) * product([(d, -n) for d, n in size[0]], Fraction(1, size[1]))
                return a, mean, i, b
    return None


def _is_term(b: Atom, y: Atom, i: Atom) -> bool:
    """Returns whether b is the atom y with another index or label in place of i."""
    if b.kind != y.kind:
        return False
    places = of_size(b.inside, i.args[1])
    return any(substitute(poly(y), {i: poly(t)}) == poly(b) for t in places)


def sum_of_booleans(zero: Atom) -> Atom | None:
    power = zero.args[0].power()
    if power is None or power[0].kind != "sum":
        return None
    return power[0] if all(b.boolean for b in unnested(power[0])[1].atoms()) else None


@remembered
def _has_factors_of(b: Atom, a: Atom) -> bool:
    """Returns whether the terms of a sum b have all the factors that the terms of a sum a have."""
    return any(there <= mine for mine, there in aligned(b, a))


@remembered
def solution(p: Poly) -> tuple[Atom, Poly] | None:
    """Returns an entry, a maximum or a sum, and its value where ``p = 0``, or None.

    Its coefficient in p is a number. Entries that are positive by definition are not solved for.
    """
    best = None
    for m, c in p.terms.items():
        if len(m) != 1:
            continue
        ((a, e),) = m
        known = a.kind == "entry" and a.sure
        if e != 1 or a.kind not in {"entry", "max", "sum"} or known:
            continue
        rest = p - poly(a) * c
        if a in rest.inside():
            continue
        if best is None or (a.kind != "max", a.key) < (best[0].kind != "max", best[0].key):
            best = a, rest * (Fraction(-1) / c)
    return best
