"""The programs that head.py times: functions of x, w, y, cotangents g and a gradient dz of logits.

Each study has programs by name, with their targets. The first is what the others are compared with.
"""

from collections.abc import Callable

import jax
import jax.numpy as jnp

import xent_jax
from benchmarks._peers import TOKAMAX, head, held, in_chunks, of_optax, ours, pulled_back, room

CHUNK = 1024  # tokens, twice what is the default for the 32768 classes here
RANK = 16
TOKENS = 512  # of a chunk of any loss; its largest array has as many rows
ANY = 2048, 256, 16384
Timed = dict[str, tuple[Callable, float | None]]


def drawn(shape: tuple[int, int, int], seed: int = 0) -> tuple:
    """Draws inputs, kernel, labels, cotangents and a gradient of the logits; these are N(0, 1)."""
    n, d, v = shape
    keys = jax.random.split(jax.random.key(seed), 5)
    x, w = jax.random.normal(keys[0], (n, d)), jax.random.normal(keys[1], (d, v)) / d**0.5
    y, g = jax.random.randint(keys[2], (n,), 0, v), jax.random.normal(keys[3], (n,))
    return x, w, y, g, jax.random.normal(keys[4], (n, v))


def differentiated(loss, wrt=(0, 1)) -> Callable:
    """Returns value and gradient of a mean, to the inputs, the kernel or both."""
    return lambda x, w, y, g, dz: jax.value_and_grad(loss, wrt)(x, w, y)


HEADS: Timed = {
    "three bare products": (lambda x, w, y, g, dz: (x @ w, dz @ w.T, x.T @ dz), None),
    "head, value and gradients": (differentiated(head), 1.05),
    f"head, chunks of {CHUNK} tokens": (differentiated(in_chunks(CHUNK)), 1.05),
    'head, reduction "none"': (pulled_back, 1.45),
    "head, value alone": (lambda x, w, y, g, dz: head(x, w, y), 0.42),
    "head, gradient of the inputs alone": (differentiated(head, 0), 0.78),
    "head, gradient of the kernel alone": (differentiated(head, 1), 0.78),
    "logits, optax": (differentiated(held(of_optax)), None),
    "logits, xent_jax": (differentiated(held(ours)), None),
    **{name: (differentiated(loss), None) for name, loss in TOKAMAX.items()},
}


def with_mask(option: str, mask: Callable) -> Callable:
    """Returns a head with an option that is made from g, which is N(0, 1)."""
    return lambda x, w, y, g, dz: jax.value_and_grad(
        lambda x, w: head(x, w, y, **{option: mask(g)}), (0, 1)
    )(x, w)


half = "half of the tokens left out, by "
MASKED: Timed = {
    "no mask": (differentiated(head), None),
    "a mask that leaves all tokens in": (with_mask("where", lambda g: g < 9), 1.03),
    f"{half}where": (with_mask("where", lambda g: g < 0), 0.6),
    f"{half}weights": (with_mask("weights", lambda g: 1.0 * (g < 0)), 0.6),
    "95 % of the tokens left out, by where": (with_mask("where", lambda g: g < -1.645), 0.15),
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
