"""``python -m tests.mutation``: tests the prover with wrong backward passes.

Changes every shipped backward pass in many ways, one at a time, and fails if the prover proves
one whose numbers are wrong. Takes several minutes.
"""

from __future__ import annotations

import argparse
import collections
import json
import os
import sys
import time
from collections.abc import Callable, Generator, Sequence
from contextlib import closing
from pathlib import Path

from rich.console import Console
from rich.markup import escape
from rich.table import Column, Table
from xent_jax.proofs._terminal import console as the_console
from xent_jax.proofs._terminal import label, progress
from xent_jax.proofs._workers import Died, Task, shared_out

from .mutants import COUNT, SEED, SHIPPED, Outcome, outcomes, shares

_COLUMNS = {
    "different, not proved": lambda o: o.numbers == "different" and o.status != "proved",
    "different, PROVED": lambda o: o.escaped,
    "rounding alone, proved": lambda o: o.over_the_reals,
    "the same, proved": lambda o: o.numbers == "the same" and o.status == "proved",
    "the same, not proved": lambda o: o.numbers == "the same" and o.status != "proved",
}
_KEY = (
    "Different, the same: the numbers, at every point tried, in float64 beyond rounding. Rounding "
    "alone: they differ in float64, by rounding or overflow, and not with 300 digits."
)


def main(argv: Sequence[str] | None = None) -> int:
    """Returns 0 if no wrong mutant is proved and ``--count`` mutants are tried, 1 if not."""
    parser = _parser()
    options = parser.parse_args(argv)
    if options.json and not Path(options.json).parent.is_dir():
        parser.error(f"--json {options.json}: there is no folder {Path(options.json).parent}")
    try:
        return _run(options)
    except KeyboardInterrupt:
        print(f"{parser.prog}: interrupted", file=sys.stderr)
        return 130
    except Died as error:
        print(f"{parser.prog}: {error}", file=sys.stderr)
        return 1


def _run(options: argparse.Namespace) -> int:
    console = the_console()
    start = time.perf_counter()
    found = _watched(options, console)
    _print(found, console)
    if options.json:
        with open(options.json, "w", encoding="utf-8") as file:
            json.dump([{**vars(o), "escaped": o.escaped} for o in found], file, indent=1)
    tried, escaped = sum(o.tried for o in found), [o for o in found if o.escaped]
    for o in escaped:
        console.print(f"[red]wrong and proved[/red] {escape(f'{o.backward}: {o.rule}, {o.what}')}")
    console.print(
        f"{tried} mutants of {len(SHIPPED)} backwards, {len(escaped)} wrong ones proved, "
        f"{time.perf_counter() - start:.0f} s"
    )
    return int(bool(escaped) or tried < options.count)


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m tests.mutation", description=(__doc__ or "").split("\n", 2)[2]
    )
    parser.add_argument("--count", type=int, default=COUNT, help="mutants to try (%(default)s)")
    parser.add_argument("--seed", type=int, default=SEED, help="of the sample (%(default)s)")
    parser.add_argument("--jobs", type=int, default=os.cpu_count() or 1, help="processes")
    parser.add_argument("--json", metavar="FILE", help="writes every outcome")
    return parser


def _watched(options: argparse.Namespace, console: Console) -> list[Outcome]:
    found: list[Outcome] = []
    coming = _in_processes(options.count, options.seed, options.jobs)
    with progress(console) as bar, closing(coming):
        task = bar.add_task(label("mutants", console), total=options.count)
        for some in coming:
            found += some
            if some:
                bar.update(task, description=escape(label(some[-1].backward, console)))
            bar.advance(task, sum(o.tried for o in some))
    return sorted(found, key=lambda o: o.backward)


def _in_processes(count: int, seed: int, jobs: int) -> Generator[list[Outcome], None, None]:
    work = [(place, share, seed) for place, (_, share) in enumerate(shares(count))]
    if jobs <= 1:
        yield from map(_of, work)
        return
    tasks = [Task(SHIPPED[place].name, value) for place, value in enumerate(work)]
    with closing(shared_out(tasks, jobs, _prepare)) as coming:
        for _, found in coming:
            yield found


def _prepare() -> Callable[[tuple[int, int, int]], list[Outcome]]:
    return _of


def _of(work: tuple[int, int, int]) -> list[Outcome]:
    place, share, seed = work
    return list(outcomes(SHIPPED[place], share, seed))


def _print(found: list[Outcome], console: Console) -> None:
    table = Table("rule", *(Column(name, justify="right") for name in _COLUMNS), caption=_KEY)
    by_rule = collections.defaultdict(list)
    for outcome in found:
        if outcome.tried:
            by_rule[outcome.rule].append(outcome)
    for rule, some in [*sorted(by_rule.items()), ("all", [o for o in found if o.tried])]:
        if rule == "all":
            table.add_section()
        table.add_row(rule, *(str(sum(map(is_, some))) for is_ in _COLUMNS.values()))
    console.print(table)
