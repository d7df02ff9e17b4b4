"""exp, log, powers and roots; ``log`` is made total, 0 where its argument is not above 0."""

from __future__ import annotations

from collections.abc import Mapping
from fractions import Fraction

from .cases import by_cases
from .facts import without_facts
from .polynomial import ONE, ZERO, Atom, Number, Poly, Refused, atom, poly, product
from .quotients import above_zero, content, inverse, together
from .signs import nonnegative, positive
from .substitution import rebuilds, substitute


def exp(p: Poly) -> Poly:
    """exp: ``exp(a + b)`` splits, ``exp(log a)`` is a."""
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


@rebuilds("power")
def power_of(p: Poly, e: Number) -> Poly:
    """A power of a term above 0; a whole power of the root of one that is at least 0."""
    if e == int(e):
        return p ** int(e) if e >= 0 else inverse(p) ** int(-e)
    return by_cases(lambda q: _root(q, e), p)


def _root(p: Poly, e: Number) -> Poly:
    if not p.terms and e > 0:
        return ZERO
    numerator, below = together(p)
    size, shared, rest = content(numerator)
    with without_facts():
        sure = positive(rest)
        if not sure and not (nonnegative(rest) and 2 * e == int(2 * e)):
            raise Refused(f"a root of {p}, which is not known to be positive")
    last = ONE if sure else _half_power(rest, int(2 * e))
    powers = [*((a, -n) for a, n in below.items()), *shared.items()]
    if sure and rest != ONE:
        powers.append((atom("group", rest), 1))
    return product((a, n * e) for a, n in powers) * exp(_log_of_number(Fraction(size)) * e) * last


def _half_power(p: Poly, n: int) -> Poly:
    """``p^(n/2)`` of p >= 0, by its root, an atom that is 0 where p is."""
    whole = p ** (n // 2) if n >= 0 else inverse(p) ** -(n // 2)
    return whole * (poly(atom("sqrt", p)) if n % 2 else ONE)


def tanh(p: Poly) -> Poly:
    """1 - 2 / (exp(2 p) + 1)."""
    return 1 - 2 * inverse(exp(p * 2) + 1)


@rebuilds("exp")
def _(a: Atom, new: Mapping[Atom, Poly]) -> Poly:
    return exp(substitute(a.args[0], new))


@rebuilds("sqrt")
def _(a: Atom, new: Mapping[Atom, Poly]) -> Poly:
    return power_of(substitute(a.args[0], new), Fraction(1, 2))


@rebuilds("log")
def _(a: Atom, new: Mapping[Atom, Poly]) -> Poly:
    return by_cases(lambda p: _log(p, anywhere=True), substitute(a.args[0], new))
