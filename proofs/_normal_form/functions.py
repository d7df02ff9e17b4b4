"""Makes functions of terms: exp and log, roots, angles, roundings and maxima.

``log`` is defined as 0 where its argument is not above 0. So an identity that is proved in one case
holds everywhere once both sides are multiplied by the 0-1 term of the case. Of ``sin``, ``erf`` and
``atan`` it is known only that they are odd (``sin(-p) = -sin p``) and what their derivatives are.
There is one exception: in products ``sin² p`` becomes ``1 - cos² p``.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from fractions import Fraction

from .cases import by_cases
from .fractions import above_zero, factored, inverse, reciprocal, together
from .indices import fresh, substitute
from .signs import nonnegative, positive
from .state import without_facts
from .sums import bind_all, reindexed
from .terms import (
    ONE,
    ZERO,
    Atom,
    Kind,
    Number,
    Poly,
    Refused,
    always,
    atom,
    first_positive,
    integral,
    kinds,
    made,
    poly,
    product,
)


def exp(p: Poly) -> Poly:
    """Returns e to the power p, as a product if p is a sum, and as a if p is ``log a``."""
    return by_cases(_exp, p)


def _exp(p: Poly) -> Poly:
    result = ONE
    for m, c in p.terms.items():
        if len(m) == 1:
            ((a, e),) = m
            if a.kind == "log" and e == 1 and positive(a.args[0]):
                number = a.args[0].number()
                if number is None or c == int(c):
                    result = result * power_of(a.args[0], c)
                else:
                    result = result * product([(atom("prime", number), c)])
                continue
        result = result * product([(atom("exp", Poly({m: 1})), c)])
    return result


def log(p: Poly) -> Poly:
    """Returns log p as a sum over its positive factors, and over the primes of numbers in p.

    Raises ``Refused`` unless p is known to be above 0, or is 0 or an atom known to be at least 0.
    """
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
    size, powers, rest = factored(p)
    result = _log_of_number(size)
    for a, e in powers.items():
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
    if a.kind == "prime":
        return poly(atom("log", poly(a.args[0])))
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


def power_of(p: Poly, e: Number = Fraction(1, 2)) -> Poly:
    """Returns ``p^e``, by default the square root.

    Unless e is an integer, p must be above 0, or it may be 0 if ``2 e`` is an integer.
    """
    if e == int(e):
        return p ** int(e) if e >= 0 else inverse(p) ** int(-e)
    return by_cases(lambda q: _root(q, e), p)


def _root(p: Poly, e: Number) -> Poly:
    if not p.terms and e > 0:
        return ZERO
    size, powers, rest = factored(p)
    with without_facts():
        sure = positive(rest)
        if not sure and not (nonnegative(rest) and 2 * e == int(2 * e)):
            raise Refused(f"a root of {p}, which is not known to be positive")
    last = ONE if sure else _half_power(rest, int(2 * e))
    group = [(atom("group", rest), 1)] if sure and rest != ONE else []
    outside = product((a, n * e) for a, n in [*powers.items(), *group])
    return outside * exp(_log_of_number(size) * e) * last


def _half_power(p: Poly, n: int) -> Poly:
    """Returns ``p^(n/2)`` for p >= 0, by the atom ``sqrt(p)``, which is 0 where p is."""
    whole = p ** (n // 2) if n >= 0 else inverse(p) ** -(n // 2)
    return whole * (poly(atom("sqrt", p)) if n % 2 else ONE)


def tanh(p: Poly) -> Poly:
    """Returns ``1 - 2 / (exp(2 p) + 1)``."""
    return 1 - 2 * inverse(exp(p * 2) + 1)


def cos(p: Poly) -> Poly:
    """Returns cos p, which is the same term for p and for -p."""
    return by_cases(lambda q: poly(atom("cos", first_positive(q))) if q.terms else ONE, p)


kinds["pi"] = Kind(sure=always)
PI = atom("pi")


def _odd(kind: str, p: Poly) -> Poly:
    if not p.terms:
        return ZERO
    ordered = first_positive(p)
    return poly(atom(kind, ordered)) * (1 if ordered == p else -1)


def _odd_by_cases(kind: str) -> Callable[[Poly], Poly]:
    return lambda p: by_cases(lambda q: _odd(kind, q), p)


sin, erf, atan = map(_odd_by_cases, ("sin", "erf", "atan"))


def digits(p: Poly) -> Iterator[tuple[Poly, Poly, Atom]]:
    """Yields integer terms a and b that are not 0, and a dimension d, with ``p = a d + b``."""
    for d in sorted((a for a in p.atoms() if a.kind == "dim"), key=lambda a: a.key):
        high = Poly({m: c for m, c in p.terms.items() if (d, 1) in m})
        low = p - high
        if high.terms and low.terms and integral(high) and integral(low):
            yield high * product([(d, -1)]), low, d


def floor(p: Poly) -> Poly:
    """Returns the greatest integer not above p: p, or an atom known only to be an integer."""
    return p if integral(p) else poly(atom("floor", p))


def any_number(p: Poly) -> Poly:
    """Returns an atom for a number that depends on p alone; nothing else is known of it."""
    return by_cases(lambda q: poly(atom("any_number", q)), p)


def nearest(p: Poly) -> Poly:
    """Returns the integer nearest to p. Unless this is p, it is known only to be odd in p."""
    return p if integral(p) else _odd("round", p)


def fewer_bits(bits: int, p: Poly) -> Poly:
    """Returns p > 0 rounded to ``bits`` bits of mantissa: an atom known only to be positive."""
    with without_facts():
        if not above_zero(p):
            raise Refused(f"fewer bits of {p}, which is not known to be positive")
    return poly(atom("fewer_bits", bits, p))


def greatest(p: Poly, inside: Poly, i: Atom) -> Poly:
    """Returns the greatest p over the values of the index i at which ``inside`` is 1."""

    def leaf(p: Poly, inside: Poly) -> Poly:
        outer = Poly({m: c for m, c in p.terms.items() if all(i not in a.free for a, _ in m)})
        p = p - outer
        if not p.terms:
            return outer
        factor, p = _positive_factor(p, i)
        ways = (bind_all((i,), *way) for way in reindexed(i, p, inside))
        (name,), bodies = min(ways, key=repr)
        return outer + factor * poly(atom("max", name, *bodies, binders=(name,)))

    return by_cases(leaf, p, inside, bound=i)


def _positive_factor(p: Poly, i: Atom) -> tuple[Poly, Poly]:
    """Returns two factors of p: a positive one that does not depend on i, and the rest."""
    size, powers, rest = factored(p)
    factor = product([(a, e) for a, e in powers.items() if i not in a.free], size)
    return factor, product([(a, e) for a, e in powers.items() if i in a.free]) * rest


def at_least(number: Number, p: Poly) -> Poly:
    """Returns ``max(p, number)`` for a number above 0, which is positive whatever p is."""
    if number <= 0:
        raise Refused(f"a maximum with {number} as if it were positive")
    if number == 1 and integral(p) and positive(p):
        return p
    value = p.number()
    if value is not None:
        return poly(max(value, number))
    return poly(number) if nonnegative(-p) else poly(atom("at_least", number, p))


def _rebuilt_maximum(a: Atom, new: Mapping[Atom, Poly]) -> Poly:
    name, body, inside = a.args
    i = fresh(substitute(name.args[1], new))
    there = {**new, name: poly(i)}
    return greatest(substitute(body, there), substitute(inside, there), i)


def _slope_of_log(a: Atom) -> Poly:
    (p,) = a.args
    power = p.power()
    return inverse(p) if power is None or power[1] != 1 else reciprocal(p)


kinds["exp"] = Kind(exp, sure=always, slope=poly)
kinds["log"] = Kind(
    lambda p: by_cases(lambda q: _log(q, anywhere=True), p),
    sure=lambda a: (a.args[0].number() or 0) > 1,
    slope=_slope_of_log,
    zeroed=True,
)
kinds["sqrt"] = Kind(
    power_of,
    ruled=True,
    positive=lambda a: positive(a.args[0]),
    nonnegative=always,
    slope=lambda a: reciprocal(poly(a)) * Fraction(1, 2),
    zeroed=True,
)
kinds["prime"] = Kind(ruled=True, sure=always)
kinds["sin"] = Kind(sin, ruled=True, slope=lambda a: cos(a.args[0]))
kinds["cos"] = Kind(cos, slope=lambda a: -sin(a.args[0]))
kinds["erf"] = Kind(
    erf, slope=lambda a: 2 * exp(-a.args[0] * a.args[0]) * product([(PI, Fraction(-1, 2))])
)
kinds["atan"] = Kind(atan, slope=lambda a: inverse(1 + a.args[0] * a.args[0]))
kinds["floor"] = Kind(floor, integral=always, kink="a rounding")
kinds["round"] = Kind(nearest, integral=always, kink="a rounding")
kinds["any_number"] = Kind(any_number)
kinds["fewer_bits"] = Kind(fewer_bits, sure=always)
kinds["max"] = Kind(rebuild=_rebuilt_maximum, kink="a maximum")
kinds["at_least"] = Kind(
    at_least,
    sure=always,
    integral=lambda a: a.args[0] == int(a.args[0]) and integral(a.args[1]),
    slope=lambda a: made("positive", a.args[1] - a.args[0]),
    kink="a maximum",
)
