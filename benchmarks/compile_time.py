"""Times tracing and compiling of the losses of logits, beside optax in the same process.

Each case is value and gradient of a mean loss. Each repeat clears JAX's caches before each of the
two libraries, in a random order, and traces, lowers and compiles again. Then the jitted functions
are called in turn. A ratio is that of two numbers of the same repeat, and the median over all
repeats: below 1, xent_jax takes less. Takes about two minutes.
"""

import functools
import time

import jax
import jax.numpy as jnp
import numpy as np
from jax.extend.core import ClosedJaxpr, Jaxpr
from rich.progress import Progress

import xent_jax
from benchmarks._hlo import Program
from benchmarks._peers import optax_integer, optax_soft, ours
from benchmarks._records import Record, find, records, target
from benchmarks._running import Benchmark, in_rounds, timed

SHAPES = (8, 10), (512, 8192)
TIMED, COUNTED = ("trace", "lower", "compile"), ("equations", "instructions")
LIMITS = {"trace": 1.5, "compile": 1.2}


def cases(n: int, k: int) -> dict[str, tuple]:
    """Returns the losses of both libraries and their arguments."""
    z = 3 * jax.random.normal(jax.random.key(0), (n, k))
    y, t, weights = jnp.arange(n) % k, jax.nn.softmax(-z), jnp.linspace(0.5, 1.5, k)
    both = {"label_smoothing": 0.1, "z_loss": 1e-4}
    soft = optax_soft, xent_jax.softmax_cross_entropy
    return {
        "integer labels": (optax_integer, ours, {}, (z, y)),
        "soft labels, all options": (*soft, both | {"class_weights": weights}, (z, t)),
        "integer labels, three options": (optax_integer, ours, both | {"ignore_index": 3}, (z, y)),
    }


def equations(jaxpr: Jaxpr | ClosedJaxpr) -> int:
    """Returns the number of a jaxpr's equations, nested ones included."""
    inner = (part for one in jaxpr.eqns for part in jax.tree.leaves(list(one.params.values())))
    nested = sum(equations(part) for part in inner if isinstance(part, Jaxpr | ClosedJaxpr))
    return len(jaxpr.eqns) + nested


def build(function, arguments: tuple) -> list[float]:
    """Returns the milliseconds or counts of each step from tracing to the program."""
    jax.clear_caches()
    times = [time.perf_counter()]
    traced = jax.jit(function).trace(*arguments)
    times.append(time.perf_counter())
    lowered = traced.lower()
    times.append(time.perf_counter())
    program = lowered.compile()
    times.append(time.perf_counter())
    instructions = map(len, Program(program.as_text()).computations.values())
    return [*(1e3 * np.diff(times)), equations(traced.jaxpr), sum(instructions)]


def compare(case: str, losses: list, options: dict, arguments: tuple, repeats: int) -> list[Record]:
    """Returns the medians of each library, and of the ratios."""

    def differentiated(loss):
        return jax.value_and_grad(lambda z, labels: loss(z, labels, **options).mean())

    functions = [differentiated(loss) for loss in losses]
    runs = [functools.partial(build, function, arguments) for function in functions]
    built = in_rounds(runs, repeats + 1)[1:]  # the first warms up
    runs = [functools.partial(timed, jax.jit(function), arguments) for function in functions]
    calls = in_rounds(runs, 20 * repeats + 1)[1:]
    numbers = dict(zip(TIMED + COUNTED, np.moveaxis(built, -1, 0), strict=True)) | {"call": calls}
    fields, out = {"shape": arguments[0].shape, "case": case}, []
    for step, pairs in numbers.items():
        over = {step: float(np.median(pairs[:, 1] / pairs[:, 0]))}
        out += records("Over optax's", "xent_jax", over, **fields)
    for i, library in enumerate(("optax", "xent_jax")):
        for step, pairs in numbers.items():
            unit, middle = "" if step in COUNTED else "ms", float(np.median(pairs[:, i]))
            number = {step: round(middle) if step in COUNTED else middle}
            out += records("Of each library", library, number, unit=unit, **fields)
    return out


def measure(quick: bool, progress: Progress):
    jax.config.update("jax_enable_compilation_cache", False)
    repeats, found = 3 if quick else 15, []
    task = progress.add_task("", total=3 * len(SHAPES))
    for shape in SHAPES:
        for case, (*losses, options, arguments) in cases(*shape).items():
            progress.update(task, description=f"{case}, {shape}", refresh=True)
            found += compare(case, losses, options, arguments, repeats)
            progress.advance(task)
    targets = [
        target(
            f"{step}: largest ratio",
            max(record.value for record in find(found, study="Over optax's", metric=step)),
            limit,
        )
        for step, limit in LIMITS.items()
    ]
    return targets + found, None


BENCHMARK = Benchmark(
    "compile_time",
    title="Tracing and compiling",
    question="How long do tracing and compiling value and gradient take beside optax?",
    notes="""A ratio is that of xent_jax over optax in the same repeat, and the median over repeats:
below 1, xent_jax takes less. Every repeat starts with JAX's caches empty. Equations are those of
the jaxpr, nested ones included. Instructions are those of the program that XLA:CPU runs. A call is
one of the jitted function. The options are label_smoothing and z_loss, and class_weights with soft
labels or ignore_index with integer labels.""",
    measure=measure,
    timed=True,
)

if __name__ == "__main__":
    BENCHMARK.main()
