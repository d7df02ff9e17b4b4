"""Defines the language of the derivations: SymPy expressions with our own sums and derivatives.

SymPy's ``Sum`` captures bound variables under ``subs`` and mistakes them under ``diff``
(``tests/test_derivation_rules.py`` has three cases). So the derivations hold their sums in
``Total`` and their derivatives in ``Partial``, which are opaque to SymPy. Each sum is made from a
function of its index, and binds a new index. Nothing is ever substituted for an index: ``decide``
reads an expression together with the terms that its indices stand for.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import sympy as sp
from sympy.core.function import AppliedUndef


class Index(sp.Dummy):
    """An index with the range ``0 <= i < size``; no two are equal, even if their names are."""

    size: sp.Expr

    def __new__(cls, name: str, size: sp.Expr) -> Index:
        """Returns a new index; ``size`` is a positive integer symbol, or ``Blocks``."""
        index = super().__new__(cls, name, integer=True, nonnegative=True)
        index.size = size
        return index


class Blocks(sp.Function):
    """The size S C of S blocks, such as shards, of C items each; item c of block s is s C + c."""

    nargs = 2


class Total(sp.Expr):
    """The sum of ``body`` over ``index``; ``others`` holds the index that is left out, if any.

    ``total`` makes such a sum, and the index that it binds.
    """

    is_commutative = True

    body = property(lambda self: self.args[0])
    index = property(lambda self: self.args[1])
    others = property(lambda self: self.args[2:])

    @property
    def free_symbols(self) -> set[sp.Basic]:
        """The free symbols, without the index that the sum binds."""
        left_out = set().union(*(o.free_symbols for o in self.others))
        return (self.body.free_symbols - {self.index}) | left_out


class Partial(sp.Expr):
    """The unevaluated derivative of ``body`` by ``by``, a symbol or an entry such as z(i)."""

    is_commutative = True

    body = property(lambda self: self.args[0])
    by = property(lambda self: self.args[1])


class Gap(sp.Function):
    """x - 1 - log x, which is at least 0 for x > 0, by the derivation ``log_bound``."""

    nargs = 1


K = sp.Symbol("k", integer=True, positive=True)


def total(f: Callable[[Index], Any], over: sp.Expr = K, letter: str = "j", but=None) -> sp.Expr:
    """Returns ``sum_j f(j)`` over a new index j, without the term at ``but``."""
    index = Index(letter, over)
    return Total(sp.sympify(f(index)), index, *(() if but is None else (but,)))


def family(name: str, **assumptions: bool) -> Any:
    """Returns a function such as z, whose values z(i) are indexed numbers; real by default."""
    return sp.Function(name, **(assumptions or {"real": True}))


def label_family(name: str) -> Any:
    """Returns a function such as y, whose values y(n) are labels; each is one of k classes."""
    made = sp.Function(name, integer=True, nonnegative=True)
    made.size = K
    return made


def size_of(index: sp.Expr) -> sp.Expr | None:
    """Returns the number of values of an index, or None if it is not declared."""
    if isinstance(index, Index):
        return index.size
    return getattr(index.func, "size", None) if isinstance(index, AppliedUndef) else None


def delta(i: sp.Expr, j: sp.Expr) -> sp.Expr:
    """Returns the Kronecker delta: 1 where i = j, else 0."""
    return sp.KroneckerDelta(i, j)


def written(*factors: sp.Expr) -> sp.Expr:
    """Returns a product as it is written; SymPy does not cancel factors that readers should see."""
    return sp.Mul(*factors, evaluate=False)
