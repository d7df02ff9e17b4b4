"""Computes exactly with the second engine's rational functions.

A number is a polynomial divided by a product of irreducible factors. It is in canonical form,
so that equal rational functions have equal parts.
"""

import functools
from dataclasses import dataclass
from fractions import Fraction

import sympy as sp
from xent_jax.proofs._refutation.entries import Undecided

from .poly import Poly
from .polynomials import Polynomials

_MOST_POWER = 32


@dataclass(frozen=True)
class Number:
    """``numerator / product of factor ** power``; equal numbers have equal parts."""

    numerator: Poly
    factors: tuple[tuple[Poly, int], ...] = ()

    @functools.cached_property
    def _hash(self) -> int:
        return hash((self.numerator, self.factors))

    def __hash__(self) -> int:
        return self._hash

    @property
    def zero(self) -> bool:
        """Whether the number is identically zero."""
        return not self.numerator


class Rationals(Polynomials):
    """The arithmetic of numbers."""

    def __init__(self, size: int):
        super().__init__(size)
        self._order: dict[Poly, int] = {}
        self.zero, self.one = Number(self.ring.zero), Number(self.ring.one)

    def symbol(self, name: str, positive: bool = False, unit: bool = False) -> Number:
        """Returns the number of a symbol: real, positive, or also below 1 if ``unit``."""
        symbol = sp.Symbol(name, positive=True) if positive else sp.Symbol(name, real=True)
        return Number(self.generator(("symbol", name), symbol, positive, unit))

    def constant(self, value: Fraction | int) -> Number:
        """Returns a rational constant as a number."""
        return Number(self.ring.constant(value))

    def rational(self, x: Number) -> Fraction | None:
        """Returns the rational constant that x equals, or None if x is not constant."""
        if x.zero:
            return Fraction(0)
        if x.factors or any(x.numerator.degrees):
            return None
        value = x.numerator.leading
        return Fraction(int(value.p), int(value.q))

    def integral(self, x: Number) -> bool:
        """Returns whether x is a sum of integer multiples of products of floors."""
        floors = [g.kind == "floor" for g in self.generators]
        return not x.factors and all(
            coefficient.q == 1 and all(f for e, f in zip(m, floors, strict=False) if e)
            for m, coefficient in x.numerator.terms
        )

    def add(self, x: Number, y: Number) -> Number:
        """Returns ``x + y``."""
        if x.factors == y.factors:
            return self._reduced(x.numerator + y.numerator, dict(x.factors))
        powers = dict(x.factors)
        for factor, power in y.factors:
            powers[factor] = max(power, powers.get(factor, 0))
        return self._reduced(self._over(x, powers) + self._over(y, powers), powers)

    def _over(self, x: Number, powers: dict[Poly, int]) -> Poly:
        own, numerator = dict(x.factors), x.numerator
        for factor, power in powers.items():
            for _ in range(power - own.get(factor, 0)):
                numerator = self.product(numerator, factor)
        return numerator

    def negative(self, x: Number) -> Number:
        """Returns ``-x``."""
        return Number(-x.numerator, x.factors)

    def subtract(self, x: Number, y: Number) -> Number:
        """Returns ``x - y``."""
        return self.add(x, self.negative(y))

    def multiply(self, x: Number, y: Number) -> Number:
        """Returns ``x y``."""
        powers = dict(x.factors)
        for factor, power in y.factors:
            powers[factor] = powers.get(factor, 0) + power
        return self._reduced(self.product(x.numerator, y.numerator), powers)

    def inverse(self, x: Number) -> Number:
        """Returns ``1 / x`` for an x that is not zero."""
        content, factors = self.factors(x.numerator)
        numerator = self._over(self.one, dict(x.factors)).scaled(1 / content)
        return self._reduced(numerator, dict(factors))

    def power(self, x: Number, n: int) -> Number:
        """Returns ``x^n`` for an integer n; if n is negative, x must not be zero."""
        if abs(n) > _MOST_POWER:
            raise Undecided(f"the power {n}")
        if n < 0:
            return self.power(self.inverse(x), -n)
        return functools.reduce(self.multiply, [x] * n, self.one)

    def _reduced(self, numerator: Poly, powers: dict[Poly, int]) -> Number:
        """Reduces a quotient to lowest terms; trial division by irreducible factors suffices."""
        if not numerator:
            return self.zero
        left = []
        for factor, power in powers.items():
            while power and (quotient := numerator.divided(factor)) is not None:
                numerator, power = quotient, power - 1
            if power:
                left.append((factor, power))
        if len(left) > 1:
            left.sort(key=lambda pair: self._order.setdefault(pair[0], len(self._order)))
        return Number(numerator, tuple(left))

    def divides(self, factor: Poly, x: Number) -> bool:
        """Returns whether ``factor`` divides the numerator of x, so that x is 0 where it is 0."""
        return x.zero or x.numerator.divided(factor) is not None
