"""Time, memory and half-precision errors of the linear head, beside logits that are held.

Time is the median over the rounds, in each of which every program runs once, in a random order. Its
ratio is to the three products of the same round that any implementation needs: x W, dz W' and
x' dz. The targets for time are meant for N=2048 D=512 V=32768. Memory is in MiB beside arguments
and results, as the compiler states it; for its growth, programs are only compiled. An error is the
largest error against float64 over the largest component, and the worst of five draws. The spread is
the standard deviation of the logits. At a spread of 1 only the label's entry of dz matters, and
every program rounds it in the same way.
"""

from collections.abc import Callable
from functools import partial

import jax
import jax.numpy as jnp
import numpy as np

import xent_jax
from benchmarks._peers import LEFT_OUT, TOKAMAX, chunked, head, held, of_optax, ours, pullback, room
from benchmarks._records import Record, find, records, target
from benchmarks._running import Benchmark, compiled, ratios, temp_mib, times, track
from tests.cases import x64

FULL, SMALL, HALF = (2048, 512, 32768), (1024, 128, 32768), (512, 256, 4096)
GROWN = {"N": [(2**i, *FULL[1:]) for i in range(10, 16)]}
GROWN["V"] = [(*FULL[:2], 2**i) for i in range(13, 18)]
TEMP_TARGET = 0.25  # of the temporary memory with logits that are held
SPREADS = 1, 3  # standard deviations of the logits
MODELS = {
    "xent_jax head": head,
    "xent_jax head, chunks of 64 tokens": chunked(64),
    "logits, optax": held(of_optax),
    "logits, cast to float32, optax": held(of_optax, jnp.float32),
} | TOKAMAX
CHUNK = 1024  # tokens: twice the default for the 32768 classes here
RANK = 16
TOKENS = 512  # in a chunk of ``chunked_loss``; its largest array has as many rows
ANY = 2048, 256, 16384
# Programs by name, with their targets. They are functions of x, w, y, cotangents g and a gradient
# dz of the logits. The others are compared with the first one.
Timed = dict[str, tuple[Callable, float | None]]


def drawn(shape: tuple[int, int, int], seed: int = 0) -> tuple:
    """Draws inputs, kernel, labels, cotangents and a gradient of the logits, which are N(0, 1)."""
    n, d, v = shape
    keys = jax.random.split(jax.random.key(seed), 5)
    x, w = jax.random.normal(keys[0], (n, d)), jax.random.normal(keys[1], (d, v)) / d**0.5
    y, g = jax.random.randint(keys[2], (n,), 0, v), jax.random.normal(keys[3], (n,))
    return x, w, y, g, jax.random.normal(keys[4], (n, v))


def differentiated(loss: Callable, wrt=(0, 1), **masks: Callable) -> Callable:
    """Returns value and gradient of a mean loss; ``masks`` are made of g, which is N(0, 1)."""

    def mean(x, w, y, g, dz):
        return loss(x, w, y, **{option: mask(g) for option, mask in masks.items()})

    return jax.value_and_grad(mean, wrt)


HEADS: Timed = {
    "three bare products": (lambda x, w, y, g, dz: (x @ w, dz @ w.T, x.T @ dz), None),
    "head, value and gradients": (differentiated(head), 1.05),
    f"head, chunks of {CHUNK} tokens": (differentiated(chunked(CHUNK)), 1.05),
    'head, reduction "none"': (pullback, 1.45),
    "head, value alone": (lambda x, w, y, g, dz: head(x, w, y), 0.42),
    "head, gradient of the inputs alone": (differentiated(head, 0), 0.78),
    "head, gradient of the kernel alone": (differentiated(head, 1), 0.78),
    "logits, optax": (differentiated(held(of_optax)), None),
    "logits, xent_jax": (differentiated(held(ours)), None),
    **{name: (differentiated(loss), None) for name, loss in TOKAMAX.items()},
}
half, masked = "half of the tokens left out, by ", partial(differentiated, head)
MASKED: Timed = {
    "no mask": (differentiated(head), None),
    "a mask that leaves all tokens in": (masked(where=lambda g: g < 9), 1.03),
    f"{half}where": (masked(where=lambda g: g < 0), 0.6),
    f"{half}weights": (masked(weights=lambda g: 1.0 * (g < 0)), 0.6),
    "95 % of the tokens left out, by where": (masked(where=lambda g: g < -1.645), 0.15),
}


def adapted(params, x, y):
    """Returns losses after a norm, a kernel with an adapter of low rank, and a soft cap."""
    w, down, up = params
    x = x / jnp.sqrt(jnp.mean(x**2, -1, keepdims=True) + 1e-6)
    return ours(xent_jax.softcap(x @ w + (x @ down) @ up, 30.0), y)


def in_a_checkpointed_scan(params, x, y):
    """Returns the mean of ``adapted`` as plain JAX takes it in chunks."""
    chunks = jax.tree.map(lambda a: a.reshape(-1, TOKENS, *a.shape[1:]), (x, y))
    body = jax.checkpoint(lambda total, rows: (total + jnp.sum(adapted(params, *rows)), None))
    return jax.lax.scan(body, jnp.zeros(()), chunks)[0] / len(y)


def of_params(loss: Callable) -> Callable:
    step = jax.value_and_grad(loss, (0, 1))
    return lambda x, w, y, g, dz: step((w, w[:, :RANK], w[:RANK]), x, y)


ADAPTED: Timed = {
    "all logits held": (of_params(lambda *args: jnp.mean(adapted(*args))), None),
    "chunked_loss": (of_params(xent_jax.chunked_loss(adapted, **room(TOKENS, ANY[2]))), None),
    "jax.checkpoint in jax.lax.scan": (of_params(in_a_checkpointed_scan), None),
}


def timings(study: str, programs: Timed, shape, least: int, seconds: float) -> list[Record]:
    """Returns the times and ratios of the programs; the ratios are to the first program."""
    arguments, out = drawn(shape), []
    functions = track([function for function, _ in programs.values()], f"compile, {study}")
    built = [compiled(function, arguments) for function in functions]
    print(f"rounds, {study}: {seconds} s", flush=True)
    found = times(built, arguments, least, seconds).T
    for (name, (_, limit)), program, own in zip(programs.items(), built, found, strict=True):
        numbers = {"time": float(np.median(own))} | ratios(own, found[0])
        numbers |= {"temp": temp_mib(program), "rounds": len(own)}
        out += records(study, name, numbers, {"ratio": limit}, dtype="float32", shape=shape)
    return out


def growth(axis: str) -> list[Record]:
    """Returns the MiB of the head and of logits that are held, from programs that do not run."""
    out = []
    for shape in track(GROWN[axis], f"memory against {axis}"):
        arguments = jax.eval_shape(partial(drawn, shape))
        steps = (HEADS[name][0] for name in ("head, value and gradients", "logits, optax"))
        ours, theirs = ({"temp": temp_mib(compiled(step, arguments))} for step in steps)
        ours["over optax"] = ours["temp"] / theirs["temp"]
        for name, numbers in {"xent_jax head": ours, "logits, optax": theirs}.items():
            out += records(f"Memory against {axis}", name, numbers, dtype="float32", shape=shape)
    return out


def half_errors(draws: int, spread: float) -> list[Record]:
    """Returns the worst errors of loss, dx and dW over the draws, by model.

    An error is the largest error over the largest component.
    """
    programs = {name: jax.jit(jax.value_and_grad(loss, (0, 1))) for name, loss in MODELS.items()}
    errors, out = {name: [] for name in programs}, []
    for seed in track(range(draws), f"bfloat16, spread {spread}"):
        x, w, y, *_ = drawn(HALF, seed)
        x, w = x.astype(jnp.bfloat16), (spread * w).astype(jnp.bfloat16)
        with x64():
            exact = programs["logits, optax"](x.astype("float64"), w.astype("float64"), y)
        for name, program in programs.items():
            pairs = zip(*map(jax.tree.leaves, (program(x, w, y), exact)), strict=True)
            pairs = [[np.asarray(array, np.float64) for array in pair] for pair in pairs]
            errors[name].append([abs(a - b).max() / abs(b).max() for a, b in pairs])
    for name, found in errors.items():
        numbers = dict(zip(("loss", "dx", "dW"), np.max(found, 0).tolist(), strict=True))
        fields = {"dtype": "bfloat16", "shape": HALF, "case": f"spread {spread}"}
        out += records("Errors of loss / dx / dW", name, numbers, unit="of the largest", **fields)
    return out


def summary(found: list[Record]) -> list[Record]:
    """Returns the targets of time, of memory, and of errors beside those of the peers."""
    timed = [record for record in find(found, metric="ratio") if record.limit]
    lines = [target(f"{record.program}: time", record.value, record.limit) for record in timed]
    (share,) = find(found, study="Memory against N", metric="over optax", shape=FULL)
    what = f"temporary memory over that of held logits, {share.size}"
    lines.append(target(what, share.value, TEMP_TARGET))
    # At the first spread, the errors of all programs come from rounding the results.
    case = f"spread {SPREADS[-1]}"
    last = find(found, study="Errors of loss / dx / dW", case=case)
    errors = {(record.program, record.metric): record.value for record in last}
    for peer in ("logits, optax", *TOKAMAX):
        for of in ("dx", "dW"):
            what = f"error in bfloat16 of {of} over that of {peer}, {case}"
            lines.append(target(what, errors["xent_jax head", of] / errors[peer, of], 1))
    return lines


def measure(quick: bool) -> list[Record]:
    shape, least, longer, seconds, draws = (SMALL, 2, 8, 3, 1) if quick else (FULL, 3, 200, 45, 5)
    found = timings("Time", HEADS, shape, least, longer) + growth("N") + growth("V")
    found += timings("Tokens that are left out", MASKED, (8192, 256, 8192), least, seconds)
    adapted = "A norm, a kernel with an adapter and a soft cap"
    found += timings(adapted, ADAPTED, ANY, least, seconds)
    found += sum((half_errors(draws, spread) for spread in SPREADS), [])
    return summary(found) + found


BENCHMARK = Benchmark("head", "The linear head", __doc__, measure, None, LEFT_OUT, True)
if __name__ == "__main__":
    BENCHMARK.main()
