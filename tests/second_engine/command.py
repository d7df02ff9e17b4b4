"""``python -m tests.second_engine``: proves each theorem again, by an engine of its own.

Uses exact arithmetic and ``sympy.diff`` at one to three classes, for every labelling, every mask
and every order of the logits. All theorems together take five minutes on two cores.
"""

import argparse
import fnmatch
import gc
import os
import sys
from collections.abc import Callable, Sequence
from contextlib import closing

from rich.markup import escape
from xent_jax.proofs._prover.verdict import Verdict
from xent_jax.proofs._terminal import console as the_console
from xent_jax.proofs._theorems.shipped import THEOREMS
from xent_jax.proofs._workers import Died, Task, shared_out

from .concrete import prove_theorem, sizes_of


def main(argv: Sequence[str] | None = None) -> int:
    """Proves the chosen theorems; returns 0 if all are proved, 1 if not, 130 if interrupted."""
    parser = argparse.ArgumentParser(
        prog="python -m tests.second_engine", description=__doc__.split("\n", 2)[2]
    )
    parser.add_argument("--only", metavar="GLOB", default="*", help="of the theorems' names")
    parser.add_argument("--jobs", type=int, default=os.cpu_count(), help="processes (%(default)s)")
    options = parser.parse_args(argv)
    chosen = [
        place
        for place, theorem in enumerate(THEOREMS)
        if fnmatch.fnmatchcase(theorem.name, options.only)
    ]
    if not chosen:
        parser.error(f"--only {options.only}: no theorem has such a name")
    console, failed = the_console(), 0
    tasks = [Task(THEOREMS[place].name, place) for place in chosen]
    try:
        with closing(shared_out(tasks, options.jobs, prepare)) as coming:
            for index, verdict in coming:
                theorem = THEOREMS[chosen[index]]
                failed += not verdict.proved
                why = "" if verdict.proved else f": {verdict.reason}"
                console.print(
                    escape(f"{theorem.name}: {verdict.status}{why} ({sizes_of(theorem)})"),
                    highlight=False, soft_wrap=True,
                )  # fmt: skip
    except (KeyboardInterrupt, Died) as error:
        print(f"{parser.prog}: {error or 'interrupted'}", file=sys.stderr)
        return 130 if isinstance(error, KeyboardInterrupt) else 1
    console.print(f"{len(chosen)} theorems, {failed} not proved", highlight=False)
    return int(failed > 0)


def prepare() -> Callable[[int], Verdict]:
    """Prepares a worker process, and returns its function that proves the theorem at a place."""
    gc.freeze()
    gc.set_threshold(100_000)  # by default, garbage collection takes a fifth of the time
    return lambda place: prove_theorem(THEOREMS[place])
