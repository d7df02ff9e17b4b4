"""Derivations: chains of expressions, each of which is decided to equal the one before.

What a check means. ``Derivation.check`` goes from step to step. A step holds if

1. ``decide`` shows that it equals the step before, or is less by a slack that it shows
   not to be negative, for every number of classes and all real values that meet the
   stated assumptions ("could not decide" does not hold), and
2. both have the same value, to 18 digits, at random numbers for 1, 2, 3 and 5 classes,
   where sums are added up and derivatives are differences (``numbers``).

Trusted are the rules listed in ``decide``, SymPy's algebra of rational functions over
plain symbols, and its derivatives of exp, log, tanh and cosh. Nothing here is about
code, rounding, overflow or NaN.
"""

from __future__ import annotations

import time
from dataclasses import dataclass, field
from typing import Literal

import mpmath as mp
import sympy as sp

from .decide import Context, Undecided, equal, nonnegative
from .numbers import DIGITS, TOLERANCE, Sample
from .terms import Index, Total, subterms

SIZES = (1, 2, 3, 5)


@dataclass(frozen=True)
class Assumption:
    """An assumption of a derivation."""

    text: str
    equation: tuple[Total, sp.Expr] | None = None
    """A sum and its value."""
    positive: tuple[Total, ...] = ()
    """With at least two classes: sums of positive terms over the other classes."""
    same: tuple[sp.Expr, sp.Expr] | None = None
    distinct: tuple[sp.Expr, sp.Expr] | None = None

    parameter: tuple[sp.Expr, sp.Expr] | None = None
    """A symbol and what runs through its values."""

    @property
    def least(self) -> int:
        """The smallest number of classes for which it can hold."""
        return 2 if self.positive or self.distinct else 1


@dataclass(frozen=True)
class Step:
    """One expression of a chain, and why it equals the one before."""

    name: str
    expr: sp.Expr
    why: str
    place: str = ""
    """Where it stands in the seed or another source."""
    relation: Literal["=", "≥", ">"] = "="
    """How the expression before stands to this one."""
    slack: sp.Expr | None = None
    """What it exceeds this one by."""


@dataclass(frozen=True)
class Outcome:
    """The result of one step."""

    step: Step
    reason: str
    """Why it does not hold; empty if it does."""
    seconds: float

    @property
    def holds(self) -> bool:
        """Whether the step was decided."""
        return not self.reason


@dataclass(frozen=True)
class Derivation:
    """A chain from a textbook definition to a closed form."""

    name: str
    title: str
    conclusion: str
    steps: tuple[Step, ...]
    definitions: tuple[tuple[sp.Expr, sp.Expr], ...] = ()
    assumptions: tuple[Assumption, ...] = ()
    source: str = ""
    about: str = ""
    sizes: dict[sp.Expr, int] = field(default_factory=dict)
    """Sizes for the guard of dimensions other than k."""

    @property
    def scope(self) -> str:
        """The sizes and values that the derivation is stated for."""
        terms = set().union(*(subterms(s.expr) for s in self.steps))
        sizes = {t.size for t in terms if isinstance(t, Index)}
        sizes |= {t.index.size for t in terms if isinstance(t, Total)}
        names = sorted({str(s) for size in sizes for s in size.free_symbols})
        return f"all {', '.join(names)} ≥ {self.least}" if names else "all reals"

    @property
    def least(self) -> int:
        """The smallest number of classes that it is stated for."""
        return max((a.least for a in self.assumptions), default=1)

    def context(self) -> Context:
        """The facts that its decisions may use."""
        given = self.assumptions
        return Context(
            definitions=self.definitions,
            equations=tuple(a.equation for a in given if a.equation),
            positive=tuple(e for a in given for e in a.positive),
            same=tuple(a.same for a in given if a.same),
            distinct=tuple(a.distinct for a in given if a.distinct),
            parameters=tuple(a.parameter for a in given if a.parameter),
        )

    def check(self) -> tuple[Outcome, ...]:
        """Decides each step. The first is the start of the chain, and holds if it can be read."""
        outcomes, before = [], self.steps[0]
        for step in self.steps:
            start = time.perf_counter()
            reason = self.decide(before, step) or self.guard(before, step)
            outcomes.append(Outcome(step, reason, time.perf_counter() - start))
            before = step
        return tuple(outcomes)

    def decide(self, before: Step, step: Step) -> str:
        """Why ``step`` does not follow from ``before``, or nothing if it does."""
        try:
            context = self.context().prepared()
            slack = sp.Integer(0) if step.slack is None else step.slack
            equal(before.expr, step.expr + slack, context)
            if step.relation != "=":
                nonnegative(slack, context, strictly=step.relation == ">")
            elif step.slack is not None:
                raise Undecided("an equality has no slack")
        except Undecided as error:
            return f"not decided: {error}"
        return ""

    def guard(self, before: Step, step: Step) -> str:
        """At which numbers the two differ, or nothing."""
        with mp.workdps(DIGITS):
            for k in (k for k in SIZES if k >= self.least):
                a, b = (self.value(s.expr, k) for s in (before, step))
                if not _related(a, b, step.relation):
                    return f"for {k} classes the numbers are {mp.nstr(a)} and {mp.nstr(b)}"
        return ""

    def value(self, e: sp.Expr, k: int) -> mp.mpf:
        """``e`` at this derivation's random numbers for k classes."""
        sizes = {sp.Symbol("k", integer=True, positive=True): k, **self.sizes}
        return Sample(sizes, self.context(), (self.name, k)).value(e)


def _related(a: mp.mpf, b: mp.mpf, relation: str) -> bool:
    if relation == "=":
        return bool(abs(a - b) <= TOLERANCE * (1 + abs(a) + abs(b)))
    return bool(a > b - TOLERANCE)
