"""The table of cases: every exported loss, its textbook reference and its inputs.

The references are formulas of a textbook, in float64 and without care for rounding. The contract
tests differentiate them with JAX. To add a loss, add a row.
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

WITHOUT_GRADIENT_OF_THEIR_OWN = {
    "chunked_loss",  # its gradient is what JAX derives of the given loss: test_chunked_loss.py
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
    """A context in which JAX computes in float64, or else in float32."""
    if hasattr(jax, "enable_x64"):
        return jax.enable_x64(enabled)
    from jax.experimental import enable_x64

    return enable_x64(enabled)


@contextlib.contextmanager
def strict():
    """No implicit promotion of dtypes or ranks: what strict users run with."""
    with jax.numpy_dtype_promotion("strict"), jax.numpy_rank_promotion("raise"):
        yield


# ------------------------------------------------------------------ inputs, by their kind

CLASSES = {"logits", "soft", "probabilities", "log_probabilities"}  # kinds that end in [k]


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
        return rng.integers(0, k, batch).astype(np.int32)
    if kind == "weights":
        return rng.uniform(0.5, 2.0, k)
    if kind == "example weights":
        return rng.uniform(0.5, 2.0, batch)
    low, high = map(float, kind.split())
    return np.asarray(rng.uniform(low, high))


@dataclass(frozen=True)
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
        """The names of everything that the loss takes."""
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
        positional = [inputs[name] for name in self.arguments]
        named = {name: inputs[name] for name in self.keywords}
        return function(*positional, **named, **self.options, **more)


# -------------------------------------------------------------------- textbook references


def _log_p(z, where=None):
    p = jnp.exp(z) if where is None else jnp.where(where, jnp.exp(z), 0.0)
    return jnp.log(p / p.sum(-1, keepdims=True))


def _reduce(losses, reduction, kept=1.0, weights=1.0):
    losses = losses * kept * weights
    if reduction == "none":
        return losses
    if reduction == "sum":
        return losses.sum()
    divisor = (jnp.ones(losses.shape) * kept * weights).sum()
    return losses.sum() / jnp.where(divisor == 0, 1, divisor)


def _one_hot(labels, k):
    return (labels[..., None] == jnp.arange(k)).astype(float)


def _soft(z, t, label_smoothing=0.0, z_loss=0.0, class_weights=1.0, weights=1.0, reduction="none"):
    t = (1 - label_smoothing) * t + label_smoothing / z.shape[-1]
    losses = -(class_weights * t * _log_p(z)).sum(-1)
    losses = losses + z_loss * jnp.log(jnp.exp(z).sum(-1)) ** 2
    return _reduce(losses, reduction, weights=weights)


def _integer(
    z, y, ignore_index=None, label_smoothing=0.0, z_loss=0.0, class_weights=None, weights=1.0,
    reduction="none",
):  # fmt: skip
    k = z.shape[-1]
    w = jnp.ones(k) if class_weights is None else class_weights
    t = (1 - label_smoothing) * _one_hot(y, k) + label_smoothing / k
    kept = jnp.ones(y.shape) if ignore_index is None else (y != ignore_index).astype(float)
    losses = -(w * t * _log_p(z)).sum(-1) + z_loss * jnp.log(jnp.exp(z).sum(-1)) ** 2
    return _of_labels(losses, reduction, kept, class_weights, y, weights)


def _of_labels(losses, reduction, kept, class_weights, y, weights):
    """A mean is over the weights of the examples times those of their labels."""
    if class_weights is None or reduction != "mean":
        return _reduce(losses, reduction, kept, weights)
    by_label = class_weights[y]
    return _reduce(losses / by_label, reduction, kept, weights * by_label)


def _focal(z, y, gamma=2.0, class_weights=None, weights=1.0, reduction="none", ignore_index=None):
    w = jnp.ones(z.shape[-1]) if class_weights is None else class_weights
    kept = jnp.ones(y.shape) if ignore_index is None else (y != ignore_index).astype(float)
    log_p = (_one_hot(y, z.shape[-1]) * _log_p(z)).sum(-1)
    losses = -w[y] * (1 - jnp.exp(log_p)) ** gamma * log_p
    return _of_labels(losses, reduction, kept, class_weights, y, weights)


def _poly(z, t, epsilon=2.0):
    return -(t * _log_p(z)).sum(-1) + epsilon * (t * (1 - jnp.exp(_log_p(z)))).sum(-1)


def _binary(z, t, label_smoothing=0.0, pos_weight=1.0, weights=1.0, reduction="none"):
    t = (1 - label_smoothing) * t + label_smoothing / 2
    p = 1 / (1 + jnp.exp(-z))
    losses = -pos_weight * t * jnp.log(p) - (1 - t) * jnp.log(1 - p)
    return _reduce(losses, reduction, weights=weights)


def _binary_focal(z, t, alpha=None, gamma=2.0):
    p = 1 / (1 + jnp.exp(-z))
    wrong = t * (1 - p) + (1 - t) * p
    losses = wrong**gamma * _binary(z, t)
    return losses if alpha is None else (alpha * t + (1 - alpha) * (1 - t)) * losses


def _softmax_kl(z, w, temperature=1.0, weights=1.0, reduction="none"):
    log_q, log_p = _log_p(z / temperature), _log_p(w / temperature)
    return _reduce((jnp.exp(log_p) * (log_p - log_q)).sum(-1), reduction, weights=weights)


def _softmax_js(z, w, beta=0.5, temperature=1.0, weights=1.0, reduction="none"):
    log_q, log_p = _log_p(z / temperature), _log_p(w / temperature)
    p, q = jnp.exp(log_p), jnp.exp(log_q)
    log_m = jnp.log(beta * p + (1 - beta) * q)
    losses = (beta * p * (log_p - log_m) + (1 - beta) * q * (log_q - log_m)).sum(-1)
    return _reduce(losses, reduction, weights=weights)


_LOGITS = {"logits": "logits"}
_SOFT = {"logits": "logits", "labels": "soft"}
_TWO_LOGITS = {"logits": "logits", "target_logits": "logits"}
_INTEGER = {"logits": "logits", "labels": "integers"}
_ELEMENTS = {"logits": "elements", "labels": "unit elements"}
_INTEGER_LOSS = "softmax_cross_entropy_with_integer_labels"
_SMOOTHING = {"label_smoothing": "0.05 0.3"}
_EVERYTHING = {**_SMOOTHING, "z_loss": "0.01 0.1", "class_weights": "weights"}
_WEIGHED = {**_EVERYTHING, "weights": "example weights"}

CASES = [
    Case("softmax", _LOGITS, lambda z: jnp.exp(_log_p(z))),
    Case("log_softmax", _LOGITS, _log_p),
    Case("logsumexp", _LOGITS, lambda z: jnp.log(jnp.exp(z).sum(-1))),
    Case("softmax_entropy", _LOGITS, lambda z: -(jnp.exp(_log_p(z)) * _log_p(z)).sum(-1)),
    Case("entropy", {"p": "probabilities"}, lambda p: -(p * jnp.log(p)).sum(-1)),
    Case(
        "cross_entropy",
        {"p": "soft", "q": "probabilities"},
        lambda p, q: -(p * jnp.log(q)).sum(-1),
    ),
    Case(
        "relative_entropy",
        {"p": "soft", "q": "probabilities"},
        lambda p, q: (p * jnp.log(p / q)).sum(-1),
    ),
    Case(
        "kl_divergence",
        {"log_predictions": "log_probabilities", "targets": "soft"},
        lambda log_q, t: (t * (jnp.log(t) - log_q)).sum(-1),
    ),
    Case(
        "kl_divergence_with_log_targets",
        {"log_predictions": "log_probabilities", "log_targets": "log_probabilities"},
        lambda log_q, log_t: (jnp.exp(log_t) * (log_t - log_q)).sum(-1),
    ),
    Case(
        "generalized_kl_divergence",
        {"log_predictions": "log_probabilities", "targets": "soft"},
        lambda log_q, t: (t * (jnp.log(t) - log_q) + jnp.exp(log_q) - t).sum(-1),
    ),
    Case("softmax_cross_entropy", _SOFT, _soft),
    Case("softmax_cross_entropy", _SOFT, _soft, _SMOOTHING),
    Case("softmax_cross_entropy", _SOFT, _soft, {"z_loss": "0.01 0.1"}),
    Case("softmax_cross_entropy", _SOFT, _soft, {"class_weights": "weights"}),
    Case("softmax_cross_entropy", _SOFT, _soft, _EVERYTHING),
    Case("softmax_cross_entropy", _SOFT, _soft, options={"reduction": "sum"}),
    Case("softmax_cross_entropy", _SOFT, _soft, _WEIGHED, {"reduction": "mean"}),
    Case(_INTEGER_LOSS, _INTEGER, _integer),
    Case(_INTEGER_LOSS, _INTEGER, _integer, _SMOOTHING),
    Case(_INTEGER_LOSS, _INTEGER, _integer, {"z_loss": "0.01 0.1"}),
    Case(_INTEGER_LOSS, _INTEGER, _integer, {"class_weights": "weights"}),
    Case(_INTEGER_LOSS, _INTEGER, _integer, _EVERYTHING),
    Case(_INTEGER_LOSS, _INTEGER, _integer, options={"ignore_index": 2, "reduction": "sum"}),
    Case(_INTEGER_LOSS, _INTEGER, _integer, options={"ignore_index": 0, "reduction": "mean"}),
    Case(_INTEGER_LOSS, _INTEGER, _integer, _WEIGHED, {"reduction": "mean", "ignore_index": 1}),
    Case("sigmoid_binary_cross_entropy", _ELEMENTS, _binary),
    Case(
        "sigmoid_binary_cross_entropy",
        _ELEMENTS,
        _binary,
        {"pos_weight": "weights", "weights": "weights", **_SMOOTHING},
        {"reduction": "mean"},
    ),
    Case("sigmoid_focal_loss", _ELEMENTS, _binary_focal),
    Case("sigmoid_focal_loss", _ELEMENTS, _binary_focal, {"alpha": "0.1 0.9", "gamma": "0.5 3"}),
    Case("softmax_focal_loss", _INTEGER, _focal),
    Case("softmax_focal_loss", _INTEGER, _focal, {"gamma": "0.5 3"}, {"reduction": "sum"}),
    Case(
        "softmax_focal_loss",
        _INTEGER,
        _focal,
        {"gamma": "1.5 3", "class_weights": "weights", "weights": "example weights"},
        {"reduction": "mean", "ignore_index": 1},
    ),
    Case("poly_loss_cross_entropy", _SOFT, _poly),
    Case("poly_loss_cross_entropy", _SOFT, _poly, {"epsilon": "-1 3"}),
    Case("softmax_kl_divergence", _TWO_LOGITS, _softmax_kl),
    Case(
        "softmax_kl_divergence",
        _TWO_LOGITS,
        _softmax_kl,
        {"temperature": "0.5 3", "weights": "example weights"},
        {"reduction": "mean"},
    ),
    Case("softmax_jensen_shannon_divergence", _TWO_LOGITS, _softmax_js),
    Case(
        "softmax_jensen_shannon_divergence",
        _TWO_LOGITS,
        _softmax_js,
        {"beta": "0.1 0.9", "temperature": "0.5 3", "weights": "example weights"},
        {"reduction": "mean"},
    ),
    Case("softcap", {"logits": "elements", "cap": "1 5"}, lambda z, c: c * jnp.tanh(z / c)),
]

RICHEST = {c.loss: c for c in sorted(CASES, key=lambda c: len(c.keywords) + len(c.options))}
"""Maps each function to its row with the most options."""


def row(*values, name="", quick=True):
    """The case of a test, of which each function's with the most options is quick."""
    case = values[0]
    marks = () if quick and case is RICHEST[case.loss] else pytest.mark.slow
    return pytest.param(*values, id="-".join(filter(None, [name, case.id])), marks=marks)
