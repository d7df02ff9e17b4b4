"""Runs jaxprs on real numbers of hundreds of digits, with exponents of any size.

This tells mutants that differ only by the rounding and overflow of float64 from wrong ones.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import mpmath
import numpy as np
from jax.extend import core
from xent_jax.proofs._refutation.digits import exact
from xent_jax.proofs._refutation.entries import filled
from xent_jax.proofs._refutation.reading import Reader
from xent_jax.proofs._refutation.reals import Reals

from tests.second_engine.extended import simple_fraction

from .concretize import specialized

_DIGITS = 300


class _Reals(Reals):
    """Real numbers, with each literal read as the simple fraction that it rounds."""

    def literal(self, x: Any, dtype: Any = np.float64) -> Any:
        x = float(x)
        if not np.isfinite(x):
            return mpmath.mpf(x)
        simple = simple_fraction(x, dtype)
        return mpmath.mpf(simple.numerator) / simple.denominator


def same(
    one: core.ClosedJaxpr,
    other: core.ClosedJaxpr,
    point: Sequence[np.ndarray],
    size: Mapping[str, int],
    platform: int,
) -> bool:
    """Returns whether two jaxprs of symbolic sizes give the same numbers at a point."""
    with mpmath.workdps(_DIGITS):
        outs = [
            [x for out in _outputs(specialized(j, size, platform), point) for x in out.flat]
            for j in (one, other)
        ]
        return all(map(_equal, *outs))


def _outputs(jaxpr: core.ClosedJaxpr, point: Sequence[np.ndarray]) -> list[np.ndarray]:
    outs = Reader(_Reals()).run(jaxpr, *map(exact, point))
    return [filled(o.shape, list(map(mpmath.mpf, o.flat))) for o in outs]


def _equal(x: Any, y: Any) -> bool:
    if mpmath.isnan(x) or mpmath.isnan(y) or mpmath.isinf(x) or mpmath.isinf(y):
        return bool(x == y or (mpmath.isnan(x) and mpmath.isnan(y)))
    return bool(abs(x - y) <= mpmath.mpf(10) ** (-_DIGITS // 4) * (1 + abs(y)))
