"""Times of tracing and compiling of losses and linear head, and of calls outside jit, beside optax.

Each case is value and gradient of a mean loss. Every repeat clears JAX's caches before each of the
two libraries, in a random order, and traces, lowers and compiles again. A ratio is that of xent_jax
over optax in the same repeat, and the median over repeats: below 1, xent_jax takes less. Equations
are those of the jaxpr, nested ones included. Instructions are those of the program that XLA:CPU
runs. A call is one of the jitted function. The options are label_smoothing and z_loss, and
class_weights with soft labels or ignore_index with integer labels. The linear head's three options
are label_smoothing, z_loss and logit_softcap, and its gradients those of inputs and kernel. Calls
outside jit are of small arrays, as in a notebook or a test.
"""

from collections.abc import Callable
from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import optax
from jax.extend.core import ClosedJaxpr, Jaxpr

import xent_jax
from benchmarks._hlo import Program
from benchmarks._peers import head, held, mean, of_optax, optax_integer, optax_soft, ours
from benchmarks._records import Goal, Record, reached, records
from benchmarks._running import Benchmark, clocked, in_rounds, times, track

SHAPES = (8, 10), (512, 8192)
TIMED, COUNTED = ("trace", "lower", "compile"), ("equations", "instructions")
HEAD = 4096, 256, 16384  # tokens, width, vocabulary
LOSSES, HEADS = "Over optax's", "The linear head over optax on held logits"
GOALS = [
    Goal("trace: largest ratio", 1.5, {"study": LOSSES, "metric": "trace"}),
    Goal("compile: largest ratio", 1.2, {"study": LOSSES, "metric": "compile"}),
    Goal("linear head, trace: largest ratio", 2.0, {"study": HEADS, "metric": "trace"}),
    Goal("linear head, compile: largest ratio", 1.5, {"study": HEADS, "metric": "compile"}),
]
BOTH = {"label_smoothing": 0.1, "z_loss": 1e-4}
THREE = BOTH | {"ignore_index": 3}


def losses(n: int, k: int) -> dict[str, tuple]:
    """Returns mean losses of optax and of xent_jax, with their arguments."""
    z = 3 * jax.random.normal(jax.random.key(0), (n, k))
    y, t, weights = jnp.arange(n) % k, jax.nn.softmax(-z), jnp.linspace(0.5, 1.5, k)
    integer, soft = (optax_integer, ours), (optax_soft, xent_jax.softmax_cross_entropy)
    weighted = BOTH | {"class_weights": weights}
    return {
        "integer labels": (*map(mean, integer), (z, y)),
        "soft labels, all options": (*(mean(f, **weighted) for f in soft), (z, t)),
        "integer labels, three options": (*(mean(f, **THREE) for f in integer), (z, y)),
    }


def heads(tokens: int, width: int, classes: int) -> dict[str, tuple]:
    """Returns mean losses of held logits and of the head, with their arguments."""
    given = jnp.ones((tokens, width)), jnp.ones((width, classes)), jnp.arange(tokens)

    def capped(x, w, y):
        return optax_integer(30 * jnp.tanh(x @ w / 30), y, **BOTH).mean()

    return {
        "linear head": (held(of_optax), head, given),
        "linear head, three options": (capped, partial(head, logit_softcap=30.0, **BOTH), given),
    }


def outside_jit(n: int, k: int) -> dict[str, tuple]:
    """Returns calls of optax and of xent_jax, with their arguments."""
    z, y = jnp.linspace(-1.0, 1.0, n * k).reshape(n, k), jnp.arange(n) % k
    t, x, w = jax.nn.softmax(-z), jnp.ones((n, 4)), jnp.linspace(0.0, 1.0, 4 * k).reshape(4, k)

    def optax_mean(z, y):
        return jnp.sum(optax_integer(z, y, **THREE)) / jnp.maximum(jnp.sum(y != 3), 1)

    def made_anew(x, w, y):
        return xent_jax.with_linear_head(xent_jax.softmax_focal_loss)(x, w, y)

    binary = optax.sigmoid_binary_cross_entropy, xent_jax.sigmoid_binary_cross_entropy
    our_mean = partial(ours, **THREE, reduction="mean")
    gradients = [jax.grad(lambda z, y, f=f: jnp.mean(f(z, y))) for f in (of_optax, ours)]
    return {
        "integer labels": (of_optax, ours, (z, y)),
        "integer labels, all options": (optax_mean, our_mean, (z, y)),
        "soft labels": (optax.softmax_cross_entropy, xent_jax.softmax_cross_entropy, (z, t)),
        "binary": (*binary, (z, t)),
        "integer labels, gradient": (*gradients, (z, y)),
        "the linear head": (held(of_optax), head, (x, w, y)),
        "with_linear_head, made anew": (held(of_optax), made_anew, (x, w, y)),
    }


def equations(jaxpr: Jaxpr | ClosedJaxpr) -> int:
    """Returns the number of a jaxpr's equations, nested ones included."""
    inner = (part for one in jaxpr.eqns for part in jax.tree.leaves(list(one.params.values())))
    nested = sum(equations(part) for part in inner if isinstance(part, Jaxpr | ClosedJaxpr))
    return len(jaxpr.eqns) + nested


def build(function: Callable, arguments: tuple) -> list[float]:
    """Returns the milliseconds or counts of each step from tracing to the program."""
    jax.clear_caches()
    tracing, traced = clocked(jax.jit(function).trace, *arguments)
    lowering, lowered = clocked(traced.lower)
    compiling, program = clocked(lowered.compile)
    instructions = map(len, Program(program.as_text()).computations.values())
    return [tracing, lowering, compiling, equations(traced.jaxpr), sum(instructions)]


def compare(studies: tuple[str, str], numbers: dict[str, np.ndarray], **fields) -> list[Record]:
    """Returns the median ratios and each library's medians, from [repeats, 2] of each step."""
    over = {step: float(np.median(n[:, 1] / n[:, 0])) for step, n in numbers.items()}
    out = records(studies[0], "xent_jax", over, **fields)
    for i, library in enumerate(("optax", "xent_jax")):
        for step, pairs in numbers.items():
            middle, unit = float(np.median(pairs[:, i])), "ms"
            if step in COUNTED:
                middle, unit = round(middle), ""
            out += records(studies[1], library, {step: middle}, unit=unit, **fields)
    return out


def measure(quick: bool) -> list[Record]:
    jax.config.update("jax_enable_compilation_cache", False)
    repeats, found = 3 if quick else 15, []
    known = [(LOSSES, shape, *one) for shape in SHAPES for one in losses(*shape).items()]
    known += [(HEADS, HEAD, *one) for one in heads(*HEAD).items()]
    for study, shape, case, (*functions, arguments) in track(known, "compile"):
        wrt = (0, 1) if study == HEADS else 0
        steps = [jax.value_and_grad(function, wrt) for function in functions]
        builds = [partial(build, step, arguments) for step in steps]
        built = np.moveaxis(in_rounds(builds, repeats), -1, 0)
        numbers = dict(zip(TIMED + COUNTED, built, strict=True))
        if study == LOSSES:  # benchmarks.head times calls of the head
            numbers["call"] = times(map(jax.jit, steps), arguments, 20 * repeats)
        found += compare((study, "Of each library"), numbers, case=case, shape=shape)
    eager = outside_jit(*SHAPES[0]).items()
    for case, (*functions, arguments) in track(eager, "outside jit"):
        numbers, study = {"call": times(functions, arguments, 30 * repeats)}, "Calls outside jit"
        found += compare((study, study), numbers, case=case, shape=SHAPES[0])
    return reached(found, GOALS) + found


BENCHMARK = Benchmark("compile_time", "Tracing and compiling", __doc__, measure, timed=True)
if __name__ == "__main__":
    BENCHMARK.main()
