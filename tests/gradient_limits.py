"""Lists calls at the edge of functions' domains, and the limits of their gradients there.

The limits in the table were derived by hand.
"""

import functools
from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from tests.cases import x64

INF = np.inf
LOG2 = np.log(2)


class Row(NamedTuple):
    """A call at the edge, and the gradients of its summed result by each of its arguments."""

    args: tuple[Any, ...]
    wanted: Callable[[], tuple[Any, ...]]
    call: Callable[..., Any]  # (function, *args)

    def arrays(self):
        return tuple(jnp.asarray(a, jnp.float32) for a in self.args)

    def total(self, function):
        """Returns a function of the arguments: the sum of the results of the call."""
        return lambda *args: jnp.sum(self.call(function, *args))


def at(args, wanted, names="", options=None, part=lambda out: out):
    """Returns a row of the table; ``names`` are the keywords of the last arguments."""
    first = len(args) - len(names.split())

    def call(function, *args):
        named = dict(zip(names.split(), args[first:], strict=True))
        return part(function(*args[:first], **named, **(options or {})))

    return Row(args, lambda: wanted, call)


HALF = [0, 0.5, 0.5]
Z = [0.5, -INF, 2.0]
P = np.exp([0.5, 2.0]) / np.exp([0.5, 2.0]).sum()  # the softmax of Z without its second class
LSE = np.log(np.exp([0.5, 2.0]).sum())
STUDENT = 3 / 16 * np.log(4 / 3)  # (1 - beta) q (log(q / m) - KL(q || m)), with beta = 1/4
H_SLOPE = -P[0] * P[1] * np.log(P[0] / P[1])  # the entropy's: -p (log p + H)
MEAN = 0.4 * P[0] + 0.6 * P[1]
POLY = [LSE - 0.5 + 2 * P[1], LSE - 2 + 2 * P[0]]  # -log p + 2 (1 - p)
BY_POLY = [P[0] - 0.4 + 2 * P[0] * (MEAN - 0.4), 0, P[1] - 0.6 + 2 * P[1] * (MEAN - 0.6)]
LEFT = {"where": jnp.array([True, False, True])}
ZERO, ONE = {"labels": jnp.array(0)}, {"labels": jnp.array(1)}


ROWS = {
    "entropy": at((HALF,), ([INF, LOG2 - 1, LOG2 - 1],)),
    "cross_entropy of 0 and 0": at(
        (HALF, [0, 0.25, 0.75]), ([INF, -np.log(0.25), -np.log(0.75)], [0, -2, -2 / 3]),
    ),
    "cross_entropy of infinity": at(
        ([0.5, 0.5, 0], [0, 0.5, 0.5]), ([INF, LOG2, LOG2], [-INF, -1, 0]),
    ),
    "relative_entropy of 0 and 0": at((HALF, HALF), ([-INF, 1, 1], [0, -1, -1])),
    "relative_entropy of 0": at(
        (HALF, [0.2, 0.4, 0.4]), ([-INF, np.log(1.25) + 1, np.log(1.25) + 1], [0, -1.25, -1.25]),
    ),
    "relative_entropy of infinity": at(
        ([0.5, 0.5, 0], [0, 0.5, 0.5]), ([INF, 1, -INF], [-INF, -1, 0]),
    ),
    "kl_divergence of 0 and 0": at(([-INF, -LOG2, -LOG2], HALF), ([0, -0.5, -0.5], [-INF, 1, 1])),
    "kl_divergence of 0": at(
        (np.log([0.2, 0.4, 0.4]), HALF),
        ([0, -0.5, -0.5], [-INF, np.log(1.25) + 1, np.log(1.25) + 1]),
    ),
    "kl_divergence of infinity": at(
        ([-INF, -LOG2, -LOG2], [0.5, 0.5, 0]), ([-0.5, -0.5, 0], [INF, 1, -INF]),
    ),
    "kl_divergence, masked": at(
        (np.log([0.5, 0.2, 0.3]), [0.4, 0, 0.6]), ([-0.4, 0, -0.6], [np.log(0.8) + 1, 0, LOG2 + 1]),
        options=LEFT,
    ),
    "kl_divergence_with_log_targets of 0 and 0": at(
        ([-INF, -LOG2, -LOG2], [-INF, -LOG2, -LOG2]), ([0, -0.5, -0.5], [0, 0.5, 0.5]),
    ),
    "kl_divergence_with_log_targets of infinity": at(
        ([-INF, -LOG2, -LOG2], [-LOG2, -LOG2, -INF]), ([-0.5, -0.5, 0], [INF, 0.5, 0]),
    ),
    "generalized_kl_divergence of 0 and 0": at(
        ([-INF, 0, -LOG2], HALF), ([0, 0.5, 0], [-INF, -LOG2, 0]),
    ),
    "generalized_kl_divergence of infinity": at(
        ([-INF, -LOG2, INF], [0.5, 0, 0.5]), ([-0.5, 0.5, INF], [INF, -INF, -INF]),
    ),
    # Each logit has a label, and may have a weight of the positive class.
    "sigmoid_binary_cross_entropy": at(
        ([INF, INF, INF, -INF, -INF, -INF, -INF], [0, 0.3, 1, 0, 0.3, 1, 0.3]),
        ([1, 0.7, 0, 0, -0.3, -1, -0.3], [-INF] * 3 + [INF] * 4),
    ),
    "sigmoid_binary_cross_entropy, weights": at(
        ([INF, INF, -INF, -INF, -INF], [0, 1, 0, 0.5, 1], [0, 1, 0.5, 0, 1]),
        ([1, 0, 0, 0, -1], [-INF, -INF, INF, 0, INF], [0, 0, 0, INF, INF]), "pos_weight",
    ),
    "sigmoid_binary_cross_entropy, smoothing": at(
        ([INF, -INF], [0, 1], 0.2), ([0.9, -0.9], [-INF, INF], -INF), "label_smoothing",
    ),
    "sigmoid_focal_loss": at(
        ([INF, INF, INF, -INF, -INF, -INF], [0, 0.3, 1, 0, 0.3, 1], 2.0),
        ([1, 0.7**3, 0, 0, -(0.3**3), -1], [-INF, -INF, 0, 0, INF, INF], -INF), "gamma",
    ),
    "sigmoid_focal_loss, gamma of hard labels": at(
        ([INF, INF, -INF, -INF], [0, 1, 0, 1], 0.5), ([1, 0, 0, -1], [-INF, 0, 0, INF], 0), "gamma",
    ),
    "sigmoid_focal_loss, gamma 0": at(
        ([INF, INF, -INF, -INF], [0, 1, 0, 1], 0.0), ([1, 0, 0, -1], [-INF, -INF, INF, INF], 0),
        "gamma",
    ),
    "sigmoid_focal_loss, alpha": at(
        ([INF, -INF, INF, -INF], [0, 1, 0.5, 0], [1, 0, 0.5, 0.5]),
        ([0, 0, 0.0625, 0], [INF, -INF, -INF, 0], [-INF, INF, 0, 0]),
    ),
    "softmax": at((Z,), ([P[0] * P[1], 0, -P[0] * P[1]],), part=lambda p: p[0]),
    "log_softmax": at((Z,), ([P[1], 0, -P[1]],), part=lambda p: p[0]),
    "logsumexp": at((Z,), ([P[0], 0, P[1]],)),
    "softmax_entropy": at((Z,), ([H_SLOPE, 0, -H_SLOPE],)),
    "token_statistics, entropy": at(
        (Z,), ([H_SLOPE, 0, -H_SLOPE],), options=ZERO, part=lambda found: found.entropy,
    ),
    "token_statistics, the likeliest": at(
        (Z,), ([P[1], 0, -P[1]],), options=ZERO | {"top_k": 2},
        part=lambda found: found.top_k_log_probabilities[1],
    ),
    "softmax_cross_entropy": at(
        (Z, [0.4, 0, 0.6]), ([P[0] - 0.4, 0, P[1] - 0.6], [LSE - 0.5, 0, LSE - 2]),
    ),
    "softmax_cross_entropy of infinity": at(
        (Z, [0.4, 0.1, 0.5]), ([P[0] - 0.4, -0.1, P[1] - 0.5], [LSE - 0.5, INF, LSE - 2]),
    ),
    "softmax_cross_entropy, weights": at(
        (Z, [0.4, 0, 0.6], [1, 2, 2]),
        ([1.6 * P[0] - 0.4, 0, 1.6 * P[1] - 1.2], [LSE - 0.5, 0, 2 * (LSE - 2)],
         [0.4 * (LSE - 0.5), 0, 0.6 * (LSE - 2)]), "class_weights",
    ),
    "softmax_cross_entropy, masked": at(
        ([0.5, 1, 2], [0.4, 0, 0.6]), ([P[0] - 0.4, 0, P[1] - 0.6], [LSE - 0.5, 0, LSE - 2]),
        options=LEFT,
    ),
    "softmax_cross_entropy, smoothing": at(
        (Z, [1, 0, 0], 0.3),
        ([P[0] - 0.8, -0.1, P[1] - 0.1], [0.7 * (LSE - 0.5), INF, 0.7 * (LSE - 2)], INF),
        "label_smoothing",
    ),
    "softmax_cross_entropy_with_integer_labels": at(
        (Z, [1, 2, 3]), ([2 * P[0], -2, 2 * P[1]], [0, INF, 0]), "class_weights", ONE,
    ),
    "softmax_cross_entropy_with_integer_labels, smoothing": at(
        (Z, [0, 1, 0], 1.0),
        ([P[0] / 3, -1 / 3, P[1] / 3], [(LSE - 0.5) / 3, INF, (LSE - 2) / 3], INF),
        "class_weights label_smoothing", ZERO,
    ),
    "softmax_focal_loss": at(
        (Z, [1, 2, 3]), ([2 * P[0], -2, 2 * P[1]], [0, INF, 0]), "class_weights", ONE,
    ),
    "softmax_focal_loss, gamma": at((Z, 2.0), ([P[0], -1, P[1]], 0), "gamma", ONE),
    "poly_loss_cross_entropy": at(
        (Z, [0, 0.1, 0], 2.0),
        ([0.1 * P[0], -0.1, 0.1 * P[1]], [LSE - 0.5 + 2 * P[1], INF, LSE - 2 + 2 * P[0]], 0.1),
    ),
    "poly_loss_cross_entropy of 0": at((Z, [0.4, 0, 0.6]), (BY_POLY, [*POLY[:1], 2, *POLY[1:]])),
    "poly_loss_cross_entropy, masked": at(
        ([0.5, 1, 2], [0.4, 0, 0.6]), (BY_POLY, [*POLY[:1], 0, *POLY[1:]]), options=LEFT,
    ),
    # p = (1, 0, 1) / 2 and q = P, so the second class has probability 0 in both.
    "softmax_kl_divergence": at(
        (Z, [1.0, -INF, 1.0], 1.0),
        ([P[0] - 0.5, 0, P[1] - 0.5], [0.375, 0, -0.375], 1.5 * (0.5 - P[1])), "temperature",
    ),
    # The second class has probability 0 in the teacher's row only.
    "softmax_kl_divergence of 0": at(
        ([0.0, 0.0, 0.0], [1.0, -INF, 1.0]), ([1 / 3 - 0.5, 1 / 3, 1 / 3 - 0.5], [0, 0, 0]),
    ),
    # One class is possible in both rows, one in each row alone, and one in neither.
    "softmax_jensen_shannon_divergence": at(
        ([1.0, 1.0, -INF, -INF], [1.0, -INF, 1.0, -INF], 1.0, 0.25),
        ([-STUDENT, STUDENT, 0, 0], [-LOG2 / 8, 0, LOG2 / 8, 0], 0, np.log(3) / 2),
        "temperature beta",
    ),
    "softcap": at(([INF, -INF, 0], 2.0), ([0, 0, 1], 0)),
}  # fmt: skip

ENDS = {"probabilities": 0.0, "soft": 0.0}  # where a kind's range ends; others end at -inf


def of_the_contract(case):
    """Returns a row of the contract with one class of the first argument at the end of its range.

    Other arguments of the same kind have this class at the end too. The wanted gradients are the
    limits of the reference's gradients; a number that still grows far out counts as infinite.
    """
    inputs = case.inputs(np.random.default_rng(0), (), 3)
    inputs |= {k: np.int32(0) for k, kind in case.arguments.items() if kind == "integers"}
    floats = {k: np.asarray(v, np.float32) for k, v in case.floats(inputs).items()}
    kind, *_ = case.arguments.values()

    def call(function, *args):
        out = case.apply(function, {**inputs, **dict(zip(floats, args, strict=True))}, {})
        return out * jnp.arange(1.0, 1 + jnp.size(out)).reshape(jnp.shape(out))

    def moved(entry):
        ends = {k for k, other in case.arguments.items() if other == kind}
        return tuple(np.append(v[:-1], entry) if k in ends else v for k, v in floats.items())

    @jax.jit
    def gradients(args):
        every = tuple(range(len(args)))
        return jax.grad(lambda *args: jnp.sum(call(case.reference, *args)), every)(*args)

    @functools.cache
    def limits():
        with x64():
            far = [np.exp(x) if kind in ENDS else x for x in (-150.0, -300.0)]
            pairs = zip(*(gradients([np.float64(v) for v in moved(x)]) for x in far), strict=True)
            return [np.where(np.isclose(a, b, rtol=1e-9), b, b * INF) for a, b in pairs]

    return Row(moved(ENDS.get(kind, -INF)), limits, call)
