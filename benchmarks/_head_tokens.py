"""Programs for head.py: tokens that are left out, and a loss that is not one kernel's."""

import jax
import jax.numpy as jnp
from _head_sizes import Shape
from _losses import head, ours

import xent_jax

MASKED, ANY = Shape(8192, 256, 8192), Shape(2048, 256, 16384)
RANK = 16
TOKENS = 512  # of a chunk of any loss; its largest array has as many rows


def masked() -> list[tuple]:
    """Returns names, programs and targets; the first leaves out no token.

    The masks are drawn from the cotangents g, which are N(0, 1).
    """

    def program(options):
        def loss(x, w, y, g):
            return head(x, w, y, **options(g))

        return lambda x, w, y, g, dz: jax.value_and_grad(loss, (0, 1))(x, w, y, g)

    left_out = {
        "no mask": (lambda g: {}, None),
        "a mask that leaves all tokens in": (lambda g: {"where": g < 9}, 1.03),
        "half of the tokens left out, by where": (lambda g: {"where": g < 0}, 0.6),
        "half of the tokens left out, by weights": (lambda g: {"weights": 1.0 * (g < 0)}, 0.6),
        "95 % of the tokens left out, by where": (lambda g: {"where": g < -1.645}, 0.15),
    }
    return [(what, program(options), limit) for what, (options, limit) in left_out.items()]


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


def any_loss() -> list[tuple]:
    """Returns names, programs and targets of ``adapted``; the first holds all logits."""
    row = 2 * 4 * ANY.v
    losses = {
        "all logits held": lambda *args: jnp.mean(adapted(*args)),
        "chunked_loss": xent_jax.chunked_loss(adapted, max_logits_bytes=row * TOKENS),
        "jax.checkpoint in jax.lax.scan": in_a_checkpointed_scan,
    }

    def program(loss):
        def run(x, w, y, g, dz):
            params = w, w[:, :RANK], w[:RANK]
            return jax.value_and_grad(loss, (0, 1))(params, x, y)

        return run

    return [(what, program(loss), None) for what, loss in losses.items()]
