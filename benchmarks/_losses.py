"""What several benchmarks compile, as mean losses of inputs, kernel and labels."""

import logging
from collections.abc import Callable

import jax.numpy as jnp
import optax

import xent_jax

try:
    import tokamax

    logging.getLogger("absl").setLevel(logging.ERROR)  # it warns of every shape not tuned for
except ImportError:
    tokamax = None

LEFT_OUT = [] if tokamax else ["tokamax: pip install tokamax, for Python 3.12 or later"]
MIB = 2**20

head = xent_jax.linear_softmax_cross_entropy
ours = xent_jax.softmax_cross_entropy_with_integer_labels
of_optax = optax.softmax_cross_entropy_with_integer_labels


def held(loss: Callable, dtype=None) -> Callable:
    """Returns the mean loss of all logits, which are cast to a dtype if one is given."""
    return lambda x, w, y: loss(jnp.asarray(x @ w, dtype), y).mean()


def of_tokamax(x, w, y):
    return tokamax.linear_softmax_cross_entropy_loss(
        x, y, w, reduction="mean", implementation="chunked_xla"
    )


def room(tokens: int, classes: int) -> dict[str, int]:
    """Returns the head's option for chunks of so many tokens, from the float32 bytes they take."""
    return {"max_logits_bytes": 2 * 4 * tokens * classes}
