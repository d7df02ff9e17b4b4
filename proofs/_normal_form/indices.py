"""Arguments and their entries, indices and dimensions.

An entry has a number for every integer as its index, as if arrays went on without an end: so
``x[j - 1]`` is a term at j = 0 too. What a program computes has such entries only times 0, and
what is proved of all arrays that go on is true of those that end.

Atoms replaced inside terms.

Whatever is put in is normalised afresh, and what a sum binds has no name that anybody
else uses: nothing can be captured.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from .terms import (
    ONE,
    ZERO,
    Atom,
    Monomial,
    Number,
    Poly,
    Refused,
    add_all,
    atom,
    poly,
    product,
    remembered,
)

later: dict[str, Callable[..., Any]] = {}
"""``is_zero``, ``nonnegative`` and ``greater``, put in by files that build on this one."""


@dataclass(frozen=True, repr=False)
class Symbol:
    """An argument: its name, what its entries are, and below what they are, if labels."""

    name: str
    sort: str  # real, positive, nonnegative, unit (in (0, 1)), boolean, index, integer
    dim: Poly | None = None
    keeps: Symbol | None = None  # of a mask: the labels at which it is 1,
    kept: Symbol | None = None  # in the rows where this is 1; None for all rows
    meaning: Callable[..., Poly] | None = None  # of a name: the term that it stands for

    @property
    def mark(self) -> tuple[Atom, ...]:
        """The last place of each entry of a name; with 0 there, the entry is what it stands for."""
        return () if self.meaning is None else (index(self.name, ONE),)

    def __repr__(self) -> str:
        return self.name


def entry(symbol: Symbol, *indices: Atom | int) -> Poly:
    """An entry of an argument; 1 where a mask keeps its label."""
    if symbol.meaning is not None and indices[-1] == 0:
        return symbol.meaning(indices[:-1])
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
    """What must be 1 for a mask to keep its label in the row of an entry."""
    return a.args[0].kept and atom("entry", a.args[0].kept, a.args[1][:-1])


def index(name: Any, dim: Poly) -> Atom:
    """An index that runs from 0 to ``dim - 1``."""
    return atom("index", name, dim)


_names = itertools.count()


def fresh(dim: Poly) -> Atom:
    """An index whose name nobody has used."""
    return index(f"_{next(_names)}", dim)


def is_index(t: Atom) -> bool:
    """Whether an atom is an index, a quotient or a remainder of one, or a label."""
    return t.kind in {"index", "div", "mod"} or (t.kind == "entry" and t.args[0].sort == "index")


def index_range(t: Atom) -> Poly:
    """The number of values of an index or of a label."""
    if t.kind == "div":
        return t.args[2]
    return t.args[0].dim if t.kind == "entry" else t.args[1]


def least_size(dim: Poly) -> Number:
    """The least value of a dimension."""
    low: Number = 0
    for m, c in dim.terms.items():
        if c < 0 and m:
            return 0
        least: Number = 1
        for a, e in m:
            least *= a.args[1] ** e if a.kind == "dim" else 0
        low += c * least
    return max(low, 0)


def delta(a: Atom | int, b: Atom | int) -> Poly:
    """1 where two indices are equal, else 0."""
    if a is b or a == b:
        return ONE
    if isinstance(a, int) and isinstance(b, int):
        return ZERO
    if any(isinstance(t, Atom) and t.kind == "place" for t in (a, b)):
        return later["is_zero"](poly(a) - poly(b))
    for i, t in ((a, b), (b, a)):
        if isinstance(i, Atom) and isinstance(t, int):
            size = index_range(i).number()
            if t < 0 or (size is not None and t >= size):
                return ZERO
    if isinstance(a, int) or (isinstance(b, Atom) and elimination(b) < elimination(a)):
        a, b = b, a
    return poly(atom("delta", a, b))


def elimination(t: Atom) -> tuple:
    """The order in which indices are solved for: plain indices are replaced before labels are."""
    return t.kind != "index", t.key


def as_index(p: Poly) -> Atom | int:
    """A term that is an index, a label or a number, as such; a sum of those as a place."""
    number = p.number()
    if number is not None and number == int(number):
        return int(number)
    term = p.single()
    if term is not None and term[1] == 1 and len(term[0]) == 1:
        ((a, e),) = term[0]
        if e == 1 and is_index(a):
            return a
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


def surely_positive(a: Atom) -> bool:
    """Whether the atom alone is above 0 by what it is: such atoms may be divided by."""
    if a.kind == "entry":
        return a.args[0].sort in {"positive", "unit"}
    if a.kind == "sum" and least_size(a.args[0].args[1]) > 0:
        ((m, _),) = a.args[1].terms.items()
        unsure = [b for b, _ in m if not surely_positive(b)]
        return not unsure or _keep_one_label(unsure, a.args[0])
    if a.kind == "log":
        return (a.args[0].number() or 0) > 1
    return a.kind in {"exp", "dim", "group", "at_least", "fewer_bits", "prime", "pi"}


def _keep_one_label(masks: list[Atom], i: Atom) -> bool:
    """Whether one label, in every row, is kept by all masks of a sum over i."""
    if not all(b.kind == "entry" and b.args[0].keeps and b.args[1][-1] is i for b in masks):
        return False
    labels = {label_of(b) for b in masks}
    return len(labels) == 1 and all(
        b.args[0].kept is None and i not in label_of(b).free for b in masks
    )


def same_place(here: Iterable[Atom | int], there: Iterable[Atom | int]) -> Poly:
    """1 where two entries are the same one, else 0."""
    result = ONE
    for i, j in zip(here, there, strict=True):
        result = result * delta(i, j)
    return result


_rebuild: dict[str, Callable[..., Poly]] = {}


def rebuilds(kind: str) -> Callable[[Callable[..., Poly]], Callable[..., Poly]]:
    """Registers how an atom of a kind, or a power, is made anew from its changed parts."""

    def register(function: Callable[..., Poly]) -> Callable[..., Poly]:
        _rebuild[kind] = function
        return function

    return register


def rebuilt(kind: str, *args: Poly) -> Poly:
    """An atom of a kind, as a file makes it that stands on the one that asks."""
    return _rebuild[kind](atom(kind, *args), {})


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
                part = part * _rebuild["power"](_replaced(a, new), e)
        parts.append(part)
    return add_all(parts)


def _replaced(a: Atom, new: Mapping[Atom, Poly]) -> Poly:
    if a in new:
        return new[a]
    return _rebuilt(a, frozenset((b, p) for b, p in new.items() if b in a.inside))


@remembered
def _rebuilt(a: Atom, new: frozenset[tuple[Atom, Poly]]) -> Poly:
    return _rebuild[a.kind](a, dict(new))


@rebuilds("index")
def _index(a: Atom, new: Mapping[Atom, Poly]) -> Poly:
    return poly(index(a.args[0], substitute(a.args[1], new)))


@rebuilds("entry")
def _entry(a: Atom, new: Mapping[Atom, Poly]) -> Poly:
    return entry(a.args[0], *(_index_in(t, new) for t in a.args[1]))


def _index_in(t: Atom | int, new: Mapping[Atom, Poly]) -> Atom | int:
    return t if isinstance(t, int) else as_index(substitute(poly(t), new))


@rebuilds("delta")
def _delta(a: Atom, new: Mapping[Atom, Poly]) -> Poly:
    return delta(*(_index_in(t, new) for t in a.args))


@rebuilds("dim")
def _(a: Atom, new: Mapping[Atom, Poly]) -> Poly:
    return poly(a)
