"""Evaluates the second engine's numbers in floats, at one point. Floats never prove anything."""

import contextlib
import itertools
import math
from typing import Any

import numpy as np
from scipy.optimize import brentq

from .exact import Field
from .poly import Poly
from .polynomials import Generator
from .rationals import Number

_REAL, _POSITIVE, _UNIT = np.linspace(-6, 6, 25), np.linspace(0.25, 6, 24), np.linspace(0.1, 0.9, 9)
Point = dict[int, float]  # the value of each symbol, by its place among the generators


def draw(rng: np.random.Generator, sample: int, generator: Generator) -> float:
    """Draws a symbol's value, an integer in every other sample so that ties and zeros occur."""
    if generator.unit:
        return float(rng.choice([0.25, 0.5, 0.75]))
    x = float(rng.integers(-2, 3)) if sample % 2 else float(rng.normal() * (1, 4)[sample // 2 % 2])
    return abs(x) + 0.25 * (x == 0) if generator.positive else x


class Floats:
    """Evaluates numbers at one point.

    ``point`` has values of symbols by their places; the others are drawn, seeded by ``sample``.
    """

    def __init__(self, field: Field, point: Point | None = None, sample: int = 0):
        self.field, self.values, self.sample = field, dict(point or {}), sample

    def clearly_nonzero(self, x: Number) -> bool:
        """Returns whether a number differs from 0 at the point by more than rounding explains."""
        value, size = self.polynomial(x.numerator)
        return abs(value) > 1e-6 * size

    def sign(self, x: Poly) -> int:
        """Returns the sign of a polynomial, or 0 if rounding may have decided it."""
        value, size = self.polynomial(x)
        return 0 if abs(value) <= 1e-12 * size else 1 if value > 0 else -1

    def polynomial(self, x: Poly) -> tuple[float, float]:
        """Returns the value of a polynomial, and the sum of the magnitudes of its terms."""
        terms = [
            int(c.p) / int(c.q) * math.prod(self._generator(i) ** e for i, e in enumerate(m) if e)
            for m, c in x.terms
        ]
        return sum(terms), sum(map(abs, terms))

    def number(self, x: Any) -> float:
        """Returns the value of a number, or of a polynomial."""
        x = x if isinstance(x, Number) else Number(x)
        divisor = math.prod(self.polynomial(f)[0] ** p for f, p in x.factors)
        return self.polynomial(x.numerator)[0] / divisor

    def _generator(self, i: int) -> float:
        if i not in self.values:
            generator = self.field.generators[i]
            if generator.kind == "symbol":
                rng = np.random.default_rng((self.sample, i))
                self.values[i] = draw(rng, self.sample, generator)
            else:
                self.values[i] = self.function(generator)
        return self.values[i]

    def function(self, generator: Generator) -> float:
        """Returns the value of a generator that is an exponential, a logarithm or a floor."""
        if generator.kind == "bits":
            raise ArithmeticError("a rounded diagram")
        function = {"exp": math.exp, "log": math.log, "floor": math.floor}[generator.kind]
        return function(self.number(generator.inner))


def root(field: Field, x: Poly) -> Floats | None:
    """Returns floats at a point where a polynomial changes its sign, or None if none is found."""
    for place, generator in enumerate(field.generators):
        if generator.kind != "symbol":
            continue

        def value(t: float, place: int = place) -> float:
            return Floats(field, {place: t}).polynomial(x)[0]

        grid = _UNIT if generator.unit else _POSITIVE if generator.positive else _REAL
        with contextlib.suppress(ArithmeticError, ValueError):  # overflow, log of 0
            for low, high in itertools.pairwise(grid):
                if value(low) * value(high) < 0:
                    return Floats(field, {place: brentq(value, low, high)})
    return None
