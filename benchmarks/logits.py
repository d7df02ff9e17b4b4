"""Time and memory of the losses of logits, beside optax in the same process.

    pip install "xent-jax[bench]"
    python benchmarks/logits.py [--quick] [--output DIR]

Each cell compiles value and gradient of the mean loss in both libraries, and in
xent_jax.forward_mode, and runs them in turn, in every order. A ratio is that of two runs of
the same round: below 1 xent_jax is the faster. Five passes over all the cells give
five blocks of rounds, so that a slow spell of the machine shows as a spread between blocks,
not as a result. Temporary memory is the compiler's own count, as a share of the logits.

Prints the tables and whether the targets are reached; writes logits.png and a section of report.md.
About four minutes; with --quick half a minute, and noisier.
"""

import dataclasses
import itertools
import time

import jax
import numpy as np
import optax
from _logits_plot import plot
from _report import console, others, parser, publish, run, target, timed, verdict, with_targets
from rich.progress import Progress

import xent_jax

LIBRARIES = {"optax": optax, "xent_jax": xent_jax, "forward_mode": xent_jax.forward_mode}
LOSSES = {
    "integer": "softmax_cross_entropy_with_integer_labels",
    "soft": "softmax_cross_entropy",
}
SHAPES = [
    ("integer", 512, 8192),
    ("integer", 64, 131072),
    ("integer", 8192, 1000),
    ("integer", 65536, 10),
    ("soft", 512, 8192),
]
PASSES = 5
MEAN_TARGET, CELL_TARGET, TEMP_TARGET = 0.8, 1.05, 1.0  # ratio, ratio, % of the logits


@dataclasses.dataclass
class Cell:
    """One loss at one shape and dtype: its programs and their times."""

    labels: str
    n: int
    k: int
    dtype: str
    gradient: bool = True
    programs: dict = dataclasses.field(default_factory=dict)
    arguments: tuple = ()
    blocks: list = dataclasses.field(default_factory=list)  # of [rounds, programs], in seconds

    def __str__(self):
        return f"{self.n}x{self.k} {self.dtype} {self.labels}"

    def milliseconds(self, name: str) -> float:
        """The median time of one run."""
        return 1e3 * float(np.median(self._times(name)))

    def _times(self, name: str) -> np.ndarray:
        return np.concatenate(self.blocks)[:, list(self.programs).index(name)]

    def ratio(self, name: str = "xent_jax", percentile: float = 50) -> float:
        """The time over that of optax in the same round: median or another percentile."""
        return float(np.percentile(self._times(name) / self._times("optax"), percentile))

    def block_ratios(self) -> list[float]:
        """The median ratio of each block."""
        return [dataclasses.replace(self, blocks=[b]).ratio() for b in self.blocks]

    def temp(self, name: str) -> float:
        """Temporary memory, % of the logits' bytes."""
        size = self.programs[name].memory_analysis().temp_size_in_bytes
        return 100 * size / self.arguments[0].nbytes


def prepare(cell: Cell) -> None:
    """Draws the arguments and compiles the programs."""
    key, other = jax.random.split(jax.random.key(0))
    z = (3 * jax.random.normal(key, (cell.n, cell.k))).astype(cell.dtype)
    if cell.labels == "integer":
        labels = jax.random.randint(other, (cell.n,), 0, cell.k)
    else:
        labels = jax.nn.softmax(jax.random.normal(other, (cell.n, cell.k)))
    cell.arguments = (z, labels)
    for name, library in LIBRARIES.items():
        if cell.gradient or name != "forward_mode":
            cell.programs[name] = compiled(getattr(library, LOSSES[cell.labels]), cell)


def compiled(loss, cell: Cell):
    def mean(z, labels):
        return loss(z, labels).mean()

    program = jax.value_and_grad(mean) if cell.gradient else mean
    return jax.jit(program).lower(*cell.arguments).compile()


def run_block(cell: Cell, seconds: float) -> None:
    """Rounds of one run of each program, the order another in each round."""
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


def measure(cells: list[Cell], seconds: float) -> None:
    """Compiles all the cells, then visits each of them once in every pass."""
    # No refresh from a thread: it would take a core during the runs.
    with Progress(console=console(), auto_refresh=False) as progress:
        task = progress.add_task("", total=len(cells) * (PASSES + 1))
        work = [("compile", cell) for cell in cells]
        work += [(f"pass {i + 1} of {PASSES}", cell) for i in range(PASSES) for cell in cells]
        for step, cell in work:
            what = "value and gradient" if cell.gradient else "value"
            progress.update(task, description=f"{step}: {what}, {cell}", refresh=True)
            if step == "compile":
                prepare(cell)
            else:
                run_block(cell, seconds if cell.gradient else seconds / 3)
            progress.advance(task)


def table(cells: list[Cell]) -> tuple[list[str], list[list[str]]]:
    """Head and rows; with gradients also the targets and forward_mode."""
    head = ["logits", "labels", "optax\nms", "xent_jax\nms", "ratio", "ratio,\n10 to 90 %"]
    head += ["ratio,\nblocks", "optax\ntemp %", "xent_jax\ntemp %", "rounds"]
    rows = []
    for cell in cells:
        low, high = cell.ratio(percentile=10), cell.ratio(percentile=90)
        blocks = cell.block_ratios()
        rows.append(
            [f"{cell.n} x {cell.k} {cell.dtype}", cell.labels]
            + [f"{cell.milliseconds(name):.2f}" for name in ("optax", "xent_jax")]
            + [f"{cell.ratio():.3f}", f"{low:.2f} to {high:.2f}"]
            + [f"{min(blocks):.2f} to {max(blocks):.2f}"]
            + [f"{cell.temp(name):.2f}" for name in ("optax", "xent_jax")]
            + [str(sum(map(len, cell.blocks)))]
        )
    if cells[0].gradient:
        head += [f"ratio\n<= {CELL_TARGET}", f"temp\n<= {TEMP_TARGET:g} %", "forward_mode\nratio"]
        for cell, row in zip(cells, rows, strict=True):
            held = cell.dtype == "float32" and cell.k >= 1000
            row += [
                verdict(cell.ratio(), CELL_TARGET),
                verdict(cell.temp("xent_jax"), TEMP_TARGET) if held else "",
                f"{cell.ratio('forward_mode'):.3f}",
            ]
    return head, rows


def summary(cells: list[Cell]) -> list[list[str]]:
    """The geometric means of the median ratios, and how many cells reach their targets."""
    lines = []
    for what, chosen in [
        ("all cells", cells),
        ("integer labels", [c for c in cells if c.labels == "integer"]),
        ("soft labels", [c for c in cells if c.labels == "soft"]),
    ]:
        mean = float(np.exp(np.mean([np.log(c.ratio()) for c in chosen])))
        lines.append(target(f"geometric mean of the ratios, {what}", mean, MEAN_TARGET))
    good = sum(c.ratio() <= CELL_TARGET for c in cells)
    lines.append(counted(f"cells with a ratio of at most {CELL_TARGET}", good, len(cells)))
    held = [c for c in cells if c.dtype == "float32" and c.k >= 1000]
    good = sum(c.temp("xent_jax") <= TEMP_TARGET for c in held)
    what = "float32 cells of 1000 classes or more with temporary memory of at most "
    lines.append(counted(f"{what}{TEMP_TARGET:g} % of the logits", good, len(held)))
    return lines


def counted(what: str, good: int, all_: int) -> list[str]:
    return [what, f"{good}", f"{all_}", verdict(all_, good)]


NOTES = """A ratio is the time of xent_jax over that of optax in the same round, the median of all
rounds: below 1 xent_jax is the faster. Where the blocks differ much, the machine was busy.
Temporary memory is the compiler's count, as a share of the logits' bytes."""


def main() -> None:
    options = parser("Losses of logits beside optax.", "few rounds").parse_args()
    cells = [Cell(*s, dtype) for s in SHAPES for dtype in ("float32", "bfloat16")]
    values = [Cell(*s, "float32", gradient=False) for s in SHAPES]
    measure(cells + values, 0.2 if options.quick else 3.0)
    tables = {"Value and gradient": table(cells), "Value alone, for information": table(values)}
    folder = publish(
        "logits",
        options,
        with_targets(summary(cells), tables),
        title="Losses of logits",
        question="What time and memory do value and gradient of the mean loss take beside optax?",
        notes=NOTES,
        others=others(),
    )
    plot(cells, CELL_TARGET, TEMP_TARGET, folder / "logits.png")


if __name__ == "__main__":
    run(main)
