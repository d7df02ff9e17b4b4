"""Sums of fractions, each numerator reduced modulo its denominator.

Under a sum over i of fractions over G, where G is ``k x + r`` with a power x of a factor that
depends on i, and a positive k without that factor and an r with lower powers of it:

    x y / G = (y - y r / G) / k

It is used from left to right, so that no numerator over G has the power x any more.
"""

from __future__ import annotations

from .facts import remembered
from .polynomial import Atom, Monomial, Number, Poly, Refused, add_all, poly, product
from .quotients import inverse
from .sums import opened, total


def reduced(p: Poly) -> Poly:
    """The same term, with the fractions in all its sums reduced."""
    return add_all(_each_sum(m) * c for m, c in p.terms.items())


def _each_sum(m: Monomial) -> Poly:
    sums = [(a, e) for a, e in m if a.kind == "sum" and e > 0 and e == int(e)]
    result = product(m - set(sums))
    for a, e in sums:
        result = result * _reduced_sum(a) ** int(e)
    return result


@remembered
def _reduced_sum(a: Atom) -> Poly:
    if not any(b.kind == "group" for b in a.inside):
        return poly(a)
    i, body = opened(a)
    done, left = Poly({}), reduced(body)
    while left.terms:
        steps = {m: _divided(m, i) for m in left.terms}
        done = done + Poly({m: c for m, c in left.terms.items() if steps[m] is None})
        left = add_all(n * left.terms[m] for m, n in steps.items() if n is not None)
    return total(done, i)


def _divided(m: Monomial, i: Atom) -> Poly | None:
    """One use of the rule, which lowers a power of x; None where there is none."""
    for g, e in sorted(m, key=lambda t: t[0].key):
        if g.kind == "group" and e < 0 and i in g.free:
            x = _lead(g, i)
            if x is not None and dict(m).get(x[0], 0) >= x[1]:
                factor, power, k, rest = x
                y = product([*m, (factor, -power)])
                return (y * poly(g) - y * rest) * inverse(k)
    return None


@remembered
def _lead(g: Atom, i: Atom) -> tuple[Atom, Number, Poly, Poly] | None:
    """A factor and its power that are x, k and r of a denominator."""
    for x in sorted((a for a in g.args[0].atoms() if i in a.free), key=lambda a: a.key):
        power = max(dict(m).get(x, 0) for m in g.args[0].terms)
        holding = Poly({m: c for m, c in g.args[0].terms.items() if (x, power) in m})
        k = add_all(product([*m, (x, -power)], c) for m, c in holding.terms.items())
        if power <= 0:
            continue
        try:
            inverse(k)
        except Refused:
            continue
        return x, power, k, g.args[0] - holding
    return None
