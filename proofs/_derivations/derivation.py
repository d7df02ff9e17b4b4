"""Defines derivations: chains of expressions, each of which is decided to equal the one before.

``Derivation.check`` decides step by step. A step holds if ``decide`` shows that it equals the step
before, or that it is less by a slack, which is shown not to be negative. This is shown for every
number of classes and all real values that meet the stated assumptions. A step that could not be
decided does not hold.

A check trusts SymPy's simplifications when an expression is written, the way in which ``decide``
reads it, and the normal form, as theorems do. It says nothing of code, rounding, overflow or NaN.
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
    """One expression of a chain, and why it follows from the one before."""

    name: str
    expr: sp.Expr
    why: str
    place: str = ""
    """The heading in the tutorial of ``seed.py`` under which the expression stands, if any."""
    relation: Literal["=", "≥", ">"] = "="
    """The relation between the expression of the step before and this one."""
    slack: sp.Expr | None = None
    """In an inequality, the expression of the step before minus this one."""


def definition(expr: sp.Expr) -> Step:
    """Returns the step with which most chains begin."""
    return Step("definition", expr, "definition")


@dataclass(frozen=True)
class Outcome:
    """The result of one step."""

    step: str
    """The name of the step."""
    reason: str
    """The reason that the step does not hold, or an empty string if it holds."""
    seconds: float

    @property
    def holds(self) -> bool:
        """Whether the step was shown to hold."""
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
        """The smallest number of classes that the derivation is stated for."""
        return least_of(self.assumptions)

    def check(self) -> tuple[Outcome, ...]:
        """Returns the outcome of each step; the first step holds if its expression can be read."""
        outcomes, before = [], self.steps[0]
        for step in self.steps:
            start = time.perf_counter()
            reason = self.decide(before, step)
            outcomes.append(Outcome(step.name, reason, time.perf_counter() - start))
            before = step
        return tuple(outcomes)

    def decide(self, before: Step, step: Step) -> str:
        """Returns why ``step`` does not follow from ``before``, or an empty string if it does."""
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
    """Returns a derivation with these steps; ``facts`` are its remaining fields."""
    return Derivation(name, title, conclusion, steps, **facts)
