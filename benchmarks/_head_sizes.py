"""The sizes at which head.py measures, and what is drawn for them."""

from typing import NamedTuple

import jax
from _losses import head, room


class Shape(NamedTuple):
    """The numbers of tokens, features and classes."""

    n: int
    d: int
    v: int

    def __str__(self):
        return f"N={self.n} D={self.d} V={self.v}"


FULL, HALF = Shape(2048, 512, 32768), Shape(512, 256, 4096)


def draw(shape: Shape, seed: int = 0) -> tuple:
    """Draws inputs, kernel, labels, cotangents and a gradient of the logits; these are N(0, 1)."""
    n, d, v = shape
    keys = jax.random.split(jax.random.key(seed), 5)
    x, w = jax.random.normal(keys[0], (n, d)), jax.random.normal(keys[1], (d, v)) / d**0.5
    y, g = jax.random.randint(keys[2], (n,), 0, v), jax.random.normal(keys[3], (n,))
    return x, w, y, g, jax.random.normal(keys[4], (n, v))


def in_chunks(tokens: int):
    """Returns the head with room for the logits of that many tokens."""
    return lambda x, w, y: head(x, w, y, **room(tokens, w.shape[1]))
