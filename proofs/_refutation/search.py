"""Compares a claim, which is what JAX returns at some arguments, with the truth."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
import mpmath
import numpy as np

from .._jax_internals import in_float64
from .._prover.trace import restricted
from .._prover.verdict import Verdict
from .._prover.words import numbered
from .digits import DIGITS, SMOOTH, STEPS, Digits, NotTaken, Unread, derivative, exact, flat, moved
from .floats import Floats, coarse, jacobian, split

Arrays = dict[str, np.ndarray]
Function = Callable[..., Any]
_TOLERANCE = 1e-6  # relative and absolute; rounded constants do not count as wrong
_SCREEN = 1e-9


@dataclass(frozen=True)
class Found:
    """Arguments at which a claim is wrong, and how; the fields are those of a ``Verdict``."""

    counterexample: Arrays
    claimed: Mapping[str, np.ndarray]
    truth: Mapping[str, np.ndarray]  # NaN where no true value exists or is known
    along: Mapping[str, np.ndarray] = field(default_factory=dict)  # cotangents, or tangents

    def told(self, verdict: Verdict) -> Verdict:
        """Returns the verdict with these fields."""
        return replace(verdict, **vars(self))


@dataclass
class Question:
    """The question whether JAX's derivative of ``fun`` is that of ``reference``.

    The derivative is by the arrays at ``places``. In reverse mode,
    ``claim(cotangents of the outputs, *arrays)`` returns the cotangents of those arrays. In forward
    mode, ``claim(tangents of those arrays, *arrays)`` returns the tangents of the outputs.
    """

    what: str
    fun: Function
    reference: Function
    places: Sequence[int]
    reverse: bool = True
    unread: bool = False  # whether ``digits`` cannot run it

    def __post_init__(self) -> None:
        self.claim = self._pulled if self.reverse else self._pushed
        self.exact_claim, self.exact_truth = Digits(self.claim), Digits(self._outputs)
        self.line = Floats(self.reference, self.places)

    def _outputs(self, *arrays: Any) -> list[Any]:
        return jax.tree.leaves(self.reference(*arrays))

    def _pulled(self, seed: Any, *arrays: Any) -> Any:
        of, moving = restricted(self.fun, arrays, self.places)
        outs, pullback = jax.vjp(of, *moving)
        return pullback(split(seed, outs))

    def _pushed(self, seed: Any, *arrays: Any) -> Any:
        of, moving = restricted(self.fun, arrays, self.places)
        return jax.jvp(of, moving, split(seed, moving))[1]

    # ------------------------------------------------------------------ at one point

    def wrong_at(self, x: Arrays, rng: np.random.Generator) -> Found | None:
        """Returns what is wrong at these arguments by more than the error, or None."""
        arrays = list(x.values())
        shapes = [a.shape for a in self.exact_truth.jaxpr(arrays).out_avals]
        rows = sum(map(math.prod, shapes))
        columns = sum(arrays[p].size for p in self.places)
        sizes = (rows, columns) if self.reverse else (columns, rows)
        random = np.round(4 * rng.normal(size=sizes[0])) / 4
        random = np.where(random == 0, 1.0, random)  # few digits, and none is 0
        if not self.unread:
            try:
                if not self._suspicious(arrays, random, rng.normal(size=sizes[1])):
                    return None
            except Unread:
                self.unread = True
        if self.unread and self._coarse(arrays, random):
            return None
        truth, error = self._jacobian(arrays, columns, rng)
        if not self.reverse:
            truth, error = truth.T, error.T
        for seed in (np.ones(sizes[0]), *np.eye(sizes[0]), random):
            claimed, true = self._compared(seed, truth, error, arrays)
            if claimed is not None:
                return self._found(x, seed, claimed, true, shapes)
        return None

    def _coarse(self, arrays: Sequence[np.ndarray], seed: np.ndarray) -> bool:
        """Returns whether a program computes in so few digits that float64 shows nothing."""
        runs = self.exact_claim.jaxpr([seed, *arrays]), self.exact_truth.jaxpr(arrays)
        return any(map(coarse, runs))

    def _jacobian(
        self, arrays: Sequence[np.ndarray], size: int, rng: np.random.Generator
    ) -> tuple[np.ndarray, np.ndarray]:
        if self.unread:
            return jacobian(partial(self.line.derivative, arrays), size, rng, 1e-5)
        numbers = list(map(exact, arrays))
        along = partial(derivative, self.exact_truth, numbers, self.places)
        return jacobian(along, size, rng, SMOOTH)

    def _suspicious(
        self, arrays: Sequence[np.ndarray], seed: np.ndarray, other: np.ndarray
    ) -> bool:
        """Returns whether claim and truth differ in one number to which all entries contribute."""
        numbers = list(map(exact, arrays))
        pair = exact(other), exact(seed)
        claimed = flat(self.exact_claim(pair[1], *numbers))
        along, across = pair if self.reverse else pair[::-1]
        h = STEPS[0]
        ahead, behind = (
            flat(self.exact_truth(*moved(numbers, self.places, s, flat([along])))) for s in (h, -h)
        )
        left = [a * b for a, b in zip(claimed, pair[0].flat, strict=True)]
        right = [a * (b - c) / (2 * h) for a, b, c in zip(across.flat, ahead, behind, strict=True)]
        apart = abs(sum(left) - sum(right))
        return not apart <= _SCREEN + 1e-13 * sum(map(abs, left + right))

    def _compared(
        self, seed: np.ndarray, truth: np.ndarray, error: np.ndarray, arrays: Sequence[np.ndarray]
    ) -> tuple[np.ndarray | None, np.ndarray]:
        """Returns the claim for one seed, or None if it is not wrong, and the truth."""
        counts = seed != 0
        true = seed[counts] @ truth[counts]
        size = np.abs(seed[counts]) @ np.abs(truth[counts])
        bound = np.abs(seed[counts]) @ error[counts] + _TOLERANCE * (1 + size)
        true = np.where(np.isfinite(true) & np.isfinite(bound), true, np.nan)
        claimed = _joined(_evaluated(self.claim, [seed, *arrays]))
        wrong = ~np.isnan(true) & ~(np.abs(claimed - true) <= bound)  # a claim of NaN is wrong
        if not wrong.any():
            return None, true
        if self.unread:
            bound += self._noise(seed, arrays)
            more = claimed
        else:
            more = _joined(_as_floats(self.exact_claim(exact(seed), *map(exact, arrays))))
        wrong &= ~(np.abs(more - true) <= bound)
        return (claimed if wrong.any() else None), true

    def _noise(self, seed: np.ndarray, arrays: Sequence[np.ndarray]) -> np.ndarray:
        """Returns the noise of the claim in float64, as estimated from four points nearby."""
        near = []
        for shift in (-3, -1, 1, 2):
            others = list(arrays)
            for i, p in enumerate(self.places):
                others[p] = arrays[p] * (1 + (shift + i) * 2.0**-40)
            near.append(_joined(_evaluated(self.claim, [seed, *others])))
        return np.nan_to_num(10 * np.ptp(near, axis=0), nan=0.0)

    def _found(
        self, x: Arrays, seed: np.ndarray, claimed: np.ndarray, true: np.ndarray, shapes: Any
    ) -> Found:
        moving = {list(x)[p]: list(x.values())[p].shape for p in self.places}
        outs = dict(zip(numbered("the output", shapes), shapes, strict=True))
        by, along = (moving, outs) if self.reverse else (outs, moving)
        named = {f"{self.what} {name}": shape for name, shape in by.items()}
        return Found(x, _shaped(claimed, named), _shaped(true, named), _shaped(seed, along))


@dataclass
class Values:
    """The question whether a function has the values of a reference."""

    what: str
    fun: Function
    reference: Function
    unread: bool = False

    def __post_init__(self) -> None:
        self.exact = Digits(self.fun), Digits(self.reference)

    def wrong_at(self, x: Arrays, rng: np.random.Generator) -> Found | None:
        """Returns what is wrong at these arguments where the true value is finite, or None."""
        arrays = list(x.values())
        runs = [f.jaxpr(arrays) for f in self.exact]
        shapes = [[a.shape for a in j.out_avals] for j in runs]
        if shapes[0] != shapes[1]:
            return self._found(x, *(_evaluated(f, arrays) for f in (self.fun, self.reference)))
        true = self._exact_where_wrong(arrays)
        if self.unread and not any(map(coarse, runs)):
            true = _evaluated(self.reference, arrays)
        if true is None:
            return None
        claimed = _evaluated(self.fun, arrays)
        wrong = _differ(claimed, true)
        if wrong and self.unread:
            wrong = _differ(claimed, true, self._noise(x, rng))
        return self._found(x, claimed, true) if wrong else None

    def _exact_where_wrong(self, arrays: Sequence[np.ndarray]) -> list[np.ndarray] | None:
        """Returns the true values if the function's differ; None if not, or if ``digits`` fails."""
        if not self.unread:
            try:
                claimed, true = (_as_floats(f(*map(exact, arrays))) for f in self.exact)
                return true if _differ(claimed, true) else None
            except Unread:
                self.unread = True
        return None

    def _noise(self, x: Arrays, rng: np.random.Generator) -> Any:
        places = [i for i, a in enumerate(x.values()) if a.dtype.kind == "f"]
        if not places:
            return 0.0
        arrays = list(x.values())
        direction = rng.normal(size=sum(arrays[p].size for p in places))
        lines = [Floats(f, places) for f in (self.fun, self.reference)]
        return 10 * sum(line.noise(arrays, direction) for line in lines)

    def _found(self, x: Arrays, claimed: list[np.ndarray], true: list[np.ndarray]) -> Found:
        one = dict(zip(numbered(self.what, claimed), claimed, strict=True))
        return Found(x, one, dict(zip(numbered(self.what, true), true, strict=True)))


def _differ(claimed: Sequence[np.ndarray], true: Sequence[np.ndarray], noise: Any = 0.0) -> bool:
    """Returns whether values are not the true ones, where these are finite; NaN never is."""
    values, wanted = _joined(claimed), _joined(true)
    with np.errstate(all="ignore"):
        close = np.abs(values - wanted) <= _TOLERANCE * (1 + np.abs(wanted)) + noise
    return bool((np.isfinite(wanted) & ~close).any())


def _as_floats(arrays: Sequence[np.ndarray]) -> list[np.ndarray]:
    return [np.array([float(v) for v in a.flat]).reshape(a.shape) for a in arrays]


def _joined(arrays: Sequence[np.ndarray]) -> np.ndarray:
    return np.concatenate([np.ravel(a) for a in arrays])


def first_wrong(
    questions: Sequence[Question | Values],
    points: Iterable[Arrays],
    rng: np.random.Generator,
    goes_on: Callable[[], bool],
) -> Found | None:
    """Returns what is wrong at the first point where anything is, or None if nothing is found."""
    with in_float64(), mpmath.workdps(DIGITS):
        for x in points:
            for question in questions:
                if not goes_on():
                    return None
                try:
                    found = question.wrong_at(x, rng)
                except NotTaken:
                    continue
                if found is not None:
                    return found
    return None


def _shaped(vector: np.ndarray, shapes: Mapping[str, tuple[int, ...]]) -> dict[str, np.ndarray]:
    ends = np.cumsum([math.prod(s) for s in shapes.values()])
    parts = np.split(vector, ends[:-1])
    return {name: p.reshape(s) for p, (name, s) in zip(parts, shapes.items(), strict=True)}


def _evaluated(fun: Function, arrays: Sequence[Any]) -> list[np.ndarray]:
    return [np.asarray(o, float) for o in jax.tree.leaves(jax.jit(fun)(*map(jnp.asarray, arrays)))]
