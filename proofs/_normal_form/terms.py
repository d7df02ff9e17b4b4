"""Defines terms: polynomials with rational coefficients over atoms.

Equal atoms are the same object, so two terms are equal if their parts are. The ``Kind`` of an atom
answers questions about it, and the rules in ``products`` normalise products of atoms.
"""

from __future__ import annotations

import contextlib
import itertools
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from fractions import Fraction
from typing import Any

from .state import forget, look, remembered


class Refused(Exception):
    """A step that a proof needs is not possible; the message says why."""


Number = int | Fraction

Monomial = frozenset  # of pairs (Atom, exponent)

_MAX_TERMS = 20_000
_MAX_POWER, MAX_POWER_OF_NUMBER = 16, 2048


def always(_: Atom) -> bool:
    """Returns True for every atom."""
    return True


def never(_: Atom) -> bool:
    """Returns False for every atom."""
    return False


@dataclass(frozen=True)
class Kind:
    """Answers about the atoms of one kind, registered by the file that makes them."""

    make: Callable[..., Poly] | None = None  # builds the normalised term from parts
    rebuild: Callable[[Atom, Mapping[Atom, Poly]], Poly] | None = None  # with atoms replaced
    text: Callable[..., str] | None = None  # of its parts; the default is ``kind(parts)``
    ruled: bool = False  # whether rules rewrite products with it
    boolean: Callable[[Atom], bool] = never  # whether it is 0 or 1
    sure: Callable[[Atom], bool] = never  # whether it is above 0, whatever the facts
    values: Callable[[Atom], Poly | None] = lambda _: None  # the size of its axis, if an index
    integral: Callable[[Atom], bool] = never
    positive: Callable[[Atom], bool] = never  # given the facts, as ``nonnegative`` is
    nonnegative: Callable[[Atom], bool] = never
    slope: Callable[[Atom], Poly] | None = None  # its derivative by its last part
    zeroed: bool = False  # whether it is defined as 0 where its last part is 0
    kink: str = ""  # what its kinks are called; elsewhere its derivative is ``slope``, or 0


kinds: dict[str, Kind] = {}


def made(kind: str, *parts: Any) -> Poly:
    """Returns the term that the ``make`` of a kind builds from these parts."""
    make = kinds[kind].make
    assert make is not None
    return make(*parts)


@dataclass(init=False, repr=False, eq=False, slots=True)
class Atom:
    """A factor whose parts polynomials ignore; equal atoms are the same object."""

    kind: str
    args: tuple
    key: str
    inside: frozenset[Atom]  # itself and every atom in its parts, at any depth
    free: frozenset[Atom]  # the indices in it that nothing in it binds
    depth: int  # how many bound indices are nested in it at most
    nest: tuple[int, int]  # how many indices it and sums in it bind, and their body's height
    of: Kind
    boolean: bool  # this and the next three are answers of ``of``
    sure: bool
    values: Any
    ruled: bool

    def __repr__(self) -> str:
        return self.key


_atoms: dict[tuple, Atom] = {}


def atom(kind: str, *args: Any, binders: tuple[Atom, ...] = ()) -> Atom:
    """Returns the one atom of this kind with these parts, in which it binds ``binders``."""
    made = _atoms.get((kind, args))
    if made is None:
        made = _atoms[kind, args] = _new_atom(kind, args, binders)
    return made


@contextlib.contextmanager
def forgotten() -> Iterator[None]:
    """Drops the atoms made inside the context when it ends; no term may use them later."""
    before = len(_atoms)
    try:
        yield
    finally:
        _drop_from(before)


@contextlib.contextmanager
def forgotten_if(error: type[Exception]) -> Iterator[None]:
    """Drops the atoms made inside the context if this error ends it."""
    before = len(_atoms)
    try:
        yield
    except error:
        _drop_from(before)
        raise


def _drop_from(before: int) -> None:
    forget()
    while len(_atoms) > before:
        _atoms.popitem()  # removes the atom that was made last


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
    new.depth = max((p.depth for p in parts), default=0) + len(binders)
    if kind == "sum":
        ((m, _),) = args[1].terms.items()
        many, above = _nest(m)
    else:
        bodies = [height(a) for a in args if isinstance(a, Poly)]
        many, above = 0, max([*bodies, *(sum(p.nest) for p in parts)], default=0)
    new.nest = many + len(binders), above
    new.of = of = kinds.get(kind, _OTHER)
    new.boolean, new.sure, new.values = of.boolean(new), of.sure(new), of.values(new)
    new.ruled = of.ruled or new.boolean
    new.key = kind
    if of.text or args:
        new.key = of.text(*args) if of.text else f"{kind}({', '.join(map(_text, args))})"
    return new


_OTHER = Kind()


def _nest(m: Monomial) -> tuple[int, int]:
    """Returns how many indices the sums among m's factors bind, and the height of all else."""
    many, above = 0, 0
    for a, e in m:
        binders, below = a.nest
        if a.kind == "sum" and e > 0 and e == int(e):
            many, above = many + binders * int(e), max(above, below)
        else:
            above = max(above, binders + below)
    return many, above


def height(p: Poly) -> int:
    """Returns a number above that of each sum's body in p, the same for all orders of the sums."""
    return max((sum(_nest(m)) for m in p.terms), default=0)


def _text(part: Any) -> str:
    return "[" + ", ".join(map(_text, part)) + "]" if isinstance(part, tuple) else repr(part)


class Poly:
    """A polynomial, as a coefficient for each monomial."""

    __slots__ = ("terms", "_hash", "_key")

    def __init__(self, terms: Mapping[Monomial, Number]):
        self.terms = {m: c for m, c in terms.items() if c}
        self._hash: int | None = None
        self._key: str | None = None
        look()
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

    def __add__(self, other: Poly | Atom | Number) -> Poly:
        terms = dict(self.terms)
        for m, c in poly(other).terms.items():
            terms[m] = terms.get(m, 0) + c
        return Poly(terms)

    __radd__ = __add__

    def __neg__(self) -> Poly:
        return Poly({m: -c for m, c in self.terms.items()})

    def __sub__(self, other: Poly | Atom | Number) -> Poly:
        return self + -poly(other)

    def __rsub__(self, other: Atom | Number) -> Poly:
        return poly(other) - self

    def __mul__(self, other: Poly | Atom | Number) -> Poly:
        if isinstance(other, int | Fraction):
            return Poly({m: c * other for m, c in self.terms.items()})
        other = poly(other)
        if self is ONE or other is ONE:
            return self if other is ONE else other
        return add_all(
            product([*m, *n], c * d)
            for (m, c), (n, d) in itertools.product(self.terms.items(), other.terms.items())
        )

    __rmul__ = __mul__

    def __pow__(self, exponent: int) -> Poly:
        if exponent == 1:
            return self
        if exponent > (_MAX_POWER if self.atoms() else MAX_POWER_OF_NUMBER):
            raise Refused(f"the power {exponent} of {self}")
        result = ONE
        for _ in range(exponent):
            result = result * self
        return result

    def atoms(self) -> set[Atom]:
        """Returns the atoms of the monomials."""
        return {a for m in self.terms for a, _ in m}

    def inside(self) -> frozenset[Atom]:
        """Returns every atom in the polynomial, at any depth."""
        return frozenset().union(*(a.inside for a in self.atoms()))

    def free(self) -> frozenset[Atom]:
        """Returns the indices in the polynomial that no sum or maximum binds."""
        return frozenset().union(*(a.free for a in self.atoms()))

    def number(self) -> Number | None:
        """Returns the value if the polynomial is a number, else None."""
        if not self.terms:
            return 0
        return self.terms.get(_UNIT) if len(self.terms) == 1 else None

    def power(self) -> tuple[Atom, Number, Number] | None:
        """Returns a, e, c if the polynomial is ``c a^e``, a an atom and c a number, else None."""
        for m, c in self.terms.items() if len(self.terms) == 1 else ():
            for a, e in m if len(m) == 1 else ():
                return a, e, c
        return None

    def single(self) -> tuple[Monomial, Number] | None:
        """Returns the monomial and its coefficient if there is exactly one, else None."""
        return next(iter(self.terms.items())) if len(self.terms) == 1 else None


_UNIT: Monomial = frozenset()
ZERO, ONE = Poly({}), Poly({_UNIT: 1})


def poly(x: Poly | Atom | Number) -> Poly:
    """Returns a number or atom as a polynomial, and a place as the sum of indices it stands for."""
    if isinstance(x, Poly):
        return x
    if isinstance(x, Atom) and x.kind == "place":
        return x.args[0]
    return Poly({frozenset({(x, 1)}): 1}) if isinstance(x, Atom) else Poly({_UNIT: x})


def add_all(parts: Iterable[Poly]) -> Poly:
    """Returns the sum of the parts."""
    parts = list(parts)
    if len(parts) == 1:
        return parts[0]
    terms: dict[Monomial, Number] = {}
    for part in parts:
        for m, c in part.terms.items():
            terms[m] = terms.get(m, 0) + c
    return Poly(terms)


rules: list[Callable[[dict[Atom, Number]], Poly | None]] = []  # ``products`` adds them


def product(factors: Iterable[tuple[Atom, Number]], coefficient: Number = 1) -> Poly:
    """Returns the normalised product of powers of atoms and a number."""
    powers: dict[Atom, Number] = {}
    for a, e in factors:
        powers[a] = powers.get(a, 0) + e
    m = frozenset(t for t in powers.items() if t[1])
    if any(a.ruled for a, _ in m):
        result = _by_rules(m)
        return result if coefficient == 1 else result * coefficient
    return Poly({m: coefficient})


@remembered
def _by_rules(m: Monomial) -> Poly:
    powers = dict(m)
    result = first_of(rules, powers)
    return Poly({frozenset(powers.items()): 1}) if result is None else result


def first_of(rules: Iterable[Callable[[Any], Poly | None]], given: Any) -> Poly | None:
    """Returns the result of the first rule that applies, or None if none does."""
    return next((p for rule in rules if (p := rule(given)) is not None), None)


def integral(p: Poly) -> bool:
    """Returns whether the value of p is sure to be an integer."""
    return all(
        c == int(c) and all((a.boolean or a.of.integral(a)) and e > 0 and e == int(e) for a, e in m)
        for m, c in p.terms.items()
    )


def monomial_key(m: Monomial) -> str:
    """Returns a text that no other monomial has."""
    return "*".join(sorted(f"{a.key}^{e}" if e != 1 else a.key for a, e in m))


def _term_key(monomial: str, c: Number) -> str:
    if not monomial:
        return str(c)
    return monomial if c == 1 else f"{c}*{monomial}"


def first_positive(p: Poly) -> Poly:
    """Returns p or -p, whichever has a positive coefficient at its first monomial by name.

    A number in p comes last, so that ``x > 0`` and ``x < 1`` both ask how far x is above a number.
    If p has exponentials, the number comes first: logarithms decide how these compare with numbers.
    """
    last = not any(a.kind == "exp" for a in p.atoms())
    first = min(p.terms, key=lambda m: (last and not m, monomial_key(m)))
    return p if p.terms[first] > 0 else -p
