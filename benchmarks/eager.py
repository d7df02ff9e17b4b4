"""Time of calls outside ``jax.jit``, beside optax in the same process.

    pip install "xent-jax[bench]"
    python benchmarks/eager.py [--rounds N]

A notebook or a test calls a loss eagerly on small arrays, where Python and the dispatch of programs
take all the time. Each round runs every call once, xent_jax and optax in turn. A time is the median
over the rounds, and a ratio is the median of the rounds' ratios: below 1, xent_jax is faster.
"""

import argparse

import jax
import jax.numpy as jnp
import numpy as np
import optax
from _report import console, machine, run, show, timed

import xent_jax

N, K, D = 8, 10, 4
Z, Y = jnp.linspace(-1.0, 1.0, N * K).reshape(N, K), jnp.arange(N) % K
T, X, W = jax.nn.softmax(-Z), jnp.ones((N, D)), jnp.linspace(0.0, 1.0, D * K).reshape(D, K)
INTEGER = "softmax_cross_entropy_with_integer_labels"


def ours_with_options(z, y):
    return getattr(xent_jax, INTEGER)(
        z, y, ignore_index=3, label_smoothing=0.1, z_loss=1e-3, reduction="mean"
    )


def optax_with_options(z, y):
    soft = optax.losses.smooth_labels(jax.nn.one_hot(y, K), 0.1)
    losses = optax.losses.softmax_cross_entropy(z, soft)
    losses = losses + 1e-3 * jax.nn.logsumexp(z, -1) ** 2
    kept = y != 3
    return jnp.sum(jnp.where(kept, losses, 0.0)) / jnp.maximum(jnp.sum(kept), 1)


def gradient(loss):
    return jax.grad(lambda z, y: jnp.mean(loss(z, y)))


CALLS = {
    "integer labels": (getattr(xent_jax, INTEGER), getattr(optax.losses, INTEGER), (Z, Y)),
    "integer labels, all options": (ours_with_options, optax_with_options, (Z, Y)),
    "soft labels": (
        xent_jax.softmax_cross_entropy, optax.losses.softmax_cross_entropy, (Z, T)
    ),
    "binary": (
        xent_jax.sigmoid_binary_cross_entropy, optax.losses.sigmoid_binary_cross_entropy, (Z, T)
    ),
    "integer labels, gradient": (
        gradient(getattr(xent_jax, INTEGER)), gradient(getattr(optax.losses, INTEGER)), (Z, Y)
    ),
    "the linear head": (
        xent_jax.linear_softmax_cross_entropy,
        lambda x, w, y: jnp.mean(getattr(optax.losses, INTEGER)(x @ w, y)),
        (X, W, Y),
    ),
    "with_linear_head, made anew": (
        lambda x, w, y: xent_jax.with_linear_head(xent_jax.softmax_focal_loss)(x, w, y),
        lambda x, w, y: jnp.mean(getattr(optax.losses, INTEGER)(x @ w, y)),
        (X, W, Y),
    ),
}  # fmt: skip


def main() -> None:
    options = argparse.ArgumentParser(description="Calls outside jit, beside optax.")
    options.add_argument("--rounds", type=int, default=500, metavar="N")
    rounds = options.parse_args().rounds
    times = {name: np.zeros((rounds, 2)) for name in CALLS}
    for i in range(-2, rounds):  # the first two warm up
        for name, (*both, arguments) in CALLS.items():
            order = (0, 1) if i % 2 else (1, 0)
            for j in order:
                times[name][i, j] = timed(both[j], arguments)
    rows = [
        [
            name,
            *(f"{1e3 * np.median(t[:, j]):.3f}" for j in (1, 0)),
            f"{np.median(t[:, 0] / t[:, 1]):.3f}",
        ]
        for name, t in times.items()
    ]
    show(
        console(), f"Calls outside jit, [{N}, {K}]", ["", "optax ms", "xent_jax ms", "ratio"], rows
    )
    console().print(machine())


if __name__ == "__main__":
    run(main)
