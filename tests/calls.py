"""A call of each function that has a gradient, with an array for every argument."""

import numpy as np

from tests.cases import RICHEST

Y = np.array([0, 2], np.int32)
_RNG = np.random.default_rng(3)


X, KERNEL = _RNG.normal(size=(2, 4)), _RNG.normal(size=(4, 3))
BIAS, WEIGHTS = _RNG.normal(size=3), _RNG.uniform(0.5, 1.5, 3)


SOFT = _RNG.dirichlet(np.ones(3), 2)


def token_statistics(library, logits, labels, where):
    found = library.token_statistics(logits, labels, where, top_k=2)
    return found.loss + found.entropy + found.top_k_log_probabilities.sum(-1)


def statistics(library, inputs, kernel, labels, bias, where, logit_softcap):
    found = library.linear_token_statistics(
        inputs, kernel, labels, bias, where, logit_softcap=logit_softcap, top_k=2
    )
    return found.loss + found.entropy + found.top_k_log_probabilities.sum(-1)


def head(library, inputs, kernel, labels, bias, where, **options):
    return library.linear_softmax_cross_entropy(inputs, kernel, labels, bias, where, **options)


def any_head(library, inputs, kernel, labels, bias, where):
    loss = library.with_linear_head(library.softmax_cross_entropy)
    return loss(inputs, kernel, labels, bias=bias, where=where)


_LAYER = {"inputs": X, "kernel": KERNEL, "bias": BIAS}


_MASK = np.array([True, False])


CALLS = {
    "linear_softmax_cross_entropy": (head, _LAYER | {
        "labels": Y, "where": _MASK, "label_smoothing": np.float32(0.1), "z_loss": np.float32(0.2),
        "class_weights": WEIGHTS, "logit_softcap": np.float32(3.0),
        "temperature": np.float32(0.7), "weights": WEIGHTS[:2],
    }),
    "with_linear_head": (any_head, _LAYER | {"labels": SOFT, "where": _MASK}),
    "token_statistics": (token_statistics, {"logits": X[:, :3], "labels": Y, "where": _MASK}),
    "linear_token_statistics": (statistics, _LAYER | {
        "labels": Y, "where": _MASK, "logit_softcap": np.float32(3.0)
    }),
}  # fmt: skip


def _of_logits(name):
    case = RICHEST[name]

    def call(library, where=None, **given):
        masked = {} if where is None else {"where": where}
        return case.call(library, given, **masked)

    given = case.inputs(np.random.default_rng(0), (2,), 3)
    masked = case.has_axis and "where" in case.parameters
    return call, given | ({"where": _MASK} if masked else {})


CALLS |= {name: _of_logits(name) for name in RICHEST}
