"""Lists everything that is proved: derivations, and theorems about the shipped code."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Literal

from ._derivations import cross_entropy as _cross_entropy
from ._derivations import divergence as _divergence
from ._derivations import focal as _focal
from ._derivations import information as _information
from ._derivations import lemmas as _lemmas
from ._derivations import linear_head as _linear_head
from ._derivations import poly as _poly
from ._derivations import seed as _seed
from ._derivations import shards as _shards
from ._derivations import sigmoid as _sigmoid
from ._derivations import softcap as _softcap
from ._derivations import softmax as _softmax
from ._derivations.derivation import Derivation
from ._theorems.shipped import THEOREMS
from ._theorems.theorem import Theorem

Engine = Literal["derivation", "all sizes"]

CHAPTERS: tuple[tuple[str, tuple[Derivation, ...]], ...] = (
    ("The tutorial's derivation", _seed.DERIVATIONS),
    ("Softmax and log-sum-exp", _softmax.DERIVATIONS),
    ("Softmax cross-entropy", _cross_entropy.DERIVATIONS),
    ("Focal loss over classes", _focal.DERIVATIONS),
    ("Poly loss", _poly.DERIVATIONS),
    ("Binary losses", _sigmoid.DERIVATIONS),
    ("Entropy and divergence", _information.DERIVATIONS),
    ("Divergence of logits", _divergence.DERIVATIONS),
    ("Soft cap", _softcap.DERIVATIONS),
    ("The linear head", _linear_head.DERIVATIONS),
    ("Classes in shards", _shards.DERIVATIONS),
    ("Lemmas of the fast code", _lemmas.DERIVATIONS),
)

DERIVATIONS = {d.name: d for _, chapter in CHAPTERS for d in chapter}


@dataclass(frozen=True)
class Answer:
    """The result of checking a claim."""

    holds: bool
    reason: str
    assumptions: tuple[str, ...]
    seconds: float
    detail: Any = None
    """The outcomes of a derivation's steps, or a theorem's verdict."""


@dataclass(frozen=True)
class Claim:
    """A derivation or a theorem, which is one row of the command's table."""

    name: str
    group: str
    statement: str
    sizes: str
    engine: Engine
    subject: Any
    run: Callable[[], Answer]


def claims() -> list[Claim]:
    """Returns all claims: the derivations, chapter by chapter, and then the theorems."""
    derived = [_derived(group, d) for group, chapter in CHAPTERS for d in chapter]
    return derived + [_proved(t) for t in THEOREMS]


def proof_of(name: str) -> Claim:
    """Returns the claim of this name, or the theorem about the gradient of this function."""
    return next(c for c in claims() if c.name == name or c.group == name and ": gradient" in c.name)


def _derived(group: str, d: Derivation) -> Claim:
    def run() -> Answer:
        outcomes = d.check()
        failed = [o for o in outcomes if not o.holds]
        reason = "; ".join(f"step “{o.step}”: {o.reason}" for o in failed)
        seconds = sum(o.seconds for o in outcomes)
        return Answer(not failed, reason, tuple(a.text for a in d.assumptions), seconds, outcomes)

    return Claim(d.name, group, d.conclusion, d.scope, "derivation", d, run)


def _proved(theorem: Theorem) -> Claim:
    least = theorem.build.least
    dims = sorted({d for spec in theorem.build.args.values() for d in spec.dims}, reverse=True)
    sizes = "all " + ", ".join(f"{d} ≥ {least.get(d, 1)}" for d in dims)

    def run() -> Answer:
        v = theorem.prove()
        reason = "" if v.proved else f"{v.status}: {v.reason}"
        return Answer(v.proved, reason, tuple(v.assumptions), v.seconds, v)

    name, group, statement = theorem.name, theorem.function, theorem.statement
    return Claim(name, group, statement, sizes, "all sizes", theorem, run)
