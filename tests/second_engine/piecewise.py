"""Represents values that depend on signs by decision diagrams of numbers, booleans and ints.

Each node asks for the sign of one polynomial, and its three branches hold where the polynomial
is below, at and above zero. Nodes on every path have the same order, a node whose branches agree
is dropped, and a branch that contradicts the path above it is never taken. Guards, maxima and
ties that do not matter therefore vanish as soon as they are combined.
"""

import contextlib
import functools
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
from xent_jax.proofs._refutation.entries import Undecided

from .exact import Field
from .floats import Floats, root
from .poly import Poly
from .rationals import Number

Path = tuple[tuple[int, int], ...]  # (question, its sign)
_IMPOSSIBLE = object()
_SIGNS = (-1, 0, 1)
_LIMIT = 12  # questions on one path
_SAMPLES = 32  # points at which paths are tried in floats


@dataclass(frozen=True)
class Node:
    """A question, and the values where its polynomial is below, at and above zero."""

    question: int
    branches: tuple[Any, Any, Any]

    @functools.cached_property
    def _hash(self) -> int:
        return hash((self.question, self.branches))

    def __hash__(self) -> int:
        return self._hash


class Pieces:
    """The questions asked about one field's polynomials, and operations on diagrams."""

    def __init__(self, field: Field):
        self.field = field
        self.questions: list[Poly] = []
        self._numbers: dict[Poly, int] = {}
        self._possible: dict[tuple[Path, int, int], bool] = {}
        self._alike: dict[tuple[int, Any, Any], bool] = {}
        self._samples = [Floats(field, sample=i) for i in range(_SAMPLES)]
        self._sampled: dict[int, np.ndarray] = {}
        self._roots: dict[int, Floats | None] = {}
        self._applied: dict[tuple[Any, ...], Any] = {}

    # ------------------------------------------------------------------ operations

    def apply(self, operation: Callable[..., Any], *values: Any) -> Any:
        """Applies an operation on leaves, which may return a diagram, to diagrams."""
        key = (operation, values, tuple(map(_leaf_type, values)))
        if key not in self._applied:
            self._applied[key] = self._apply(operation, values, ())
        return self._applied[key]

    def _apply(self, operation, values, path: Path) -> Any:
        questions = [v.question for v in values if isinstance(v, Node)]
        if not questions:
            out = self.apply(operation, *values) if path else operation(*values)
            return self._within(out, path) if isinstance(out, Node) else out
        question = min(questions)
        return self._ask(
            question,
            path,
            lambda sign, below: self._apply(
                operation, tuple(_branch(v, question, sign) for v in values), below
            ),
        )

    def _within(self, value: Any, path: Path) -> Any:
        """Returns a diagram without the branches that a path excludes."""
        if not isinstance(value, Node) or not path:
            return value
        branches = value.branches
        return self._ask(
            value.question, path, lambda sign, below: self._within(branches[sign + 1], below)
        )

    def _ask(self, question: int, path: Path, below: Callable[[int, Path], Any]) -> Any:
        known = dict(path)
        if question in known:
            return below(known[question], path)
        if len(path) >= _LIMIT:
            raise Undecided(f"more than {_LIMIT} guards on one path")
        branches = [
            below(sign, (*path, (question, sign)))
            if self.possible(path, question, sign)
            else _IMPOSSIBLE
            for sign in _SIGNS
        ]
        return self._join(question, branches, path)

    def _join(self, question: int, branches: list[Any], path: Path) -> Any:
        below, at, above = branches
        for side in (above, below):
            if at is not _IMPOSSIBLE and side is not _IMPOSSIBLE and at != side:
                if self._alike_at(question, at, side):
                    at = side
                    break
        met = [b for b in (at, above, below) if b is not _IMPOSSIBLE]
        if not met:
            return _IMPOSSIBLE
        below, at, above = (met[0] if b is _IMPOSSIBLE else b for b in (below, at, above))
        if below == at == above:
            return at
        parts = (below, at, above)
        if all(not isinstance(b, Node) or b.question > question for b in parts):
            return Node(question, parts)
        choice = Node(question, _SIGNS)
        return self._apply(lambda sign, *parts: parts[sign + 1], (choice, *parts), path)

    def _alike_at(self, question: int, at: Any, side: Any) -> bool:
        """Returns whether two diagrams agree wherever the question's polynomial is zero."""
        key = (question, at, side)
        if key not in self._alike:
            self._alike[key] = self._compare_at(question, at, side)
        return self._alike[key]

    def _compare_at(self, question: int, at: Any, side: Any) -> bool:
        nodes = [v.question for v in (at, side) if isinstance(v, Node)]
        if nodes:
            first = min(nodes)
            return all(
                self._alike_at(question, _branch(at, first, s), _branch(side, first, s))
                for s in _SIGNS
            )
        if isinstance(at, Number) and isinstance(side, Number):
            difference = self.field.subtract(at, side)
            if self._clearly_nonzero_at(question, difference):
                return False
            return self.zero_on(difference, ((question, 0),))
        return type(at) is type(side) and at == side

    def _clearly_nonzero_at(self, question: int, x: Number) -> bool:
        """Returns whether floats show that x is not zero at a root of the question's polynomial.

        This only saves the time that ``zero_on`` would take; no proof depends on it.
        """
        if question not in self._roots:
            self._roots[question] = root(self.field, self.questions[question])
        floats = self._roots[question]
        try:
            return floats is not None and floats.clearly_nonzero(x)
        except (ArithmeticError, ValueError):  # overflow, log of 0
            return False

    # ------------------------------------------------------------------ signs and paths

    def sign(self, x: Number) -> Any:
        """Returns the sign of x: -1, 0 or 1, or a diagram of these."""
        if x.zero:
            return 0
        sign, unknown = self.field.sign_factors(x)
        out: Any = sign
        for factor, power in unknown:
            branches = _SIGNS if power % 2 else (1, 0, 1)
            node = Node(self._question(factor), branches)
            out = self.apply(lambda a, b: a * b, out, self._within_nothing(node))
        return out

    def _within_nothing(self, node: Node) -> Any:
        return self._ask(node.question, (), lambda sign, _: node.branches[sign + 1])

    def _question(self, factor: Poly) -> int:
        if factor not in self._numbers:
            self._numbers[factor] = len(self.questions)
            self.questions.append(factor)
        return self._numbers[factor]

    def possible(self, path: Path, question: int, sign: int) -> bool:
        """Returns False only if a question cannot have this sign on this path.

        A sum of its inequality and up to two of the path's inequalities is then a contradiction.
        """
        key = (path, question, sign)
        if key not in self._possible:
            met = self._met((*path, (question, sign)))
            self._possible[key] = met or not self._absurd(path, question, sign)
        return self._possible[key]

    def _met(self, path: Path) -> bool:
        """Returns whether a sample is on the path, so that no proof of absurdity exists."""
        return bool(np.all([self._signs(q) == s for q, s in path], axis=0).any())

    def _signs(self, question: int) -> np.ndarray:
        """Returns the sign of a question's polynomial at each sample, or 2 if evaluation fails."""
        if question not in self._sampled:
            signs = np.full(len(self._samples), 2)
            for i, floats in enumerate(self._samples):
                with contextlib.suppress(ArithmeticError, ValueError):  # overflow, log of 0
                    signs[i] = floats.sign(self.questions[question])
            self._sampled[question] = signs
        return self._sampled[question]

    def _absurd(self, path: Path, question: int, sign: int) -> bool:
        known = [form for q, s in path for form in self._forms(q, s)]
        for poly, strict in self._forms(question, sign):
            sums = [(poly, strict)]
            sums += [(poly + p, strict or s) for p, s in known]
            for i, (p, s) in enumerate(known):
                sums += [(poly + p + r, strict or s or t) for r, t in known[i + 1 :]]
            if any(self._negative(total, strict) for total, strict in sums):
                return True
        return False

    def _forms(self, question: int, sign: int) -> list[tuple[Poly, bool]]:
        """Returns (polynomial, strict) pairs: each is at least zero, or above zero if strict."""
        x = self.questions[question]
        return [(x, False), (-x, False)] if sign == 0 else [(x if sign > 0 else -x, True)]

    def _negative(self, x: Poly, strict: bool) -> bool:
        return self.field.polynomial_sign(x) == -1 or (strict and not x)

    # ------------------------------------------------------------------ deciding

    def paths(self, value: Any, path: Path = ()) -> Iterator[tuple[Path, Any]]:
        """Yields (path, leaf) for each leaf; the path has the signs under which the leaf holds."""
        if not isinstance(value, Node):
            yield path, value
            return
        for sign in _SIGNS:
            if self.possible(path, value.question, sign):
                step = (*path, (value.question, sign))
                yield from self.paths(value.branches[sign + 1], step)

    def zero_on(self, x: Number, path: Path) -> bool:
        """Returns whether x is found to be zero wherever the path's equalities hold."""
        equalities = [self.questions[q] for q, sign in path if sign == 0]
        implied = [f for e in equalities for f in self.field.logarithms.get(e, ())]
        for here in (x, *(self.field.modulo(x, e) for e in equalities)):
            if here.zero or any(self.field.divides(f, here) for f in (*equalities, *implied)):
                return True
        for i, factor in enumerate(equalities):
            relation = self.field.relation(factor)
            if relation is None:
                continue
            x = self.field.replaced(x, *relation)
            if x.zero:
                return True
            rest = [self.field.replaced(Number(f), *relation) for f in equalities[i + 1 :]]
            equalities[i + 1 :] = [f.numerator for f in rest]
            if any(f.numerator and self.field.divides(f.numerator, x) for f in rest):
                return True
        return False


def _leaf_type(value: Any) -> type:
    """Returns the type of a diagram's first leaf, so that keys of a cache tell True from 1."""
    while isinstance(value, Node):
        value = value.branches[0]
    return type(value)


def _branch(value: Any, question: int, sign: int) -> Any:
    if isinstance(value, Node) and value.question == question:
        return value.branches[sign + 1]
    return value
