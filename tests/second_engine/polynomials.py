"""Polynomials of the second engine: over generators that are met one by one, and their signs.

Exponentials and logarithms are generators of their own: ``exp(z_0)`` is one,
``log(exp(z_0) + exp(z_1))`` another. Treating them as independent can only hide an
equality, never invent one.
"""

from dataclasses import dataclass
from typing import Any

import sympy as sp
from sympy.polys.domains import QQ
from sympy.polys.orderings import lex
from sympy.polys.rings import PolyElement, PolyRing
from xent_jax.proofs._refutation.entries import Undecided

_MOST_TERMS = 100_000  # products of terms in one multiplication
_MOST_DEGREE, _MOST_FACTORED = 40, 400
_MOST_WORK = 5_000_000  # the same, in all


class Crowded(Exception):
    """Raised if there are more generators than the ring has; start again with a larger ring."""


@dataclass(frozen=True)
class Generator:
    """What a generator stands for, and what is known about its sign."""

    expression: sp.Expr
    positive: bool
    unit: bool = False  # below 1 as well
    kind: str = "symbol"  # "exp", "log", "floor" or "bits"
    inner: Any = None  # exp: a monomial; log: a polynomial; floor: a number; bits: a diagram


class Polynomials:
    """Polynomials over a table of generators, which grows when new ones occur."""

    def __init__(self, size: int):
        self.ring = PolyRing([f"a{i}" for i in range(size)], QQ, lex)
        self.generators: list[Generator] = []
        self.places: dict[Any, int] = {}
        self._split: dict[PolyElement, tuple[Any, tuple[tuple[PolyElement, int], ...]]] = {}
        self._signs: dict[PolyElement, int | None] = {}
        self._work = 0

    def product(self, x: PolyElement, y: PolyElement) -> PolyElement:
        """x y, within a budget that is counted and not timed, so that runs are repeatable."""
        self._work += len(x) * len(y)
        if self._work > _MOST_WORK or len(x) * len(y) > _MOST_TERMS:
            raise Undecided("the expressions grow too large")
        return x * y

    def generator(self, key, expression, positive, unit=False, kind="symbol", inner=None):
        place = self.places.get(key)
        if place is None:
            place = self.places[key] = len(self.generators)
            if place >= len(self.ring.gens):
                raise Crowded
            self.generators.append(Generator(expression, positive, unit, kind, inner))
        return self.ring.gens[place]

    def places_in(self, x: PolyElement) -> list[int]:
        return [i for i, degree in enumerate(x.degrees()) if degree > 0]

    def positive(self, x: PolyElement) -> bool:
        return self.polynomial_sign(x) == 1

    def polynomial_sign(self, x: PolyElement) -> int | None:
        """Returns 1, 0 or -1 if every value has this sign, else None."""
        if x not in self._signs:
            self._signs[x] = self._sign_by_coefficients(x)
        return self._signs[x]

    def _sign_by_coefficients(self, x: PolyElement) -> int | None:
        if not x:
            return 0
        for place, generator in enumerate(self.generators):
            if generator.unit:
                x = self._on_half_line(x, place)
        terms = x.terms()
        signs = {1 if coefficient > 0 else -1 for _, coefficient in terms}
        if len(signs) > 1:
            return None
        strict = False
        for monomial, _ in terms:
            unknown = [
                e for e, g in zip(monomial, self.generators, strict=False) if e and not g.positive
            ]
            if any(e % 2 for e in unknown):
                return None
            strict |= not unknown
        return signs.pop() if strict else None

    def _on_half_line(self, x: PolyElement, place: int) -> PolyElement:
        """Substitutes t = 1 / (1 + s), s > 0, for a t in (0, 1), times (1 + s)^degree."""
        degree = max(monomial[place] for monomial in x)
        if not degree:
            return x
        out, step = self.ring.zero, self.ring.one + self.ring.gens[place]
        for monomial, coefficient in x.terms():
            rest = monomial[:place] + (0,) + monomial[place + 1 :]
            out += self.ring.from_dict({rest: coefficient}) * step ** (degree - monomial[place])
        return out

    def divided(self, x: PolyElement, factor: PolyElement) -> PolyElement | None:
        """Returns x / factor if that is a polynomial."""
        for end in (max, min):  # in lex order, of a product these are the products
            if any(a < b for a, b in zip(end(x), end(factor), strict=True)):
                return None
        quotient, rest = x.div(factor)
        return None if rest else quotient

    def factors(self, x: PolyElement):
        """Returns the content and the irreducible factors, monic or negated to be positive."""
        if x not in self._split:
            if len(x) > _MOST_FACTORED or max(map(sum, x), default=0) > _MOST_DEGREE:
                raise Undecided("a polynomial too large to factor")
            content, factors = self._factor_list(x)
            parts = []
            for factor, power in factors:
                lead = factor.LC
                if self.polynomial_sign(factor.monic()) == -1:
                    lead = -lead
                content *= lead**power
                parts.append((factor.mul_ground(1 / lead), power))
            self._split[x] = (content, tuple(parts))
        return self._split[x]

    def _factor_list(self, x: PolyElement):
        """Calls SymPy's with the generators that occur, because each other one costs time."""
        places = self.places_in(x)
        if not places:
            return x.LC, []
        ring = PolyRing([f"a{i}" for i in places], QQ, lex)
        small = ring.from_dict({tuple(m[i] for i in places): c for m, c in x.terms()})
        content, factors = small.factor_list()
        return content, [(self._with_all(f, places), power) for f, power in factors]

    def _with_all(self, x: PolyElement, places: list[int]) -> PolyElement:
        out = {}
        for monomial, coefficient in x.terms():
            exponents = dict(zip(places, monomial, strict=True))
            out[tuple(exponents.get(i, 0) for i in range(len(self.ring.gens)))] = coefficient
        return self.ring.from_dict(out)

    def poly_expression(self, x: PolyElement) -> sp.Expr:
        terms = []
        for monomial, coefficient in x.terms():
            powers = [self.generators[i].expression ** e for i, e in enumerate(monomial) if e]
            rational = sp.Rational(int(coefficient.numerator), int(coefficient.denominator))
            terms.append(sp.Mul(rational, *powers))
        return sp.Add(*terms)
