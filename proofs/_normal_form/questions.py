"""What the prover asks: the derivative of a term, and whether a term is 0.

Almost everywhere, where ``usual`` says so, a derivative is that of a term's pieces. To see whether
a term is 0, the fractions under its sums are reduced, each numerator modulo its denominator. Under
a sum over i of fractions over G, where G is ``k x + r`` with a power x of a factor that depends on
i, and a positive k without that factor and an r with lower powers of it:

    x y / G = (y - y r / G) / k

It is used from left to right, so that no numerator over G has the power x any more.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

from .cases import Kinked, divided, off_kinks, usual
from .fractions import inverse, reciprocal, together
from .indices import Symbol, fresh, is_index, same_place, substitute
from .state import remembered
from .sums import opened, opened_beside, over_rows, total
from .terms import ONE, ZERO, Atom, Monomial, Number, Poly, Refused, add_all, poly, product
from .zero import greater, is_zero


def derivative(p: Poly, symbol: Symbol, *place: Atom | int) -> Poly:
    """The derivative of a term to the entry of ``symbol`` at ``place``."""
    parts = []
    for m, c in p.terms.items():
        for a, e in m:
            slope = _of_atom(a, symbol, place)
            if slope.terms:
                parts.append(product([*m, (a, -1)], c * e) * slope)
    return add_all(parts)


@remembered
def _of_atom(a: Atom, symbol: Symbol, place: tuple[Atom | int, ...]) -> Poly:
    if not any(b.kind == "entry" and b.args[0] == symbol for b in a.inside):
        return ZERO
    if a.kind == "entry":
        if a.args[0] != symbol:
            raise Refused(f"an index {a} that is differentiated")
        return same_place(a.args[1], place)
    if a.kind == "sum":
        i, body = opened_beside(a, *map(poly, place))
        return total(derivative(body, symbol, *place), i)
    of = a.of
    if of.kink or of.slope is None:
        what = f"the derivative of {of.kink or a.kind}, in {symbol}: {a}"
        if not of.kink or any(b.kind in {"any_number", "fewer_bits"} for b in a.inside):
            raise Refused(what)
        if not off_kinks():
            raise Kinked(what)
    if a.kind == "max":
        return _of_maximum(a, symbol, place)
    if of.slope is None:
        return ZERO
    inner = a.args[-1] if isinstance(a.args[-1], Poly) else poly(a.args[-1])
    if of.zeroed:
        _discrete(inner, symbol)
    return of.slope(a) * derivative(inner, symbol, *place)


def _of_maximum(a: Atom, symbol: Symbol, place: tuple[Atom | int, ...]) -> Poly:
    """The derivative of a maximum over an index, off a set of measure 0.

    Where several terms are the maximum together on a larger set, they have the same derivative
    there, and it is computed as their mean.
    """
    i = fresh(a.args[0].values)
    body, inside = (substitute(p, {a.args[0]: poly(i)}) for p in a.args[1:])
    here = inside * is_zero(body - poly(a))
    slope = total(here * derivative(body, symbol, *place), i)
    return slope * reciprocal(total(here, i))


def _discrete(p: Poly, symbol: Symbol) -> None:
    """Raises Kinked if where p vanishes depends on the symbol.

    At zeros of p, the terms log p, 1 / p and sqrt p are defined as 0. Almost everywhere, p then
    vanishes in a neighbourhood too, and the derivatives of these terms are 0.
    """
    where = is_zero(p)
    if not off_kinks() and any(a.kind == "entry" and a.args[0] == symbol for a in where.inside()):
        raise Kinked(f"the derivative of a function of {p}, which may be 0")


def reduced(p: Poly) -> Poly:
    """The same term, with the fractions in all its sums reduced."""
    return _rewritten(p, _reduced_sum)


def _rewritten(p: Poly, write: Callable[[Atom], Poly]) -> Poly:
    """A term with its sums, and those in whole powers, written in another way."""
    parts = []
    for m, c in p.terms.items():
        sums = [(a, e) for a, e in m if a.kind == "sum" and e > 0 and e == int(e)]
        part = product(m - set(sums), c)
        for a, e in sums:
            part = part * write(a) ** int(e)
        parts.append(part)
    return add_all(parts)


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


_FEW = (2, 3, 4)  # places, at each of which a term is looked at


def vanishes(p: Poly) -> bool:
    """Whether a term is 0 everywhere, or off kinks. True is a proof; False says nothing."""
    p = usual(p)
    if not p.terms:
        return True
    numerator, _ = together(p)
    if not numerator.terms or not _merged(numerator).terms:
        return True
    try:
        other, _ = together(reduced(numerator))
    except Refused:  # It says no more than that this way does not decide it.
        return False
    if other != numerator and (not other.terms or not _merged(other).terms):
        return True
    return _at_each_place(numerator)


def _at_each_place(p: Poly) -> bool:
    """Whether p is 0 at each place of a short axis, or with its sums written in another way."""
    for i in sorted(p.free(), key=lambda i: i.key):
        places = _few_places(p, i)
        if places:
            return all(vanishes(substitute(p, {i: place})) for place in places)
    sizes = sorted(_sizes_of_rows(p), key=repr)
    for write in (_turned, lambda a: _over_rows(a, sizes), _written_out):
        written = _rewritten(p, write)
        if written != p:
            return vanishes(written)
    return False


def _few_places(p: Poly, i: Atom) -> list[Poly]:
    """An index at each place of a short axis, of a short row, or of each of a few rows."""
    if few := _few(i.args[1]):
        return [poly(n) for n in few]
    for a in sorted(p.inside(), key=lambda a: a.key):
        if a.kind in {"div", "mod"} and a.args[0] is i:
            _, size, many = a.args
            if few := _few(size):
                return [size * fresh(many) + n for n in few]
            if few := _few(many):
                return [fresh(size) + size * n for n in few]
    return []


def _few(dim: Poly) -> Sequence[int]:
    """Returns the places of a short axis, or none if the axis is long."""
    number = dim.number()
    return range(int(number)) if number in _FEW else ()


def _written_out(a: Atom) -> Poly:
    """A sum over few places, term by term."""
    i, body = a.args
    few = _few(i.args[1])
    return add_all(substitute(body, {i: poly(n)}) for n in few) if few else poly(a)


def _turned(a: Atom) -> Poly:
    """A sum over i with ``1 - [i = t] - [i > t]`` in the place of ``[t > i]`` for another index."""
    i, body = opened(a)
    turned: dict[Atom, Poly] = {}
    for b in body.atoms():
        q = b.args[0] if b.kind == "positive" else ONE
        if q.terms.get(frozenset({(i, 1)})) == -1 and len(q.terms) == 2 == len(q.atoms()):
            if all(map(is_index, q.atoms())):
                turned[b] = 1 - is_zero(q) - greater(-q)
    return total(substitute(body, turned), i) if turned else poly(a)


def _sizes_of_rows(p: Poly) -> set[Poly]:
    """Returns the sizes that multiply an index in some place of p."""
    terms = [(m, c) for a in p.inside() if a.kind == "place" for m, c in a.args[0].terms.items()]
    return {product([*m, (i, -1)], abs(c)) for m, c in terms for i, _ in m if is_index(i)} - {ONE}


def _over_rows(a: Atom, sizes: Sequence[Poly]) -> Poly:
    """Returns a sum as one over the rows of one of these sizes and over the places in a row."""
    i, body = opened(a)
    for size in sizes:
        try:
            rows, places = divided(poly(i), size)
        except Refused:
            continue
        if rows.single() and places.single() and i.args[1] != size:
            _, _, many = next(iter(rows.atoms())).args
            return over_rows(body, i, size, many)
    return poly(a)


def _merged(p: Poly) -> Poly:
    """Sums with the same factor beside them, dropped where their bodies together vanish."""
    groups: dict[tuple[Monomial, Poly], list[tuple[Monomial, Number, Atom]]] = {}
    for m, c in p.terms.items():
        for a, e in m:
            if a.kind == "sum" and e == 1:
                beside = frozenset(m - {(a, e)})
                groups.setdefault((beside, a.args[0].values), []).append((m, c, a))
    for (_, dim), members in sorted(groups.items(), key=lambda g: -len(g[1])):
        here = [(m, c, a) for m, c, a in members if m in p.terms]
        if len(here) < 2:
            continue
        i = fresh(dim)
        body = add_all(substitute(a.args[1], {a.args[0]: poly(i)}) * c for _, c, a in here)
        if vanishes(body):
            gone = {m for m, _, _ in here}
            p = Poly({m: c for m, c in p.terms.items() if m not in gone})
    return p
