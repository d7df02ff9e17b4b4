"""Time and memory of the losses of logits, beside optax in the same process.

    pip install "xent-jax[bench]"
    python benchmarks/logits.py [--quick] [--output DIR]

Each cell compiles the mean loss in both libraries: value and gradient (also in
xent_jax.forward_mode), the value alone, or value and gradient with options, which users of optax
write themselves. It runs the programs in turn, in every order. A ratio is that of two runs of the
same round: below 1, xent_jax is faster. Five passes over all cells give five blocks of rounds, so
that a slow phase of the machine shows as a spread between blocks and not as a result. Temporary
memory is what the compiler states, as a share of the logits.

Prints the tables and whether the targets are reached; writes logits.png and a section of report.md.
Takes about seven minutes; --quick takes about one and is noisier.
"""

import dataclasses
import functools
import itertools
import time

import jax
import jax.numpy as jnp
import numpy as np
from _logits_plot import plot
from _optax_options import integer, soft
from _report import console, others, parser, publish, run, target, timed, verdict, with_targets
from rich.progress import Progress

import xent_jax

# The losses of optax and the names of those of xent_jax.
LOSSES = {
    "integer": (integer, "softmax_cross_entropy_with_integer_labels"),
    "soft": (soft, "softmax_cross_entropy"),
}
SHAPES = [(512, 8192), (64, 131072), (2048, 4096), (8192, 1000), (16384, 100), (65536, 10)]
KINDS = [("integer", *shape) for shape in SHAPES] + [("soft", 512, 8192), ("soft", 8192, 1000)]
OPTIONS = {
    "label_smoothing": {"label_smoothing": 0.1},
    "z_loss": {"z_loss": 1e-4},
    "ignore_index": {"ignore_index": -100},
    "all three": {"label_smoothing": 0.1, "z_loss": 1e-4, "ignore_index": -100},
}
# Limits of time are ratios to optax's, or forward_mode's to the default's; those of memory are %
# of the logits.
GRADIENT_LIMIT, VALUE_LIMIT, OPTIONS_LIMIT = 1.0, 1.4, 0.9
FLOAT32_MEAN, GRADIENT_MEAN, VALUE_MEAN = 0.97, 0.7, 1.15
FORWARD_LIMIT, FLOAT32_MEMORY, BFLOAT16_MEMORY = 1.1, 5, 100


@dataclasses.dataclass
class Cell:
    """One loss at one shape and dtype, with its programs and their times."""

    labels: str
    n: int
    k: int
    dtype: str
    gradient: bool = True
    options: str = ""  # a key of OPTIONS
    programs: dict = dataclasses.field(default_factory=dict)
    arguments: tuple = ()
    blocks: list = dataclasses.field(default_factory=list)  # of [rounds, programs], in seconds

    def __str__(self):
        what = "value and gradient" if self.gradient else "value"
        return f"{what}, {self.n}x{self.k} {self.dtype} {self.labels} {self.options}"

    def milliseconds(self, name: str) -> float:
        """Returns the median time of one run."""
        return 1e3 * float(np.median(self._times(name)))

    def _times(self, name: str) -> np.ndarray:
        return np.concatenate(self.blocks)[:, list(self.programs).index(name)]

    def ratio(self, name="xent_jax", over="optax", percentile: float = 50) -> float:
        """Returns the time over that of another program in the same round, as a percentile."""
        return float(np.percentile(self._times(name) / self._times(over), percentile))

    def block_ratios(self) -> list[float]:
        """Returns the median ratio of each block."""
        return [dataclasses.replace(self, blocks=[b]).ratio() for b in self.blocks]

    def temp(self, name: str = "xent_jax") -> float:
        """Returns the temporary memory in % of the logits' bytes."""
        size = self.programs[name].memory_analysis().temp_size_in_bytes
        return 100 * size / self.arguments[0].nbytes

    def memory_limit(self) -> float | None:
        """Returns the target of temporary memory in % of the logits' bytes, or None."""
        if self.dtype == "bfloat16":
            return BFLOAT16_MEMORY
        return FLOAT32_MEMORY if self.k >= 1000 and not self.options else None


@functools.cache
def draw_logits(n: int, k: int, dtype: str):
    return (3 * jax.random.normal(jax.random.key(0), (n, k))).astype(dtype)


@functools.cache
def draw_labels(kind: str, n: int, k: int, ignored: bool):
    """Draws soft labels, or integers of which a tenth are -100 if some are to be ignored."""
    key, other = jax.random.split(jax.random.key(1))
    if kind == "soft":
        return jax.nn.softmax(jax.random.normal(key, (n, k)))
    labels = jax.random.randint(key, (n,), 0, k)
    return jnp.where(jax.random.bernoulli(other, 0.1, (n,)), -100, labels) if ignored else labels


def prepare(cell: Cell) -> None:
    """Draws the arguments and compiles the programs."""
    options = OPTIONS.get(cell.options, {})
    labels = draw_labels(cell.labels, cell.n, cell.k, "ignore_index" in options)
    cell.arguments = (draw_logits(cell.n, cell.k, cell.dtype), labels)
    loss, name = LOSSES[cell.labels]
    losses = {"optax": loss, "xent_jax": getattr(xent_jax, name)}
    if cell.gradient and not options:
        losses["forward_mode"] = getattr(xent_jax.forward_mode, name)
    for library, loss in losses.items():
        cell.programs[library] = compiled(functools.partial(loss, **options), cell)


def compiled(loss, cell: Cell):
    def mean(z, labels):
        return loss(z, labels).mean()

    program = jax.value_and_grad(mean) if cell.gradient else mean
    return jax.jit(program).lower(*cell.arguments).compile()


def run_block(cell: Cell, seconds: float) -> None:
    """Runs each program once per round, in a different order in each round."""
    names = list(cell.programs)
    for program in 2 * list(cell.programs.values()):  # warm up
        timed(program, cell.arguments)
    times, start = [], time.perf_counter()
    for order in itertools.cycle(itertools.permutations(range(len(names)))):
        row = [0.0] * len(names)
        for i in order:
            row[i] = timed(cell.programs[names[i]], cell.arguments)
        times.append(row)
        if time.perf_counter() - start > seconds and len(times) >= 4:
            break
    cell.blocks.append(np.array(times))


def measure(cells: list[Cell], passes: int, seconds: float) -> None:
    """Compiles all cells, then visits each of them once in every pass."""
    # No refresh from a thread: it would take a core during the runs.
    with Progress(console=console(), auto_refresh=False) as progress:
        task = progress.add_task("", total=len(cells) * (passes + 1))
        for step in range(passes + 1):
            for cell in cells:
                what = f"pass {step} of {passes}" if step else "compile"
                progress.update(task, description=f"{what}: {cell}", refresh=True)
                if step:
                    run_block(cell, seconds)
                else:
                    prepare(cell)
                progress.advance(task)


def table(cells: list[Cell], limit: float) -> tuple[list[str], list[list[str]]]:
    """Returns head and rows, with forward_mode if it was measured."""
    head = ["logits", "labels", "optax\nms", "xent_jax\nms", "ratio", "ratio,\n10 to 90 %"]
    head += ["ratio,\nblocks", "optax\ntemp %", "xent_jax\ntemp %", "rounds"]
    head += [f"ratio\n<= {limit}", "temp,\ntarget"]
    forward = "forward_mode" in cells[0].programs
    head += ["forward_mode\nover xent_jax"] if forward else []
    rows = []
    for cell in cells:
        low, high = cell.ratio(percentile=10), cell.ratio(percentile=90)
        blocks, memory = cell.block_ratios(), cell.memory_limit()
        rows.append(
            [f"{cell.n} x {cell.k} {cell.dtype}", cell.options or cell.labels]
            + [f"{cell.milliseconds(name):.2f}" for name in ("optax", "xent_jax")]
            + [f"{cell.ratio():.3f}", f"{low:.2f} to {high:.2f}"]
            + [f"{min(blocks):.2f} to {max(blocks):.2f}"]
            + [f"{cell.temp(name):.2f}" for name in ("optax", "xent_jax")]
            + [str(sum(map(len, cell.blocks))), verdict(cell.ratio(), limit)]
            + [f"<= {memory} %: {verdict(cell.temp(), memory)}" if memory else ""]
            + ([f"{cell.ratio('forward_mode', 'xent_jax'):.3f}"] if forward else [])
        )
    return head, rows


def mean(cells: list[Cell]) -> float:
    """Returns the geometric mean of the median ratios."""
    return float(np.exp(np.mean([np.log(cell.ratio()) for cell in cells])))


def worst(cells: list[Cell]) -> float:
    return max(cell.ratio() for cell in cells)


def summary(cells: list[Cell], values: list[Cell], options: list[Cell]) -> list[list[str]]:
    """Returns the targets of time and temporary memory, and whether they are reached."""
    float32 = [c for c in cells if c.labels == "integer" and c.dtype == "float32"]
    forward = max(cell.ratio("forward_mode", "xent_jax") for cell in cells)
    what = "value and gradient: "
    lines = [
        target(f"{what}largest ratio", worst(cells), GRADIENT_LIMIT),
        target(f"{what}geometric mean, integer labels float32", mean(float32), FLOAT32_MEAN),
        target(f"{what}geometric mean", mean(cells), GRADIENT_MEAN),
        target("value alone: largest ratio", worst(values), VALUE_LIMIT),
        target("value alone: geometric mean", mean(values), VALUE_MEAN),
        target("with options: largest ratio", worst(options), OPTIONS_LIMIT),
        target("forward_mode over xent_jax: largest ratio", forward, FORWARD_LIMIT),
    ]
    for which, limit in [
        ("float32 from 1000 classes up", FLOAT32_MEMORY),
        ("bfloat16", BFLOAT16_MEMORY),
    ]:
        most = max(c.temp() for c in cells + values if c.memory_limit() == limit)
        what = f"temporary memory, {which}: largest share of the logits, %"
        lines.append(target(what, most, limit, ".2f"))
    return lines


NOTES = """A ratio is the time of xent_jax over that of optax in the same round, and the median over
all rounds: below 1, xent_jax is faster. If the blocks differ much, the machine was busy. Temporary
memory is what the compiler states, as a share of the logits' bytes. The options are
label_smoothing=0.1, z_loss=1e-4 and ignore_index=-100, which a tenth of the labels have."""


def main() -> None:
    options = parser("Losses of logits beside optax.", "few rounds").parse_args()
    dtypes = ("float32", "bfloat16")
    cells = [Cell(*kind, dtype) for kind in KINDS for dtype in dtypes]
    values = [Cell(*kind, dtype, gradient=False) for kind in KINDS for dtype in dtypes]
    chosen = [
        Cell("integer", *shape, "float32", options=name) for name in OPTIONS for shape in SHAPES
    ]
    measure(cells + values + chosen, *((2, 0.05) if options.quick else (5, 1.2)))
    tables = {
        "Value and gradient": table(cells, GRADIENT_LIMIT),
        "Value alone": table(values, VALUE_LIMIT),
        "Options, value and gradient": table(chosen, OPTIONS_LIMIT),
    }
    folder = publish(
        "logits",
        options,
        with_targets(summary(cells, values, chosen), tables),
        title="Losses of logits",
        question="How much time and memory does the mean loss take beside optax, with and without "
        "its gradient?",
        notes=NOTES,
        others=others(),
    )
    plot({"value and gradient": cells, "value alone": values}, folder / "logits.png")


if __name__ == "__main__":
    run(main)
