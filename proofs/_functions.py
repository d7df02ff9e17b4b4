"""The trusted base, 3: exp, log, quotients and comparisons of terms.

A function of a term with atoms b that are 0 or 1 is taken in each case,
``f(b) = b f(1) + (1 - b) f(0)``, so that no guard remains inside. Two functions are made
total: ``log`` and ``recip`` are 0 where their argument is not above 0, or is 0, so that
an identity proved in one case, times that case, holds everywhere.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable, Iterator, Mapping
from fractions import Fraction

from ._normal_form import (
    ONE,
    ZERO,
    Atom,
    Monomial,
    Number,
    Poly,
    Refused,
    add_all,
    as_index,
    at_kept_label,
    atom,
    bind,
    bind_all,
    delta,
    each_nest,
    facts,
    fresh,
    index_range,
    known_where_zero,
    monomial_key,
    opened,
    opened_dominance,
    peek,
    poly,
    product,
    rebuilds,
    row_kept,
    substitute,
    surely_positive,
    total,
)
from ._signs import (
    atom_nonnegative,
    atom_positive,
    knowing,
    nonnegative,
    positive,
    without_facts,
)

_MAX_GUARDS = 10


def by_cases(f: Callable[..., Poly], *parts: Poly, weight: Poly = ONE, depth: int = 0) -> Poly:
    """f of terms, for each case of their 0-1 atoms; impossible cases are left out."""
    guards = {a for p in parts for a in p.atoms() if a.boolean}
    if not guards:
        return f(*parts)
    if depth == _MAX_GUARDS:
        raise Refused("a function of too many guards")
    guard = min(guards, key=lambda a: (a.kind != "entry", a.key))
    yes = weight * poly(guard)
    no = weight - yes
    result = ZERO
    if yes.terms:
        with knowing(poly(guard)):
            here = [given(p, guard) for p in parts]
            result = poly(guard) * by_cases(f, *here, weight=yes, depth=depth + 1)
    if no.terms:
        absent = guard.args[0] if guard.kind == "zero" else ONE
        with knowing(absent):
            here = [substitute(p, {guard: ZERO}) for p in parts]
            branch = by_cases(f, *here, weight=no, depth=depth + 1)
        result = result + branch - poly(guard) * branch
    return result


def given(p: Poly, guard: Atom) -> Poly:
    """A term where a 0-1 atom is 1."""
    p = substitute(p, {guard: ONE})
    if guard.kind == "delta" and not _inside(guard.args[0], guard.args[1]):
        return substitute(p, {guard.args[0]: poly(guard.args[1])})
    if guard.kind == "zero":
        return substitute(p, known_where_zero(guard, p.atoms()))
    if guard.kind == "entry":
        masks = [a for a in p.inside() if a.kind == "entry" and a.args[0].kept]
        known = {a: ONE for a in masks if at_kept_label(a) and row_kept(a) is guard}
        return substitute(p, known)
    return p


def _inside(a: Atom, b: Atom | int) -> bool:
    return isinstance(b, Atom) and a in b.inside


# ---------------------------------------------------------------- fractions


def together(p: Poly) -> tuple[Poly, dict[Atom, Number]]:
    """A numerator without negative powers, and the powers of positive atoms below it."""
    below: dict[Atom, Number] = {}
    while True:
        low: dict[Atom, Number] = {}
        for m in p.terms:
            for a, e in m:
                if a.kind == "recip" and atom_positive(a.args[0]):
                    a, e = a.args[0], -e
                if e < low.get(a, 0):
                    low[a] = e
        if not low:
            return p, below
        for a, e in low.items():
            below[a] = below.get(a, 0) - e
        up = [(a, -e) for a, e in low.items()]
        p = add_all(product([*m, *up], c) for m, c in p.terms.items())


def content(p: Poly) -> tuple[Number, dict[Atom, Number], Poly]:
    """The number and the powers of positive atoms that all terms share, and the rest."""
    shared: dict[Atom, Number] | None = None
    for m in p.terms:
        powers = {a: e for a, e in m if surely_positive(a)}
        if shared is None:
            shared = powers
        else:
            shared = {a: min(e, powers[a]) for a, e in shared.items() if a in powers}
    shared = shared or {}
    numbers = [Fraction(c) for c in p.terms.values()]
    size = Fraction(
        math.gcd(*(c.numerator for c in numbers)), math.lcm(*(c.denominator for c in numbers))
    )
    down = [(a, -e) for a, e in shared.items()]
    return size, shared, add_all(product([*m, *down], c / size) for m, c in p.terms.items())


def above_zero(p: Poly) -> bool:
    """Whether p > 0 is sure, as a fraction."""
    return positive(together(p)[0])


def inverse(p: Poly) -> Poly:
    """1 / p, where p is known not to be 0."""
    return by_cases(_inverse, p)


def reciprocal(p: Poly) -> Poly:
    """1 / p, and 0 where p is 0."""
    return by_cases(lambda q: _inverse(q, anywhere=True), p)


def _inverse(p: Poly, anywhere: bool = False) -> Poly:
    numerator, below = together(p)
    if not numerator.terms:
        if anywhere:
            return ZERO
        raise Refused("division by 0")
    size, shared, rest = content(numerator)
    outside = product([*below.items(), *((a, -e) for a, e in shared.items())], 1 / Fraction(size))
    number = rest.number()
    if number is not None:
        return outside * (1 / Fraction(number))
    return outside * _inverse_of_rest(rest, anywhere)


def _inverse_of_rest(rest: Poly, anywhere: bool) -> Poly:
    term = rest.single()
    if term is not None:
        if not anywhere and not positive(rest) and not positive(-rest) and rest not in facts():
            raise Refused(f"division by {rest}, which is not known to differ from 0")
        result = poly(1 / Fraction(term[1]))
        for a, e in term[0]:
            one = poly(a) if a.boolean else poly(atom("recip", a))
            result = result * (product([(a, -e)]) if surely_positive(a) else one ** int(e))
        return result
    with without_facts():
        for sign in (1, -1):
            if positive(rest * sign):
                return product([(atom("group", rest * sign), -1)], sign)
    raise Refused(f"division by {rest}, which is not known to differ from 0")


def power_of(p: Poly, e: Number) -> Poly:
    """A power of a term above 0."""
    if e == int(e):
        return p ** int(e) if e >= 0 else inverse(p) ** int(-e)
    return by_cases(lambda q: _root(q, e), p)


def _root(p: Poly, e: Number) -> Poly:
    numerator, below = together(p)
    size, shared, rest = content(numerator)
    with without_facts():
        if not positive(rest):
            raise Refused(f"a root of {p}, which is not known to be positive")
    powers = [*((a, -n) for a, n in below.items()), *shared.items()]
    if rest != ONE:
        powers.append((atom("group", rest), 1))
    return product((a, n * e) for a, n in powers) * exp(_log_of_number(Fraction(size)) * e)


# ---------------------------------------------------------------- exp and log


def exp(p: Poly) -> Poly:
    """exp: ``exp(a + b)`` splits, ``exp(log a)`` is a."""
    return by_cases(_exp, p)


def _exp(p: Poly) -> Poly:
    result = ONE
    for m, c in p.terms.items():
        if len(m) == 1:
            ((a, e),) = m
            if a.kind == "log" and e == 1 and positive(a.args[0]):
                if a.args[0].number() is None or c == int(c):
                    result = result * power_of(a.args[0], c)
                    continue
        result = result * product([(atom("exp", Poly({m: 1})), c)])
    return result


def log(p: Poly) -> Poly:
    """log of a term above 0: splits over positive factors, and numbers into primes."""
    return by_cases(_log, p)


def _log(p: Poly, anywhere: bool = False) -> Poly:
    if not above_zero(p):
        term = p.single()
        if not (anywhere or nonnegative(together(p)[0])):
            raise Refused(f"the logarithm of {p}, which is not known to be positive")
        if not p.terms:
            return ZERO
        if term is None or term[1] != 1 or len(term[0]) != 1:
            raise Refused(f"the logarithm of {p}, which may be 0")
        return poly(atom("log", p))
    numerator, below = together(p)
    size, shared, rest = content(numerator)
    result = _log_of_number(Fraction(size))
    for a, e in [*shared.items(), *((a, -e) for a, e in below.items())]:
        result = result + _log_of_atom(a) * e
    term = rest.single()
    if term is None:
        return result + poly(atom("log", rest))
    for a, e in term[0]:
        result = result + _log_of_atom(a) * e
    return result


def _log_of_atom(a: Atom) -> Poly:
    if a.kind == "exp":
        return a.args[0]
    return poly(atom("log", a.args[0] if a.kind == "group" else poly(a)))


def _log_of_number(x: Fraction) -> Poly:
    result = ZERO
    for number, sign in ((x.numerator, 1), (x.denominator, -1)):
        for prime, e in _primes(number).items():
            result = result + poly(atom("log", poly(prime))) * (e * sign)
    return result


def _primes(n: int) -> dict[int, int]:
    found: dict[int, int] = {}
    d = 2
    while d * d <= n and d < 1000:
        while n % d == 0:
            found[d] = found.get(d, 0) + 1
            n //= d
        d += 1
    if n > 1:
        found[n] = found.get(n, 0) + 1
    return found


def tanh(p: Poly) -> Poly:
    """1 - 2 / (exp(2 p) + 1)."""
    return 1 - 2 * inverse(exp(p * 2) + 1)


# ---------------------------------------------------------------- comparisons


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
    term = rest.single()
    if term is not None:
        return _zero_of_product(term[0])
    for rule in _RULES_OF_ZERO:
        result = rule(rest)
        if result is not None:
            return result
    return poly(atom("zero", _first_positive(rest)))


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
    if a.kind == "sum" and atom_nonnegative(a):
        return _zero_of_sum(a)
    if a.kind == "index":
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
    """A sum without what is positive in each term: it is 0 where the sum is."""
    i, body = opened(a)
    ((m, _),) = body.terms.items()
    left = ONE
    for b, e in m:
        if not positive(poly(b)):
            left = left * (_without_positive(b) if b.kind == "sum" else product([(b, e)]))
    return total(left, i)


def _zero_of_indices(p: Poly) -> Poly | None:
    if len(p.terms) != 2:
        return None
    for left, c in p.terms.items():
        if not left or c not in (1, -1):
            continue
        try:
            return delta(as_index(Poly({left: 1})), as_index((Poly({left: c}) - p) * c))
        except Refused:
            continue
    return None


def _zero_of_digits(p: Poly) -> Poly | None:
    """``a d + b = 0`` for integers with -d < b < d, d a dimension: both are 0."""
    for high, low, d in _digits(p):
        if positive(poly(d) - low) and positive(poly(d) + low):
            return is_zero(high) * is_zero(low)
    return None


def _zero_of_count(p: Poly) -> Poly | None:
    """``d = sum_i [x_i = 0]`` for an index below d and x >= 0: the sum of x is 0."""
    counted = _counted(p)
    return None if counted is None else is_zero(total(*counted))


def _counted(p: Poly) -> tuple[Poly, Atom] | None:
    """x and i where p is ``sum_i (1 - [x_i = 0])`` and x >= 0."""
    for a in p.atoms():
        if a.kind == "sum" and p == a.args[0].args[1] - poly(a):
            i, body = opened(a)
            term = body.single()
            ((b, _),) = term[0] if term is not None and len(term[0]) == 1 else ((a, 1),)
            if b.kind == "zero" and nonnegative(b.args[0]):
                return b.args[0], i
    return None


def _digits(p: Poly) -> Iterator[tuple[Poly, Poly, Atom]]:
    """Integers a and b, not 0, and a dimension d with ``p = a d + b``."""
    for d in sorted((a for a in p.atoms() if a.kind == "dim"), key=lambda a: a.key):
        high = Poly({m: c for m, c in p.terms.items() if (d, 1) in m})
        low = p - high
        if high.terms and low.terms and integral(high) and integral(low):
            yield high * product([(d, -1)]), low, d


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
    _zero_of_indices,
    _zero_of_digits,
    _zero_of_count,
    _zero_of_common_factor,
    _zero_of_sum_of_parts,
    _zero_of_logs,
)


def _first_positive(p: Poly) -> Poly:
    """p or -p: that whose first coefficient by name is positive."""
    first = min(p.terms, key=monomial_key)
    return p if p.terms[first] > 0 else -p


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
    if nonnegative(rest) or _counted(rest) is not None:
        return 1 - _zero(rest)
    for rule in (_dominance, _greater_of_digits, _greater_of_integers):
        result = rule(rest)
        if result is not None:
            return result
    ordered = _first_positive(rest)
    if ordered == rest:
        return poly(atom("positive", rest))
    return 1 - poly(atom("positive", ordered)) - _zero(rest)


def _greater_of_digits(p: Poly) -> Poly | None:
    """``a d + b > 0`` for integers with -d < b <= 0, d a dimension: a > 0."""
    for high, low, d in _digits(p):
        if positive(poly(d) + low) and nonnegative(-low):
            return greater(high)
    return None


def _greater_of_integers(p: Poly) -> Poly | None:
    """``a + 1 > 0`` for an integer a: not ``-a > 0``."""
    return 1 - greater(1 - p) if integral(p) and p.terms.get(frozenset()) == 1 else None


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


# ---------------------------------------------------------------- maxima and rounding


def greatest(p: Poly, inside: Poly, i: Atom) -> Poly:
    """The greatest p over the indices i at which ``inside`` is 1."""

    def leaf(p: Poly, inside: Poly) -> Poly:
        outer = Poly({m: c for m, c in p.terms.items() if all(i not in a.free for a, _ in m)})
        p = p - outer
        if not p.terms:
            return outer
        name, bodies = bind(i, p, inside)
        return outer + poly(atom("max", name, *bodies, binders=(name,)))

    return _outer_cases(leaf, i, p, inside)


def _outer_cases(leaf: Callable[..., Poly], i: Atom, *parts: Poly) -> Poly:
    guards = {a for p in parts for a in p.atoms() if a.boolean and i not in a.free}
    if not guards:
        return leaf(*parts)
    guard = min(guards, key=lambda a: a.key)
    yes = _outer_cases(leaf, i, *(given(p, guard) for p in parts))
    no = _outer_cases(leaf, i, *(substitute(p, {guard: ZERO}) for p in parts))
    return poly(guard) * yes + (1 - poly(guard)) * no


def integral(p: Poly) -> bool:
    """Whether the value of p is sure to be an integer."""
    return all(
        c == int(c) and all(_integral_atom(a) and e > 0 and e == int(e) for a, e in m)
        for m, c in p.terms.items()
    )


def _integral_atom(a: Atom) -> bool:
    if a.kind == "at_least":
        return a.args[0] == int(a.args[0]) and integral(a.args[1])
    return a.integer or (a.kind == "sum" and integral(peek(a)))


def floor(p: Poly) -> Poly:
    """The greatest integer not above p; nothing else is known of it."""
    return p if integral(p) else poly(atom("floor", p))


def nearest(p: Poly) -> Poly:
    """The nearest integer, by whatever rule that is odd; nothing else is known of it."""
    if integral(p):
        return p
    ordered = _first_positive(p)
    return poly(atom("round", ordered)) * (1 if ordered == p else -1)


def at_least(number: Number, p: Poly) -> Poly:
    """max(p, number) for a number above 0, so that it is positive whatever p is."""
    if number <= 0:
        raise Refused(f"a maximum with {number} as if it were positive")
    if number == 1 and integral(p) and positive(p):
        return p
    value = p.number()
    if value is not None:
        return poly(max(value, number))
    return poly(number) if nonnegative(-p) else poly(atom("at_least", number, p))


def fewer_bits(bits: int, p: Poly) -> Poly:
    """A positive p rounded to fewer bits of its mantissa: positive; no more is known of it."""
    with without_facts():
        if not above_zero(p):
            raise Refused(f"fewer bits of {p}, which is not known to be positive")
    return poly(atom("fewer_bits", bits, p))


# ---------------------------------------------------------------- atoms made anew


@rebuilds("exp")
def _(a: Atom, new: Mapping[Atom, Poly]) -> Poly:
    return exp(substitute(a.args[0], new))


@rebuilds("log")
def _(a: Atom, new: Mapping[Atom, Poly]) -> Poly:
    return by_cases(lambda p: _log(p, anywhere=True), substitute(a.args[0], new))


@rebuilds("group")
def _(a: Atom, new: Mapping[Atom, Poly]) -> Poly:
    return substitute(a.args[0], new)


@rebuilds("recip")
def _(a: Atom, new: Mapping[Atom, Poly]) -> Poly:
    return reciprocal(substitute(poly(a.args[0]), new))


@rebuilds("zero")
def _(a: Atom, new: Mapping[Atom, Poly]) -> Poly:
    return is_zero(substitute(a.args[0], new))


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


@rebuilds("max")
def _(a: Atom, new: Mapping[Atom, Poly]) -> Poly:
    name, body, inside = a.args
    i = fresh(substitute(name.args[1], new))
    there = {**new, name: poly(i)}
    return greatest(substitute(body, there), substitute(inside, there), i)


@rebuilds("floor")
def _(a: Atom, new: Mapping[Atom, Poly]) -> Poly:
    return floor(substitute(a.args[0], new))


@rebuilds("round")
def _(a: Atom, new: Mapping[Atom, Poly]) -> Poly:
    return nearest(substitute(a.args[0], new))


@rebuilds("at_least")
def _(a: Atom, new: Mapping[Atom, Poly]) -> Poly:
    return at_least(a.args[0], substitute(a.args[1], new))


@rebuilds("fewer_bits")
def _(a: Atom, new: Mapping[Atom, Poly]) -> Poly:
    return fewer_bits(a.args[0], substitute(a.args[1], new))


@rebuilds("dim")
def _(a: Atom, new: Mapping[Atom, Poly]) -> Poly:
    return poly(a)
