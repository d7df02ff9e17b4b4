"""Arguments and their entries, indices and dimensions, and atoms replaced inside terms.

An entry has a number for every integer as its index, as if arrays went on without an end: so
``x[j - 1]`` is a term at j = 0 too. What a program computes has such entries only times 0, and
what is proved of all arrays that go on is true of those that end.

A permutation p of n numbers has an inverse ``p^-1``: for t and j in its range, ``p(t) = j`` where
``t = p^-1(j)``. This solves deltas for an index that stands in a permutation, and so says that
``p(i) = p(j)`` where ``i = j``, and that of ``sum_i [p(i) = j] h(i)`` one term is left. Where t is
out of the range, ``p(t)`` may be any index.

Whatever is put in the place of an atom is normalised afresh, and what a sum binds has no name that
anybody else uses: nothing can be captured.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, replace
from typing import Any, TypeGuard

from .state import facts, remembered
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
    always,
    atom,
    kinds,
    made,
    poly,
    product,
)


@dataclass(frozen=True, repr=False)
class Symbol:
    """An argument: its name, what its entries are, and below what they are, if labels."""

    name: str
    sort: str  # real, positive, nonnegative, unit (in (0, 1)), boolean, index, integer
    dim: Poly | None = None
    keeps: Symbol | None = None  # of a mask: the labels at which it is 1,
    kept: Symbol | None = None  # in the rows where this is 1; None for all rows
    meaning: Callable[..., Poly] | None = None  # of a name: the term that it stands for
    exponent: int = 0  # 1 of a permutation, -1 of its inverse, 0 of anything else

    @property
    def inverse(self) -> Symbol:
        """The inverse of a permutation."""
        return replace(self, exponent=-self.exponent)

    @property
    def mark(self) -> tuple[Atom, ...]:
        """The last place of each entry of a name; with 0 there, the entry is what it stands for."""
        return () if self.meaning is None else (index(self.name, ONE),)

    def __repr__(self) -> str:
        return self.name if self.exponent >= 0 else f"{self.name}^-1"


def entry(symbol: Symbol, *indices: Atom | int) -> Poly:
    """An entry of an argument; 1 where a mask keeps its label, and t of p^-1(p(t))."""
    if symbol.meaning is not None and indices[-1] == 0:
        return symbol.meaning(indices[:-1])
    if symbol.exponent and permuted(indices[0]) and indices[0].args[0] == symbol.inverse:
        return poly(indices[0].args[1][0])
    made = atom("entry", symbol, tuple(indices))
    return ONE if symbol.kept is None and at_kept_label(made) else poly(made)


def at_kept_label(a: Atom) -> bool:
    """Whether an entry is that of a mask at the label it keeps."""
    symbol, indices = a.args
    return symbol.keeps is not None and indices[-1] is label_of(a)


def label_of(a: Atom) -> Atom:
    """The label that a mask keeps in the row of an entry."""
    return atom("entry", a.args[0].keeps, a.args[1][:-1])


def row_kept(a: Atom) -> Atom | None:
    """Returns what makes a mask 1 at its label, for such an entry; otherwise None."""
    if a.kind != "entry" or a.args[0].kept is None or not at_kept_label(a):
        return None
    return atom("entry", a.args[0].kept, a.args[1][:-1])


def index(name: Any, dim: Poly) -> Atom:
    """An index that runs from 0 to ``dim - 1``."""
    return atom("index", name, dim)


_names = itertools.count()


def fresh(dim: Poly) -> Atom:
    """An index whose name nobody has used."""
    return index(f"_{next(_names)}", dim)


def unused(dim: Poly, *terms: Poly) -> Atom:
    """Returns the first index of this size and of these names that no term or fact here has.

    Equal calls return the same one, so that what is computed with it is remembered.
    """
    there = frozenset().union(*(p.free() for p in (*terms, *facts())))
    return next(i for n in itertools.count() if (i := index(f"_{n}_", dim)) not in there)


def is_index(t: Atom) -> bool:
    """Whether an atom is an index, a quotient or a remainder of one, or a label."""
    return t.values is not None


def of_size(atoms: Iterable[Atom], dim: Poly) -> list[Atom]:
    """The indices among atoms that run over a dimension."""
    return sorted({t for t in atoms if t.values == dim}, key=lambda t: t.key)


def lowest(p: Poly) -> Number | None:
    """The least value of a term of dimensions; None if it may fall where they grow."""
    low: Number = 0
    for m, c in p.terms.items():
        if c < 0 and m:
            return None
        least: Number = 1
        for a, e in m:
            least *= a.args[1] ** e if a.kind == "dim" and e > 0 else 0
        low += c * least
    return low


def least_size(dim: Poly) -> Number:
    """The least value of a dimension."""
    return max(lowest(dim) or 0, 0)


def within(t: Atom | int, dim: Poly) -> Poly:
    """Whether a place is one of those that an axis of this size has, 0 or 1."""
    if (0 <= t < least_size(dim)) if isinstance(t, int) else t.values == dim:
        return ONE
    return made("positive", poly(t) + 1) * made("positive", dim - poly(t))


def permuted(t: Atom | int) -> TypeGuard[Atom]:
    """Whether a place is p(t) for a permutation p and a t that is sure to be in its range."""
    if not isinstance(t, Atom) or t.kind != "entry" or not t.args[0].exponent:
        return False
    return within(t.args[1][0], t.args[0].dim) == ONE


def delta(a: Atom | int, b: Atom | int) -> Poly:
    """1 where two indices are equal, else 0."""
    if a is b or a == b:
        return ONE
    if isinstance(a, int) and isinstance(b, int):
        return ZERO
    if any(isinstance(t, Atom) and (t.kind == "place" or permuted(t)) for t in (a, b)):
        return made("zero", poly(a) - poly(b))
    if isinstance(a, int) or (isinstance(b, Atom) and elimination(b) < elimination(a)):
        a, b = b, a
    return delta_solved(a, b)  # type: ignore[arg-type]


def delta_solved(i: Atom, t: Atom | int) -> Poly:
    """``delta`` of equal places that are solved for an index."""
    size = i.values.number()
    if isinstance(t, int) and (t < 0 or (size is not None and t >= size)):
        return ZERO
    return poly(atom("delta", i, t))


def elimination(t: Atom) -> tuple:
    """The order in which indices are solved for: plain ones, then labels, then permutations'."""
    return t.kind != "index", permuted(t), t.key


def as_index(p: Poly) -> Atom | int:
    """A term that is an index, a label or a number, as such; a sum of those as a place."""
    number = p.number()
    if number is not None and number == int(number):
        return int(number)
    power = p.power()
    if power is not None and power[1:] == (1, 1) and is_index(power[0]):
        return power[0]
    if not all(c == int(c) and _linear(m) for m, c in p.terms.items()):
        raise Refused(f"an index that is not read: {p}")
    whole = _put_together(p)
    return atom("place", p) if whole is None else as_index(whole)


def _put_together(p: Poly) -> Poly | None:
    """A place with t in the place of ``div(t) s + mod(t)``, if it holds one."""
    for m, c in p.terms.items():
        for r in (a for a, _ in m if a.kind == "mod"):
            t, s, many = r.args
            beside = product([*m, (r, -1)], c)
            quotient = beside * s * atom("div", t, s, many)
            if all(p.terms.get(n) == d for n, d in quotient.terms.items()):
                return p - quotient + beside * (poly(t) - r)
    return None


def _linear(m: Monomial) -> bool:
    """Whether a monomial is a product of dimensions and of at most one index."""
    places = [e for a, e in m if is_index(a)]
    sizes = [e for a, e in m if a.kind == "dim"]
    return places in ([], [1]) and len(places) + len(sizes) == len(m) and min([1, *sizes]) > 0


def solved(p: Poly, i: Atom) -> Poly | None:
    """What an index i is where ``p = 0``, if p is i or -i beside what does not depend on it."""
    c = p.terms.get(frozenset({(i, 1)}))
    if c not in (1, -1):
        return None
    rest = p - poly(i) * c
    return None if i in rest.inside() else rest * -c


def solved_in_permutations(p: Poly, i: Atom) -> tuple[Poly, Poly] | None:
    """Returns t and a 0-1 term b with ``[p = 0] = b [i = t]``, or None if p is not solved for i.

    The index may stand in a permutation: ``p(i) = t`` where t is in its range and i is ``p^-1(t)``.
    """
    for a in (a for a in p.atoms() if a is not i and i in a.inside and permuted(a)):
        rest = solved(p, a)
        if rest is not None and i not in rest.inside():
            (symbol, (argument,)), t = a.args, as_index(rest)
            found = solved_in_permutations(poly(argument) - entry(symbol.inverse, t), i)
            return found and (found[0], found[1] * within(t, symbol.dim))
    place = solved(p, i)
    return None if place is None else (place, ONE)


def same_place(here: Iterable[Atom | int], there: Iterable[Atom | int]) -> Poly:
    """1 where two entries are the same one, else 0."""
    result = ONE
    for i, j in zip(here, there, strict=True):
        result = result * delta(i, j)
    return result


def substitute(p: Poly, new: Mapping[Atom, Poly]) -> Poly:
    """Atoms replaced, all at once, at every depth; everything else is normalised again."""
    keys = frozenset(new)
    if not keys & p.inside():
        return p
    parts = []
    for m, c in p.terms.items():
        part = product(((a, e) for a, e in m if not keys & a.inside), c)
        for a, e in m:
            if keys & a.inside:
                part = part * made("sqrt", _replaced(a, new), e)  # or another power
        parts.append(part)
    return add_all(parts)


def _replaced(a: Atom, new: Mapping[Atom, Poly]) -> Poly:
    if a in new:
        return new[a]
    return _rebuilt(a, frozenset((b, p) for b, p in new.items() if b in a.inside))


@remembered
def _rebuilt(a: Atom, new: frozenset[tuple[Atom, Poly]]) -> Poly:
    there = dict(new)
    if a.of.rebuild is not None:
        return a.of.rebuild(a, there)
    return made(a.kind, *(_part(part, there) for part in a.args))


def _part(part: Any, new: Mapping[Atom, Poly]) -> Any:
    """A part of an atom with atoms replaced in it: an atom as a term, places as places."""
    if isinstance(part, tuple):
        return tuple(index_in(t, new) for t in part)
    return substitute(poly(part), new) if isinstance(part, Atom | Poly) else part


def index_in(t: Atom | int, new: Mapping[Atom, Poly]) -> Atom | int:
    """An index with atoms replaced in it."""
    return t if isinstance(t, int) else as_index(substitute(poly(t), new))


kinds["dim"] = Kind(text=lambda name, _: name, sure=always, integral=always)
kinds["index"] = Kind(
    lambda name, dim: poly(index(name, dim)),
    text=lambda name, dim: f"{name}<{dim}",
    values=lambda a: a.args[1],
    integral=always,
    nonnegative=always,
)
kinds["entry"] = Kind(
    lambda symbol, places: entry(symbol, *places),
    text=lambda symbol, places: f"{symbol}{list(places)}",
    boolean=lambda a: a.args[0].sort == "boolean",
    sure=lambda a: a.args[0].sort in {"positive", "unit"},
    values=lambda a: a.args[0].dim if a.args[0].sort == "index" else None,
    integral=lambda a: a.args[0].sort in {"index", "integer"},
    nonnegative=lambda a: a.args[0].sort in {"nonnegative", "index"},
)
kinds["place"] = Kind(text=repr)
kinds["delta"] = Kind(lambda a, b: delta(as_index(poly(a)), as_index(poly(b))), boolean=always)
