"""Makes the terms ``[p = 0]`` and ``[p > 0]``, which are 1 where the comparison holds, else 0."""

from __future__ import annotations

import functools
from collections.abc import Callable

from .cases import by_cases, equal_parts, off_kinks
from .dominance import dominance, opened_dominance
from .fractions import factored, together
from .functions import digits, exp, log
from .indices import (
    as_index,
    delta_solved,
    elimination,
    is_index,
    permuted,
    solved_in_permutations,
    substitute,
)
from .signs import atom_nonnegative, nonnegative, positive
from .state import facts
from .sums import opened, total
from .terms import (
    ONE,
    ZERO,
    Atom,
    Kind,
    Poly,
    Refused,
    add_all,
    always,
    atom,
    first_of,
    first_positive,
    integral,
    kinds,
    monomial_key,
    poly,
    product,
)


def is_zero(p: Poly) -> Poly:
    """Returns ``[p = 0]``: 1 where p is 0, else 0."""
    return by_cases(_zero, p)


def _zero(p: Poly) -> Poly:
    _, _, rest = factored(p)
    if not rest.terms:
        return ONE
    if rest.number() is not None or {rest, -rest} & facts() or positive(rest) or positive(-rest):
        return ZERO
    result = first_of(_RULES_OF_ZERO, rest)
    return poly(atom("zero", first_positive(rest))) if result is None else result


def _of_maximum(f: Callable[[Poly], Poly], p: Poly) -> Poly | None:
    """Returns f(p) by cases of a ``max(q, number)`` in p, only almost everywhere, or None."""
    maxima = (a for a in p.atoms() if a.kind == "at_least") if off_kinks() else ()
    kept = min(maxima, key=lambda a: a.key, default=None)
    if kept is None:
        return None
    number, q = kept.args
    above = greater(q - number)
    no, yes = (f(substitute(p, {kept: x})) for x in (poly(number), q))
    return no + above * (yes - no)


def _zero_of_product(p: Poly) -> Poly | None:
    term = p.single()
    if term is None:
        return None
    nonzero = ONE
    for a, _ in sorted(term[0], key=lambda t: t[0].key):
        nonzero = nonzero * (1 - _zero_of_factor(a))
    return 1 - nonzero


def _zero_of_factor(a: Atom) -> Poly:
    if a.boolean:
        return 1 - poly(a)
    if a.sure or poly(a) in facts():
        return ZERO
    if a.kind == "sqrt":
        return is_zero(a.args[0])
    if a.kind == "sum" and atom_nonnegative(a):
        return _zero_of_sum(a)
    if is_index(a) and (found := _zero_of_indices(poly(a))) is not None:
        return found
    return poly(atom("zero", poly(a)))


def _zero_of_sum(a: Atom) -> Poly:
    """Returns ``[a = 0]`` for a sum of terms at least 0: positive factors do not matter."""
    many = _without_positive(a)
    d = opened_dominance(a)
    if d is not None and set(d.binders) <= set(d.atom.args[3]):
        if all(b.boolean for b in d.body.atoms()):
            return 1 - poly(a)  # at most one term is 1, so the sum is 0 or 1
    return ZERO if many in facts() else poly(atom("zero", many))


def _without_positive(a: Atom) -> Poly:
    """Returns a sum of terms at least 0 without their positive factors: it is 0 where the sum is.

    A factor that is a sum of terms at least 0 is replaced in the same way and loses its exponent.
    Any other factor stays as it is: its zeros depend on the positive factors in its own terms.
    """
    i, body = opened(a)
    ((m, _),) = body.terms.items()
    left = ONE
    for b, e in m:
        if not positive(poly(b)):
            inner = b.kind == "sum" and atom_nonnegative(b)
            left = left * (_without_positive(b) if inner else product([(b, e)]))
    return total(left, i)


def _zero_of_indices(p: Poly) -> Poly | None:
    """Returns ``[p = 0]`` for a sum of indices, solved for one of them; None for another p."""
    try:
        as_index(p)
    except Refused:
        return None
    indices = sorted(_indices_in(p), key=elimination)
    places = [(i, *found) for i in indices if (found := solved_in_permutations(p, i)) is not None]
    for i, place, inside in places:
        parts = equal_parts(i, place)
        if parts is not None:
            return is_zero(parts[0]) * is_zero(parts[1]) * inside
    for i, place, inside in places:
        return delta_solved(i, as_index(place)) * inside
    return None


def _indices_in(p: Poly) -> set[Atom]:
    """Returns the indices in a sum of indices, and those in the arguments of its permutations."""
    indices = {a for a in p.atoms() if is_index(a)}
    return indices.union(*(_indices_in(poly(a.args[1][0])) for a in indices if permuted(a)))


def _zero_of_digits(p: Poly) -> Poly | None:
    """Returns ``[a = 0] [b = 0]`` if p is ``a d + b``, or None if it is not.

    Here a and b are integers, d is a dimension, and -d < b < d.
    """
    for high, low, d in digits(p):
        if positive(poly(d) - low) and positive(poly(d) + low):
            return is_zero(high) * is_zero(low)
    return None


def _zero_of_count(p: Poly) -> Poly | None:
    """Returns ``[sum_i x_i = 0]`` if p is ``sum_i (1 - [x_i = 0])`` and x >= 0, else None."""
    found = counted(p)
    return None if found is None else is_zero(total(*found))


def counted(p: Poly) -> tuple[Poly, Atom] | None:
    """Returns x and i if p is ``sum_i (1 - [x_i = 0])`` and x >= 0, else None."""
    for a in p.atoms():
        if a.kind == "sum" and p == a.args[0].values - poly(a):
            i, body = opened(a)
            b, _, _ = body.power() or (a, 1, 1)
            if b.kind == "zero" and nonnegative(b.args[0]):
                return b.args[0], i
    return None


def _zero_of_common_factor(p: Poly) -> Poly | None:
    common = frozenset.intersection(*(frozenset(a for a, _ in m) for m in p.terms))
    if not common:
        return None
    a = min(common, key=lambda a: a.key)
    rest = add_all(product([*m, (a, -1)], c) for m, c in p.terms.items())
    return 1 - (1 - _zero_of_factor(a)) * (1 - is_zero(rest))


def _zero_of_sum_of_parts(p: Poly) -> Poly | None:
    parts = [Poly({m: c}) for m, c in p.terms.items()]
    for sign in (1, -1):
        if all(nonnegative(part * sign) for part in parts):
            result = ONE
            for part in parts:
                result = result * _zero(part * sign)
            return result
    return None


def _zero_of_logs(p: Poly) -> Poly | None:
    """Returns ``[p = 0]`` by exponentials or logarithms, or None.

    If p has logarithms, ``[p = 0]`` is 0 if exp(p) is sure not to be 1. The difference of two
    positive monomials is 0 where their logarithms are equal.
    """
    if any(a.kind == "log" for a in p.atoms()):
        ratio = exp(p)
        distance, _ = together(ratio - 1)
        return ZERO if positive(distance) or positive(-distance) else None
    if len(p.terms) == 2 and all(a.sure for a in p.atoms()):
        (m, c), (n, d) = p.terms.items()
        if c * d < 0 and any(a.kind == "exp" for a in p.atoms()):
            here, there = (Poly({m: -c}), Poly({n: d})) if c < 0 else (Poly({m: c}), Poly({n: -d}))
            return is_zero(log(here) - log(there))
    return None


_RULES_OF_ZERO = (
    functools.partial(_of_maximum, is_zero),
    _zero_of_product,
    _zero_of_digits,
    _zero_of_indices,
    _zero_of_count,
    _zero_of_common_factor,
    _zero_of_sum_of_parts,
    _zero_of_logs,
)


kinds["zero"] = Kind(is_zero, boolean=always, kink="an equality")


def greater(p: Poly) -> Poly:
    """Returns ``[p > 0]``: 1 where p is above 0, else 0."""
    return by_cases(_greater, p)


def _greater(p: Poly) -> Poly:
    _, _, rest = factored(p)
    if not rest.terms:
        return ZERO
    if positive(rest):
        return ONE
    if nonnegative(-rest):
        return ZERO
    if nonnegative(rest) or counted(rest) is not None:
        return 1 - is_zero(rest)
    if (result := first_of(_RULES_OF_GREATER, rest)) is not None:
        return result
    ordered = first_positive(rest)
    if ordered == rest or _of_indices(rest):
        return poly(atom("positive", rest))
    return 1 - poly(atom("positive", ordered)) - is_zero(rest)


def _greater_of_digits(p: Poly) -> Poly | None:
    """Returns ``[a > 0]`` if p is ``a d + b``, or None if it is not.

    Here a and b are integers, d is a dimension, and -d < b <= 0.
    """
    for high, low, d in digits(p):
        if positive(poly(d) + low) and nonnegative(-low):
            return greater(high)
    return None


def _of_indices(p: Poly) -> bool:
    """Returns whether p is a difference of indices, whose sign must not depend on their names."""
    return len(p.terms) == 2 and all(a.kind == "index" for a in p.atoms()) and len(p.atoms()) == 2


def _greater_of_product(p: Poly) -> Poly | None:
    """Returns ``[a > 0] [q > 0] + [-a > 0] [-q > 0]`` if p is ``a q``, only almost everywhere."""
    common = frozenset.intersection(*(frozenset(m) for m in p.terms)) if off_kinks() else ()
    for a in sorted((a for a, e in common if e == 1), key=lambda a: a.key):
        q = add_all(product(m - {(a, 1)}, c) for m, c in p.terms.items())
        if q.number() is None:
            return greater(poly(a)) * greater(q) + greater(-poly(a)) * greater(-q)
    return None


def _greater_of_integers(p: Poly) -> Poly | None:
    """Returns ``[p > 0]`` for an integer p, or None to leave it to ``_greater``.

    It is ``[p = 1]`` if p is at most 1, and ``1 - [1 - p > 0]`` if the first coefficient of p is
    below 0. Without dimensions, ``[a + 1 > 0]`` is always ``1 - [-a > 0]``, so that ``a > 0``,
    ``a = 0`` and ``a < 0`` are three cases of one comparison.
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


_RULES_OF_GREATER = (
    functools.partial(_of_maximum, greater),
    _greater_of_product,
    dominance,
    _greater_of_digits,
    _greater_of_integers,
)


kinds["positive"] = Kind(greater, boolean=always, kink="an inequality")
