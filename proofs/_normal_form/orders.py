"""Puts nested sums in an order that does not depend on the names of their indices."""

from __future__ import annotations

import itertools
import math
from collections.abc import Iterable

from .indices import index, substitute
from .terms import Atom, Number, poly

_FEW_BINDERS, MOST_ORDERS = 2, 24


def orders(flat: list[tuple[Atom, Number]], binders: list[Atom]) -> Iterable[tuple[Atom, ...]]:
    """Returns the orders of summation to compare, each with the inner indices first.

    For two indices these are all orders. Of more, each next index is one that shares its factors
    with the fewest others. The text of the factors decides between several such indices, and
    indices with equal texts are put in every order, unless that makes more than ``MOST_ORDERS``.
    """
    if len(binders) <= _FEW_BINDERS:
        return itertools.permutations(binders)
    ranks = _ranks(flat, binders)
    alike = [[i for i in binders if ranks[i] == rank] for rank in sorted(set(ranks.values()))]
    if math.prod(math.factorial(len(some)) for some in alike) > MOST_ORDERS:
        return [_inner_first(flat, [i for some in alike for i in some])]
    ways = itertools.product(*map(itertools.permutations, alike))
    return (_inner_first(flat, [i for some in way for i in some]) for way in ways)


def _ranks(flat: list[tuple[Atom, Number]], binders: list[Atom]) -> dict[Atom, int]:
    """Returns a rank for each index, from the text of its factors.

    In the text, the other indices are named by their ranks so far. This is repeated until it tells
    no more indices apart.
    """
    ranks = dict.fromkeys(binders, 0)
    while True:
        names = {i: poly(index(f"~{ranks[i]}", i.args[1])) for i in binders}
        texts = {
            i: (
                ranks[i],
                repr(i.args[1]),
                sorted(
                    (repr(substitute(poly(a), names | {i: poly(index("~", i.args[1]))})), e)
                    for a, e in flat
                    if i in a.free
                ),
            )
            for i in binders
        }
        order = sorted({repr(t): t for t in texts.values()}.values(), key=lambda t: (t[0], repr(t)))
        new = {i: order.index(text) for i, text in texts.items()}
        if len(order) == len(set(ranks.values())):
            return new
        ranks = new


def _inner_first(flat: list[tuple[Atom, Number]], binders: list[Atom]) -> tuple[Atom, ...]:
    """Returns the order in which each index shares its factors with the fewest later indices.

    The sum over an index makes one factor of all its factors.
    """
    left = set(binders)
    together = [a.free & left for a, _ in flat]
    order = []
    for _ in binders:
        beside = {i: frozenset().union(*(s for s in together if i in s)) for i in left}
        i = min((i for i in binders if i in left), key=lambda i: len(beside[i]))
        together = [s for s in together if i not in s] + [beside[i] - {i}]
        left.remove(i)
        order.append(i)
    return tuple(order)
