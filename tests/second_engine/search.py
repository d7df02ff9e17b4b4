"""The second engine's search for counterexamples in numbers, which never prove anything."""

import math
from typing import Any

import numpy as np

from .exact import Field
from .extended import Special
from .piecewise import Node, Pieces
from .polynomials import Generator
from .rationals import Number


def draw(rng: np.random.Generator, sample: int, generator: Generator) -> float:
    """Draws numbers, integers in half of the samples, so that ties and zeros occur."""
    if generator.unit:
        return float(rng.choice([0.25, 0.5, 0.75]))
    x = float(rng.integers(-2, 3)) if sample % 2 else float(rng.normal() * (1, 4)[sample // 2 % 2])
    return abs(x) + 0.25 * (x == 0) if generator.positive else x


class Evaluator:
    """Evaluates diagrams at one point in floats, for the search only and never for a proof."""

    def __init__(self, numbers: Field, pieces: Pieces, point: dict[int, float]):
        self.field, self.pieces, self.values = numbers, pieces, dict(point)

    def differs(self, value: Any) -> bool:
        """Returns whether the diagram is clearly not zero."""
        value = self._leaf(value)
        if isinstance(value, Special):
            return True
        x, size = self._polynomial(value.numerator)
        return abs(x) > 1e-6 * size

    def _leaf(self, value: Any) -> Any:
        while isinstance(value, Node):
            x, size = self._polynomial(self.pieces.questions[value.question])
            value = value.branches[0 if x < -1e-12 * size else 2 if x > 1e-12 * size else 1]
        return value

    def _polynomial(self, x: Any) -> tuple[float, float]:
        """Returns the value of a polynomial, and the sum of the magnitudes of its terms."""
        terms = [
            float(coefficient) * math.prod(self._generator(i) ** e for i, e in enumerate(m) if e)
            for m, coefficient in x.terms()
        ]
        return sum(terms), sum(map(abs, terms))

    def _number(self, x: Any) -> float:
        x = x if isinstance(x, Number) else Number(x)
        divisor = math.prod(self._polynomial(f)[0] ** p for f, p in x.factors)
        return self._polynomial(x.numerator)[0] / divisor

    def _generator(self, i: int) -> float:
        if i not in self.values:
            generator = self.field.generators[i]
            if generator.kind == "bits":
                x, bits = generator.inner
                self.values[i] = _fewer_bits(self._number(self._leaf(x)), bits)
            else:
                function = {"exp": math.exp, "log": math.log, "floor": math.floor}[generator.kind]
                self.values[i] = function(self._number(generator.inner))
        return self.values[i]


def _fewer_bits(x: float, bits: int) -> float:
    mantissa, exponent = math.frexp(x)
    return math.ldexp(round(math.ldexp(mantissa, bits + 1)), exponent - bits - 1)
