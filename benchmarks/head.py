"""Time, memory and half precision of the linear head, beside materialised logits.

    pip install "xent-jax[bench]"
    pip install tokamax  # if wanted: a peer, for Python 3.12 or later
    python benchmarks/head.py [--quick] [--output DIR]

The yardstick are the three products that no way around is known for: x W, dz W' and x' dz.
Every program runs once in each round, in an order drawn anew; a ratio is that of two runs of
the same round. Temporary memory is the compiler's own count, beside arguments and results;
how it grows is asked of the compiler alone, with nothing run. The gradients in bfloat16 are
compared with those of the same numbers in float64.

Prints the tables and whether the targets are reached; writes head.md and head.png.
About five minutes; with --quick less than one, at a size where the products weigh less.
"""

import dataclasses
import logging
import time
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

import jax
import jax.numpy as jnp
import matplotlib
import numpy as np
import optax
from _report import console, environment, markdown, parser, show, timed, verdict, write
from rich.progress import Progress

import xent_jax

matplotlib.use("Agg")
import matplotlib.pyplot as plt  # noqa: E402  after the choice of backend

try:
    import tokamax

    logging.getLogger("absl").setLevel(logging.ERROR)  # it warns of every shape not tuned for
except ImportError:
    tokamax = None

MIB = 2**20
CHUNK = 1024  # tokens, twice what is the default for the 32768 classes here
TEMP_TARGET = 0.25  # of the temporary memory with materialised logits


class Effort(NamedTuple):
    """The size that is timed, for how long and at least how many rounds; draws in bfloat16."""

    shape: Shape
    seconds: float
    rounds: int
    draws: int


FULL, HALF = Shape(2048, 512, 32768), Shape(512, 256, 4096)
QUICK = Effort(Shape(1024, 128, 32768), seconds=8, rounds=2, draws=1)
THOROUGH = Effort(FULL, seconds=200, rounds=3, draws=5)
GROWTH = {
    "N": [FULL._replace(n=2**i) for i in range(10, 16)],
    "V": [FULL._replace(v=2**i) for i in range(13, 18)],
}
FIXED = {"N": f"D={FULL.d} V={FULL.v}", "V": f"N={FULL.n} D={FULL.d}"}

# ---------------------------------------------------------------- time


@dataclasses.dataclass
class Row:
    """A program of (x, w, y, g, dz), with its measurements."""

    what: str
    program: Callable | None  # None: not installed
    target: float | None = None  # time over that of the three products
    temp: float = 0.0  # MiB
    times: np.ndarray | None = None  # of each round, in seconds
    ratios: np.ndarray | None = None

    def ratio(self, percentile: float = 50) -> float:
        """The time over that of the products in the same round: median or another percentile."""
        return float(np.percentile(self.ratios, percentile))

    def judged(self) -> str:
        """Whether the target is reached, if there is one."""
        return "" if self.target is None else verdict(self.ratio(), self.target)


def products(x, w, y, g, dz):
    return x @ w, dz @ w.T, x.T @ dz


def differentiated(loss, wrt=(0, 1)):
    """Value and gradient of a mean, to the inputs and kernel or one of them."""
    return lambda x, w, y, g, dz: jax.value_and_grad(loss, wrt)(x, w, y)


def pulled_back(x, w, y, g, dz):
    """Losses without a reduction, and the gradients for their cotangents g."""
    losses, pull = jax.vjp(lambda x, w: head(x, w, y, reduction="none"), x, w)
    return losses, pull(g)


def rows() -> list[Row]:
    return [
        Row("three bare products", products),
        Row("head, value and gradients", differentiated(head), 1.05),
        Row(f"head, chunks of {CHUNK} tokens", differentiated(head_in_chunks(CHUNK)), 1.05),
        Row('head, reduction "none"', pulled_back, 1.45),
        Row("head, value alone", lambda x, w, y, g, dz: head(x, w, y), 0.42),
        Row("head, gradient of the inputs alone", differentiated(head, 0), 0.78),
        Row("head, gradient of the kernel alone", differentiated(head, 1), 0.78),
        Row("logits, optax", differentiated(with_optax)),
        Row("logits, xent_jax", differentiated(with_xent_jax)),
        Row("tokamax head, chunked_xla", tokamax and differentiated(tokamax_head)),
    ]


def draw(shape: Shape, seed: int = 0) -> tuple:
    """Inputs, kernel, labels, cotangents and a gradient of the logits, which are N(0, 1)."""
    n, d, v = shape
    keys = jax.random.split(jax.random.key(seed), 5)
    x, w = jax.random.normal(keys[0], (n, d)), jax.random.normal(keys[1], (d, v)) / d**0.5
    y, g = jax.random.randint(keys[2], (n,), 0, v), jax.random.normal(keys[3], (n,))
    return x, w, y, g, jax.random.normal(keys[4], (n, v))


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


def time_table(rows: list[Row]) -> tuple[list[str], list[list[str]]]:
    titles = ["", "ms", "over the\nproducts", "10 to 90 %", "temp\nMiB", "target\n<=", ""]
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


# ---------------------------------------------------------------- memory


def temp(loss, shape: Shape) -> float:
    """MiB of temporary memory for value and gradients in float32: compiled, not run."""
    n, d, v = shape
    shapes = ((n, d), "float32"), ((d, v), "float32"), ((n,), "int32")
    program = jax.jit(jax.value_and_grad(loss, (0, 1)))
    compiled = program.lower(*(jax.ShapeDtypeStruct(*s) for s in shapes)).compile()
    return compiled.memory_analysis().temp_size_in_bytes / MIB


def growth(progress: Progress) -> dict[str, np.ndarray]:
    """For N and V: the size, MiB of the head, MiB with materialised logits."""
    return {
        axis: np.array(
            [
                (getattr(shape, axis.lower()), temp(head, shape), temp(with_optax, shape))
                for shape in progress.track(shapes, description=f"memory against {axis}")
            ]
        )
        for axis, shapes in GROWTH.items()
    }


def growth_table(axis: str, found: np.ndarray) -> tuple[list[str], list[list[str]]]:
    titles = [axis, "xent_jax head\nMiB", "logits, optax\nMiB", "share"]
    return titles, [
        [f"{size:.0f}", f"{ours:.0f}", f"{theirs:.0f}", f"{ours / theirs:.3f}"]
        for size, ours, theirs in found
    ]


# ---------------------------------------------------------------- what it comes to


def summary(rows: list[Row], shape: Shape, grown: dict, halves: dict) -> list[str]:
    """Each target, and whether it is reached."""
    lines = [] if shape == FULL else [f"the time targets are meant for {FULL}, not {shape}"]
    lines += [
        f"{row.what}: {row.ratio():.3f} of the time of three products, "
        f"target {row.target:g}: {row.judged()}"
        for row in rows
        if row.target is not None
    ]
    share = next(ours / theirs for n, ours, theirs in grown["N"] if n == FULL.n)
    lines.append(
        f"temporary memory of the head over that with materialised logits, {FULL}: "
        f"{share:.3f}, target {TEMP_TARGET:g}: {verdict(share, TEMP_TARGET)}"
    )
    ours = halves["xent_jax head"]
    lines.append(beside("no worse than materialised logits", ours, halves["logits, optax"]))
    theirs = halves.get("tokamax head, chunked_xla")
    if theirs is not None:
        lines.append(beside("better than tokamax", ours, np.nextafter(theirs, 0)))
    return lines


def beside(what: str, ours: np.ndarray, theirs: np.ndarray) -> str:
    """Of the last spread: in the first, the rounding of the results decides for every model."""
    shares = ours[-1, 1:] / theirs[-1, 1:]
    numbers = " and ".join(f"{s:.2f}" for s in shares)
    return (
        f"errors in bfloat16 of dx and dW, spread {SPREADS[-1]}, {what}: "
        f"{numbers} of theirs: {verdict(max(shares), 1)}"
    )


NOTES = """Time: the median over the rounds, and over that of the products in the same round.
Memory: MiB beside arguments and results, by the compiler's count. Errors: the largest over the
largest component, against float64, the worst of the draws; the spread is the logits' standard
deviation. At 1 only the label's entry of dz counts, and it is rounded alike in every model."""


def tables(rows: list[Row], effort: Effort, grown: dict, halves: dict) -> dict:
    """Title to head and lines."""
    out = {f"Time in float32, {effort.shape}, {len(rows[0].times)} rounds": time_table(rows)}
    for axis, found in grown.items():
        out[f"Memory against {axis}, {FIXED[axis]}"] = growth_table(axis, found)
    return out | {f"Errors in bfloat16, {HALF}, draws: {effort.draws}": half_table(halves)}


def main() -> None:
    options = parser("The linear head beside materialised logits.")
    options.add_argument("--quick", action="store_true", help="few rounds of a smaller size")
    options = options.parse_args()
    out, effort, timings = console(140), QUICK if options.quick else THOROUGH, rows()
    # No refresh from a thread: it would take a core during the runs.
    with Progress(console=out, auto_refresh=False) as progress:
        measure([row for row in timings if row.program], effort, progress)
        found = growth(progress), half_errors(effort.draws, progress)
    where = environment("jax", "jaxlib", "optax", *(["tokamax"] if tokamax else []))
    lines = summary(timings, effort.shape, *found)
    parts = ["# The linear head: time, memory, half precision", where]
    parts += ["\n".join(f"- {line}" for line in lines), NOTES]
    for title, table in tables(timings, effort, *found).items():
        show(out, title, *table)
        parts.append(f"## {title}\n\n{markdown(*table)}")
    out.print(where, *lines, sep="\n")
    write(options.output / "head.md", parts)
    plot(timings, effort.shape, found[0], options.output / "head.png")


if __name__ == "__main__":
    main()
