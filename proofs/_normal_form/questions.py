"""Answers what the prover asks: what the derivative of a term is, and whether a term is 0.

Almost everywhere (see ``cases``), a derivative is taken on each piece of a term by itself. To see
whether a term is 0, the fractions under its sums are reduced: each numerator modulo its
denominator. Let G be a denominator under a sum over i, with ``G = k x + r`` for a power x of a
factor that depends on i, a k that is not 0 and does not have that factor, and an r with only lower
powers of it. Then

    x y / G = (y - y r / G) / k

is used from left to right, until no numerator over G has the power x.
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
    """Returns the derivative of a term with respect to the entry of ``symbol`` at ``place``."""
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
    """Returns the derivative of a maximum over an index, except on a set of measure 0.

    Where several terms equal the maximum on a larger set, they have the same derivative there, and
    the mean of their derivatives is returned.
    """
    i = fresh(a.args[0].values)
    body, inside = (substitute(p, {a.args[0]: poly(i)}) for p in a.args[1:])
    here = inside * is_zero(body - poly(a))
    slope = total(here * derivative(body, symbol, *place), i)
    return slope * reciprocal(total(here, i))


def _discrete(p: Poly, symbol: Symbol) -> None:
    """Raises Kinked if the symbol may decide whether p is 0, except inside ``almost_everywhere``.

    Where p is 0, log p, 1 / p and sqrt p are defined as 0. Almost everywhere in that set, p is 0 in
    a neighbourhood too, so that the derivatives of these terms are 0.
    """
    where = is_zero(p)
    if not off_kinks() and any(a.kind == "entry" and a.args[0] == symbol for a in where.inside()):
        raise Kinked(f"the derivative of a function of {p}, which may be 0")


def reduced(p: Poly) -> Poly:
    """Returns the same term with the fractions in all its sums reduced."""
    return _rewritten(p, _reduced_sum)


def _rewritten(p: Poly, write: Callable[[Atom], Poly]) -> Poly:
    """Returns p with ``write(a)`` in the place of each sum a among its factors."""
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
    """Returns a product under a sum over i, rewritten once by the rule, or None if it cannot be."""
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
    """Returns the factor in x, its power, k and r for a denominator g, or None if it has none."""
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


_FEW = (2, 3, 4)  # sizes of axes that are short: a term is checked at each of their places


def vanishes(p: Poly) -> bool:
    """Returns whether a term is proved to be 0; False does not mean that it is not 0.

    Inside ``almost_everywhere``, the term may differ from 0 on a set of measure 0.
    """
    p = usual(p)
    if not p.terms:
        return True
    numerator, _ = together(p)
    if not numerator.terms or not _merged(numerator).terms:
        return True
    try:
        other, _ = together(reduced(numerator))
    except Refused:  # A refusal only means that this way does not decide.
        return False
    if other != numerator and (not other.terms or not _merged(other).terms):
        return True
    return _at_each_place(numerator)


def _at_each_place(p: Poly) -> bool:
    """Returns whether p is shown to be 0 at each place of a short axis, or with rewritten sums."""
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
    """Returns a few terms that together cover all values of an index i, or [] if none do.

    They are the places of a short axis, the places in a short row, or the rows if these are few.
    """
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
    """Returns a sum over a short axis term by term, and any other sum as it is."""
    i, body = a.args
    few = _few(i.args[1])
    return add_all(substitute(body, {i: poly(n)}) for n in few) if few else poly(a)


def _turned(a: Atom) -> Poly:
    """Returns a sum over i with ``1 - [i = t] - [i > t]`` for each ``[t > i]`` with an index t."""
    i, body = opened(a)
    turned: dict[Atom, Poly] = {}
    for b in body.atoms():
        q = b.args[0] if b.kind == "positive" else ONE
        if q.terms.get(frozenset({(i, 1)})) == -1 and len(q.terms) == 2 == len(q.atoms()):
            if all(map(is_index, q.atoms())):
                turned[b] = 1 - is_zero(q) - greater(-q)
    return total(substitute(body, turned), i) if turned else poly(a)


def _sizes_of_rows(p: Poly) -> set[Poly]:
    """Returns the sizes, other than 1, that multiply an index in the place of some entry in p."""
    terms = [(m, c) for a in p.inside() if a.kind == "place" for m, c in a.args[0].terms.items()]
    return {product([*m, (i, -1)], abs(c)) for m, c in terms for i, _ in m if is_index(i)} - {ONE}


def _over_rows(a: Atom, sizes: Sequence[Poly]) -> Poly:
    """Returns a sum split into rows of one of these sizes and places in a row, or as it is."""
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
    """Returns p without sums that have the same factor beside them and bodies that add up to 0."""
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
