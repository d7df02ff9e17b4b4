"""Evaluates terms at one example, in which sizes are 2 or 3 and arguments are random."""

from __future__ import annotations

import itertools
import math
import zlib
from collections.abc import Mapping
from typing import Any

import numpy as np

from .._normal_form import Atom, Poly, Symbol
from .tensor import Tensor, axes

_FUNCTIONS: dict[str, Any] = {
    "exp": math.exp,
    "sin": math.sin,
    "cos": math.cos,
    "erf": math.erf,
    "atan": math.atan,
    "group": lambda x: x,
    "log": lambda x: math.log(x) if x > 0 else 0.0,
    "sqrt": lambda x: math.sqrt(max(x, 0.0)),
    "recip": lambda x: 1 / x if x else 0.0,
    "zero": lambda x: float(abs(x) < 1e-12),
    "positive": lambda x: float(x > 1e-12),
    "ramp": lambda x: max(x, 0.0),
}
Places = Mapping[Atom, int]


class Example:
    """An example; terms that it cannot evaluate are NaN, and so are equal to no other term."""

    def __init__(self) -> None:
        self.arrays: dict[Symbol, np.ndarray] = {}
        self.known: dict[Any, float] = {}

    def numbers(self, t: Tensor) -> np.ndarray:
        """Returns an array of terms as numbers, with NaN from the first failed evaluation on."""
        shape = tuple(round(self.of(d, {})) for d in t.shape)
        out = np.full(shape, math.nan)
        for place in itertools.product(*map(range, shape)):
            here = zip(axes(t.shape), place, strict=True)
            try:
                out[place] = self.of(t.value, {i: n for i, n in here if isinstance(i, Atom)})
            except (ArithmeticError, IndexError, TypeError, ValueError):
                return out
        return out

    def of(self, p: Poly, at: Places) -> float:
        """Returns the value of a term where its indices have the values in ``at``."""
        return sum(
            float(c) * math.prod(self._atom(a, at) ** float(e) for a, e in m)
            for m, c in p.terms.items()
        )

    def _atom(self, a: Atom, at: Places) -> float:
        if a in at:
            return at[a]
        key = a, tuple((i, at[i]) for i in sorted(a.free & at.keys(), key=lambda i: i.key))
        if key not in self.known:
            self.known[key] = self._new(a, at)
        return self.known[key]

    def _new(self, a: Atom, at: Places) -> float:
        if a.kind == "dim":
            return 2 + zlib.crc32(a.args[0].encode()) % 2
        if a.kind == "entry":
            symbol, places = a.args
            return self._entry(symbol, places, at)
        if a.kind == "delta":
            i, j = (t if isinstance(t, int) else self._atom(t, at) for t in a.args)
            return float(i == j)
        if a.kind in {"pi", "prime"}:
            return math.pi if a.kind == "pi" else a.args[0]
        if a.kind in {"sum", "max"}:
            name, body, *inside = a.args
            rows = [{**at, name: n} for n in range(round(self.of(name.args[1], at)))]
            if a.kind == "sum":
                return sum(self.of(body, row) for row in rows)
            return max((self.of(body, r) for r in rows if self.of(inside[0], r)), default=0.0)
        if a.kind in _FUNCTIONS:
            (p,) = a.args
            return _FUNCTIONS[a.kind](self._atom(p, at) if isinstance(p, Atom) else self.of(p, at))
        return math.nan

    def _entry(self, symbol: Symbol, places: tuple[Atom | int, ...], at: Places) -> float:
        place = [
            t if isinstance(t, int) else round(self._atom(t, at))
            for t in places[: len(places) - len(symbol.mark)]
        ]
        if symbol in self.arrays:
            return self.arrays[symbol][tuple(place)]
        seed = zlib.crc32(repr((symbol.name, place)).encode())
        if symbol.sort == "integer":
            return math.nan
        if symbol.sort in {"boolean", "index"}:
            return seed % (2 if symbol.dim is None else round(self.of(symbol.dim, {})))
        number = np.random.default_rng(seed).uniform(0.2, 0.9)
        return number if seed % 2 or symbol.sort != "real" else -number
