"""Whether a term is 0."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from .comparisons import greater
from .indices import fresh, is_index
from .kinks import usual
from .places import divided
from .polynomial import ONE, Atom, Monomial, Number, Poly, Refused, add_all, poly, product
from .quotients import together
from .remainders import reduced
from .substitution import substitute
from .sums import opened, total
from .zero import is_zero

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
        written = add_all(_rewritten(m, write) * c for m, c in p.terms.items())
        if written != p:
            return vanishes(written)
    return False


def _few_places(p: Poly, i: Atom) -> list[Poly]:
    """An index at each place of a short axis, of a short row, or of each of a few rows."""
    if i.args[1].number() in _FEW:
        return [poly(n) for n in range(int(i.args[1].number() or 0))]
    for a in sorted(p.inside(), key=lambda a: a.key):
        if a.kind in {"div", "mod"} and a.args[0] is i:
            _, size, many = a.args
            if size.number() in _FEW:
                return [size * fresh(many) + n for n in range(int(size.number() or 0))]
            if many.number() in _FEW:
                return [fresh(size) + size * n for n in range(int(many.number() or 0))]
    return []


def _rewritten(m: Monomial, write: Callable[[Atom], Poly]) -> Poly:
    result = ONE
    for a, e in m:
        whole = a.kind == "sum" and e > 0 and e == int(e)
        result = result * (write(a) ** int(e) if whole else product([(a, e)]))
    return result


def _written_out(a: Atom) -> Poly:
    """A sum over few places, term by term."""
    i, body = a.args
    if i.args[1].number() not in _FEW:
        return poly(a)
    return add_all(substitute(body, {i: poly(n)}) for n in range(int(i.args[1].number() or 0)))


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
            q, r = fresh(many), fresh(size)
            return total(total(substitute(body, {i: size * q + r}), r), q)
    return poly(a)


def _merged(p: Poly) -> Poly:
    """Sums with the same factor beside them, dropped where their bodies together vanish."""
    groups: dict[tuple[Monomial, Poly], list[tuple[Monomial, Number, Atom]]] = {}
    for m, c in p.terms.items():
        for a, e in m:
            if a.kind == "sum" and e == 1:
                beside = frozenset(m - {(a, e)})
                groups.setdefault((beside, a.args[0].args[1]), []).append((m, c, a))
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
