"""Time and memory of the losses of logits, beside optax in the same process.

Each cell has the mean loss in both libraries: value and gradient (also in xent_jax.forward_mode),
the value alone, or value and gradient with options, which users of optax write themselves. A ratio
is the time of xent_jax over that of optax in the same round, and the median over all rounds: below
1, xent_jax is faster. Five passes over all cells give five blocks of rounds; if they differ much,
the machine was busy. Temporary memory is what the compiler states, as a share of the logits' bytes.
The options are label_smoothing=0.1, z_loss=1e-4 and ignore_index=-100, which a tenth of the labels
have.
"""

import functools
from statistics import geometric_mean

import jax
import jax.numpy as jnp
import numpy as np

import xent_jax
from benchmarks._peers import INTEGER, mean, optax_integer, optax_soft
from benchmarks._records import Goal, Record, reached, records
from benchmarks._running import Benchmark, compiled, ratios, temp_share, times, track

# The losses of optax, and the names of the losses of xent_jax.
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
RATIO, SHARE = ({"program": "xent_jax", "metric": metric} for metric in ("ratio", "share"))
LIMITS = {GRADIENT: 1.0, VALUE: 1.4, WITH_OPTIONS: 0.9}  # of ratios
FLOAT32_MEMORY, BFLOAT16_MEMORY = 5, 100  # % of the logits
OF_GRADIENT, OF_VALUE, OF_OPTIONS = (RATIO | {"study": study} for study in LIMITS)
FLOAT32 = OF_GRADIENT | {"case": "integer", "dtype": "float32"}
GOALS = [
    Goal("value and gradient: largest ratio", LIMITS[GRADIENT], OF_GRADIENT),
    Goal("value and gradient: geometric mean, integer labels float32", 0.97, FLOAT32,
         of=geometric_mean),
    Goal("value and gradient: geometric mean", 0.7, OF_GRADIENT, of=geometric_mean),
    Goal("value alone: largest ratio", LIMITS[VALUE], OF_VALUE),
    Goal("value alone: geometric mean", 1.15, OF_VALUE, of=geometric_mean),
    Goal("with options: largest ratio", LIMITS[WITH_OPTIONS], OF_OPTIONS),
    Goal("forward_mode over xent_jax: largest ratio", 1.1, RATIO | {"program": "forward_mode"}),
    Goal("temporary memory, float32 from 1000 classes up: largest share of the logits, %",
         FLOAT32_MEMORY, SHARE | {"limit": FLOAT32_MEMORY}, "%"),
    Goal("temporary memory, bfloat16: largest share of the logits, %",
         BFLOAT16_MEMORY, SHARE | {"limit": BFLOAT16_MEMORY}, "%"),
]  # fmt: skip


@functools.cache
def draw(labels: str, shape: tuple[int, int], dtype: str, ignored: bool) -> tuple:
    """Draws logits and labels, soft or integers; a tenth of these are -100 if ``ignored``."""
    z = (3 * jax.random.normal(jax.random.key(0), shape)).astype(dtype)
    key, other = jax.random.split(jax.random.key(1))
    if labels == "soft":
        return z, jax.nn.softmax(jax.random.normal(key, shape))
    y = jax.random.randint(key, shape[:1], 0, shape[1])
    return z, jnp.where(jax.random.bernoulli(other, 0.1, y.shape), -100, y) if ignored else y


def build(study: str, labels: str, shape: tuple, dtype: str, options: str = "") -> tuple:
    """Returns the programs of a cell by library, and their arguments."""
    given, (theirs, name) = OPTIONS.get(options, {}), LOSSES[labels]
    arguments = draw(labels, shape, dtype, "ignore_index" in given)
    losses = {"optax": theirs, "xent_jax": getattr(xent_jax, name)}
    if study == GRADIENT:
        losses["forward_mode"] = getattr(xent_jax.forward_mode, name)
    means = {library: mean(loss, **given) for library, loss in losses.items()}
    if study != VALUE:
        means = {library: jax.value_and_grad(loss) for library, loss in means.items()}
    return {library: compiled(loss, arguments) for library, loss in means.items()}, arguments


def numbers(cell: tuple, programs: dict, logits: jax.Array, blocks: list) -> list[Record]:
    """Returns the records of a cell from its times [rounds, programs] in some blocks."""
    study, labels, shape, dtype, *options = cell
    spent = dict(zip(programs, np.concatenate(blocks).T, strict=True))
    found = {
        name: {"time": float(np.median(own)), "share": temp_share(programs[name], logits)}
        for name, own in spent.items()
    }
    middles = [float(np.median(block[:, 1] / block[:, 0])) for block in blocks]
    found["xent_jax"] |= ratios(spent["xent_jax"], spent["optax"])
    found["xent_jax"] |= {"least of a block": min(middles), "greatest of a block": max(middles)}
    found["xent_jax"] |= {"rounds": len(spent["optax"])}
    if "forward_mode" in spent:
        over = ratios(spent["forward_mode"], spent["xent_jax"])
        found["forward_mode"] = {"ratio": over["ratio"]}
    half, small = dtype == "bfloat16", shape[1] < 1000 or options
    memory = BFLOAT16_MEMORY if half else None if small else FLOAT32_MEMORY
    limits = {"xent_jax": {"ratio": LIMITS[study], "share": memory}}
    fields = {"dtype": dtype, "shape": shape, "case": options[0] if options else labels}
    return sum((records(study, k, v, limits.get(k), **fields) for k, v in found.items()), [])


def measure(quick: bool) -> list[Record]:
    """Compiles all cells, then visits each of them once in every pass."""
    passes, seconds = (2, 0.05) if quick else (5, 1.2)
    both = [(study, *kind) for study in (GRADIENT, VALUE) for kind in KINDS]
    cells = [(*one, dtype) for one in both for dtype in ("float32", "bfloat16")]
    cells += [(WITH_OPTIONS, "integer", s, "float32", name) for name in OPTIONS for s in SHAPES]
    built = [build(*cell) for cell in track(cells, "compile")]
    blocks = [[] for _ in cells]
    for step in range(passes):
        for i in track(range(len(cells)), f"pass {step + 1} of {passes}"):
            programs, arguments = built[i]
            times(programs.values(), arguments, 1)  # warms up
            blocks[i].append(times(programs.values(), arguments, 4, seconds))
    parts = zip(cells, built, blocks, strict=True)
    found = [r for cell, (p, given), b in parts for r in numbers(cell, p, given[0], b)]
    return reached(found, GOALS) + found


BENCHMARK = Benchmark("logits", "Losses of logits", __doc__, measure, timed=True)
if __name__ == "__main__":
    BENCHMARK.main()
