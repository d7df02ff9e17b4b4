"""Lower bounds of terms, which decide whether the terms are above 0 or not below it.

They leave terms of sums and maxima out, compare exponents, or look at corners of what is linear.
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
    """Recognizes sums and maxima minus one of their terms: ``S - E_y >= 0``, ``M - z_y >= 0``."""
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
    """``c exp(a) - d exp(b)``, for c >= d > 0, beside a positive factor: the sign of a - b."""
    for (m, c), (n, d) in itertools.permutations(p.terms.items()) if len(p.terms) == 2 else ():
        if d < 0 and c >= -d and all(a.sure for a in dict(n)):
            ratio = product([*m, *((a, -e) for a, e in n)]).single()
            if ratio is not None and ratio[1] == 1 and all(a.kind == "exp" for a, _ in ratio[0]):
                exponent = add_all(a.args[0] * e for a, e in ratio[0])
                return sign_is_sure(exponent, strict and c == -d)
    return False


def _without_masked(p: Poly, strict: bool) -> bool:
    """``sum_j a_j - sum_j a_j b_j >= a_t`` for a >= 0 and 0-1 terms b of which b_t is 0."""
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
    """Returns an index, a's body there (1 for a size), and b's, if b's is a's times 0-1 atoms."""
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
    """``(sum_i w_i y_i)^2 <= sum_i w_i  sum_i w_i y_i^2`` for w >= 0: a lower bound for p."""
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
    """Yields the other sums over as many indices beside a sum a, with their coefficients."""
    for n, d in p.terms.items():
        others = n - rest - {(a, 1)}
        if n - others == rest | {(a, 1)} and len(others) == 1:
            ((b, e),) = others
            if b.kind == "sum" and e == 1 and b.args[0].values == a.args[0].values:
                yield b, d


def _lower_bounds_of_spreads(a: Atom, beside: Mapping[Atom, Number]) -> Iterator[Poly]:
    """Yields terms ``(sum w y)^2 - sum w  sum w y^2``, which are at most 0.

    Either the sum is a together with the sums beside it, and w is 1. Or it is a alone, and w is 1,
    the product of its 0-1 factors, or the product of all its factors that are at least 0.
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
    """Yields lower bounds of p: with ``x_y + b_y`` in the place of a maximum M of such sums."""
    for m, c in p.terms.items():
        maxima = [a for a, e in m if a.kind == "max" and e == 1]
        if c < 0 or len(m) != 1 or not maxima:
            continue
        i, body, mask = maxima[0].args
        nested = _maximum(body) is not None  # that is lower: this ends
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
    """Returns the labels and free indices of a term that run over a dimension."""
    free = p.free()
    return [t for t in of_size(p.inside(), dim) if t.free <= free]


def _terms_with(a: Atom, kept: Poly, m: Monomial) -> tuple[Atom, ...] | None:
    """The indices of a sum, whose terms are not below 0, or of a maximum where m is a term.

    That is, ``kept`` times its body at some of their values. None where m is not; a maximum
    has no indices that count.
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
    """A sum over some of its indices: these, its body, places for them in m, and the body there."""
    for binders, body in each_nest(a):
        for places in itertools.product(*(_candidates(m, i.args[1]) for i in binders)):
            at = {i: poly(t) for i, t in zip(binders, places, strict=True)}
            yield binders, body, places, substitute(body, at)


def _in_maximum(a: Atom, kept: Poly, target: Poly) -> bool:
    """Whether a term is ``kept`` times one of those of a maximum, or of a maximum of maxima."""
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
    """Returns the maximum that a term consists of, or None."""
    return next((a for a in p.atoms() if a.kind == "max" and p == poly(a)), None)


def _candidates(m: Monomial, dim: Poly) -> list[Atom | int]:
    """Returns the places of a dimension in a term, and 0 if the dimension is not empty."""
    first = [0] if least_size(dim) > 0 else []
    return [*of_size(frozenset().union(*(a.inside for a, _ in m)), dim), *first]


def _at_corners(p: Poly, strict: bool) -> bool:
    """Decides the sign at the corners, for a term that is linear in each atom from 0 to 1."""
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
