"""Draws arguments of several sizes and kinds, at which a claim is tried.

Their numbers have few digits, so that they are easy to paste and exact in float32.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterator, Mapping

import numpy as np

from .._prover.spec import Spec, size_of

Arrays = dict[str, np.ndarray]
_KINDS = ("normal", "ties", "dominated", "zeros", "all zero")
_ALL_ORDERS = 4  # the largest number of rows, here with 24 permutations, to try all of them
_PARTS = 64  # the numbers are multiples of 1/64


def samples(
    specs: Mapping[str, Spec], rng: np.random.Generator, least: Mapping[str, int] | None = None
) -> Iterator[Arrays]:
    """Yields arguments of several sizes and kinds, with all permutations if these are few."""
    names = sorted({d for s in specs.values() for d in s.names})
    for sizes in _sizes(names, least or {}):
        orders, (normal, *others) = _orders(specs, sizes, rng), _KINDS
        kinds = [normal] * len(orders) + others
        for kind, order in zip(kinds, itertools.cycle(orders), strict=False):
            yield draw(specs, sizes, kind, rng) | order


def _orders(
    specs: Mapping[str, Spec], sizes: Mapping[str, int], rng: np.random.Generator
) -> list[Arrays]:
    """Returns the values to try for those arguments that are permutations.

    Few rows get all permutations. Many get the identity, the reversal and some random ones.
    """
    choices = []
    for spec in (spec for spec in specs.values() if spec.permutes):
        rows = np.arange(size_of(spec.dims[0], sizes), dtype=spec.dtype)
        few = len(rows) <= _ALL_ORDERS
        drawn = [rows, rows[::-1], *(rng.permutation(rows) for _ in _KINDS)]
        choices.append(list(map(np.array, itertools.permutations(rows))) if few else drawn)
    names = [name for name, spec in specs.items() if spec.permutes]
    return [dict(zip(names, order, strict=True)) for order in itertools.product(*choices)]


def _sizes(names: list[str], least: Mapping[str, int]) -> Iterator[dict[str, int]]:
    """Yields sizes by name: all equal, all different, and some of them 1."""
    seen = []
    for pattern in ((1,), (2,), (2, 3, 4), (1, 3), (3, 1), (3,)):
        pairs = zip(names, itertools.cycle(pattern), strict=False)
        sizes = {d: max(n, least.get(d, 1)) for d, n in pairs}
        if sizes not in seen:
            seen.append(sizes)
            yield sizes


def draw(
    specs: Mapping[str, Spec], sizes: Mapping[str, int], kind: str, rng: np.random.Generator
) -> Arrays:
    """Returns a random value for each argument, by name."""
    drawn: Arrays = {}
    for name, spec in specs.items():
        shape = tuple(size_of(d, sizes) for d in spec.dims)
        if spec.permutes:
            drawn[name] = rng.permutation(*shape).astype(spec.dtype)
        elif spec.classes is not None:
            y = rng.integers(0, size_of(spec.classes, sizes), shape)
            if spec.ignore is not None:
                y = np.where(rng.random(shape) < 0.3, spec.ignore, y)
            drawn[name] = y.astype(np.int32)
        elif spec.sort == "boolean":
            mask = rng.random(shape) < 0.6
            if spec.keeps is not None:
                y = drawn[spec.keeps]
                mask |= np.arange(shape[-1]) == y[..., None]
            drawn[name] = mask
        elif spec.sort == "integer":
            drawn[name] = rng.integers(-3, 4, shape).astype(spec.dtype)
        else:
            drawn[name] = _reals(spec, shape, kind, rng)
    return drawn


def _reals(spec: Spec, shape: tuple[int, ...], kind: str, rng: np.random.Generator) -> np.ndarray:
    x = rng.normal(size=shape)
    if kind == "ties":
        x = np.round(x)
    if kind == "dominated":
        x = 8 * x
    if spec.sort == "unit":
        return short(1 / (1 + np.exp(-np.clip(x, -4, 4))))
    if spec.sort == "positive":
        return short(np.exp(np.clip(x, -2, 4)))
    if kind == "zeros":
        x = x * (rng.random(shape) < 0.4)
    if kind == "all zero":
        x = np.zeros(shape)
    return short(np.abs(x) if spec.sort == "nonnegative" else x)


def short(x: np.ndarray) -> np.ndarray:
    """Rounds to a multiple of 1/64, and removes the sign of zeros."""
    return np.asarray(np.round(x * _PARTS) / _PARTS + 0.0)
