"""Evaluates diagrams in floats, to find counterexamples. Floats never prove anything."""

import math
from typing import Any

from .exact import Field
from .extended import Special
from .floats import Floats, Point
from .piecewise import Node, Pieces
from .polynomials import Generator


class Evaluator(Floats):
    """Evaluates diagrams at one point."""

    def __init__(self, field: Field, pieces: Pieces, point: Point):
        super().__init__(field, point)
        self.pieces = pieces

    def differs(self, value: Any) -> bool:
        """Returns whether a diagram is clearly not zero at the point."""
        value = self._leaf(value)
        return isinstance(value, Special) or self.clearly_nonzero(value)

    def _leaf(self, value: Any) -> Any:
        while isinstance(value, Node):
            value = value.branches[self.sign(self.pieces.questions[value.question]) + 1]
        return value

    def function(self, generator: Generator) -> float:
        """Returns the value of an exponential, a logarithm, a floor or a rounded diagram."""
        if generator.kind != "bits":
            return super().function(generator)
        x, bits = generator.inner
        mantissa, exponent = math.frexp(self.number(self._leaf(x)))
        return math.ldexp(round(math.ldexp(mantissa, bits + 1)), exponent - bits - 1)
