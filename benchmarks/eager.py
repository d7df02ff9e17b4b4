"""Times calls outside ``jax.jit``, beside optax: ``python -m benchmarks.eager [--rounds N]``.

A notebook or a test calls a loss eagerly on small arrays, where Python and the dispatch of programs
take all the time. A time is the median over the rounds, and a ratio is the median of the rounds'
ratios: below 1, xent_jax is faster.
"""

import argparse
import functools

import jax
import jax.numpy as jnp
import numpy as np
import optax

import xent_jax
from benchmarks._peers import INTEGER, head, held, of_optax, optax_integer, ours
from benchmarks._records import pivot, records
from benchmarks._running import console, in_rounds, machine, show, timed

N, K, D = 8, 10, 4
Z, Y = jnp.linspace(-1.0, 1.0, N * K).reshape(N, K), jnp.arange(N) % K
T, X, W = jax.nn.softmax(-Z), jnp.ones((N, D)), jnp.linspace(0.0, 1.0, D * K).reshape(D, K)
OPTIONS = {"ignore_index": 3, "label_smoothing": 0.1, "z_loss": 1e-3}


def optax_with_options(z, y):
    losses = optax_integer(z, y, **OPTIONS)
    return jnp.sum(losses) / jnp.maximum(jnp.sum(y != OPTIONS["ignore_index"]), 1)


def gradient(loss):
    return jax.grad(lambda z, y: jnp.mean(loss(z, y)))


def made_anew(x, w, y):
    return xent_jax.with_linear_head(xent_jax.softmax_focal_loss)(x, w, y)


def both(name: str) -> tuple:
    """Returns the losses of that name, of xent_jax and of optax."""
    return getattr(xent_jax, name), getattr(optax.losses, name)


CALLS = {
    "integer labels": (*both(INTEGER), (Z, Y)),
    "integer labels, all options": (
        functools.partial(ours, **OPTIONS, reduction="mean"), optax_with_options, (Z, Y)
    ),
    "soft labels": (*both("softmax_cross_entropy"), (Z, T)),
    "binary": (*both("sigmoid_binary_cross_entropy"), (Z, T)),
    "integer labels, gradient": (gradient(ours), gradient(of_optax), (Z, Y)),
    "the linear head": (head, held(of_optax), (X, W, Y)),
    "with_linear_head, made anew": (made_anew, held(of_optax), (X, W, Y)),
}  # fmt: skip


def main() -> None:
    options = argparse.ArgumentParser(description="Calls outside jit, beside optax.")
    options.add_argument("--rounds", type=int, default=500, metavar="N")
    rounds, found = options.parse_args().rounds, []
    for name, (*losses, arguments) in CALLS.items():
        runs = [functools.partial(timed, loss, arguments) for loss in losses]
        times = in_rounds(runs, rounds + 2)[2:]  # the first two warm up
        mine, theirs = np.median(times, axis=0).tolist()
        ratio = float(np.median(times[:, 0] / times[:, 1]))
        found += records("", name, {"optax ms": theirs, "xent_jax ms": mine, "ratio": ratio})
    show(f"Calls outside jit, [{N}, {K}]", *pivot(found, {"": "{program}"}, "{metric}"))
    console().print(machine())


if __name__ == "__main__":
    main()
