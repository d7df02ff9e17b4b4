"""The trusted base, 1: polynomials over atoms, with binders that cannot be captured.

A term is a polynomial with rational coefficients; its atoms are entries of the arguments,
dimensions, bound sums and the functions of ``_functions.py``, each itself built from
terms. Equal terms are equal Python objects' values, by these rules alone:

- an index that a sum binds is named by the height of its sum, so that equal sums look
  alike; whoever looks inside first renames it to a name never used before, and whatever
  is put back is summed and normalised afresh. No name can be captured;
- sums are distributed over terms, factors that do not depend on the index stand outside,
  ``[i = t]`` under a sum over i is replaced by t; sums inside sums are nested in the one
  order, of all possible ones, whose text comes first;
- atoms that are 0 or 1 are their own squares;
- beside ``[i = t]`` i is t; beside ``[p = 0]`` p is solved for an atom, or its leading
  monomial is replaced;
- at most one class holds more than half of a sum of terms that are at least 0:
  ``D_j D_l = [j = l] D_j``.
"""

from __future__ import annotations

import functools
import itertools
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextvars import ContextVar
from dataclasses import dataclass
from fractions import Fraction
from typing import Any, TypeVar, cast


class Refused(Exception):
    """What stands in the way of a proof, in words."""


Number = int | Fraction
Monomial = frozenset  # of (Atom, exponent)
_BOOLEAN = frozenset({"delta", "zero", "positive", "dominant"})
_MAX_TERMS = 20_000
_MAX_BINDERS = 4
_MAX_POWER, _MAX_POWER_OF_NUMBER = 16, 2048


_facts: ContextVar[frozenset[Poly]] = ContextVar("facts", default=frozenset())


def facts() -> frozenset[Poly]:
    """The terms known not to be 0 here; ``_signs`` says how they come to be known."""
    return _facts.get()


_memories: list[dict[tuple, Any]] = []
Remembered = TypeVar("Remembered", bound=Callable[..., Any])


def remembered(function: Remembered) -> Remembered:
    """A function of terms and facts alone that computes each answer once in a proof."""
    answers: dict[tuple, Any] = {}
    _memories.append(answers)

    @functools.wraps(function)
    def ask(*args: Any) -> Any:
        key = (args, _facts.get())
        if key not in answers:
            answers[key] = function(*args)
        return answers[key]

    return cast(Remembered, ask)


def forget() -> None:
    """Drops what was remembered: it holds for the least sizes of one proof."""
    for answers in _memories:
        answers.clear()


class Atom:
    """A factor that the polynomials do not look into; equal ones are the same object."""

    __slots__ = ("kind", "args", "key", "inside", "free", "height", "rank")

    kind: str
    args: tuple
    key: str
    inside: frozenset[Atom]  # every atom in it, itself too
    free: frozenset[Atom]  # the indices in it that no sum binds
    height: int  # of the tallest nest of binders in it

    def __repr__(self) -> str:
        return self.key

    @property
    def boolean(self) -> bool:
        """Whether its value is 0 or 1."""
        return self.kind in _BOOLEAN or (self.kind == "entry" and self.args[0].sort == "boolean")

    @property
    def integer(self) -> bool:
        """Whether its value is an integer."""
        return (
            self.boolean
            or self.kind in {"index", "dim", "floor", "round"}
            or (self.kind == "entry" and self.args[0].sort in {"index", "integer"})
        )


_atoms: dict[tuple, Atom] = {}


def atom(kind: str, *args: Any, binders: tuple[Atom, ...] = ()) -> Atom:
    """The one atom of that kind and these parts."""
    made = _atoms.get((kind, args))
    if made is None:
        made = _atoms[kind, args] = _new_atom(kind, args, binders)
    return made


def _new_atom(kind: str, args: tuple, binders: tuple[Atom, ...]) -> Atom:
    new = Atom()
    new.kind, new.args = kind, args
    parts = [a for a in args if isinstance(a, Atom) and a not in binders]
    for a in args:
        if isinstance(a, Poly):
            parts.extend(a.atoms())
        elif isinstance(a, tuple):
            parts.extend(x for x in a if isinstance(x, Atom) and x not in binders)
    new.inside = frozenset({new}).union(*(p.inside for p in parts))
    free = frozenset().union(*(p.free for p in parts))
    new.free = frozenset({new}) if kind == "index" else free - set(binders)
    new.height = max((p.height for p in parts), default=0) + len(binders)
    new.key = _key(kind, args)
    return new


def _key(kind: str, args: tuple) -> str:
    if kind == "dim":
        return args[0]
    if kind == "index":
        return f"{args[0]}<{args[1]}"
    if kind == "entry":
        return f"{args[0]}{_text(args[1])}"
    return f"{kind}({', '.join(map(_text, args))})"


def _text(part: Any) -> str:
    return "[" + ", ".join(map(_text, part)) + "]" if isinstance(part, tuple) else repr(part)


class Poly:
    """A polynomial: a number for each monomial."""

    __slots__ = ("terms", "_hash", "_key")

    def __init__(self, terms: Mapping[Monomial, Number]):
        self.terms = {m: c for m, c in terms.items() if c}
        self._hash: int | None = None
        self._key: str | None = None
        if len(self.terms) > _MAX_TERMS:
            raise Refused("the terms grew beyond all bounds")

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Poly) and self.terms == other.terms

    def __hash__(self) -> int:
        if self._hash is None:
            self._hash = hash(frozenset(self.terms.items()))
        return self._hash

    def __repr__(self) -> str:
        if self._key is None:
            lines = sorted((monomial_key(m), c) for m, c in self.terms.items())
            self._key = " + ".join(_term_key(k, c) for k, c in lines) or "0"
        return self._key

    def __add__(self, other: Poly | Number) -> Poly:
        terms = dict(self.terms)
        for m, c in poly(other).terms.items():
            terms[m] = terms.get(m, 0) + c
        return Poly(terms)

    __radd__ = __add__

    def __neg__(self) -> Poly:
        return Poly({m: -c for m, c in self.terms.items()})

    def __sub__(self, other: Poly | Number) -> Poly:
        return self + -poly(other)

    def __rsub__(self, other: Number) -> Poly:
        return poly(other) - self

    def __mul__(self, other: Poly | Number) -> Poly:
        if isinstance(other, int | Fraction):
            return Poly({m: c * other for m, c in self.terms.items()})
        if self is ONE or other is ONE:
            return self if other is ONE else other
        return add_all(
            product([*m, *n], c * d)
            for (m, c), (n, d) in itertools.product(self.terms.items(), other.terms.items())
        )

    __rmul__ = __mul__

    def __pow__(self, exponent: int) -> Poly:
        if exponent > (_MAX_POWER if self.atoms() else _MAX_POWER_OF_NUMBER):
            raise Refused(f"the power {exponent} of {self}")
        result = ONE
        for _ in range(exponent):
            result = result * self
        return result

    def atoms(self) -> set[Atom]:
        """The atoms of its monomials."""
        return {a for m in self.terms for a, _ in m}

    def inside(self) -> frozenset[Atom]:
        """Every atom in it, at any depth."""
        return frozenset().union(*(a.inside for a in self.atoms()))

    def free(self) -> frozenset[Atom]:
        """The indices in it that no sum binds."""
        return frozenset().union(*(a.free for a in self.atoms()))

    def number(self) -> Number | None:
        """Its value, if it is a number."""
        if not self.terms:
            return 0
        return self.terms.get(_UNIT) if len(self.terms) == 1 else None

    def single(self) -> tuple[Monomial, Number] | None:
        """Its only term, if it has one."""
        return next(iter(self.terms.items())) if len(self.terms) == 1 else None


_UNIT: Monomial = frozenset()
ZERO, ONE = Poly({}), Poly({_UNIT: 1})


def poly(x: Poly | Atom | Number) -> Poly:
    """A number or an atom as a polynomial."""
    if isinstance(x, Poly):
        return x
    return Poly({frozenset({(x, 1)}): 1}) if isinstance(x, Atom) else Poly({_UNIT: x})


def add_all(parts: Iterable[Poly]) -> Poly:
    """The sum of many."""
    terms: dict[Monomial, Number] = {}
    for part in parts:
        for m, c in part.terms.items():
            terms[m] = terms.get(m, 0) + c
    return Poly(terms)


def monomial_key(m: Monomial) -> str:
    """A text that no other monomial has."""
    return "*".join(sorted(f"{a.key}^{e}" if e != 1 else a.key for a, e in m))


def _term_key(monomial: str, c: Number) -> str:
    if not monomial:
        return str(c)
    return monomial if c == 1 else f"{c}*{monomial}"


def surely_positive(a: Atom) -> bool:
    """Whether the atom alone is above 0 by what it is: such atoms may be divided by."""
    if a.kind == "entry":
        return a.args[0].sort in {"positive", "unit"}
    if a.kind == "sum":
        ((m, _),) = a.args[1].terms.items()
        unsure = [b for b, _ in m if not surely_positive(b)]
        return not unsure or _keep_one_label(unsure, a.args[0])
    return a.kind in {"exp", "dim", "group", "at_least", "fewer_bits"}


def _keep_one_label(masks: list[Atom], i: Atom) -> bool:
    """Whether one label, in every row, is kept by all masks of a sum over i."""
    if not all(b.kind == "entry" and b.args[0].keeps and b.args[1][-1] is i for b in masks):
        return False
    labels = {label_of(b) for b in masks}
    return len(labels) == 1 and all(
        b.args[0].kept is None and i not in label_of(b).free for b in masks
    )


# ---------------------------------------------------------------- indices


@dataclass(frozen=True, repr=False)
class Symbol:
    """An argument: its name, what its entries are, and below what they are, if labels."""

    name: str
    sort: str  # real, positive, nonnegative, unit (in (0, 1)), boolean, index, integer
    dim: Poly | None = None
    keeps: Symbol | None = None  # of a mask: the labels at which it is 1,
    kept: Symbol | None = None  # in the rows where this is 1; None for all rows

    def __repr__(self) -> str:
        return self.name


def entry(symbol: Symbol, *indices: Atom | int) -> Poly:
    """An entry of an argument; 1 where a mask keeps its label."""
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
    """Whether an atom is an index or a label."""
    return t.kind == "index" or (t.kind == "entry" and t.args[0].sort == "index")


def index_range(t: Atom) -> Poly:
    """The number of values of an index or of a label."""
    return t.args[1] if t.kind == "index" else t.args[0].dim


def delta(a: Atom | int, b: Atom | int) -> Poly:
    """1 where two indices are equal, else 0."""
    if a is b or a == b:
        return ONE
    if isinstance(a, int) and isinstance(b, int):
        return ZERO
    if isinstance(a, int) or (isinstance(b, Atom) and _elimination(b) < _elimination(a)):
        a, b = b, a
    return poly(atom("delta", a, b))


def _elimination(t: Atom) -> tuple:
    """Plain indices are replaced before labels are."""
    return t.kind != "index", t.key


def as_index(p: Poly) -> Atom | int:
    """A term that is an index, a label or a number, as such."""
    number = p.number()
    if number is not None and number == int(number):
        return int(number)
    term = p.single()
    if term is not None and term[1] == 1 and len(term[0]) == 1:
        ((a, e),) = term[0]
        if e == 1 and is_index(a):
            return a
    raise Refused(f"an index that is not read: {p}")


# ---------------------------------------------------------------- products


def product(factors: Iterable[tuple[Atom, Number]], coefficient: Number = 1) -> Poly:
    """A product of powers of atoms, normalised."""
    powers: dict[Atom, Number] = {}
    for a, e in factors:
        powers[a] = powers.get(a, 0) + e
    m = frozenset(t for t in powers.items() if t[1])
    if any(a.boolean or a.kind in {"group", "recip", "sum"} for a, _ in m):
        result = _by_rules(m)
        return result if coefficient == 1 else result * coefficient
    return Poly({m: coefficient})


@remembered
def _by_rules(m: Monomial) -> Poly:
    powers = dict(m)
    for rule in _RULES:
        result = rule(powers)
        if result is not None:
            return result
    return Poly({frozenset(powers.items()): 1})


def _without(powers: dict[Atom, Number], *atoms: Atom) -> Poly:
    return product((a, e) for a, e in powers.items() if a not in atoms)


def _idempotent(powers: dict[Atom, Number]) -> None:
    for a, e in powers.items():
        if a.boolean and e != 1:
            if e != int(e) or e < 0:
                raise Refused(f"division by {a}, which may be 0")
            powers[a] = 1


def _kept_labels(powers: dict[Atom, Number]) -> Poly | None:
    for a in powers:
        if a.kind == "entry" and a.args[0].kept and at_kept_label(a) and row_kept(a) in powers:
            return _without(powers, a)
    return None


def _expanded(powers: dict[Atom, Number]) -> Poly | None:
    for a, e in powers.items():
        if a.kind == "group" and e > 0 and e == int(e):
            return _without(powers, a) * a.args[0] ** int(e)
        if a.kind == "recip" and (base := a.args[0]) in powers and powers[base] > 0:
            rest = [(b, n - (b in (a, base))) for b, n in powers.items()]
            return product(rest) * (1 - zero_of_atom(base))
    return None


def _deltas(powers: dict[Atom, Number]) -> Poly | None:
    for a in powers:
        if a.kind == "delta":
            old, new = a.args
            if isinstance(new, Atom) and old in new.inside:
                continue
            if any(old in b.inside for b in powers if b is not a):
                rest = substitute(_without(powers, a), {old: poly(new)})
                return rest * poly(a)
    return None


def _zeros(powers: dict[Atom, Number]) -> Poly | None:
    for a in powers:
        if a.kind != "zero":
            continue
        if atom("positive", a.args[0]) in powers or _beside_no_witness(a, powers):
            return ZERO
        known = known_where_zero(a, (b for b in powers if b is not a))
        if known:
            return substitute(_without(powers, a), known) * poly(a)
        if solution(a.args[0]) is None:
            rest = _reduced({b: e for b, e in powers.items() if b is not a}, a.args[0])
            if rest is not None:
                return rest * poly(a)
    return None


def _beside_no_witness(zero: Atom, powers: dict[Atom, Number]) -> bool:
    """``[sum_j b_j = 0]``, for 0-1 terms b, beside a b_t."""
    a = _sum_of_booleans(zero)
    if a is None:
        return False
    guards = {b for b in powers if b.boolean}
    places = {i for b in guards for i in b.inside if is_index(i)}
    binders, body = unnested(a)
    masks = [b for b in body.atoms() if b.kind == "entry" and b.args[0].keeps]
    places |= {label_of(b) for b in masks if not label_of(b).free & set(binders)}
    fitting = ([t for t in places if index_range(t) == i.args[1]] for i in binders)
    for some in itertools.product(*fitting):
        there = substitute(body, dict(zip(binders, map(poly, some), strict=True))).single()
        if there is not None and all(b in guards or _kept_by(b, guards) for b, _ in there[0]):
            return True
    return False


def _kept_by(b: Atom, guards: set[Atom]) -> bool:
    return b.kind == "entry" and at_kept_label(b) and row_kept(b) in guards


def _sum_of_booleans(zero: Atom) -> Atom | None:
    term = zero.args[0].single()
    if term is None or len(term[0]) != 1:
        return None
    ((a, _),) = term[0]
    return a if a.kind == "sum" and all(b.boolean for b in unnested(a)[1].atoms()) else None


def known_where_zero(zero: Atom, others: Iterable[Atom]) -> dict[Atom, Poly]:
    """What atoms inside others are where ``zero`` is 1: one solved for, or sums that vanish."""
    inside = frozenset().union(*(b.inside for b in others))
    a = _sum_of_booleans(zero)
    if a is not None:
        return {b: ZERO for b in inside if b.kind == "sum" and _has_factors_of(b, a)}
    solved = solution(zero.args[0])
    return {} if solved is None or solved[0] not in inside else {solved[0]: solved[1]}


@remembered
def _has_factors_of(b: Atom, a: Atom) -> bool:
    """Whether each term of the sum b holds all factors of that of the sum a."""
    return any(there <= mine for mine, there in aligned(b, a))


@remembered
def solution(p: Poly) -> tuple[Atom, Poly] | None:
    """An atom and what it is where p = 0, if p is linear in it with a number before it."""
    best = None
    for m, c in p.terms.items():
        if len(m) != 1:
            continue
        ((a, e),) = m
        known = a.kind == "entry" and surely_positive(a)
        if e != 1 or a.kind not in {"entry", "max", "sum"} or known:
            continue
        rest = p - poly(a) * c
        if a in rest.inside():
            continue
        if best is None or (a.kind != "max", a.key) < (best[0].kind != "max", best[0].key):
            best = a, rest * (Fraction(-1) / c)
    return best


def _reduced(powers: dict[Atom, Number], p: Poly) -> Poly | None:
    """A monomial modulo p: p's leading part in what may vanish, over what may not, replaced.

    Each replacement is lower in the order of those parts, so that this ends.
    """
    parts: dict[Monomial, Poly] = {}
    for m, c in p.terms.items():
        unsure = frozenset((a, e) for a, e in m if not surely_positive(a))
        parts[unsure] = parts.get(unsure, ZERO) + Poly({m - unsure: c})
    lead = max(parts, key=lambda m: (sum(e for _, e in m), monomial_key(m)))
    if not lead or any(powers.get(a, 0) < e for a, e in lead):
        return None
    try:
        over = power(parts[lead], -1)
    except Refused:
        return None
    rest = p - parts[lead] * Poly({lead: 1})
    return product([*powers.items(), *((a, -e) for a, e in lead)]) * -rest * over


def _dominants(powers: dict[Atom, Number]) -> Poly | None:
    """``D_j D_l = [j = l] D_j``, also where the one, or both, are under sums."""
    single = [a for a in powers if a.kind == "dominant"]
    for a, b in itertools.combinations(single, 2):
        if a.args[:3] == b.args[:3]:
            return _without(powers, b) * _same(a.args[3], b.args[3])
    found = [(a, opened_dominance(a)) for a, e in powers.items() if a.kind == "sum" and e > 0]
    sums = [(a, d) for a, d in found if d is not None]
    for a, d in sums:
        e = int(powers[a])
        for b in single:
            if b.args[:3] == d.atom.args[:3]:
                return _without(powers, a) * d.at(b.args[3]) ** e
        others = [(b, f) for b, f in sums if b is not a and f.atom.args[:3] == d.atom.args[:3]]
        if e > 1 or others:
            body = d.body * d.at(d.atom.args[3]) ** (e - 1)
            for b, f in others:
                body = body * f.at(d.atom.args[3]) ** int(powers[b])
            for i in d.binders:
                body = total(body, i)
            return _without(powers, a, *(b for b, _ in others)) * body
    return None


def _same(here: Iterable[Atom | int], there: Iterable[Atom | int]) -> Poly:
    result = ONE
    for i, j in zip(here, there, strict=True):
        result = result * delta(i, j)
    return result


@dataclass(frozen=True)
class Dominance:
    """A sum, or sums in one another, with a dominance of their indices in the body."""

    atom: Atom
    body: Poly
    binders: tuple[Atom, ...]

    def at(self, places: tuple[Atom | int, ...]) -> Poly:
        """What a dominance at these places leaves of it, beside that dominance."""
        new: dict[Atom | int, Atom | int] = {}
        same = ONE
        for i, t in zip(self.atom.args[3], places, strict=True):
            if i in self.binders and i not in new:
                new[i] = t
            else:
                same = same * delta(new.get(i, i), t)
        result = substitute(self.body, {i: poly(t) for i, t in new.items()})  # type: ignore[misc]
        for i in self.binders:
            result = result if i in new else total(result, i)
        return result * same


def opened_dominance(a: Atom) -> Dominance | None:
    """A sum with the dominance of one of its indices, opened."""
    if not any(b.kind == "dominant" and a.args[0] in b.args[3] for b in a.inside):
        return None
    i, body = opened(a)
    ((m, c),) = body.terms.items()
    for b, e in m:
        if b.kind == "dominant" and i in b.args[3]:
            return Dominance(b, body, (i,))
        inner = opened_dominance(b) if b.kind == "sum" and e == 1 else None
        if inner is not None and i in inner.atom.args[3]:
            rest = product(((f, n) for f, n in m if f is not b), c)
            return Dominance(inner.atom, rest * inner.body, (i, *inner.binders))
    return None


_RULES: tuple[Callable[[dict[Atom, Number]], Poly | None], ...] = (
    _idempotent, _kept_labels, _expanded, _deltas, _zeros, _dominants,
)  # fmt: skip


# ---------------------------------------------------------------- sums


def opened(a: Atom) -> tuple[Atom, Poly]:
    """A bound atom's index under a new name, and its body."""
    i = fresh(a.args[0].args[1])
    return i, substitute(a.args[1], {a.args[0]: poly(i)})


def unnested(a: Atom, most: int = _MAX_BINDERS) -> tuple[tuple[Atom, ...], Poly]:
    """A sum of sums of sums, opened as one over all their indices, or over the outer ones."""
    i, body = opened(a)
    ((m, c),) = body.terms.items()
    for b, e in sorted(m, key=lambda t: t[0].key):
        if most > 1 and b.kind == "sum" and e == 1 and i in b.free:
            binders, inner = unnested(b, most - 1)
            return (i, *binders), product(((f, n) for f, n in m if f is not b), c) * inner
    return (i,), body


def each_nest(a: Atom) -> Iterator[tuple[tuple[Atom, ...], Poly]]:
    """A sum as one over its outer index, over its outer two, and so on; to be looked at."""
    i, body = a.args
    yield (i,), body
    if any(b.kind == "sum" and i in b.free for b in body.atoms()):
        deepest = len(unnested(a)[0])
        yield from (unnested(a, depth) for depth in range(2, deepest + 1))


def aligned(a: Atom, b: Atom) -> Iterator[tuple[Monomial, Monomial]]:
    """The products that two sums add up, over the same indices, in each way to pair them."""
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
    """The body of a bound atom, to be looked at and not to be put into another term."""
    return opened(a)[1]


def total(p: Poly, i: Atom) -> Poly:
    """The sum of p over the index i."""
    return add_all(_total_of(m, i) * c for m, c in p.terms.items())


def _total_of(m: Monomial, i: Atom) -> Poly:
    for a, _ in m:
        if a.kind == "delta" and i in a.args:
            other = a.args[1] if a.args[0] is i else a.args[0]
            if isinstance(other, Atom) and i in other.free:
                continue
            _within(other, i)
            return substitute(product((b, e) for b, e in m if b is not a), {i: poly(other)})
    bound = [(a, e) for a, e in m if i in a.free]
    rest = product((a, e) for a, e in m if i not in a.free)
    return rest * (i.args[1] if not bound else product(_nested(bound, i).items()))


def _within(t: Atom | int, i: Atom) -> None:
    dim = i.args[1]
    if isinstance(t, int):
        if t < 0 or t >= at_least(dim):
            raise Refused(f"index {t} of a dimension {dim}")
    elif index_range(t) != dim:
        raise Refused(f"an index below {index_range(t)} among {dim}")


def at_least(dim: Poly) -> Number:
    """The least value of a dimension."""
    low: Number = 0
    for m, c in dim.terms.items():
        if c < 0:
            return 0
        least: Number = 1
        for a, e in m:
            least *= a.args[1] ** e if a.kind == "dim" else 0
        low += c * least
    return low


def _nested(bound: list[tuple[Atom, Number]], i: Atom) -> dict[Atom, Number]:
    """A sum of products of sums, in the order whose text comes first."""
    binders, flat = [i], []
    queue = list(bound)
    while queue:
        a, e = queue.pop()
        if a.kind != "sum" or e < 1 or e != int(e):
            flat.append((a, e))
            continue
        for _ in range(int(e)):
            j, body = opened(a)
            binders.append(j)
            ((m, _),) = body.terms.items()
            queue.extend(m)
    if len(binders) > _MAX_BINDERS:
        return {_bind(bound, i): 1}
    orders = (_in_order(flat, order) for order in itertools.permutations(binders))
    return min(orders, key=lambda d: (sum(a.height for a in d), monomial_key(frozenset(d.items()))))


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
    """The sum over i of a product of factors that all depend on it."""
    name, (body,) = bind(i, product(factors))
    term = body.single()
    if term is None or term[1] != 1:
        raise Refused("a sum whose body changes with the name of its index")
    return atom("sum", name, body, binders=(name,))


def bind(i: Atom, *bodies: Poly) -> tuple[Atom, tuple[Poly, ...]]:
    """Bodies with their index i named by height."""
    (name,), named = bind_all((i,), *bodies)
    return name, named


def bind_all(binders: tuple[Atom, ...], *bodies: Poly) -> tuple[tuple[Atom, ...], tuple[Poly, ...]]:
    """The same for several indices at once."""
    height = max((a.height for body in bodies for a in body.atoms()), default=0)
    names = tuple(index(f"#{height + n}", i.args[1]) for n, i in enumerate(binders))
    new = {i: poly(name) for i, name in zip(binders, names, strict=True)}
    return names, tuple(substitute(body, new) for body in bodies)


# ---------------------------------------------------------------- substitution

_rebuild: dict[str, Callable[..., Poly]] = {}


def rebuilds(kind: str) -> Callable[[Callable[..., Poly]], Callable[..., Poly]]:
    """Registers how an atom is made anew from its changed parts."""

    def register(function: Callable[..., Poly]) -> Callable[..., Poly]:
        _rebuild[kind] = function
        return function

    return register


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
                part = part * power(_replaced(a, new), e)
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


@rebuilds("sum")
def _sum(a: Atom, new: Mapping[Atom, Poly]) -> Poly:
    i, body = fresh(a.args[0].args[1]), a.args[1]
    return total(substitute(body, {**new, a.args[0]: poly(i)}), i)


def power(p: Poly, e: Number) -> Poly:
    """A power; set by ``_functions``, which knows when p may be divided by."""
    if e == int(e) and e >= 0:
        return p ** int(e)
    from ._functions import power_of  # the two files are one: products need inverses

    return power_of(p, e)


def zero_of_atom(a: Atom) -> Poly:
    """``[a = 0]``."""
    from ._functions import is_zero

    return is_zero(poly(a))
