"""``[p = 0]``."""

from __future__ import annotations

from collections.abc import Callable, Mapping

from .cases import by_cases
from .dominance import opened_dominance
from .exponentials import exp, log
from .facts import facts
from .indices import as_index, delta, elimination, is_index, later, solved, surely_positive
from .kinks import off_kinks
from .places import equal_parts
from .polynomial import (
    ONE,
    ZERO,
    Atom,
    Monomial,
    Poly,
    Refused,
    add_all,
    atom,
    first_positive,
    poly,
    product,
)
from .quotients import content, together
from .rounding import digits
from .signs import atom_nonnegative, nonnegative, positive
from .substitution import rebuilds, rebuilt, substitute
from .sums import opened, total


def is_zero(p: Poly) -> Poly:
    """``[p = 0]``, 0 or 1."""
    return by_cases(_zero, p)


def _zero(p: Poly) -> Poly:
    numerator, _ = together(p)
    if not numerator.terms:
        return ONE
    _, _, rest = content(numerator)
    if rest.number() is not None or {rest, -rest} & facts() or positive(rest) or positive(-rest):
        return ZERO
    if kept := kept_above(rest):
        return chosen(is_zero, rest, kept)
    term = rest.single()
    if term is not None:
        return _zero_of_product(term[0])
    for rule in _RULES_OF_ZERO:
        result = rule(rest)
        if result is not None:
            return result
    return poly(atom("zero", first_positive(rest)))


def kept_above(p: Poly) -> Atom | None:
    """A maximum with a number among the factors of p, which pieces are told by."""
    if not off_kinks():
        return None
    return min((a for a in p.atoms() if a.kind == "at_least"), key=lambda a: a.key, default=None)


def chosen(f: Callable[[Poly], Poly], p: Poly, kept: Atom) -> Poly:
    """f of p, with a maximum with a number told apart into what it is the maximum of."""
    number, q = kept.args
    above = rebuilt("positive", q - number)
    no, yes = (f(substitute(p, {kept: x})) for x in (poly(number), q))
    return no + above * (yes - no)


def _zero_of_product(m: Monomial) -> Poly:
    nonzero = ONE
    for a, _ in sorted(m, key=lambda t: t[0].key):
        nonzero = nonzero * (1 - _zero_of_factor(a))
    return 1 - nonzero


def _zero_of_factor(a: Atom) -> Poly:
    if a.boolean:
        return 1 - poly(a)
    if surely_positive(a) or poly(a) in facts():
        return ZERO
    if a.kind == "sqrt":
        return is_zero(a.args[0])
    if a.kind == "sum" and atom_nonnegative(a):
        return _zero_of_sum(a)
    if is_index(a):
        return delta(a, 0)
    return poly(atom("zero", poly(a)))


def _zero_of_sum(a: Atom) -> Poly:
    """Of terms at least 0: what is positive in each plays no part."""
    many = _without_positive(a)
    d = opened_dominance(a)
    if d is not None and set(d.binders) <= set(d.atom.args[3]):
        if all(b.boolean for b in d.body.atoms()):
            return 1 - poly(a)  # at most one is 1
    return ZERO if many in facts() else poly(atom("zero", many))


def _without_positive(a: Atom) -> Poly:
    """A sum of terms at least 0 without what is positive in each: it is 0 where the sum is.

    So are the sums of terms at least 0 among their factors, and without their exponents. Another
    factor stays as it is: positive factors in its own terms weigh those against each other.
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
    indices = sorted((a for a in p.atoms() if is_index(a)), key=elimination)
    places = [(i, place) for i in indices if (place := solved(p, i)) is not None]
    for i, place in places:
        parts = equal_parts(i, place)
        if parts is not None:
            return is_zero(parts[0]) * is_zero(parts[1])
    for i, place in places:
        return poly(atom("delta", i, as_index(place)))
    return None


def _zero_of_digits(p: Poly) -> Poly | None:
    """``a d + b = 0`` for integers with -d < b < d, d a dimension: both are 0."""
    for high, low, d in digits(p):
        if positive(poly(d) - low) and positive(poly(d) + low):
            return is_zero(high) * is_zero(low)
    return None


def _zero_of_count(p: Poly) -> Poly | None:
    """``d = sum_i [x_i = 0]`` for an index below d and x >= 0: the sum of x is 0."""
    found = counted(p)
    return None if found is None else is_zero(total(*found))


def counted(p: Poly) -> tuple[Poly, Atom] | None:
    """x and i where p is ``sum_i (1 - [x_i = 0])`` and x >= 0."""
    for a in p.atoms():
        if a.kind == "sum" and p == a.args[0].args[1] - poly(a):
            i, body = opened(a)
            term = body.single()
            ((b, _),) = term[0] if term is not None and len(term[0]) == 1 else ((a, 1),)
            if b.kind == "zero" and nonnegative(b.args[0]):
                return b.args[0], i
    return None


def _zero_of_common_factor(p: Poly) -> Poly | None:
    common = frozenset.intersection(*(frozenset(a for a, _ in m) for m in p.terms))
    if not common:
        return None
    a = min(common, key=lambda a: a.key)
    rest = add_all(product(((b, e - (b is a)) for b, e in m), c) for m, c in p.terms.items())
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
    """Two positive monomials are equal where their logarithms are; log a = 0 where a = 1."""
    if any(a.kind == "log" for a in p.atoms()):
        ratio = exp(p)
        distance, _ = together(ratio - 1)
        return ZERO if positive(distance) or positive(-distance) else None
    if len(p.terms) == 2 and all(surely_positive(a) for a in p.atoms()):
        (m, c), (n, d) = p.terms.items()
        if c * d < 0 and any(a.kind == "exp" for a in p.atoms()):
            here, there = (Poly({m: -c}), Poly({n: d})) if c < 0 else (Poly({m: c}), Poly({n: -d}))
            return is_zero(log(here) - log(there))
    return None


_RULES_OF_ZERO = (
    _zero_of_digits,
    _zero_of_indices,
    _zero_of_count,
    _zero_of_common_factor,
    _zero_of_sum_of_parts,
    _zero_of_logs,
)


@rebuilds("zero")
def _(a: Atom, new: Mapping[Atom, Poly]) -> Poly:
    return is_zero(substitute(a.args[0], new))


later["is_zero"] = is_zero
