"""Time and memory of the losses of logits, beside optax in the same process.

Each cell compiles the mean loss in both libraries: value and gradient (also in
xent_jax.forward_mode), the value alone, or value and gradient with options, which users of optax
write themselves. The programs run in turn. A ratio is that of two runs of the same round: below 1,
xent_jax is faster. Five passes over all cells give five blocks of rounds, so that a slow phase of
the machine shows as a spread between blocks and not as a result. Takes about seven minutes.
"""

import functools
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from rich.progress import Progress

import xent_jax
from benchmarks._drawing import Panel, draw
from benchmarks._peers import INTEGER, optax_integer, optax_soft
from benchmarks._records import Record, find, records, target
from benchmarks._running import Benchmark, in_rounds, ratios, temp_bytes, timed

# The losses of optax and the names of those of xent_jax.
LOSSES = {"integer": (optax_integer, INTEGER), "soft": (optax_soft, "softmax_cross_entropy")}
SHAPES = (512, 8192), (64, 131072), (2048, 4096), (8192, 1000), (16384, 100), (65536, 10)
KINDS = *(("integer", shape) for shape in SHAPES), ("soft", SHAPES[0]), ("soft", SHAPES[3])
OPTIONS = {
    "label_smoothing": {"label_smoothing": 0.1},
    "z_loss": {"z_loss": 1e-4},
    "ignore_index": {"ignore_index": -100},
    "all three": {"label_smoothing": 0.1, "z_loss": 1e-4, "ignore_index": -100},
}
GRADIENT, VALUE, WITH_OPTIONS = "Value and gradient", "Value alone", "Options, value and gradient"
# Limits of time are ratios to optax's, or forward_mode's to the default's; those of memory are %
# of the logits.
LIMITS = {GRADIENT: 1.0, VALUE: 1.4, WITH_OPTIONS: 0.9}
FLOAT32_MEAN, GRADIENT_MEAN, VALUE_MEAN = 0.97, 0.7, 1.15
FORWARD_LIMIT, FLOAT32_MEMORY, BFLOAT16_MEMORY = 1.1, 5, 100


class Cell(NamedTuple):
    """One loss at one shape and dtype."""

    study: str
    labels: str
    shape: tuple[int, int]
    dtype: str
    options: str = ""  # a key of OPTIONS

    def compiled(self) -> tuple[dict, tuple]:
        """Returns the programs by library, and their arguments."""
        options = OPTIONS.get(self.options, {})
        labels = draw_labels(self.labels, self.shape, "ignore_index" in options)
        arguments = draw_logits(self.shape, self.dtype), labels
        theirs, name = LOSSES[self.labels]
        losses = {"optax": theirs, "xent_jax": getattr(xent_jax, name)}
        if self.study == GRADIENT:
            losses["forward_mode"] = getattr(xent_jax.forward_mode, name)
        programs = {}
        for library, loss in losses.items():

            def mean(z, labels, loss=loss):
                return loss(z, labels, **options).mean()

            program = mean if self.study == VALUE else jax.value_and_grad(mean)
            programs[library] = jax.jit(program).lower(*arguments).compile()
        return programs, arguments

    def memory_limit(self) -> float | None:
        """Returns the target of temporary memory in % of the logits' bytes, or None."""
        if self.dtype == "bfloat16":
            return BFLOAT16_MEMORY
        return FLOAT32_MEMORY if self.shape[1] >= 1000 and not self.options else None

    def found(self, programs: dict, nbytes: int, blocks: list[np.ndarray]) -> list[Record]:
        """Returns the records of the times [rounds, programs] of some blocks."""
        times = dict(zip(programs, np.concatenate(blocks).T, strict=True))
        middles = [float(np.median(block[:, 1] / block[:, 0])) for block in blocks]
        share = {name: 100 * temp_bytes(program) / nbytes for name, program in programs.items()}
        numbers = {
            name: {"time": float(np.median(times[name])), "share": share[name]} for name in times
        }
        numbers["xent_jax"] |= ratios(times["xent_jax"], times["optax"]) | {
            "least of a block": min(middles),
            "greatest of a block": max(middles),
            "rounds": len(times["optax"]),
        }
        if "forward_mode" in times:
            over = ratios(times["forward_mode"], times["xent_jax"])
            numbers["forward_mode"] = {"ratio": over["ratio"]}
        limits = {"xent_jax": {"ratio": LIMITS[self.study], "share": self.memory_limit()}}
        fields = {"dtype": self.dtype, "shape": self.shape, "case": self.options or self.labels}
        of = (records(self.study, k, v, limits.get(k), **fields) for k, v in numbers.items())
        return sum(of, [])


@functools.cache
def draw_logits(shape: tuple[int, int], dtype: str):
    return (3 * jax.random.normal(jax.random.key(0), shape)).astype(dtype)


@functools.cache
def draw_labels(kind: str, shape: tuple[int, int], ignored: bool):
    """Draws soft labels, or integers of which a tenth are -100 if some are to be ignored."""
    key, other = jax.random.split(jax.random.key(1))
    if kind == "soft":
        return jax.nn.softmax(jax.random.normal(key, shape))
    n, k = shape
    labels = jax.random.randint(key, (n,), 0, k)
    return jnp.where(jax.random.bernoulli(other, 0.1, (n,)), -100, labels) if ignored else labels


def summary(found: list[Record]) -> list[Record]:
    """Returns the targets of time and temporary memory."""

    def of(study="", metric="ratio", program="xent_jax", **fields):
        fields |= {"study": study} if study else {}
        return [r.value for r in find(found, program=program, metric=metric, **fields)]

    def mean(numbers):
        return float(np.exp(np.mean(np.log(numbers))))

    what, share = "value and gradient: ", "largest share of the logits, %"
    floats = {"float32 from 1000 classes up": FLOAT32_MEMORY, "bfloat16": BFLOAT16_MEMORY}
    float32 = of(GRADIENT, case="integer", dtype="float32")
    forward = max(of(program="forward_mode"))
    return [
        target(f"{what}largest ratio", max(of(GRADIENT)), LIMITS[GRADIENT]),
        target(f"{what}geometric mean, integer labels float32", mean(float32), FLOAT32_MEAN),
        target(f"{what}geometric mean", mean(of(GRADIENT)), GRADIENT_MEAN),
        target("value alone: largest ratio", max(of(VALUE)), LIMITS[VALUE]),
        target("value alone: geometric mean", mean(of(VALUE)), VALUE_MEAN),
        target("with options: largest ratio", max(of(WITH_OPTIONS)), LIMITS[WITH_OPTIONS]),
        target("forward_mode over xent_jax: largest ratio", forward, FORWARD_LIMIT),
        *(
            target(f"temporary memory, {k}: {share}", max(of(metric="share", limit=v)), v, "%")
            for k, v in floats.items()
        ),
    ]


def plot(found: list[Record], figure) -> None:
    """Draws the times over optax's, and beside them the memory of both libraries."""
    found = [r for r in found if r.study != WITH_OPTIONS and r.program != "forward_mode"]
    known = {"names": "{size} {dtype} {case}"}
    memory = known | {"series": "program", "scale": "symlog", "limits": (0, 2e4)}
    panels = [Panel("time, xent_jax / optax", {"metric": "ratio"}, **known)] + [
        Panel(f"{study}: memory, % of the logits", {"metric": "share", "study": study}, **memory)
        for study in (GRADIENT, VALUE)
    ]
    draw(found, panels, 3, (17, 10), figure)


def measure(quick: bool, progress: Progress):
    """Compiles all cells, then visits each of them once in every pass."""
    passes, seconds = (2, 0.05) if quick else (5, 1.2)
    both = [(study, *kind) for study in (GRADIENT, VALUE) for kind in KINDS]
    cells = [Cell(*one, dtype) for one in both for dtype in ("float32", "bfloat16")]
    cells += [Cell(WITH_OPTIONS, "integer", s, "float32", name) for name in OPTIONS for s in SHAPES]
    compiled = [cell.compiled() for cell in progress.track(cells, description="compile")]
    blocks = [[] for _ in cells]
    for step in range(passes):
        what = f"pass {step + 1} of {passes}"
        for i in progress.track(range(len(cells)), description=what):
            programs, arguments = compiled[i]
            runs = [functools.partial(timed, p, arguments) for p in programs.values()]
            in_rounds(runs, 2)  # warm up
            blocks[i].append(in_rounds(runs, 4, seconds))
    parts = zip(cells, compiled, blocks, strict=True)
    found = [r for cell, (p, args), b in parts for r in cell.found(p, args[0].nbytes, b)]
    return summary(found) + found, functools.partial(plot, found)


NOTES = """A ratio is the time of xent_jax over that of optax in the same round, and the median over
all rounds: below 1, xent_jax is faster. If the blocks differ much, the machine was busy. Temporary
memory is what the compiler states, as a share of the logits' bytes. The options are
label_smoothing=0.1, z_loss=1e-4 and ignore_index=-100, which a tenth of the labels have."""
QUESTION = "How much time and memory does the mean loss take beside optax, with and without its "
QUESTION += "gradient?"
BENCHMARK = Benchmark("logits", "Losses of logits", QUESTION, NOTES, measure, timed=True)
if __name__ == "__main__":
    BENCHMARK.main()
