"""Gives the prover wrong backward passes, made by machine, that it must not prove.

Every backward pass of the library is traced at symbolic sizes and changed in one place
(``mutate``). Each mutant runs in float64 beside the original, and is given to the prover. No mutant
whose numbers differ may be proved.

A proof is about real numbers. If a mutant is proved although its float64 numbers differ, that is no
mistake of the prover if only rounding and overflow make the difference: both must give the same
numbers when they run with 300 digits and unbounded exponents.
"""

from __future__ import annotations

import collections
import dataclasses
import random
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

from jax.extend import core
from xent_jax.proofs._prover.verdict import Status, Verdict
from xent_jax.proofs._theorems.shipped import THEOREMS
from xent_jax.proofs._theorems.theorem import Theorem

from .mutate import Mutant, mutants
from .numbers import Backward, Numbers, Numerics
from .traced import prove_backward

Prover = Callable[[Backward, core.ClosedJaxpr], Verdict]
SEED = 20240229
COUNT = 1000
SHIPPED = tuple(t for t in THEOREMS if t.kind == "gradient")
"""The theorems whose backward passes are changed."""


@dataclass(frozen=True)
class Outcome:
    """The result for one mutant."""

    backward: str
    rule: str
    what: str
    numbers: Numbers
    status: Status | None  # of the verdict; None where the mutant does not type check
    reason: str = ""
    over_the_reals: bool = False  # different and proved, but the same with 300 digits

    @property
    def tried(self) -> bool:
        """Whether the mutant was given to the prover."""
        return self.status is not None

    @property
    def escaped(self) -> bool:
        """Whether the mutant is wrong and was proved, which must not happen."""
        different = self.numbers == "different" and not self.over_the_reals
        return different and self.status == "proved"


def for_all_sizes(backward: Backward, mutant: core.ClosedJaxpr) -> Verdict:
    """Returns the prover's verdict on a mutant, for all sizes."""
    build = backward.theorem.build
    given = (backward.value, mutant, build.args, build.wrt, build.reference)
    return prove_backward(*given, least=build.least)


def outcomes(
    theorem: Theorem, count: int, seed: int = SEED, prover: Prover = for_all_sizes
) -> Iterator[Outcome]:
    """Yields the results of mutants of one backward pass, until ``count`` of them type check."""
    if count == 0:
        return
    backward = Backward.of(theorem)
    numerics = Numerics(backward, seed)
    for mutant in sample(backward, seed):
        outcome = _outcome(prover, backward, numerics, mutant)
        yield outcome
        count -= outcome.tried
        if count == 0:
            return


def shares(count: int, theorems: Sequence[Theorem] = SHIPPED) -> list[tuple[Theorem, int]]:
    """Distributes ``count`` mutants over the theorems, as evenly as possible."""
    of = len(theorems)
    ends = [(count * place) // of for place in range(of + 1)]
    return [(t, ends[i + 1] - ends[i]) for i, t in enumerate(theorems)]


def sample(backward: Backward, seed: int = SEED) -> Iterator[Mutant]:
    """Yields mutants of one backward pass; rules take turns, and the seed fixes the order."""
    by_rule: dict[str, list[Mutant]] = collections.defaultdict(list)
    for mutant in mutants(backward.backward):
        by_rule[mutant.rule].append(mutant)
    rng = random.Random(f"{seed} {backward.theorem.name}")
    for some in by_rule.values():
        rng.shuffle(some)
    rules = sorted(by_rule)
    rng.shuffle(rules)  # so that a few mutants of each backward pass have different rules
    while any(by_rule.values()):
        for rule in rules:
            if by_rule[rule]:
                yield by_rule[rule].pop()


def _outcome(prover: Prover, backward: Backward, numerics: Numerics, mutant: Mutant) -> Outcome:
    numbers = numerics.classify(mutant.jaxpr)
    outcome = Outcome(backward.theorem.name, mutant.rule, mutant.what, numbers, None)
    if numbers == "invalid":
        return outcome
    verdict = prover(backward, mutant.jaxpr)
    doubtful = numbers == "different" and verdict.proved
    return dataclasses.replace(
        outcome,
        status=verdict.status,
        reason=verdict.reason,
        over_the_reals=doubtful and numerics.same_over_the_reals(mutant.jaxpr),
    )
