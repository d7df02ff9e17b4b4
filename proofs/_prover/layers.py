"""Proves a long program layer by layer, with a name for each product of arrays in it.

A name is the symbol of an array of any numbers, and its meaning is a term of earlier names.
Derivatives follow the chain rule through the names, and the cotangent of each name has a name too.
An array that a backward pass computes gets an old name if the two have the same numbers at an
example and are shown to be equal. So a term is expanded only as far back as the layer before it.
"""

from __future__ import annotations

import contextlib
import itertools
from collections.abc import Sequence
from contextvars import ContextVar
from dataclasses import dataclass, field, replace

import numpy as np

from .._normal_form import (
    ZERO,
    Atom,
    Poly,
    Refused,
    Symbol,
    entry,
    substitute,
    together,
    usual,
    vanishes,
)
from .._normal_form.state import during
from .example import Example
from .linear import pull
from .tensor import Tensor, axes, axis

_MOST_TERMS, _MOST_STEPS = 400, 12


@dataclass
class Layers:
    """The names of one proof, in the order in which they were made, and their meanings."""

    meanings: dict[Symbol, Tensor] = field(default_factory=dict)
    arrays: dict[tuple[tuple[Poly, ...], Poly], Tensor] = field(default_factory=dict)
    example: Example = field(default_factory=Example)

    def name(self, t: Tensor) -> Tensor:
        """Returns the name of an array, which is an old name if an equal array has one.

        Returns the array itself if it is 0 or a single entry already.
        """
        term = t.value.single()
        if not t.value.terms or (
            term and len(term[0]) == 1 and all(a.kind == "entry" for a, _ in term[0])
        ):
            return t
        key = t.shape, t.value
        if key not in self.arrays:
            numbers = self.example.numbers(t)
            self.arrays[key] = self._equal_one(t, numbers) or self._new(t, numbers)
        return replace(self.arrays[key], dtype=t.dtype)

    def _equal_one(self, t: Tensor, numbers: np.ndarray) -> Tensor | None:
        """Returns the name of an equal array, whose axes may be in another order, or None."""
        for symbol, other in reversed(self.meanings.items()):
            there, close = self.example.arrays[symbol], 1e-9 * np.abs(numbers).max(initial=1e-300)
            for order in itertools.permutations(range(len(other.shape))):
                if tuple(other.shape[i] for i in order) != t.shape:
                    continue
                if np.allclose(numbers, there.transpose(order), 1e-9, close):
                    turned = _turned(other, order)
                    if self.equal(t.value, turned.value):
                        return _turned(self.arrays[other.shape, other.value], order)
        return None

    def _new(self, t: Tensor, numbers: np.ndarray) -> Tensor:
        def meaning(places: Sequence[Atom | int]) -> Poly:
            return t.placed(dict(enumerate(places))).value

        symbol = Symbol(f"layer {len(self.meanings)}", "real", meaning=meaning)
        self.meanings[symbol] = t
        self.example.arrays[symbol] = numbers
        return replace(t, value=entry(symbol, *axes(t.shape), *symbol.mark))

    def equal(self, p: Poly, q: Poly) -> bool:
        """Returns whether two terms are shown to be equal, if need be with names expanded.

        A name is replaced by its meaning. The latest of the names that only one term has comes
        first, or the latest of all names if both terms have the same ones.
        """
        for _ in range(_MOST_STEPS):
            residual = usual(p - q)
            if not residual.terms or not together(residual)[0].terms:
                return True
            here, there = _names(p), _names(q)
            if here == there and vanishes(residual):
                return True
            unlike = (here ^ there) or here
            last = [symbol for symbol in reversed(self.meanings) if symbol in unlike][:1]
            if not last or len(residual.terms) > _MOST_TERMS:
                return vanishes(residual)
            p, q = (substitute(x, {last[0].mark[0]: ZERO}) for x in (p, q))
        return False


def _names(p: Poly) -> set[Symbol]:
    return {a.args[0] for a in p.inside() if a.kind == "entry" and a.args[0].mark}


def _turned(t: Tensor, order: Sequence[int]) -> Tensor:
    """Returns an array with its axes in another order."""
    shape = tuple(t.shape[i] for i in order)
    moved = t.placed({i: axis(n, shape[n]) for n, i in enumerate(order)})
    return replace(moved, shape=shape)


_layers: ContextVar[Layers | None] = ContextVar("layers", default=None)


def by_layers() -> contextlib.AbstractContextManager[None]:
    """Gives names to products of arrays inside the context."""
    return during(_layers, Layers())


unnamed = during(_layers, None)
"""A context without names for loops, in which terms depend on the iteration and the carries."""


def named(primitive: str, t: Tensor) -> Tensor:
    """Returns the output of a primitive as a name, or unchanged if it is not to have one."""
    layers = _layers.get()
    if layers is None or not t.finite or not np.issubdtype(t.dtype, np.floating):
        return t
    marks = {mark for symbol in layers.meanings for mark in symbol.mark}
    if t.value.free() - marks - set(axes(t.shape)):
        return t
    plain = all(_plain(a) for a in t.value.atoms()) and _names(t.value)
    if primitive in _ALWAYS or (primitive in _OF_NAMES and plain):
        return layers.name(t)
    return t


_ALWAYS = {"dot_general", "tanh", "logistic", "erf", "erfc"}
_OF_NAMES = {"add", "add_any", "sub", "mul"}


def _plain(a: Atom) -> bool:
    """Returns whether an atom is an entry, a size, or a sum of products of these."""
    return a.kind in {"entry", "dim"} or (a.kind == "sum" and all(map(_plain, a.args[1].atoms())))


def without_names(what: str) -> None:
    """Refuses, inside ``by_layers``, claims that do not use the chain rule through names."""
    if _layers.get() is not None:
        raise Refused(f"{what} layer by layer")


def equal(p: Poly, q: Poly) -> bool:
    """Returns whether two terms are shown to be equal, by names or by the meanings of names."""
    layers = _layers.get()
    return vanishes(usual(p - q)) if layers is None else layers.equal(p, q)


def through(
    outs: Sequence[Tensor], cotangents: Sequence[Tensor]
) -> tuple[list[Tensor], list[Tensor]]:
    """Returns outputs and cotangents, followed by those of the names that the outputs depend on."""
    outs, cotangents = list(outs), list(cotangents)
    layers = _layers.get()
    for symbol, t in reversed(list(layers.meanings.items())) if layers else ():
        cotangent = pull(outs, cotangents, symbol, t)
        if layers and cotangent.value.terms:
            outs.append(t)
            cotangents.append(layers.name(cotangent))
    return outs, cotangents
