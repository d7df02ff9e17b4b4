"""Defines the table of cases: every exported loss, its textbook reference and its inputs.

The contract tests differentiate the references, most of which are in textbook.py, with JAX. To add
a loss, add a row.
"""

import contextlib
import inspect
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import xent_jax
from tests import textbook as book

WITHOUT_GRADIENT_OF_THEIR_OWN = {
    "chunked_loss",  # JAX derives its gradient from the given loss: test_chunked_loss.py
    "linear_head_plan",  # it computes nothing
    "safe_softmax_cross_entropy",  # another name of softmax_cross_entropy
    "shard_linear_head",  # it puts another function on a mesh
}
FUNCTIONS = sorted(
    name
    for name in set(xent_jax.__all__) - WITHOUT_GRADIENT_OF_THEIR_OWN
    if inspect.isfunction(getattr(xent_jax, name))
)
"""The exported functions with a gradient of their own."""


def x64(enabled=True):
    """Returns a context in which JAX computes in float64, or in float32 if not ``enabled``."""
    if hasattr(jax, "enable_x64"):
        return jax.enable_x64(enabled)
    from jax.experimental import enable_x64

    return enable_x64(enabled)


@contextlib.contextmanager
def strict():
    """Forbids implicit promotion of dtypes and ranks inside the context, as strict users do."""
    with jax.numpy_dtype_promotion("strict"), jax.numpy_rank_promotion("raise"):
        yield


# ------------------------------------------------------------------ inputs, by their kind

# Kinds whose last axis has the classes.
CLASSES = {"logits", "soft", "probabilities", "log_probabilities"}


def draw(kind: str, rng: np.random.Generator, batch: tuple[int, ...], k: int) -> np.ndarray:
    if kind == "logits":
        return 2 * rng.standard_normal((*batch, k))
    if kind == "soft":  # weights that do not sum to 1
        return rng.dirichlet(np.ones(k), batch) * rng.uniform(0.5, 1.5, (*batch, 1))
    if kind == "probabilities":
        return rng.dirichlet(np.ones(k), batch)
    if kind == "log_probabilities":
        return np.log(rng.dirichlet(np.ones(k), batch))
    if kind == "elements":  # elementwise losses: no axis is special
        return 2 * rng.standard_normal((*batch, k))
    if kind == "unit elements":
        return rng.uniform(0.05, 0.95, (*batch, k))
    if kind == "integers":
        each = rng.permutation(int(np.prod(batch))) + rng.integers(k)  # balanced
        return (each % k).reshape(batch).astype(np.int32)
    if kind == "weights":
        return rng.uniform(0.5, 2.0, k)
    if kind == "example weights":
        return rng.uniform(0.5, 2.0, batch)
    low, high = map(float, kind.split())
    return np.asarray(rng.uniform(low, high))


@dataclass(frozen=True, eq=False)  # so that results for a row can be cached
class Case:
    """One row: a loss, its arguments by kind, its options, its reference."""

    loss: str
    arguments: dict[str, str]  # positional, in order
    reference: Callable[..., Any]  # (*arguments, **keywords, **options), classes last
    keywords: dict[str, str] = field(default_factory=dict)  # arrays passed by name
    options: dict[str, Any] = field(default_factory=dict)  # static

    @property
    def id(self) -> str:
        given = [*self.keywords, *(f"{k}={v}" for k, v in self.options.items())]
        return "-".join([self.loss, *given])

    @property
    def has_axis(self) -> bool:
        return any(kind in CLASSES for kind in self.arguments.values())

    @property
    def parameters(self) -> list[str]:
        """The names of all parameters of the loss."""
        return list(inspect.signature(getattr(xent_jax, self.loss)).parameters)

    def inputs(self, rng, batch=(3,), k=5) -> dict[str, np.ndarray]:
        kinds = {**self.arguments, **self.keywords}
        return {name: draw(kind, rng, batch, k) for name, kind in kinds.items()}

    def floats(self, inputs: dict[str, Any]) -> dict[str, Any]:
        return {k: v for k, v in inputs.items() if jnp.issubdtype(v.dtype, jnp.floating)}

    def call(self, module, inputs: dict[str, Any], **more):
        return self.apply(getattr(module, self.loss), inputs, more)

    def expected(self, inputs: dict[str, Any], **more):
        return self.apply(self.reference, inputs, more)

    def apply(self, function, inputs, more):
        """Calls a function with the row's arguments, a mask if ``inputs`` has one, and options."""
        positional = [inputs[name] for name in self.arguments]
        named = {name: inputs[name] for name in (*self.keywords, "where") if name in inputs}
        return function(*positional, **named, **(self.options | more))


# -------------------------------------------------------------------------- the table

_LOGITS = {"logits": "logits"}
_SOFT = {"logits": "logits", "labels": "soft"}
_TWO_LOGITS = {"logits": "logits", "target_logits": "logits"}
_INTEGER = {"logits": "logits", "labels": "integers"}
_ELEMENTS = {"logits": "elements", "labels": "unit elements"}
_FOCUS = {"alpha": "0.1 0.9", "gamma": "0.5 3"}
_TWO = {"p": "soft", "q": "probabilities"}
_TARGETS = {"log_predictions": "log_probabilities", "targets": "soft"}
_SMOOTHING = {"label_smoothing": "0.05 0.3"}
_EVERYTHING = {**_SMOOTHING, "z_loss": "0.01 0.1", "class_weights": "weights"}
_WEIGHED = {**_EVERYTHING, "weights": "example weights"}
_TEMPERED, _MEAN = {"temperature": "0.5 3", "weights": "example weights"}, {"reduction": "mean"}

CASES = [
    Case("softmax", _LOGITS, book.softmax),
    Case("log_softmax", _LOGITS, book.log_softmax),
    Case("logsumexp", _LOGITS, book.logsumexp),
    Case("softmax_entropy", _LOGITS, lambda z: -(book.softmax(z) * book.log_softmax(z)).sum(-1)),
    Case("entropy", {"p": "probabilities"}, lambda p: -(p * jnp.log(p)).sum(-1)),
    Case("cross_entropy", _TWO, lambda p, q: -(p * jnp.log(q)).sum(-1)),
    Case("relative_entropy", _TWO, lambda p, q: (p * jnp.log(p / q)).sum(-1)),
    Case("kl_divergence", _TARGETS, lambda log_q, t: (t * (jnp.log(t) - log_q)).sum(-1)),
    Case(
        "kl_divergence_with_log_targets",
        {"log_predictions": "log_probabilities", "log_targets": "log_probabilities"},
        lambda log_q, log_t: (jnp.exp(log_t) * (log_t - log_q)).sum(-1),
    ),
    Case(
        "generalized_kl_divergence",
        _TARGETS,
        lambda log_q, t: (t * (jnp.log(t) - log_q) + jnp.exp(log_q) - t).sum(-1),
    ),
    *(
        Case("softmax_cross_entropy", _SOFT, book.soft, keywords, options)
        for keywords, options in (
            ({}, {}),
            (_SMOOTHING, {}),
            ({"z_loss": "0.01 0.1"}, {}),
            ({"class_weights": "weights"}, {}),
            (_EVERYTHING, {}),
            ({}, {"reduction": "sum"}),
            (_WEIGHED, {"reduction": "mean"}),
        )
    ),
    *(
        Case("softmax_cross_entropy_with_integer_labels", _INTEGER, book.integer, keywords, options)
        for keywords, options in (
            ({}, {}),
            (_SMOOTHING, {}),
            ({"z_loss": "0.01 0.1"}, {}),
            ({"class_weights": "weights"}, {}),
            (_EVERYTHING, {}),
            ({}, {"ignore_index": 2, "reduction": "sum"}),
            ({}, {"ignore_index": 0, "reduction": "mean"}),
            (_WEIGHED, {"reduction": "mean", "ignore_index": 1}),
        )
    ),
    *(
        Case("softmax_focal_loss", _INTEGER, book.focal, keywords, options)
        for keywords, options in (
            ({}, {}),
            ({"gamma": "0.5 3"}, {"reduction": "sum"}),
            (
                {"gamma": "1.5 3", "class_weights": "weights", "weights": "example weights"},
                {"reduction": "mean", "ignore_index": 1},
            ),
        )
    ),
    Case("sigmoid_binary_cross_entropy", _ELEMENTS, book.binary),
    Case(
        "sigmoid_binary_cross_entropy",
        _ELEMENTS,
        book.binary,
        {"pos_weight": "weights", "weights": "weights", **_SMOOTHING},
        _MEAN,
    ),
    Case("sigmoid_focal_loss", _ELEMENTS, book.binary_focal),
    Case("sigmoid_focal_loss", _ELEMENTS, book.binary_focal, _FOCUS),
    Case("poly_loss_cross_entropy", _SOFT, book.poly),
    Case("poly_loss_cross_entropy", _SOFT, book.poly, {"epsilon": "-1 3"}),
    Case("softmax_kl_divergence", _TWO_LOGITS, book.softmax_kl),
    Case("softmax_kl_divergence", _TWO_LOGITS, book.softmax_kl, _TEMPERED, _MEAN),
    Case("softmax_jensen_shannon_divergence", _TWO_LOGITS, book.softmax_js),
    Case(
        "softmax_jensen_shannon_divergence",
        _TWO_LOGITS,
        book.softmax_js,
        {"beta": "0.1 0.9", **_TEMPERED},
        _MEAN,
    ),
    Case("softcap", {"logits": "elements", "cap": "1 5"}, lambda z, c: c * jnp.tanh(z / c)),
]

RICHEST = {c.loss: c for c in sorted(CASES, key=lambda c: len(c.keywords) + len(c.options))}
"""Maps each function to its row with the most options."""


def row(*values, name="", quick=True):
    """Returns a test's parameters, marked slow unless the case is its function's richest."""
    case = values[0]
    marks = () if quick and case is RICHEST[case.loss] else pytest.mark.slow
    return pytest.param(*values, id="-".join(filter(None, [name, case.id])), marks=marks)
