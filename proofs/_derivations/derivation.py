"""Derivations: chains of expressions, each of which is decided to equal the one before.

What a check means. ``Derivation.check`` goes from step to step. A step holds if ``decide`` shows
that it equals the step before, or is less by a slack that it shows not to be negative, for every
number of classes and all real values that meet the stated assumptions. "Could not decide" does not
hold.

Trusted are what SymPy simplifies when an expression is written, how ``decide`` reads it, and the
normal form, as for theorems. Nothing here is about code, rounding, overflow or NaN.
"""

from __future__ import annotations

import time
from dataclasses import dataclass
from typing import Any, Literal

import sympy as sp

from .decide import Assumption, Undecided, equal, least_of, nonnegative
from .terms import Index


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


def definition(expr: sp.Expr) -> Step:
    """Returns the first step of most chains."""
    return Step("definition", expr, "definition")


@dataclass(frozen=True)
class Outcome:
    """The result of one step."""

    step: str
    """Its name."""
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

    @property
    def scope(self) -> str:
        """The sizes and values that the derivation is stated for."""
        sizes = {i.size for step in self.steps for i in step.expr.atoms(Index)}
        names = sorted({str(s) for size in sizes for s in size.free_symbols})
        return f"all {', '.join(names)} ≥ {self.least}" if names else "all reals"

    @property
    def least(self) -> int:
        """The smallest number of classes that it is stated for."""
        return least_of(self.assumptions)

    def check(self) -> tuple[Outcome, ...]:
        """Decides each step. The first is the start of the chain, and holds if it can be read."""
        outcomes, before = [], self.steps[0]
        for step in self.steps:
            start = time.perf_counter()
            reason = self.decide(before, step)
            outcomes.append(Outcome(step.name, reason, time.perf_counter() - start))
            before = step
        return tuple(outcomes)

    def decide(self, before: Step, step: Step) -> str:
        """Why ``step`` does not follow from ``before``, or nothing if it does."""
        facts = self.definitions, self.assumptions
        try:
            slack = sp.Integer(0) if step.slack is None else step.slack
            equal(before.expr, step.expr + slack, *facts)
            if step.relation != "=":
                nonnegative(slack, *facts, strictly=step.relation == ">")
            elif step.slack is not None:
                raise Undecided("an equality has no slack")
        except Undecided as error:
            return f"not decided: {error}"
        return ""


def chain(name: str, title: str, conclusion: str, *steps: Step, **facts: Any) -> Derivation:
    """Returns the derivation of these steps; ``facts`` are its fields that follow the steps."""
    return Derivation(name, title, conclusion, steps, **facts)
