"""Traces the backward passes of the library, and computes those of their mutants in float64."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal

import jax
import numpy as np
from jax.extend import core
from xent_jax.proofs._jax_internals import in_float64
from xent_jax.proofs._prover.claims import vjp_of
from xent_jax.proofs._prover.spec import size_of
from xent_jax.proofs._prover.trace import arguments, trace
from xent_jax.proofs._refutation.entries import Refused, Undecided
from xent_jax.proofs._theorems.theorem import Theorem

from tests.second_engine.inputs import dims

from .concretize import Run
from .high_precision import same
from .mutate import well_typed

Numbers = Literal["different", "the same", "invalid"]
_SIZES = (
    {"n": 2, "k": 1, "m": 2, "s": 1, "d": 2, "b": 2},
    {"n": 3, "k": 2, "m": 1, "s": 3, "d": 1, "b": 1},
    {"n": 3, "k": 3, "m": 2, "s": 2, "d": 2, "b": 2},
    {"n": 2, "k": 5, "m": 3, "s": 2, "d": 3, "b": 1},
)
_DRAWS = 4  # for each size: at random, with ties, dominated, far apart
_RELATIVE, _ABSOLUTE = 1e-7, 1e-11


@dataclass(frozen=True)
class Backward:
    """A function of the library, traced at symbolic sizes with its backward pass."""

    theorem: Theorem
    value: core.ClosedJaxpr
    backward: core.ClosedJaxpr

    @classmethod
    def of(cls, theorem: Theorem) -> Backward:
        """Traces the function of a theorem and its backward pass."""
        build = theorem.build
        a = arguments(build.args)
        both = vjp_of(build.fun, a, build.wrt)
        out = jax.eval_shape(build.fun, *a.shapes)
        backward = trace(lambda *args: both(*args)[1:], [out, *a.shapes])
        return cls(theorem, trace(build.fun, a.shapes), backward)

    def allows(self, size: Mapping[str, int]) -> bool:
        """Returns whether the theorem covers this size."""
        return all(size[name] >= least for name, least in self.theorem.build.least.items())


class Numerics:
    """Runs mutants of one backward pass beside the original, in float64.

    The inputs have ties, dominated rows, rows that are far apart, masks and sentinels.
    """

    def __init__(self, backward: Backward, seed: int):
        self.backward = backward
        self.points = []
        for size in _SIZES:
            for draw in range(_DRAWS if backward.allows(size) else 0):
                rng = np.random.default_rng((seed, size["n"], size["k"], draw))
                point = self._point(rng, draw, size)
                for platform in (0, 1) if draw == 1 else (0,):
                    run = Run(size, wide=True, platform=platform)
                    self.points.append((run, point))
        with in_float64():
            self.expected = [_outputs(run, backward.backward, p) for run, p in self.points]

    def classify(self, mutant: core.ClosedJaxpr) -> Numbers:
        """Returns whether a mutant is invalid, and if not, whether its numbers differ."""
        if not well_typed(mutant, self.backward.backward):
            return "invalid"
        with in_float64():
            for (run, point), expected in zip(self.points, self.expected, strict=True):
                try:
                    got = _outputs(run, mutant, point)
                except (TypeError, ValueError):  # it does not type check at these sizes
                    return "invalid"
                if any(map(_differ, got, expected)):
                    return "different"
        return "the same"

    def same_over_the_reals(self, mutant: core.ClosedJaxpr) -> bool:
        """Returns whether a mutant differs only by float64's rounding and overflow."""
        original = self.backward.backward
        try:
            return all(
                same(original, mutant, point, run.size, run.platform) for run, point in self.points
            )
        except (Refused, Undecided):  # this cannot be decided
            return False

    def _point(
        self, rng: np.random.Generator, draw: int, size: Mapping[str, int]
    ) -> list[np.ndarray]:
        values: dict[str, np.ndarray] = {}
        for name, spec in self.backward.theorem.build.args.items():
            values[name] = _draw(rng, spec, draw, size)
            if spec.keeps is not None:
                y = np.maximum(values[spec.keeps], 0)[..., None]
                np.put_along_axis(values[name], y, True, -1)
        with in_float64():
            run = Run(size, wide=True)
            shape = run.outputs(self.backward.value, list(values.values()))[0].shape
        return [rng.standard_normal(shape), *values.values()]


def _outputs(run: Run, jaxpr: core.ClosedJaxpr, point: list[np.ndarray]) -> list[np.ndarray]:
    return [np.asarray(x) for x in run.outputs(jaxpr, point)]


def _draw(rng: np.random.Generator, spec: Any, draw: int, size: Mapping[str, int]) -> np.ndarray:
    shape = dims(spec, size)
    if spec.dtype == np.bool_:
        return rng.random(shape) < 0.7
    if spec.classes is not None:
        y = rng.integers(0, size_of(spec.classes, size), shape).astype(np.int32)
        out = rng.random(shape) < 0.4
        return y if spec.ignore is None else np.where(out, np.int32(spec.ignore), y)
    if spec.unit:
        return rng.uniform(0.05, 0.95, shape)
    if spec.positive or spec.nonnegative:
        return rng.uniform(0.2, 2.5, shape)
    x = rng.standard_normal(shape)
    x = (x, rng.integers(-1, 2, shape).astype(float), x, 3 * x)[draw]
    if draw == 2 and x.ndim:
        x[..., rng.integers(0, shape[-1])] += 6.0
    return x


def _differ(x: np.ndarray, y: np.ndarray) -> bool:
    if x.shape != y.shape:
        return True
    with np.errstate(all="ignore"):
        close = np.abs(x - y) <= _RELATIVE * np.abs(y) + _ABSOLUTE
    return not np.all(close | (x == y) | (np.isnan(x) & np.isnan(y)))
