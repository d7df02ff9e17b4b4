"""Jaxprs run on real numbers of hundreds of digits, whose exponents know no bound.

What float64 computes differently is there told from what is different.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import mpmath
import numpy as np
from jax.extend import core

from .._refutation.reals import Reals, real
from .._second_engine.entries import filled
from .._second_engine.reading import Reader
from .concretize import specialized

_DIGITS = 300


def same(
    one: core.ClosedJaxpr,
    other: core.ClosedJaxpr,
    point: Sequence[np.ndarray],
    size: Mapping[str, int],
    platform: int,
) -> bool:
    """Whether two jaxprs of symbolic sizes give the same numbers at a point."""
    with mpmath.workdps(_DIGITS):
        outs = [
            [real(x) for out in _outputs(specialized(j, size, platform), point) for x in out.flat]
            for j in (one, other)
        ]
        return all(map(_equal, *outs))


def _outputs(jaxpr: core.ClosedJaxpr, point: Sequence[np.ndarray]) -> list[np.ndarray]:
    arrays = [filled(np.shape(a), [_entry(x) for x in np.ravel(a)]) for a in point]
    return Reader(Reals()).run(jaxpr, *arrays)  # type: ignore[arg-type]


def _entry(x: Any) -> Any:
    return bool(x) if x.dtype == np.bool_ else int(x) if x.dtype.kind == "i" else mpmath.mpf(x)


def _equal(x: Any, y: Any) -> bool:
    if mpmath.isnan(x) or mpmath.isnan(y) or mpmath.isinf(x) or mpmath.isinf(y):
        return bool(x == y or (mpmath.isnan(x) and mpmath.isnan(y)))
    return bool(abs(x - y) <= mpmath.mpf(10) ** (-_DIGITS // 4) * (1 + abs(y)))
