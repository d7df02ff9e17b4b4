"""Defines the second engine's polynomials, which gain generators as they are met, and their signs.

Exponentials and logarithms are generators of their own: ``exp(z_0)`` is one,
``log(exp(z_0) + exp(z_1))`` another. Treating them as independent can only hide an
equality, never invent one.
"""

from dataclasses import dataclass
from typing import Any

import sympy as sp
from xent_jax.proofs._refutation.entries import Undecided

from .poly import Poly, Ring

_MOST_TERMS = 100_000  # products of terms in one multiplication
_MOST_DEGREE, _MOST_FACTORED = 40, 400
_MOST_WORK = 5_000_000  # products of terms in all multiplications


class Crowded(Exception):
    """Raised if more generators occur than the ring has; callers retry with a larger ring."""


@dataclass(frozen=True)
class Generator:
    """A generator of the ring: the number that it stands for, and facts about its sign."""

    expression: sp.Expr
    positive: bool
    unit: bool = False  # whether it is known to be below 1
    kind: str = "symbol"  # "exp", "log", "floor" or "bits"
    inner: Any = None  # exp, floor: a number; log: a polynomial; bits: a diagram, bits


class Polynomials:
    """Polynomials over a table of generators, which grows when new ones occur."""

    def __init__(self, size: int):
        self.ring = Ring(size)
        self.generators: list[Generator] = []
        self.places: dict[Any, int] = {}
        self._split: dict[Poly, tuple[Any, tuple[tuple[Poly, int], ...]]] = {}
        self._signs: dict[Poly, int | None] = {}
        self._work = 0

    def product(self, x: Poly, y: Poly) -> Poly:
        """Returns ``x y``, within a budget of terms, not of time, so that runs are repeatable."""
        self._work += len(x) * len(y)
        if self._work > _MOST_WORK or len(x) * len(y) > _MOST_TERMS:
            raise Undecided("the expressions grow too large")
        return x * y

    def generator(self, key, expression, positive, unit=False, kind="symbol", inner=None):
        place = self.places.get(key)
        if place is None:
            place = self.places[key] = len(self.generators)
            if place >= len(self.ring.generators):
                raise Crowded
            self.generators.append(Generator(expression, positive, unit, kind, inner))
        return self.ring.generators[place]

    def places_in(self, x: Poly) -> list[int]:
        return [i for i, degree in enumerate(x.degrees) if degree > 0]

    def positive(self, x: Poly) -> bool:
        return self.polynomial_sign(x) == 1

    def polynomial_sign(self, x: Poly) -> int | None:
        """Returns 1, 0 or -1 if every value is known to have this sign, else None."""
        if x not in self._signs:
            self._signs[x] = self._sign_by_coefficients(x)
        return self._signs[x]

    def _sign_by_coefficients(self, x: Poly) -> int | None:
        if not x:
            return 0
        for place, generator in enumerate(self.generators):
            if generator.unit:
                x = self._on_half_line(x, place)
        signs = {1 if coefficient > 0 else -1 for _, coefficient in x.terms}
        if len(signs) > 1:
            return None
        strict = False
        for monomial, _ in x.terms:
            unknown = [
                e for e, g in zip(monomial, self.generators, strict=False) if e and not g.positive
            ]
            if any(e % 2 for e in unknown):
                return None
            strict |= not unknown
        return signs.pop() if strict else None

    def _on_half_line(self, x: Poly, place: int) -> Poly:
        """Replaces a t in (0, 1) by 1 / (1 + s), s > 0, and multiplies by (1 + s)^degree."""
        degree = x.degrees[place]
        if not degree:
            return x
        out, step = self.ring.zero, self.ring.one + self.ring.generators[place]
        for monomial, coefficient in x.terms:
            rest = monomial[:place] + (0,) + monomial[place + 1 :]
            out += self.ring.term(rest, coefficient) * step ** (degree - monomial[place])
        return out

    def factors(self, x: Poly):
        """Returns the content and the irreducible factors, monic or negated to be positive."""
        if x not in self._split:
            if len(x) > _MOST_FACTORED or max(sum(m) for m, _ in x.terms) > _MOST_DEGREE:
                raise Undecided("a polynomial too large to factor")
            content, factors = x.factored()
            parts = []
            for factor, power in factors:
                lead = factor.leading
                if self.polynomial_sign(factor.scaled(1 / lead)) == -1:
                    lead = -lead
                content *= lead**power
                parts.append((factor.scaled(1 / lead), power))
            self._split[x] = (content, tuple(parts))
        return self._split[x]

    def poly_expression(self, x: Poly) -> sp.Expr:
        terms = []
        for monomial, coefficient in x.terms:
            powers = [self.generators[i].expression ** e for i, e in enumerate(monomial) if e]
            rational = sp.Rational(int(coefficient.p), int(coefficient.q))
            terms.append(sp.Mul(rational, *powers))
        return sp.Add(*terms)
