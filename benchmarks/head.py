"""Time, memory and half-precision errors of the linear head, beside logits that are held.

    pip install "xent-jax[bench]"
    pip install tokamax  # if wanted: a peer, for Python 3.12 or later
    python benchmarks/head.py [--quick] [--output DIR]

Times are compared with the three products that any implementation needs: x W, dz W' and x' dz.
Every program runs once in each round, in a random order; a ratio is that of two runs of the same
round. Temporary memory is what the compiler states, beside arguments and results; for its growth,
programs are only compiled. The gradients in bfloat16 are compared with those of the same numbers in
float64.

Prints the tables and whether the targets are reached; writes head.png and a section of report.md.
Takes about seven minutes; --quick takes less than one, at a size where the products take a smaller
share.
"""

import dataclasses
import time
from collections.abc import Callable
from typing import NamedTuple

import jax
import numpy as np
from _head_errors import SPREADS, half_errors, half_table
from _head_memory import FIXED, growth, growth_table
from _head_plot import plot
from _head_sizes import FULL, HALF, Shape, draw, in_chunks
from _head_tokens import ANY, MASKED, any_loss, masked
from _losses import LEFT_OUT, MIB, head, held, of_optax, of_tokamax, ours, tokamax
from _report import console, others, parser, publish, run, target, timed, verdict, with_targets
from rich.progress import Progress

CHUNK = 1024  # tokens, twice what is the default for the 32768 classes here
TEMP_TARGET = 0.25  # of the temporary memory with materialised logits


class Effort(NamedTuple):
    """The timed size, the duration, the least number of rounds, and the draws in bfloat16."""

    shape: Shape
    seconds: float
    rounds: int
    draws: int


QUICK = Effort(Shape(1024, 128, 32768), seconds=8, rounds=2, draws=1)
THOROUGH = Effort(FULL, seconds=200, rounds=3, draws=5)
STUDIES = {
    f"Tokens that are left out, {MASKED}": (MASKED, masked),
    f"A norm, a kernel with an adapter and a soft cap, {ANY}": (ANY, any_loss),
}
# ---------------------------------------------------------------- time


@dataclasses.dataclass
class Row:
    """A program of (x, w, y, g, dz) with its measurements."""

    what: str
    program: Callable | None  # None: not installed
    target: float | None = None  # time over that of the three products
    temp: float = 0.0  # MiB
    times: np.ndarray | None = None  # of each round, in seconds
    ratios: np.ndarray | None = None

    def ratio(self, percentile: float = 50) -> float:
        """Returns the time over that of the products in the same round, as a percentile."""
        return float(np.percentile(self.ratios, percentile))

    def judged(self) -> str:
        """Returns whether the target is reached, if there is one."""
        return "" if self.target is None else verdict(self.ratio(), self.target)


def products(x, w, y, g, dz):
    return x @ w, dz @ w.T, x.T @ dz


def differentiated(loss, wrt=(0, 1)):
    """Returns value and gradient of a mean, to the inputs, the kernel or both."""
    return lambda x, w, y, g, dz: jax.value_and_grad(loss, wrt)(x, w, y)


def pulled_back(x, w, y, g, dz):
    """Returns losses without a reduction, and the gradients for their cotangents g."""
    losses, pull = jax.vjp(lambda x, w: head(x, w, y, reduction="none"), x, w)
    return losses, pull(g)


def rows() -> list[Row]:
    return [
        Row("three bare products", products),
        Row("head, value and gradients", differentiated(head), 1.05),
        Row(f"head, chunks of {CHUNK} tokens", differentiated(in_chunks(CHUNK)), 1.05),
        Row('head, reduction "none"', pulled_back, 1.45),
        Row("head, value alone", lambda x, w, y, g, dz: head(x, w, y), 0.42),
        Row("head, gradient of the inputs alone", differentiated(head, 0), 0.78),
        Row("head, gradient of the kernel alone", differentiated(head, 1), 0.78),
        Row("logits, optax", differentiated(held(of_optax))),
        Row("logits, xent_jax", differentiated(held(ours))),
        Row("tokamax head, chunked_xla", tokamax and differentiated(of_tokamax)),
    ]


def measure(rows: list[Row], effort: Effort, progress: Progress) -> None:
    """Compiles the programs and runs rounds of them."""
    arguments, programs = draw(effort.shape), []
    for row in progress.track(rows, description=f"compile, {effort.shape}"):
        programs.append(jax.jit(row.program).lower(*arguments).compile())
        row.temp = programs[-1].memory_analysis().temp_size_in_bytes / MIB
        timed(programs[-1], arguments)  # warm up
        progress.refresh()
    rounds, rng, start = [], np.random.default_rng(0), time.perf_counter()
    task = progress.add_task("rounds", total=effort.seconds)
    while len(rounds) < effort.rounds or time.perf_counter() - start < effort.seconds:
        rounds.append(np.zeros(len(rows)))
        for i in rng.permutation(len(rows)):
            rounds[-1][i] = timed(programs[i], arguments)
            spent = min(effort.seconds, time.perf_counter() - start)
            progress.update(task, completed=spent, description=f"round {len(rounds)}", refresh=True)
    for row, times in zip(rows, np.array(rounds).T, strict=True):
        row.times, row.ratios = times, times / np.array(rounds)[:, 0]


def time_table(rows: list[Row], over: str = "the\nproducts") -> tuple[list[str], list[list[str]]]:
    titles = ["", "ms", f"over {over}", "10 to 90 %", "temp\nMiB", "target\n<=", ""]
    lines = []
    for row in rows:
        if row.program is None:
            lines.append([row.what, "not installed"] + [""] * (len(titles) - 2))
            continue
        lines.append(
            [row.what, f"{1e3 * np.median(row.times):.0f}", f"{row.ratio():.3f}"]
            + [f"{row.ratio(10):.2f} to {row.ratio(90):.2f}", f"{row.temp:.0f}"]
            + [f"{row.target:g}" if row.target else "", row.judged()]
        )
    return titles, lines


# ---------------------------------------------------------------- what it comes to


def summary(rows: list[Row], grown: dict, halves: dict) -> list[list[str]]:
    """Returns each target, and whether it is reached."""
    lines = reached(rows)
    share = next(ours / theirs for n, ours, theirs in grown["N"] if n == FULL.n)
    what = f"temporary memory over that of held logits, {FULL}"
    lines.append(target(what, share, TEMP_TARGET))
    for peer in ("logits, optax", "tokamax head, chunked_xla"):
        if peer in halves:
            lines.append(beside(peer, halves["xent_jax head"], halves[peer]))
    return lines


def reached(rows: list[Row]) -> list[list[str]]:
    """Returns a line for each target of a program's time."""
    return [target(f"{row.what}: time", row.ratio(), row.target) for row in rows if row.target]


def beside(peer: str, ours: np.ndarray, theirs: np.ndarray) -> list[str]:
    """Compares at the last spread; at the first, rounding of the results decides everywhere."""
    shares = ours[-1, 1:] / theirs[-1, 1:]
    numbers = " and ".join(f"{share:.2f}" for share in shares)
    what = f"errors in bfloat16 of dx and dW over those of {peer}, spread {SPREADS[-1]}"
    return [what, numbers, "1", verdict(max(shares), 1)]


NOTES = """Time is the median over the rounds, and so is its ratio to the three products in the same
round: x W, dz W' and x' dz, which any implementation needs. The targets for time are meant for
N=2048 D=512 V=32768. Memory is in MiB beside arguments and results, as the compiler states it. An
error is the largest error against float64 over the largest component, and the worst of the draws.
The spread is the standard deviation of the logits. At a spread of 1 only the label's entry of dz
matters, and every program rounds it in the same way."""


def tables(
    rows: list[Row], others: list[list[Row]], effort: Effort, grown: dict, halves: dict
) -> dict:
    """Returns the tables: title to head and lines."""
    out = {f"Time in float32, {effort.shape}, {len(rows[0].times)} rounds": time_table(rows)}
    for axis, found in grown.items():
        out[f"Memory against {axis}, {FIXED[axis]}"] = growth_table(axis, found)
    for (title, _), group in zip(STUDIES.items(), others, strict=True):
        out[f"{title}, {len(group[0].times)} rounds"] = time_table(group, "the\nfirst")
    return out | {f"Errors in bfloat16, {HALF}, draws: {effort.draws}": half_table(halves)}


def main() -> None:
    options = parser("The linear head beside held logits.", "few rounds, smaller").parse_args()
    effort, timings = QUICK if options.quick else THOROUGH, rows()
    # No refresh from a thread: it would take a core during the runs.
    with Progress(console=console(), auto_refresh=False) as progress:
        measure([row for row in timings if row.program], effort, progress)
        groups = []
        for shape, programs in STUDIES.values():
            groups.append([Row(*program) for program in programs()])
            seconds = 3 if options.quick else 45
            measure(groups[-1], effort._replace(shape=shape, seconds=seconds), progress)
        found = growth(progress), half_errors(effort.draws, progress)
    folder = publish(
        "head",
        options,
        with_targets(
            summary(timings, *found) + [line for group in groups for line in reached(group)],
            tables(timings, groups, effort, *found),
        ),
        title="The linear head",
        question="What do loss and gradients of a linear layer cost beyond its three products?",
        notes=NOTES,
        others=others(),
        left_out=LEFT_OUT,
    )
    plot([row for row in timings if row.program], effort.shape, found[0], folder / "head.png")


if __name__ == "__main__":
    run(main)
