"""Times tracing and compiling of the losses of logits, beside optax in the same process.

    pip install "xent-jax[bench]"
    python benchmarks/compile_time.py [--quick] [--output DIR]

Each case is value and gradient of a mean loss. Each repeat clears JAX's caches before each of
the two libraries, which take turns in going first, and traces, lowers and compiles again. Then the
jitted functions are called in turn. A ratio is that of two times of the same repeat, and the median
over all repeats: below 1, xent_jax is faster. Equations are those of the jaxpr, nested ones
included; instructions are those of XLA's optimized program.

Prints the tables and whether the targets are reached; writes a section of report.md. Takes about
two minutes; --quick takes half a minute and is noisier.
"""

import time

import jax
import jax.numpy as jnp
import numpy as np
from _hlo import Program
from _optax_options import integer, soft
from _report import console, others, parser, publish, run, target, timed, with_targets
from jax.extend.core import ClosedJaxpr, Jaxpr
from rich.progress import Progress

import xent_jax

SHAPES = [(8, 10), (512, 8192)]
LIBRARIES = "optax", "xent_jax"
STEPS = "trace", "lower", "compile", "equations", "instructions", "call"
UNITS = {"trace": "ms", "lower": "ms", "compile": "ms", "call": "ms"}
LIMITS = {"trace": 1.5, "compile": 1.2}


def cases(n: int, k: int) -> dict[str, tuple]:
    """Returns the losses of both libraries and their arguments."""
    z = 3 * jax.random.normal(jax.random.key(0), (n, k))
    y = jnp.arange(n) % k
    t = jax.nn.softmax(-z)
    ours = xent_jax.softmax_cross_entropy_with_integer_labels
    both = {"label_smoothing": 0.1, "z_loss": 1e-4}
    for_soft = both | {"class_weights": jnp.linspace(0.5, 1.5, k)}
    for_integer = both | {"ignore_index": 3}
    return {
        "integer labels": (integer, ours, {}, (z, y)),
        "soft labels, all options": (soft, xent_jax.softmax_cross_entropy, for_soft, (z, t)),
        "integer labels, three options": (integer, ours, for_integer, (z, y)),
    }


def differentiated(loss, options: dict):
    return jax.value_and_grad(lambda z, labels: loss(z, labels, **options).mean())


def equations(jaxpr: Jaxpr | ClosedJaxpr) -> int:
    """Returns the number of a jaxpr's equations, nested ones included."""
    inner = (part for one in jaxpr.eqns for part in jax.tree.leaves(list(one.params.values())))
    nested = sum(equations(part) for part in inner if isinstance(part, Jaxpr | ClosedJaxpr))
    return len(jaxpr.eqns) + nested


def build(function, arguments: tuple) -> list[float]:
    """Returns the seconds or counts of each step from tracing to the program."""
    jax.clear_caches()
    times = [time.perf_counter()]
    traced = jax.jit(function).trace(*arguments)
    times.append(time.perf_counter())
    lowered = traced.lower()
    times.append(time.perf_counter())
    program = lowered.compile()
    times.append(time.perf_counter())
    instructions = map(len, Program(program.as_text()).computations.values())
    return [*np.diff(times), equations(traced.jaxpr), sum(instructions)]


def in_turn(measure, repeats: int) -> np.ndarray:
    """Calls ``measure`` for 0 and 1 in turn; returns [repeats, 2, ...], after one warm-up."""
    rows = []
    for i in range(repeats + 1):
        order = (0, 1) if i % 2 else (1, 0)
        found = {j: measure(j) for j in order}
        rows.append([found[0], found[1]])
    return np.array(rows[1:])


def measure(losses: list, options: dict, arguments: tuple, repeats: int) -> np.ndarray:
    """Returns the medians, [library, step]; the last row has the medians of the ratios."""
    functions = [differentiated(loss, options) for loss in losses]
    built = in_turn(lambda j: build(functions[j], arguments), repeats)
    jitted = [jax.jit(function) for function in functions]
    calls = in_turn(lambda j: timed(jitted[j], arguments), 20 * repeats)
    found = [
        np.concatenate([np.median(steps, 0), np.median(steps[:, 1:] / steps[:, :1], 0)])
        for steps in (built, calls[..., None])
    ]
    return np.concatenate(found, 1)


def tables(found: dict[str, np.ndarray]) -> dict[str, tuple]:
    """Returns the tables: title to head and rows."""
    head = [f"{step}\n{UNITS[step]}" if step in UNITS else step for step in STEPS]
    rows = [
        [what, library]
        + [
            f"{1e3 * value:.3g}" if step in UNITS else f"{value:.0f}"
            for step, value in zip(STEPS, numbers[i], strict=True)
        ]
        for what, numbers in found.items()
        for i, library in enumerate(LIBRARIES)
    ]
    over = [[what, *(f"{ratio:.2f}" for ratio in numbers[-1])] for what, numbers in found.items()]
    return {
        "Over optax's": (["value and gradient", *STEPS], over),
        "Of each library": (["value and gradient", "library", *head], rows),
    }


def summary(found: dict[str, np.ndarray]) -> list[list[str]]:
    """Returns the largest ratios beside their targets."""
    return [
        target(
            f"{step}: largest ratio", max(n[-1, STEPS.index(step)] for n in found.values()), limit
        )
        for step, limit in LIMITS.items()
    ]


NOTES = """A ratio is that of xent_jax over optax in the same repeat, and the median over repeats:
below 1, xent_jax takes less. Every repeat starts with JAX's caches empty. Equations are those of
the jaxpr, nested ones included. Instructions are those of the program that XLA:CPU runs. A call is
one of the jitted function. The options are label_smoothing and z_loss, and class_weights with soft
labels or ignore_index with integer labels."""


def main() -> None:
    options = parser("Tracing and compiling the losses beside optax.", "few repeats").parse_args()
    jax.config.update("jax_enable_compilation_cache", False)
    repeats, found = 3 if options.quick else 15, {}
    # No refresh from a thread: it would take a core during the runs.
    with Progress(console=console(), auto_refresh=False) as progress:
        task = progress.add_task("", total=3 * len(SHAPES))
        for n, k in SHAPES:
            for what, (theirs, ours, chosen, arguments) in cases(n, k).items():
                name = f"{what}, {n} x {k}"
                progress.update(task, description=name, refresh=True)
                found[name] = measure([theirs, ours], chosen, arguments, repeats)
                progress.advance(task)
    publish(
        "compile_time",
        options,
        with_targets(summary(found), tables(found)),
        title="Tracing and compiling",
        question="How long do tracing and compiling value and gradient take beside optax?",
        notes=NOTES,
        others=others(),
        picture=False,
    )


if __name__ == "__main__":
    run(main)
