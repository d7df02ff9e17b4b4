"""Takes derivatives in float64 by differences, and estimates their errors.

This serves functions with a primitive that has no rule in ``digits``. The estimate grows with the
noise of the function's values, and is infinite where the function may have a kink.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax.extend import core

from .._prover.trace import restricted

Function = Callable[..., Any]
_STEPS = 2.0 ** -np.arange(3.0, 21.0)
_ORDER = 6  # differences of this order show noise: those of a smooth function vanish
_NOISE_STEPS = 2.0 ** -np.array([[17.0], [20.0]]) * np.arange(-_ORDER, _ORDER + 1)
_SAFETY = 10  # a factor, because estimates are not bounds


def coarse(traced: core.ClosedJaxpr) -> bool:
    """Returns whether a jaxpr computes anything in fewer digits than float64 has."""
    eqns = [e for j in _every(traced.jaxpr) for e in j.eqns]
    dtypes = {v.aval.dtype for e in eqns for v in e.outvars}
    rounded = any(e.primitive.name == "reduce_precision" for e in eqns)
    return rounded or any(
        jax.dtypes.issubdtype(d, np.floating) and np.dtype(d).itemsize < 8 for d in dtypes
    )


def _every(jaxpr: Any) -> Any:
    yield jaxpr
    for eqn in jaxpr.eqns:
        for value in eqn.params.values():
            for part in value if isinstance(value, tuple | list) else (value,):
                inner = part.jaxpr if isinstance(part, core.ClosedJaxpr) else part
                if isinstance(inner, core.Jaxpr):
                    yield from _every(inner)


def split(vector: Any, like: Sequence[Any]) -> list[Any]:
    """Splits a vector into arrays with the shapes and dtypes of ``like``."""
    ends = np.cumsum([math.prod(jnp.shape(a)) for a in like])
    parts = jnp.split(vector, ends[:-1])
    return [p.reshape(a.shape).astype(a.dtype) for p, a in zip(parts, like, strict=True)]


class Floats:
    """A function of the vector of all entries of the arrays at ``places``, run at many points."""

    def __init__(self, fun: Function, places: Sequence[int]):
        self.places = places

        def at(x: Any, *arrays: Any) -> Any:
            of, moving = restricted(fun, arrays, places)
            return jnp.concatenate([jnp.ravel(o) for o in of(*split(x, moving))])

        def on_line(x: Any, steps: Any, direction: Any, *arrays: Any) -> Any:
            return jax.vmap(lambda s: at(x + s * direction, *arrays))(steps)

        self._on_line = jax.jit(on_line)

    def at_steps(
        self, arrays: Sequence[np.ndarray], direction: np.ndarray, steps: np.ndarray
    ) -> np.ndarray:
        """Returns the outputs after each step along a direction, ``[steps, outputs]``."""
        here = np.concatenate([np.ravel(arrays[p]) for p in self.places])
        return np.asarray(self._on_line(here, steps, direction, *arrays), np.float64)

    def derivative(
        self, arrays: Sequence[np.ndarray], direction: np.ndarray
    ) -> tuple[np.ndarray, np.ndarray]:
        """Returns the derivative of each output along a direction, and its error.

        The step with the least error is taken. Its error is the sum of its noise, the distance to
        the next shorter step's result, and the largest distance to a shorter step's result, less
        the latter's noise. The error is infinite if it is large, or if there may be a kink.
        """
        h, count = _STEPS[:, None], len(_STEPS)
        every = np.concatenate([_STEPS, -_STEPS, [0.0], _NOISE_STEPS.ravel()])
        values = self.at_steps(arrays, direction, every)
        right, left, middle, lines = np.split(values, [count, 2 * count, 2 * count + 1])
        noise = _noise(lines.reshape(*_NOISE_STEPS.shape, -1))
        with np.errstate(all="ignore"):
            central = _extrapolated((right - left) / (2 * h), 4)
            sides = [_extrapolated((v - middle) / (s * h), 2) for v, s in ((right, 1), (left, -1))]
            noises = _SAFETY * noise / h[1:]
            apart = np.abs(central[:, None] - central[None]) - noises
            shorter = np.tri(count - 1).T[:, :, None]
            error = _SAFETY * (shorter * np.maximum(apart, 0)).max(axis=1) + noises
            error[:-1] += _SAFETY * np.abs(np.diff(central, axis=0))
            error[-1] = np.inf  # nothing shows that it converged
            taken = (np.nan_to_num(error, nan=np.inf).argmin(axis=0), np.arange(noise.size))
            value, error = central[taken], error[taken]
            bend = np.maximum(*(np.abs(s[taken] - value) for s in sides))
            sure = (error <= 1e-4 * (1 + np.abs(value))) & (
                bend <= 1e-5 * (1 + np.abs(value)) + error
            )
        return value, np.where(sure, error, np.inf)

    def noise(self, arrays: Sequence[np.ndarray], direction: np.ndarray) -> np.ndarray:
        """Returns the noise of each output, as estimated from values near these arguments."""
        lines = self.at_steps(arrays, direction, _NOISE_STEPS.ravel())
        return _noise(lines.reshape(*_NOISE_STEPS.shape, -1))


def jacobian(
    derivative: Callable[[np.ndarray], tuple[np.ndarray, np.ndarray]],
    size: int,
    rng: np.random.Generator,
    tolerance: float,
) -> tuple[np.ndarray, np.ndarray]:
    """Returns the Jacobian, ``[outputs, inputs]``, and the error of each of its entries.

    A function whose derivatives along the axes exist may still have a kink. So its derivatives
    along two random directions must agree with the Jacobian; otherwise the error is infinite.
    """
    columns = map(derivative, np.eye(size))
    values, error = (np.stack(part, axis=1) for part in zip(*columns, strict=True))
    for _ in range(2):
        direction = rng.normal(size=size)
        along, own = derivative(direction)
        with np.errstate(all="ignore"):
            apart = np.abs(values @ direction - along)
            sure = apart <= tolerance + _SAFETY * (error @ np.abs(direction) + own)
        error = np.where(sure[:, None], error, np.inf)
    return values, error


def _noise(lines: np.ndarray) -> np.ndarray:
    """Returns the noise of each output: the largest that differences of high order show.

    ``lines`` are values ``[lines, points, outputs]`` at equidistant points.
    """
    scale = math.sqrt(math.comb(2 * _ORDER, _ORDER))
    shown = np.abs(np.diff(lines, _ORDER, axis=1)).max(axis=(0, 1)) / scale
    return np.maximum(shown, np.finfo(np.float64).eps * np.abs(lines).max(axis=(0, 1)))


def _extrapolated(table: np.ndarray, ratio: float) -> np.ndarray:
    return (ratio * table[1:] - table[:-1]) / (ratio - 1)
