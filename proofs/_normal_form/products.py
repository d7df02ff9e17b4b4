"""Holds the rules that rewrite a product of atoms, in the order in which they are tried.

A rule takes the exponent of each atom and returns the new product, or None if it does not apply.
An atom that is 0 or 1 is its own square. In a product with ``[i = t]``, t replaces i. In one with
``[p = 0]``, an atom is replaced by the solution of ``p = 0`` for it, or the leading part of p by
the rest. At most one class holds more than half of a sum.
"""

from __future__ import annotations

import itertools
import math
from fractions import Fraction

from .cases import off_kinks
from .dominance import opened_dominance
from .fractions import inverse
from .indices import is_index, label_of, of_size, row_kept, same_place, substitute
from .known import known_where_zero, solution, sum_of_booleans
from .signs import nonnegative
from .sums import total, unnested
from .terms import (
    MAX_POWER_OF_NUMBER,
    ZERO,
    Atom,
    Monomial,
    Number,
    Poly,
    Refused,
    add_all,
    atom,
    monomial_key,
    poly,
    product,
    rules,
)
from .zero import greater, is_zero


def _without(powers: dict[Atom, Number], *atoms: Atom) -> Poly:
    return product((a, e) for a, e in powers.items() if a not in atoms)


def _idempotent(powers: dict[Atom, Number]) -> None:
    for a, e in powers.items():
        if a.boolean and e != 1:
            if e != int(e) or e < 0:
                raise Refused(f"division by {a}, which may be 0")
            powers[a] = 1


def _powers_of_primes(powers: dict[Atom, Number]) -> Poly | None:
    """Applies ``p^e = p^n p^(e - n)``, with 0 <= e - n < 1, to a prime p: 2^(7/2) = 8 2^(1/2)."""
    for a, e in powers.items():
        whole = math.floor(e) if a.kind == "prime" else 0
        if abs(whole) > MAX_POWER_OF_NUMBER:
            raise Refused(f"the power {e} of {a}")
        if whole:
            return product([*powers.items(), (a, -whole)], Fraction(a.args[0]) ** whole)
    return None


def _kept_labels(powers: dict[Atom, Number]) -> Poly | None:
    for a in powers:
        if row_kept(a) in powers:
            return _without(powers, a)
    return None


def _expanded(powers: dict[Atom, Number]) -> Poly | None:
    for a, e in powers.items():
        if a.kind == "group" and e > 0 and e == int(e):
            written_out = add_all(product(m, c) for m, c in a.args[0].terms.items())
            return _without(powers, a) * written_out ** int(e)
        if a.kind == "ramp" and e > 0 and e == int(e):
            return _without(powers, a) * a.args[0] ** int(e) * greater(a.args[0])
        if a.kind == "sqrt" and e >= 2:
            return product([*powers.items(), (a, -2)]) * a.args[0]
        if a.kind == "sin" and e >= 2 and e == int(e):
            return product([*powers.items(), (a, -2)]) * (1 - product([(atom("cos", *a.args), 2)]))
        if a.kind == "recip" and (base := a.args[0]) in powers and powers[base] > 0:
            return product([*powers.items(), (a, -1), (base, -1)]) * (1 - is_zero(poly(base)))
    return None


def _deltas(powers: dict[Atom, Number]) -> Poly | None:
    for a in powers:
        if a.kind == "delta":
            old, new = a.args
            if isinstance(new, Atom) and old in new.inside:
                continue
            if any(old in b.inside for b in powers if b is not a):
                rest = substitute(_without(powers, a), {old: poly(new)})
                return rest * poly(a)
    return None


def _zeros(powers: dict[Atom, Number]) -> Poly | None:
    for a in powers:
        if a.kind != "zero":
            continue
        if atom("positive", a.args[0]) in powers or _beside_no_witness(a, powers):
            return ZERO
        known = known_where_zero(a, (b for b in powers if b is not a))
        if known:
            beside = _without(powers, a)
            there = substitute(beside, known)
            if there != beside:
                return there * poly(a)
        if solution(a.args[0]) is None:
            rest = _reduced({b: e for b, e in powers.items() if b is not a}, a.args[0])
            if rest is not None:
                return rest * poly(a)
    return None


def _implied(powers: dict[Atom, Number]) -> Poly | None:
    """Drops ``[p > 0]`` if a ``[q > 0]`` implies it; writes max(p, c) as p if one implies p > c."""
    signs = sorted((a for a in powers if a.kind == "positive"), key=lambda a: a.key)
    for a, b in itertools.permutations(signs, 2):
        if _follows(a.args[0], b.args[0]):
            return _without(powers, a)
    for a, e in powers.items() if off_kinks() else ():
        if a.kind == "at_least" and e > 0 and e == int(e):
            if any(_follows(a.args[1] - a.args[0], b.args[0]) for b in signs):
                return _without(powers, a) * a.args[1] ** int(e)
    return None


def _follows(p: Poly, q: Poly) -> bool:
    """Returns whether p > 0 follows from q > 0, because p >= c q for a number c > 0."""
    lead = next((m for m in q.terms if m and m in p.terms), None)
    if lead is None or p.terms[lead] * q.terms[lead] < 0:
        return False
    return nonnegative(p - q * Fraction(p.terms[lead], q.terms[lead]))


def _beside_no_witness(zero: Atom, powers: dict[Atom, Number]) -> bool:
    """Returns whether ``[sum_j b_j = 0]``, for 0-1 terms b, contradicts a b_t in the product."""
    a = sum_of_booleans(zero)
    if a is None:
        return False
    guards = {b for b in powers if b.boolean}
    places = {i for b in guards for i in b.inside if is_index(i)}
    binders, body = unnested(a)
    masks = [b for b in body.atoms() if b.kind == "entry" and b.args[0].keeps]
    places |= {label_of(b) for b in masks if not label_of(b).free & set(binders)}
    for some in itertools.product(*(of_size(places, i.args[1]) for i in binders)):
        there = substitute(body, dict(zip(binders, map(poly, some), strict=True))).single()
        if there is not None and all(b in guards or row_kept(b) in guards for b, _ in there[0]):
            return True
    return False


def _reduced(powers: dict[Atom, Number], p: Poly) -> Poly | None:
    """Returns a product with p's leading part replaced by what it equals where p is 0, or None.

    A part of p is a product of atoms that may be 0, and its coefficient consists of atoms above 0.
    A replacement has only lower parts, so that repeated replacement ends.
    """
    parts: dict[Monomial, Poly] = {}
    for m, c in p.terms.items():
        unsure = frozenset((a, e) for a, e in m if not a.sure)
        parts[unsure] = parts.get(unsure, ZERO) + Poly({m - unsure: c})
    lead = max(parts, key=lambda m: (sum(e for _, e in m), monomial_key(m)))
    if not lead or any(powers.get(a, 0) < e for a, e in lead):
        return None
    try:
        over = inverse(parts[lead])
    except Refused:
        return None
    rest = p - parts[lead] * Poly({lead: 1})
    return product([*powers.items(), *((a, -e) for a, e in lead)]) * -rest * over


def _dominants(powers: dict[Atom, Number]) -> Poly | None:
    """Applies ``D_j D_l = [j = l] D_j`` of ``dominance``, also if one D or both are under sums."""
    compared = [t for a, e in powers.items() for t in _comparisons(a) * (1 if e == 1 else 2)]
    if len(set(compared)) == len(compared):
        return None
    single = [a for a in powers if a.kind == "dominant"]
    for a, b in itertools.combinations(single, 2):
        if a.args[:3] == b.args[:3]:
            return _without(powers, b) * same_place(a.args[3], b.args[3])
    found = [(a, opened_dominance(a)) for a, e in powers.items() if a.kind == "sum" and e > 0]
    sums = [(a, d) for a, d in found if d is not None]
    for a, d in sums:
        e = int(powers[a])
        for b in single:
            if b.args[:3] == d.atom.args[:3]:
                return _without(powers, a) * d.at(b.args[3]) ** e
        others = [(b, f) for b, f in sums if b is not a and f.atom.args[:3] == d.atom.args[:3]]
        if e > 1 or others:
            body = d.body * d.at(d.atom.args[3]) ** (e - 1)
            for b, f in others:
                body = body * f.at(d.atom.args[3]) ** int(powers[b])
            return _without(powers, a, *(b for b, _ in others)) * total(body, *d.binders)
    return None


def _comparisons(a: Atom) -> list[tuple]:
    """Returns the comparisons in a comparison or a sum, without places; [] for other atoms."""
    inside = a.inside if a.kind in {"dominant", "sum"} else ()
    return list({b.args[:3] for b in inside if b.kind == "dominant"})


rules += [
    _idempotent,
    _powers_of_primes,
    _kept_labels,
    _expanded,
    _deltas,
    _zeros,
    _implied,
    _dominants,
]
