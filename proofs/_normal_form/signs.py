"""When a term is above 0, or not below it, and what follows where one is 0.

Every rule is sufficient and none is necessary: "cannot say" is the usual answer.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterable, Iterator, Mapping
from fractions import Fraction

from .indices import (
    at_kept_label,
    fresh,
    is_index,
    label_of,
    least_size,
    lowest,
    of_size,
    row_kept,
    substitute,
)
from .state import facts, remembered
from .sums import aligned, each_nest, opened, peek, total, unnested
from .terms import ONE, ZERO, Atom, Monomial, Number, Poly, add_all, monomial_key, poly, product


def holds(b: Atom) -> bool:
    if poly(b) in facts():
        return True
    row = row_kept(b) if b.kind == "entry" and at_kept_label(b) else None
    return row is not None and poly(row) in facts()


def all_hold(mask: Poly) -> bool:
    """Whether a product of 0-1 atoms is known to be 1."""
    term = mask.single()
    return term is not None and term[1] == 1 and all(b.boolean and holds(b) for b, _ in term[0])


def known_ones() -> set[Atom]:
    """The indices in what is known to be 1."""
    guards = {b for p in facts() if len(p.terms) == 1 for b in p.atoms() if b.boolean}
    return {t for b in guards for t in b.inside if is_index(t)}


def known_where_zero(zero: Atom, others: Iterable[Atom]) -> dict[Atom, Poly]:
    """What atoms inside others are where ``zero`` is 1: one solved for, or sums that vanish.

    Or all the numbers of a row, where those have no variance: each is their mean.
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
    """A sum of y over i, its mean, i and y, where p is ``n sum y² - (sum y)²``, n times one."""
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
    """Whether b is y at some index in the place of i."""
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
    """Whether each term of the sum b holds all factors of that of the sum a."""
    return any(there <= mine for mine, there in aligned(b, a))


@remembered
def solution(p: Poly) -> tuple[Atom, Poly] | None:
    """An atom and what it is where p = 0, if p is linear in it with a number before it."""
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


_MAX_CORNERS = 6


def atom_positive(a: Atom) -> bool:
    """Whether an atom is above 0, here."""
    if a.sure or a.of.positive(a):
        return True
    if a.kind == "sum":
        if _has_witness(a):
            return True
        some = least_size(a.args[0].values) > 0
        return some and (positive(peek(a)) or _counts_the_largest(a))
    return poly(a) in facts() and atom_nonnegative(a)


def _has_witness(a: Atom) -> bool:
    """A sum of b_j q_j with q_j > 0, one b_j known to be 1, or their sum known not to be 0."""
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
    """``sum_i [x_i = max_j x_j]``: a maximum over all indices is one of its terms."""
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
    """Whether the term of a sum at an index is positive, by the facts."""
    if t.values != a.args[0].values:
        return False
    there = substitute(a.args[1], {a.args[0]: poly(t)}).single()
    if there is None:
        return False
    sure = {b for b, _ in there[0] if b.boolean and holds(b)}
    return positive(product((b, e) for b, e in there[0] if b not in sure))


def atom_nonnegative(a: Atom) -> bool:
    """Whether an atom is at least 0, here."""
    if a.sure or a.boolean or a.of.nonnegative(a):
        return True
    return a.kind == "sum" and nonnegative(peek(a))


def positive(p: Poly) -> bool:
    """Whether p > 0 is sure."""
    return _sign(p, True)


def nonnegative(p: Poly) -> bool:
    """Whether p >= 0 is sure."""
    return not p.terms or _sign(p, False)


@remembered
def _sign(p: Poly, strict: bool) -> bool:
    number = p.number()
    if number is not None:
        return number > 0 or (number == 0 and not strict)
    if _termwise(p, strict) or _by_bounds(p, strict) or _without_instances(p, strict):
        return True
    return (
        _by_exponents(p, strict)
        or _by_cauchy_schwarz(p, strict)
        or _without_masked(p, strict)
        or _at_corners(p, strict)
    )


def _monomial_sign(m: Monomial, strict: bool) -> bool:
    test = atom_positive if strict else atom_nonnegative
    return all(test(a) or (not strict and e == int(e) and e % 2 == 0) for a, e in m)


def _termwise(p: Poly, strict: bool) -> bool:
    if any(c < 0 or not _monomial_sign(m, False) for m, c in p.terms.items()):
        return False
    return not strict or any(_monomial_sign(m, True) for m in p.terms)


def _by_bounds(p: Poly, strict: bool) -> bool:
    """Indices at their least or greatest, then dimensions at their least."""
    bound = Poly({})
    for m, c in p.terms.items():
        places = [a for a, _ in m if is_index(a)]
        if len(places) > 1 or any(e != 1 or not (a in places or a.kind == "dim") for a, e in m):
            return False
        term = Poly({m: c})
        for a in places:  # beside it stand dimensions, all above 0
            term = (a.values - 1) * product(m - {(a, 1)}, c) if c < 0 else Poly({})
        bound = bound + term
    low = lowest(bound)
    return low is not None and (low > 0 or (low == 0 and not strict))


def _without_instances(p: Poly, strict: bool) -> bool:
    """Sums and maxima less one of their own terms: ``S - E_y >= 0``, ``M - z_y >= 0``."""
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
                if _sign(rest, strict and not more):
                    return True
    return _above_a_term_of_a_maximum(p, strict)


def _by_exponents(p: Poly, strict: bool) -> bool:
    """``c exp(a) - d exp(b)``, for c >= d > 0, beside a positive factor: the sign of a - b."""
    for (m, c), (n, d) in itertools.permutations(p.terms.items()) if len(p.terms) == 2 else ():
        if d < 0 and c >= -d and all(a.sure for a in dict(n)):
            ratio = product([*m, *((a, -e) for a, e in n)]).single()
            if ratio is not None and ratio[1] == 1 and all(a.kind == "exp" for a, _ in ratio[0]):
                exponent = add_all(a.args[0] * e for a, e in ratio[0])
                return _sign(exponent, strict and c == -d)
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
                return _sign(p + Poly({m: d, n: -d}), strict and not seen)
    return False


def _masked_parts(a: Atom, b: Atom) -> tuple[Atom, Poly, Poly] | None:
    """An index, the body of a sum a (or of a size, 1), and that times 0-1 atoms, of a sum b."""
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
                if len(rest.terms) < len(p.terms) and _sign(rest, strict):
                    return True
    return False


def _beside(p: Poly, a: Atom, rest: Monomial) -> Iterator[tuple[Atom, Number]]:
    """Other sums over as many indices that stand beside a sum a, with their coefficients."""
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
    """``M >= x_y + b_y`` for a maximum of sums: p with that in M's place is a lower bound."""
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
                and _sign(rest, strict)
            ):
                return True
    return False


def _terms_of(p: Poly, dim: Poly) -> list[Atom]:
    """The labels and the free indices in a term that a dimension has."""
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
    """The maximum that a term is, if it is one."""
    return next((a for a in p.atoms() if a.kind == "max" and p == poly(a)), None)


def _candidates(m: Monomial, dim: Poly) -> list[Atom | int]:
    """The places in a term that a dimension has, and its first if it is sure to have one."""
    first = [0] if least_size(dim) > 0 else []
    return [*of_size(frozenset().union(*(a.inside for a, _ in m)), dim), *first]


def _at_corners(p: Poly, strict: bool) -> bool:
    """Linear in each atom that is 0 or 1, or between: its sign is that at the corners."""
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
        return nonnegative(p) if not strict else positive(p)
    a, rest = between[0], between[1:]
    low, high = (substitute(p, {a: poly(x)}) for x in (0, 1))
    if a.boolean or not strict:
        return _corner(low, rest, strict) and _corner(high, rest, strict)
    return any(
        _corner(x, rest, True) and _corner(y, rest, False)
        for x, y in itertools.permutations((low, high))
    )
