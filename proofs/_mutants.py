"""The prover tested as a prover: wrong backwards, made by machine, that it must not prove.

Every backward of what ships is traced at symbolic sizes and changed in one place
(``_mutate``). Each mutant runs in float64 beside the original, on inputs with ties,
dominated rows, masks and sentinels; then it is put to a prover. Not one whose numbers
differ may be proved. ``python -m xent_jax.proofs._mutants`` does it all and prints the
count of each outcome; ``--help`` names the options.
"""

import argparse
import collections
import json
import random
import sys
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

import jax
import numpy as np
from jax import export
from jax.extend import core

from ._concrete import trace
from ._concrete_proof import Claim, prove_traced
from ._concretize import Run, specialized
from ._mutate import Mutant, mutants, well_typed
from ._prove import prove_backward
from ._theorems import THEOREMS, Theorem
from ._verdict import Verdict

Numbers = Literal["wrong", "equivalent", "invalid"]
Prover = Callable[["Backward", core.ClosedJaxpr], Verdict]
SEED = 20240229
COUNT = 1200
_SIZES = ((2, 1), (3, 2), (3, 3), (2, 5))  # n, k
_DRAWS = 4  # for each size: at random, with ties, dominated, far apart
_RELATIVE, _ABSOLUTE = 1e-7, 1e-11


SHIPPED = tuple(t for t in THEOREMS if t.kind == "gradient" and not t.unproved)
"""The theorems whose backwards are changed."""


@dataclass(frozen=True)
class Backward:
    """A function that ships, traced at symbolic sizes with its backward."""

    theorem: Theorem
    value: core.ClosedJaxpr
    backward: core.ClosedJaxpr

    @classmethod
    def of(cls, theorem: Theorem) -> "Backward":
        """Traces it."""
        build = theorem.build
        names = sorted({d for s in build.args.values() for d in s.dims if not d.isdigit()})
        dims = dict(zip(names, export.symbolic_shape(", ".join(names)), strict=True))
        shapes = [
            jax.ShapeDtypeStruct(tuple(dims[d] if d in dims else int(d) for d in s.dims), s.dtype)
            for s in build.args.values()
        ]
        places = [list(build.args).index(w) for w in build.wrt]
        claim = trace(build.fun, shapes, places, "vjp")
        return cls(theorem, claim.value, claim.claimed)

    def allows(self, size: Mapping[str, int]) -> bool:
        """Whether the theorem is about this size."""
        return all(size[name] >= least for name, least in self.theorem.build.least.items())


# ------------------------------------------------------------------------ numbers


class Numerics:
    """Runs mutants of one backward beside it, in float64."""

    def __init__(self, backward: Backward, seed: int = SEED):
        self.backward = backward
        self.points = []
        for n, k in _SIZES:
            for draw in range(_DRAWS if backward.allows({"n": n, "k": k}) else 0):
                point = self._point(np.random.default_rng((seed, n, k, draw)), draw, n, k)
                for platform in (0, 1) if draw == 1 else (0,):
                    run = Run({"n": n, "k": k}, wide=True, platform=platform)
                    self.points.append((run, point))
        with jax.enable_x64(True):
            self.expected = [_outputs(run, backward.backward, p) for run, p in self.points]

    def classify(self, mutant: core.ClosedJaxpr) -> Numbers:
        """Whether the numbers of a mutant differ beyond rounding."""
        if not well_typed(mutant, self.backward.backward):
            return "invalid"
        with jax.enable_x64(True):
            for (run, point), expected in zip(self.points, self.expected, strict=True):
                try:
                    got = _outputs(run, mutant, point)
                except (TypeError, ValueError):  # of no type at these sizes
                    return "invalid"
                if any(map(_differ, got, expected)):
                    return "wrong"
        return "equivalent"

    def _point(self, rng: np.random.Generator, draw: int, n: int, k: int) -> list[np.ndarray]:
        size, values = {"n": n, "k": k}, {}
        for name, spec in self.backward.theorem.build.args.items():
            values[name] = _draw(rng, spec, draw, size)
            if spec.keeps is not None:
                y = np.maximum(values[spec.keeps], 0)[..., None]
                np.put_along_axis(values[name], y, True, -1)
        with jax.enable_x64(True):
            run = Run(size, wide=True)
            shape = run.outputs(self.backward.value, list(values.values()))[0].shape
        return [rng.standard_normal(shape), *values.values()]


def _outputs(run: Run, jaxpr: core.ClosedJaxpr, point: list[np.ndarray]) -> list[np.ndarray]:
    return [np.asarray(x) for x in run.outputs(jaxpr, point)]


def _draw(rng: np.random.Generator, spec: Any, draw: int, size: Mapping[str, int]) -> np.ndarray:
    shape = tuple(size[d] if d in size else int(d) for d in spec.dims)
    if spec.dtype == np.bool_:
        return rng.random(shape) < 0.7
    if spec.classes is not None:
        y = rng.integers(0, size[spec.classes], shape).astype(np.int32)
        out = rng.random(shape) < 0.4
        return y if spec.ignore is None else np.where(out, np.int32(spec.ignore), y)
    if spec.unit:
        return rng.uniform(0.05, 0.95, shape)
    if spec.positive or spec.nonnegative:
        return rng.uniform(0.2, 2.5, shape)
    x = rng.standard_normal(shape)
    x = (x, rng.integers(-1, 2, shape).astype(float), x, 3 * x)[draw]
    if draw == 2 and x.ndim:
        x[..., rng.integers(0, shape[-1])] += 6.0
    return x


def _differ(x: np.ndarray, y: np.ndarray) -> bool:
    if x.shape != y.shape:
        return True
    with np.errstate(all="ignore"):
        close = np.abs(x - y) <= _RELATIVE * np.abs(y) + _ABSOLUTE
    return not np.all(close | (x == y) | (np.isnan(x) & np.isnan(y)))


# ------------------------------------------------------------------------ provers


def for_all_sizes(backward: Backward, mutant: core.ClosedJaxpr) -> Verdict:
    """The prover."""
    build = backward.theorem.build
    given = (backward.value, mutant, build.args, build.wrt, build.reference)
    return prove_backward(*given, least=build.least)


def at_concrete_shapes(backward: Backward, mutant: core.ClosedJaxpr) -> Verdict:
    """The second engine, at up to three classes, with each platform's branches."""
    verdict = Verdict("unknown", reason="no shape was tried")
    build = backward.theorem.build
    for size in ({"n": 2, "k": 1}, {"n": 1, "k": 2}, {"n": 1, "k": 3}):
        for platform in _platforms(mutant) if backward.allows(size) else ():
            jaxprs = (specialized(j, size, platform) for j in (backward.value, mutant))
            verdict = prove_traced(Claim(*jaxprs, "vjp"), build.args, build.wrt, None, size)
            if not verdict.proved:
                return verdict
    return verdict


_ENGINES: dict[str, Prover] = {"all": for_all_sizes, "concrete": at_concrete_shapes}


def _platforms(jaxpr: core.ClosedJaxpr) -> Sequence[int]:
    return (0, 1) if "platform_index" in str(jaxpr) else (0,)


# ------------------------------------------------------------------------ the sample


@dataclass(frozen=True)
class Outcome:
    """What became of one mutant."""

    backward: str
    rule: str
    what: str
    numbers: Numbers
    status: str  # of the verdict; "" where it does not type check
    reason: str = ""

    @property
    def escaped(self) -> bool:
        """Wrong, and proved: what must not happen."""
        return self.numbers == "wrong" and self.status == "proved"


def sample(backward: Backward, count: int, seed: int = SEED) -> list[Mutant]:
    """Mutants of one backward, the rules taken in turn, the same for the same seed."""
    by_rule = collections.defaultdict(list)
    for mutant in mutants(backward.backward):
        by_rule[mutant.rule].append(mutant)
    rng = random.Random(f"{seed} {backward.theorem.name}")
    for rule in by_rule.values():
        rng.shuffle(rule)
    out: list[Mutant] = []
    while len(out) < count and any(by_rule.values()):
        out += [by_rule[rule].pop() for rule in sorted(by_rule) if by_rule[rule]]
    return out[:count]


def run(
    prover: Prover,
    count: int = COUNT,
    seed: int = SEED,
    shipped: Sequence[Theorem] = SHIPPED,
) -> Iterator[Outcome]:
    """Outcomes, until each function has its share of ``count`` mutants that type check."""
    for place, function in enumerate(shipped):
        share = (count * (place + 1)) // len(shipped) - (count * place) // len(shipped)
        backward = Backward.of(function)
        numerics = Numerics(backward, seed)
        for mutant in sample(backward, 4 * share, seed):
            if share == 0:
                break
            outcome = _outcome(prover, backward, numerics, mutant)
            share -= outcome.numbers != "invalid"
            yield outcome


def _outcome(prover: Prover, backward: Backward, numerics: Numerics, mutant: Mutant) -> Outcome:
    numbers = numerics.classify(mutant.jaxpr)
    status, reason = "", ""
    if numbers != "invalid":
        verdict = prover(backward, mutant.jaxpr)
        status, reason = verdict.status, verdict.reason
    return Outcome(backward.theorem.name, mutant.rule, mutant.what, numbers, status, reason)


def counts(outcomes: Iterable[Outcome]) -> dict[tuple[str, str], int]:
    """How many there are of each numbers and status."""
    return dict(sorted(collections.Counter((o.numbers, o.status) for o in outcomes).items()))


# ------------------------------------------------------------------------ the command


def main(argv: Sequence[str] | None = None) -> int:
    """Prints the report; the status is 1 if a wrong mutant was proved, or fewer than asked."""
    options = _options(argv)
    start, outcomes = time.perf_counter(), []
    for outcome in _watched(
        run(_ENGINES[options.engine], options.count, options.seed), options.count
    ):
        outcomes.append(outcome)
    escaped = [o for o in outcomes if o.escaped]
    _print(outcomes, escaped, time.perf_counter() - start)
    if options.json:
        with open(options.json, "w") as file:
            json.dump([vars(o) for o in outcomes], file, indent=1)
    tried = sum(o.numbers != "invalid" for o in outcomes)
    return int(bool(escaped) or tried < options.count)


def _options(argv: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m xent_jax.proofs._mutants", description=__doc__)
    parser.add_argument("--count", type=int, default=COUNT, help="mutants that type check")
    parser.add_argument("--seed", type=int, default=SEED)
    parser.add_argument("--engine", choices=sorted(_ENGINES), default="all")
    parser.add_argument("--json", metavar="FILE", help="writes every outcome")
    return parser.parse_args(argv)


def _watched(outcomes: Iterator[Outcome], count: int) -> Iterator[Outcome]:
    try:
        from rich.progress import Progress
    except ImportError:
        yield from outcomes
        return
    with Progress() as progress:
        task = progress.add_task("mutants", total=count)
        for outcome in outcomes:
            progress.update(task, description=outcome.backward[:48])
            progress.advance(task, outcome.numbers != "invalid")
            yield outcome


def _print(outcomes: list[Outcome], escaped: list[Outcome], seconds: float) -> None:
    print(f"{'numbers':12}{'verdict':12}{'mutants':>8}")
    for (numbers, status), n in counts(outcomes).items():
        print(f"{numbers:12}{status or '-':12}{n:8}")
    print(f"{len(escaped)} wrong mutants proved, in {seconds:.0f} s")
    for outcome in escaped:
        print(f"  {outcome.backward}: {outcome.what} ({outcome.rule})")


if __name__ == "__main__":
    sys.exit(main())
