"""Lists a call of each function that has a gradient, and draws the named arrays that it takes."""

from collections.abc import Callable, Collection
from typing import Any, NamedTuple

import numpy as np

from tests.cases import RICHEST, draw

WIDTH = 4


class Call(NamedTuple):
    """A function of named arrays: ``call(library, arrays, **options)``."""

    kinds: dict[str, str]  # the kind of each array, as ``draw`` takes it
    call: Callable[..., Any]
    takes: Collection[str]  # the names of other options

    def arrays(self, rng, rows, k):
        """Draws an array for each name, for ``rows`` examples and k classes."""
        shapes = {"inputs": (rows, WIDTH), "kernel": (WIDTH, k), "bias": (k,)}
        return {
            name: rng.normal(size=shapes[name]) if name in shapes else draw(kind, rng, (rows,), k)
            for name, kind in self.kinds.items()
        }


# ----------------------------------------------- functions without a row in the table of cases


def cross_entropy(library, arrays, **options):
    return library.linear_softmax_cross_entropy(**arrays, **options)


def _all_of(found):
    """Returns a number for each token that depends on all differentiable statistics."""
    return found.loss + found.logsumexp + found.entropy + found.top_k_log_probabilities.sum(-1)


def token_statistics(library, arrays, **options):
    return _all_of(library.token_statistics(**arrays, **options, top_k=2))


def linear_token_statistics(library, arrays, **options):
    return _all_of(library.linear_token_statistics(**arrays, **options, top_k=2))


def any_head(made):
    """Returns a call of ``with_linear_head`` with the arguments of ``made(library, arrays)``."""

    def call(library, arrays, reduction="mean", **given):
        head = library.with_linear_head(**made(library, arrays), reduction=reduction)
        given = {"bias": None, "where": None} | arrays | given
        layer = (given[name] for name in ("inputs", "kernel", "labels"))
        return head(*layer, bias=given["bias"], where=given["where"])

    return call


LAYER = {"inputs": "elements", "kernel": "all", "bias": "all", "labels": "integers"}
_CAP = {"logit_softcap": "2 4"}
_OPTIONS = {
    "label_smoothing": "0.1 0.2", "z_loss": "0.1 0.2", "class_weights": "weights",
    "temperature": "0.5 2", "weights": "example weights",
}  # fmt: skip

EVERY = {name: Call(c.arguments | c.keywords, c.call, c.parameters) for name, c in RICHEST.items()}
EVERY |= {
    "linear_softmax_cross_entropy": Call(
        LAYER | _OPTIONS | _CAP, cross_entropy, {"where", "ignore_index", "reduction"}
    ),
    "with_linear_head": Call(
        LAYER | {"labels": "soft"},
        any_head(lambda library, _: {"loss": library.softmax_cross_entropy}),
        {"where", "reduction"},
    ),
    "token_statistics": Call(
        {"logits": "logits", "labels": "integers"}, token_statistics, {"where"}
    ),
    "linear_token_statistics": Call(LAYER | _CAP, linear_token_statistics, {"where"}),
}
"""Maps each function's name to its call; losses of the table are called with most options."""


def _given(name):
    """Draws arrays for two examples of three classes; a mask, if any, keeps only the first."""
    arrays = EVERY[name].arrays(np.random.default_rng(3), 2, 3)
    masked = "where" in EVERY[name].takes and (name not in RICHEST or RICHEST[name].has_axis)
    return arrays | ({"where": np.array([True, False])} if masked else {})


CALLS = {name: (each.call, _given(name)) for name, each in EVERY.items()}
"""Maps each function's name to its call and an array for each argument."""
