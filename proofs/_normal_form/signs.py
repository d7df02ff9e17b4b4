"""Decides whether a term is above 0, or not below it.

Every rule is sufficient and none is necessary: "cannot say" is the usual answer.
"""

from __future__ import annotations

from collections.abc import Callable

from .indices import is_index, label_of, least_size, lowest, substitute
from .known import holds, known_ones
from .state import facts, remembered
from .sums import aligned, peek
from .terms import ONE, Atom, Monomial, Poly, poly, product


def atom_positive(a: Atom) -> bool:
    """Returns whether an atom is sure to be above 0, given the facts."""
    if a.sure or a.of.positive(a):
        return True
    if a.kind == "sum":
        if _has_witness(a):
            return True
        some = least_size(a.args[0].values) > 0
        return some and (positive(peek(a)) or _counts_the_largest(a))
    return poly(a) in facts() and atom_nonnegative(a)


def _has_witness(a: Atom) -> bool:
    """Returns whether a sum is sure to be above 0 because one of its terms is.

    Either no term is below 0 and one is known to be above it, or the terms are b_j q_j with q_j > 0
    and b_j that are 0 or 1, and the sum of all b_j is known not to be 0.
    """
    if nonnegative(peek(a)) and any(_holds_at(a, t) for t in _labels_kept(a) | known_ones()):
        return True
    for fact in facts():
        b, e, _ = fact.power() or (a, 0, 0)
        if b.kind != "sum" or e != 1:
            continue
        for mine, masks in aligned(a, b):
            if masks <= mine and all(m.boolean for m, _ in masks):
                if positive(product(mine - masks)):
                    return True
    return False


def _counts_the_largest(a: Atom) -> bool:
    """Returns whether a sum is ``sum_i [x_i = max_j x_j]``, in which at least one term is 1."""
    b, _, _ = a.args[1].power() or (a, 1, 1)
    for m in b.args[0].atoms() if b.kind == "zero" else ():
        if m.kind == "max" and m.args[2] == ONE and m.args[0].values == a.args[0].values:
            x = substitute(m.args[1], {m.args[0]: poly(a.args[0])})
            if b.args[0] in (poly(m) - x, x - poly(m)):
                return True
    return False


def _labels_kept(a: Atom) -> set[Atom]:
    masks = [b for b in a.args[1].atoms() if b.kind == "entry" and b.args[0].keeps]
    return {label_of(b) for b in masks if a.args[0] not in label_of(b).free}


def _holds_at(a: Atom, t: Atom) -> bool:
    """Returns whether the term of a sum at the index t is sure to be above 0, given the facts."""
    if t.values != a.args[0].values:
        return False
    there = substitute(a.args[1], {a.args[0]: poly(t)}).single()
    if there is None:
        return False
    sure = {b for b, _ in there[0] if b.boolean and holds(b)}
    return positive(product((b, e) for b, e in there[0] if b not in sure))


def atom_nonnegative(a: Atom) -> bool:
    """Returns whether an atom is sure to be at least 0, given the facts."""
    if a.sure or a.boolean or a.of.nonnegative(a):
        return True
    return a.kind == "sum" and nonnegative(peek(a))


def positive(p: Poly) -> bool:
    """Returns whether p > 0 is sure."""
    return sign_is_sure(p, True)


def nonnegative(p: Poly) -> bool:
    """Returns whether p >= 0 is sure."""
    return sign_is_sure(p, False)


further_rules: list[Callable[[Poly, bool], bool]] = []  # ``bounds`` adds them


@remembered
def sign_is_sure(p: Poly, strict: bool) -> bool:
    """Returns whether p > 0 is sure or, without ``strict``, whether p >= 0 is."""
    number = p.number()
    if number is not None:
        return number > 0 or (number == 0 and not strict)
    return any(rule(p, strict) for rule in (_termwise, _at_ends, *further_rules))


def _monomial_sign(m: Monomial, strict: bool) -> bool:
    test = atom_positive if strict else atom_nonnegative
    return all(test(a) or (not strict and e == int(e) and e % 2 == 0) for a, e in m)


def _termwise(p: Poly, strict: bool) -> bool:
    if any(c < 0 or not _monomial_sign(m, False) for m, c in p.terms.items()):
        return False
    return not strict or any(_monomial_sign(m, True) for m in p.terms)


def _at_ends(p: Poly, strict: bool) -> bool:
    """Returns whether p, a term of indices and dimensions, has the sign by a lower bound.

    Each index is at the end of its range that makes p least, then each dimension is at its least.
    """
    bound = Poly({})
    for m, c in p.terms.items():
        places = [a for a, _ in m if is_index(a)]
        if len(places) > 1 or any(e != 1 or not (a in places or a.kind == "dim") for a, e in m):
            return False
        term = Poly({m: c})
        for a in places:  # its other factors are dimensions, which are above 0
            term = (a.values - 1) * product(m - {(a, 1)}, c) if c < 0 else Poly({})
        bound = bound + term
    low = lowest(bound)
    return low is not None and (low > 0 or (low == 0 and not strict))
