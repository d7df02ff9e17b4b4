"""Makes sums over an index, in one form for equal sums.

The sum of several terms becomes several sums. Factors that do not depend on the index move out of
a sum, and ``[i = t]`` under a sum over i puts t in the place of i. Sums inside sums are nested in
one order, which does not depend on the names of their indices. A bound index is named by the height
of its sum, which is the same in all orders, so that equal sums are the same atom. Code that looks
inside a sum first renames the index to a name that no term beside it has. A sum over all i equals
the sum over all p(i) for a permutation p: the index that leaves the fewest permutations is used.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterator, Mapping

from .indices import (
    as_index,
    fresh,
    index,
    label_of,
    least_size,
    lowest,
    permuted,
    solved,
    solved_in_permutations,
    substitute,
    unused,
    within,
)
from .orders import MOST_ORDERS, orders
from .state import remembered
from .terms import (
    ONE,
    ZERO,
    Atom,
    Kind,
    Monomial,
    Number,
    Poly,
    Refused,
    add_all,
    atom,
    height,
    integral,
    kinds,
    monomial_key,
    poly,
    product,
)

_MAX_BINDERS = 4  # indices of sums inside sums that ``unnested`` opens together


def opened(a: Atom) -> tuple[Atom, Poly]:
    """Returns the index that an atom binds, under a new name, and the body with that name."""
    return _renamed(a, fresh(a.args[0].values))


def opened_beside(a: Atom, *terms: Poly) -> tuple[Atom, Poly]:
    """Returns the same as ``opened``, under a name that neither the body nor these terms have."""
    return _renamed(a, unused(a.args[0].values, a.args[1], *terms))


def _renamed(a: Atom, i: Atom) -> tuple[Atom, Poly]:
    return i, substitute(a.args[1], {a.args[0]: poly(i)})


def unnested(a: Atom, most: int = _MAX_BINDERS) -> tuple[tuple[Atom, ...], Poly]:
    """Returns the indices and the body of nested sums as one sum, over at most ``most`` indices."""
    i, body = opened(a)
    ((m, c),) = body.terms.items()
    for b, e in sorted(m, key=lambda t: t[0].key):
        if most > 1 and b.kind == "sum" and e == 1 and i in b.free:
            binders, inner = unnested(b, most - 1)
            return (i, *binders), product(((f, n) for f, n in m if f is not b), c) * inner
    return (i,), body


def each_nest(a: Atom) -> Iterator[tuple[tuple[Atom, ...], Poly]]:
    """Yields indices and body of a sum as one over its outer index, over its outer two, and so on.

    The first outer index keeps its name: rename it before the body is put into another term.
    """
    i, body = a.args
    yield (i,), body
    if any(b.kind == "sum" and i in b.free for b in body.atoms()):
        deepest = len(unnested(a)[0])
        yield from (unnested(a, depth) for depth in range(2, deepest + 1))


def aligned(a: Atom, b: Atom) -> Iterator[tuple[Monomial, Monomial]]:
    """Yields the products under two sums over equal axes, for each way to pair their indices."""
    others, there = unnested(b)
    binders, body = unnested(a, len(others))
    if len(binders) != len(others):
        return
    for order in itertools.permutations(binders):
        if all(i.args[1] == j.args[1] for i, j in zip(order, others, strict=True)):
            new = {j: poly(i) for i, j in zip(order, others, strict=True)}
            ((m, _),), ((n, _),) = body.terms.items(), substitute(there, new).terms.items()
            yield m, n


@remembered
def peek(a: Atom) -> Poly:
    """Returns the body of an atom that binds an index, which must not go into another term."""
    return opened(a)[1]


def total(p: Poly, *indices: Atom) -> Poly:
    """Returns the sum of p over some indices, of which the first is the innermost."""
    for i in indices:
        p = _total(p, i)
    return p


def _total(p: Poly, i: Atom) -> Poly:
    if not i.args[1].terms:
        return ZERO
    inside = p.inside()
    parts = [a for a in inside if a.kind in {"div", "mod"} and a.args[0] is i]
    if parts:
        _, size, many = min(parts, key=lambda a: a.key).args
        return over_rows(p, i, size, many)
    start = _cut(p, i)
    if start is not None:
        return _part(p, i, ZERO, start) + _part(p, i, start, i.args[1] - start)
    if any(a.kind == "place" and i in a.free for a in inside):
        ahead = [(Poly({m: c}), _counts_back(m, i)) for m, c in p.terms.items()]
        p = add_all(substitute(q, {i: i.args[1] - 1 - poly(i)}) if back else q for q, back in ahead)
    return add_all(_total_of(m, i) * c for m, c in p.terms.items())


def over_rows(p: Poly, i: Atom, size: Poly, many: Poly) -> Poly:
    """Returns the sum of p over i as a sum over rows and over the places in each row."""
    q, r = fresh(many), fresh(size)
    return total(substitute(p, {i: size * q + r}), r, q)


def _counts_back(m: Monomial, i: Atom) -> bool:
    """Returns whether the coefficients of i in the places of m's entries add up to less than 0."""
    entries = {b for a, _ in m for b in a.inside if b.kind == "entry" and i in b.free}
    places = [poly(t) for b in entries for t in b.args[1] if isinstance(t, Atom)]
    return sum(place.terms.get(frozenset({(i, 1)}), 0) for place in places) < 0


def _part(p: Poly, i: Atom, start: Poly, size: Poly) -> Poly:
    """Returns the sum of p over ``size`` values of i from ``start`` on."""
    if size == ONE:
        return substitute(p, {i: start})
    j = fresh(size)
    return total(substitute(p, {i: j + start}), j)


def _cut(p: Poly, i: Atom) -> Poly | None:
    """Returns a value of i at which to split the range of i in two, or None.

    An ``[e > 0]`` in p is 1 before that value and 0 from it on, or 0 and then 1. Or p has
    ``[i = 0]`` or ``[i = N - 1]``, and an entry whose place is a sum with i. Then the first or the
    last value is split off, because that place may be outside of the array there.
    """
    dim = i.args[1]
    for a in sorted(p.atoms(), key=lambda a: a.key):
        if a.kind == "positive" and i in a.free and solved(a.args[0], i) is not None:
            above = a.args[0].terms[frozenset({(i, 1)})]
            start = (1 - a.args[0] + i) if above == 1 else a.args[0] + i
            if all(b.kind == "dim" for b in start.atoms()):
                lows = [lowest(part) for part in (start, dim - start)]
                if all(low is not None and low >= 0 for low in lows):
                    return start
        if a.kind == "delta" and a.args[0] is i and poly(a.args[1]) in (ZERO, dim - 1):
            if least_size(dim) > 0 and any(b.kind == "place" and i in b.free for b in p.inside()):
                return dim - 1 if a.args[1] != 0 else ONE
    return None


@remembered
def _total_of(m: Monomial, i: Atom) -> Poly:
    for a, _ in m:
        found = _place_of(a, i) if a.kind == "delta" else None
        if found is not None:
            place, inside = found
            rest = product((b, e) for b, e in m if b is not a)
            return inside * within(as_index(place), i.args[1]) * substitute(rest, {i: place})
    bound = [(a, e) for a, e in m if i in a.free]
    rest = product((a, e) for a, e in m if i not in a.free)
    return rest * (_nested(bound, i) if bound else i.args[1])


def _place_of(a: Atom, i: Atom) -> tuple[Poly, Poly] | None:
    """Returns t and a 0-1 term b if a delta is ``b [i = t]``, or None if it is not solved for i."""
    if i not in a.free:
        return None
    return solved_in_permutations(poly(a.args[0]) - poly(a.args[1]), i)


def reindexed(i: Atom, *terms: Poly) -> list[tuple[Poly, ...]]:
    """Returns the terms with a bound index i renamed to j = p(i), for permutations p in them.

    By ``sum_i h(p(i)) = sum_j h(j)``, their sums are equal. All renamings are returned that leave
    the fewest entries of permutations. Terms that differ only by a renaming have the same result.
    """
    inside = frozenset().union(*(p.inside() for p in terms))
    images = [i]
    for t in images:
        found = [a for a in inside if permuted(a) and a.args[0].dim == i.values]
        images += sorted((a for a in found if a.args[1] == (t,)), key=lambda a: a.key)
    if len(images) == 1:
        return [terms]
    ways: dict[int, list[tuple[Poly, ...]]] = {}
    j = fresh(i.values)
    for place, _ in filter(None, (solved_in_permutations(poly(t) - poly(j), i) for t in images)):
        new = tuple(substitute(substitute(p, {i: place}), {j: poly(i)}) for p in terms)
        left = frozenset().union(*(p.inside() for p in new))
        ways.setdefault(sum(map(permuted, left)), []).append(new)
    return ways[min(ways)]


def _nested(bound: list[tuple[Atom, Number]], i: Atom) -> Poly:
    """Returns the sum over i of a product, nested with the sums in it in one definite order."""
    binders, flat = [i], []
    queue = list(bound)
    while queue:
        a, e = queue.pop()
        if a.kind != "sum" or e < 1 or e != int(e):
            flat.append((a, e))
            continue
        for _ in range(int(e)):
            j, body = opened_beside(a, *map(poly, (*binders, *(b for b, _ in bound))))
            binders.append(j)
            ((m, _),) = body.terms.items()
            queue.extend(m)
    for j in binders if len(binders) > 1 else ():
        if any(a.kind == "delta" and _place_of(a, j) is not None for a, _ in flat):
            # The delta stood under a sum over another index: the sum over j removes it.
            return total(product(flat), j, *(k for k in binders if k is not j))
    nests = (_in_order(way, o) for way in _ways(flat, binders) for o in orders(way, binders))
    best = min(nests, key=lambda d: (sum(a.depth for a in d), monomial_key(frozenset(d.items()))))
    return product(best.items())


def _ways(flat: list[tuple[Atom, Number]], binders: list[Atom]) -> list[list[tuple[Atom, Number]]]:
    """Returns the factors for each way in which ``reindexed`` renames their indices."""
    ways = [flat]
    if any(permuted(b) for a, _ in flat for b in a.inside):
        for i in binders:
            terms = [new.single() for way in ways for (new,) in reindexed(i, product(way))]
            ways = [list(m) for m, c in filter(None, terms) if c == 1][:MOST_ORDERS] or ways
    return ways


def _in_order(flat: list[tuple[Atom, Number]], order: tuple[Atom, ...]) -> dict[Atom, Number]:
    powers: dict[Atom, Number] = {}
    for a, e in flat:
        powers[a] = powers.get(a, 0) + e
    for j in order:
        inner = [(a, e) for a, e in powers.items() if j in a.free]
        powers = {a: e for a, e in powers.items() if j not in a.free}
        bound = _bind(inner, j)
        powers[bound] = powers.get(bound, 0) + 1
    return powers


def _bind(factors: list[tuple[Atom, Number]], i: Atom) -> Atom:
    """Returns the sum over i of a product of factors that all depend on i."""
    (name,), (body,) = bind_all((i,), product(factors))
    term = body.single()
    if term is None or term[1] != 1:
        raise Refused("a sum whose body changes with the name of its index")
    return atom("sum", name, body, binders=(name,))


def bind_all(binders: tuple[Atom, ...], *bodies: Poly) -> tuple[tuple[Atom, ...], tuple[Poly, ...]]:
    """Returns these indices named by the height of the bodies, and the bodies with these names."""
    above = max(map(height, bodies))
    names = tuple(index(f"#{above + n}", i.args[1]) for n, i in enumerate(binders))
    new = {i: poly(name) for i, name in zip(binders, names, strict=True)}
    if any(name in body.free() for name in set(names) - set(binders) for body in bodies):
        raise Refused(f"the name of an index, {names[0]}, that another one has")
    return names, tuple(substitute(body, new) for body in bodies)


def _rebuilt(a: Atom, new: Mapping[Atom, Poly]) -> Poly:
    name, body = a.args
    i = unused(name.values, body, *new.values())
    return total(substitute(body, {**new, name: poly(i)}), i)


def _sure(a: Atom) -> bool:
    """Returns whether a sum is sure to be above 0.

    Its terms are all above 0, or masks with the same label leave only the term at that label.
    """
    i, body = a.args
    if least_size(i.args[1]) <= 0:
        return False
    masks = [b for b in body.atoms() if not b.sure]
    if not all(b.kind == "entry" and b.args[0].keeps and b.args[1][-1] is i for b in masks):
        return False
    labels = {label_of(b) for b in masks}
    return len(labels) <= 1 and all(
        b.args[0].kept is None and i not in label_of(b).free for b in masks
    )


kinds["sum"] = Kind(rebuild=_rebuilt, ruled=True, sure=_sure, integral=lambda a: integral(peek(a)))
