"""Finds the sign of a term p from a lower bound of p, where ``signs`` cannot.

Each rule returns True only if ``p > 0`` is certain or, without ``strict``, if ``p >= 0`` is. The
docstrings call this the sign of p. Most rules subtract from p something that is at least 0, such as
the difference of a sum of terms that are at least 0 and one of them, and ask for the sign of the
rest.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterator, Mapping
from fractions import Fraction

from .indices import fresh, least_size, of_size, substitute
from .known import all_hold
from .signs import atom_nonnegative, further_rules, nonnegative, positive, sign_is_sure
from .sums import each_nest, opened, peek, total, unnested
from .terms import ONE, Atom, Monomial, Number, Poly, add_all, monomial_key, poly, product

_MAX_CORNERS = 6


def _without_instances(p: Poly, strict: bool) -> bool:
    """Returns whether p has the sign without a sum, or a maximum, minus one of its terms.

    The difference, ``sum_i E_i - E_y`` for E >= 0 or ``max_i z_i - z_y``, is at least 0.
    """
    for m, c in sorted(p.terms.items(), key=lambda t: monomial_key(t[0])):
        if c > 0:
            continue
        for n, d in p.terms.items():
            if d < -c:
                continue
            for a, e in n:
                if e != 1 or a.kind not in {"sum", "max"}:
                    continue
                kept = product((b, f) for b, f in n if b is not a)
                among = _terms_with(a, kept, m) if nonnegative(kept) else None
                if among is None:
                    continue
                rest = p - Poly({m: c, n: -c})
                more = any(least_size(i.args[1]) >= 2 for i in among)
                more = more and positive(peek(a)) and positive(kept)
                if sign_is_sure(rest, strict and not more):
                    return True
    return _above_a_term_of_a_maximum(p, strict)


def _by_exponents(p: Poly, strict: bool) -> bool:
    """Decides ``c exp(a) f - d exp(b) f``, for c >= d > 0 and f > 0, by the sign of ``a - b``."""
    for (m, c), (n, d) in itertools.permutations(p.terms.items()) if len(p.terms) == 2 else ():
        if d < 0 and c >= -d and all(a.sure for a in dict(n)):
            ratio = product([*m, *((a, -e) for a, e in n)]).single()
            if ratio is not None and ratio[1] == 1 and all(a.kind == "exp" for a, _ in ratio[0]):
                exponent = add_all(a.args[0] * e for a, e in ratio[0])
                return sign_is_sure(exponent, strict and c == -d)
    return False


def _without_masked(p: Poly, strict: bool) -> bool:
    """Returns whether p has the sign without ``sum_j a_j - sum_j a_j b_j``, where b is 0 or 1.

    For a >= 0 this difference is at least 0, and above 0 if ``a_t (1 - b_t)`` is for some t.
    """
    above, below = ([t for t in p.terms.items() if t[1] * s > 0] for s in (1, -1))
    for (m, c), (n, d) in itertools.product(above, below):
        for a, b in itertools.product(dict(m - n), dict(n - m)) if c >= -d else ():
            kept = m - {(a, 1)}
            parts = _masked_parts(a, b) if kept == n - {(b, 1)} else None
            if parts is not None and nonnegative(parts[1]) and nonnegative(product(kept)):
                i, every, masked = parts
                seen = positive(product(kept)) and any(
                    positive(substitute(every - masked, {i: poly(t)}))
                    for t in _terms_of(p, i.args[1])
                )
                return sign_is_sure(p + Poly({m: d, n: -d}), strict and not seen)
    return False


def _masked_parts(a: Atom, b: Atom) -> tuple[Atom, Poly, Poly] | None:
    """Returns an index and the bodies of the sums a and b at it, or None.

    The body of b must be that of a times 0-1 atoms. A dimension a counts as a sum of ones.
    """
    if a.kind not in {"sum", "dim"} or b.kind != "sum":
        return None
    i, every = opened(a) if a.kind == "sum" else (fresh(poly(a)), ONE)
    masked = substitute(b.args[1], {b.args[0]: poly(i)})
    ours, theirs = every.single(), masked.single()
    if i.args[1] != b.args[0].values or not ours or not theirs or not ours[0] < theirs[0]:
        return None
    more = ours[1] == theirs[1] and all(g.boolean for g, _ in theirs[0] - ours[0])
    return (i, every, masked) if more else None


def _by_cauchy_schwarz(p: Poly, strict: bool) -> bool:
    """Returns whether p has the sign with the square of a sum replaced by an upper bound.

    By Cauchy-Schwarz, ``(sum_i w_i y_i)^2 <= (sum_i w_i) (sum_i w_i y_i^2)`` for w >= 0.
    """
    for m, c in sorted(p.terms.items(), key=lambda t: monomial_key(t[0])):
        for a, e in m if c < 0 else ():
            kept = product((b, n) for b, n in m if b is not a)
            if a.kind != "sum" or e != 2 or not nonnegative(kept):
                continue
            beside = {b: Fraction(d, 2 * c) for b, d in _beside(p, a, m - {(a, 2)})}
            for lower in _lower_bounds_of_spreads(a, beside):
                rest = p + kept * lower * -c
                if len(rest.terms) < len(p.terms) and sign_is_sure(rest, strict):
                    return True
    return False


def _beside(p: Poly, a: Atom, rest: Monomial) -> Iterator[tuple[Atom, Number]]:
    """Yields each sum b, of as many terms as a, with the coefficient of ``rest a b`` in p."""
    for n, d in p.terms.items():
        others = n - rest - {(a, 1)}
        if n - others == rest | {(a, 1)} and len(others) == 1:
            ((b, e),) = others
            if b.kind == "sum" and e == 1 and b.args[0].values == a.args[0].values:
                yield b, d


def _lower_bounds_of_spreads(a: Atom, beside: Mapping[Atom, Number]) -> Iterator[Poly]:
    """Yields terms ``(sum w y)^2 - (sum w) (sum w y^2)``, which are at most 0 for w >= 0.

    First ``sum w y`` is a plus the sums in ``beside`` times their coefficients, if there are any,
    with w = 1. Then it is a alone, and w is 1, the product of the 0-1 factors in its body, or the
    product of all factors that are at least 0.
    """
    if beside:
        i, y = opened(a)
        for b, c in beside.items():
            y = y + substitute(b.args[1], {b.args[0]: poly(i)}) * c
        yield total(y, i) ** 2 - i.args[1] * total(y * y, i)
    for depth in range(1, len(unnested(a)[0]) + 1):
        binders, body = unnested(a, depth)
        ((m, _),) = body.terms.items()
        guards = frozenset((b, e) for b, e in m if b.boolean)
        for w in {frozenset(), guards, frozenset((b, e) for b, e in m if atom_nonnegative(b))}:
            bound = ONE
            for part in (product(w), product([*m, *m, *((b, -e) for b, e in w)])):
                bound = bound * total(part, *binders)
            yield poly(a) ** 2 - bound


def _above_a_term_of_a_maximum(p: Poly, strict: bool) -> bool:
    """Returns whether p has the sign with a maximum replaced by one of the terms it is taken of.

    The terms are sums such as ``x_i + b_i``, or maxima over another index.
    """
    for m, c in p.terms.items():
        maxima = [a for a, e in m if a.kind == "max" and e == 1]
        if c < 0 or len(m) != 1 or not maxima:
            continue
        i, body, mask = maxima[0].args
        nested = _maximum(body) is not None  # each replacement has fewer maxima, so this ends
        if len(body.terms) < 2 and not nested:
            continue
        for t in _terms_of(p, i.args[1]):
            rest = p - Poly({m: c}) + substitute(body, {i: poly(t)}) * c
            fewer = len(rest.terms) < len(p.terms)
            if (
                (fewer or nested)
                and all_hold(substitute(mask, {i: poly(t)}))
                and sign_is_sure(rest, strict)
            ):
                return True
    return False


def _terms_of(p: Poly, dim: Poly) -> list[Atom]:
    """Returns the labels and indices in p that run over ``dim`` and that no sum in p binds."""
    free = p.free()
    return [t for t in of_size(p.inside(), dim) if t.free <= free]


def _terms_with(a: Atom, kept: Poly, m: Monomial) -> tuple[Atom, ...] | None:
    """Returns the indices of a sum a if m is ``kept`` times one of its terms, or None if not.

    The terms of the sum must be at least 0. For a maximum a, returns () in place of the indices.
    """
    target = Poly({m: 1})
    if a.kind == "max":
        return () if _in_maximum(a, kept, target) else None
    for binders, _, _, there in instances(a, m) if nonnegative(peek(a)) else ():
        if kept * there == target:
            return binders
    return None


def instances(
    a: Atom, m: Monomial
) -> Iterator[tuple[tuple[Atom, ...], Poly, tuple[Atom | int, ...], Poly]]:
    """Yields the indices and body of a sum, places from m for the indices, and the body there.

    Nested sums are read as one over the outer index, over the two outer indices, and so on.
    """
    for binders, body in each_nest(a):
        for places in itertools.product(*(_candidates(m, i.args[1]) for i in binders)):
            at = {i: poly(t) for i, t in zip(binders, places, strict=True)}
            yield binders, body, places, substitute(body, at)


def _in_maximum(a: Atom, kept: Poly, target: Poly) -> bool:
    """Returns whether ``target`` is ``kept`` times a term of a maximum or of a maximum in it."""
    ((m, _),) = target.terms.items()
    for t in _candidates(m, a.args[0].values):
        at = {a.args[0]: poly(t)}
        if all_hold(substitute(a.args[2], at)):
            there = substitute(a.args[1], at)
            inner = _maximum(there)
            if kept * there == target or (inner and _in_maximum(inner, kept, target)):
                return True
    return False


def _maximum(p: Poly) -> Atom | None:
    """Returns the atom of kind "max" that p is equal to, or None."""
    return next((a for a in p.atoms() if a.kind == "max" and p == poly(a)), None)


def _candidates(m: Monomial, dim: Poly) -> list[Atom | int]:
    """Returns the labels and indices in m that run over ``dim``, and 0 if ``dim`` is never 0."""
    first = [0] if least_size(dim) > 0 else []
    return [*of_size(frozenset().union(*(a.inside for a, _ in m)), dim), *first]


def _at_corners(p: Poly, strict: bool) -> bool:
    """Returns whether p has the sign where each atom between 0 and 1 is 0 or 1.

    The term p is linear in each of these atoms, so that it has that sign everywhere between too.
    """
    between = sorted(
        (a for a in p.atoms() if a.boolean or (a.kind == "entry" and a.args[0].sort == "unit")),
        key=lambda a: a.key,
    )
    if not between or len(between) > _MAX_CORNERS:
        return False
    if any(e != 1 for m in p.terms for a, e in m if a in between):
        return False
    if any(a in b.inside for a in between for b in p.atoms() if b is not a):
        return False
    return _corner(p, between, strict)


def _corner(p: Poly, between: list[Atom], strict: bool) -> bool:
    if not between:
        return sign_is_sure(p, strict)
    a, rest = between[0], between[1:]
    low, high = (substitute(p, {a: poly(x)}) for x in (0, 1))
    if a.boolean or not strict:
        return _corner(low, rest, strict) and _corner(high, rest, strict)
    return any(
        _corner(x, rest, True) and _corner(y, rest, False)
        for x, y in itertools.permutations((low, high))
    )


further_rules += [
    _without_instances,
    _by_exponents,
    _by_cauchy_schwarz,
    _without_masked,
    _at_corners,
]
