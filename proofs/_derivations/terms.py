"""The language of the derivations: SymPy expressions with sums and derivatives of our own.

SymPy's ``Sum`` captures bound variables under ``subs`` and mistakes them under ``diff``
(three cases stand in ``tests/test_derivation_rules.py``). So the derivations hold their sums
in ``Total`` and their derivatives in ``Partial``: to SymPy both are opaque. A sum is made
from a function of its index, with a binder that nothing else has, and nothing is ever put in for
an index: ``decide`` reads an expression with the places that its indices stand for.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import sympy as sp
from sympy.core.function import AppliedUndef


class Index(sp.Dummy):
    """An index with its range, ``0 <= i < size``; two are never the same, whatever their names."""

    size: sp.Expr

    def __new__(cls, name: str, size: sp.Expr) -> Index:
        """``size`` is a positive integer symbol, or ``Blocks``."""
        index = super().__new__(cls, name, integer=True, nonnegative=True)
        index.size = size
        return index


class Blocks(sp.Function):
    """S C classes in S shards of C: class c of shard s has the number s C + c."""

    nargs = 2


class Total(sp.Expr):
    """Sum of ``body`` over ``index``; ``others`` holds an index that is left out, or none.

    ``total`` makes one, with its binder.
    """

    is_commutative = True

    body = property(lambda self: self.args[0])
    index = property(lambda self: self.args[1])
    others = property(lambda self: self.args[2:])

    @property
    def free_symbols(self) -> set[sp.Basic]:
        """Returns the free symbols, without the binder."""
        left_out = set().union(*(o.free_symbols for o in self.others))
        return (self.body.free_symbols - {self.index}) | left_out


class Partial(sp.Expr):
    """The derivative of ``body`` by ``by``, an entry such as z(i) or a symbol, not carried out."""

    is_commutative = True

    body = property(lambda self: self.args[0])
    by = property(lambda self: self.args[1])


class Gap(sp.Function):
    """x - 1 - log x, which is at least 0 for x > 0, by the derivation ``log_bound``."""

    nargs = 1


K = sp.Symbol("k", integer=True, positive=True)


def total(f: Callable[[Index], Any], over: sp.Expr = K, letter: str = "j", but=None) -> sp.Expr:
    """``sum_j f(j)`` over a fresh index, without the term at ``but``."""
    index = Index(letter, over)
    return Total(sp.sympify(f(index)), index, *(() if but is None else (but,)))


def family(name: str, **assumptions: bool) -> Any:
    """Makes the name of indexed numbers, such as z of z(i); real unless told more."""
    return sp.Function(name, **(assumptions or {"real": True}))


def label_family(name: str) -> Any:
    """Makes the name of indexed labels, such as y of y(n); each label is one of k classes."""
    made = sp.Function(name, integer=True, nonnegative=True)
    made.size = K
    return made


def size_of(index: sp.Expr) -> sp.Expr | None:
    """Returns the number of values of an index, or None if it is not declared."""
    if isinstance(index, Index):
        return index.size
    return getattr(index.func, "size", None) if isinstance(index, AppliedUndef) else None


def delta(i: sp.Expr, j: sp.Expr) -> sp.Expr:
    """1 where i = j, else 0."""
    return sp.KroneckerDelta(i, j)


def written(*factors: sp.Expr) -> sp.Expr:
    """Returns a product as it is written, before SymPy cancels, for people to read."""
    return sp.Mul(*factors, evaluate=False)
