"""Right scans over chunks ``[chunks, size, ...]`` are proved, and wrong ones are refuted."""

import jax
import jax.export
import jax.numpy as jnp
import pytest
from jax import lax
from xent_jax.proofs import array, labels, prove_vjp
from xent_jax.proofs._theorems import textbook as book

import xent_jax
from tests.rules import assert_refuted

SPECS = {
    "x": array("m c d"),
    "w": array("d v"),
    "y": labels("m c", classes="v"),
}
WRT = ("x", "w")


def _loss(z, y):
    return xent_jax.softmax_cross_entropy_with_integer_labels(z, y)


def _reference(x, w, y):
    z = jnp.einsum("mcd,dv->mcv", x, w)
    return jnp.sum(book.logsumexp(z) - book.at_label(z, y))


def _engine(x, w, y, change=""):
    """Returns the sum of the losses and all gradients, computed chunk by chunk."""

    def body(d_w, chunk):
        xi, yi = chunk
        losses, pull = jax.vjp(lambda z: _loss(z, yi), xi @ w)
        (dz,) = pull(jnp.ones_like(losses))
        grown = d_w + xi.T @ dz * (2 if change == "doubled" else 1)
        if change == "read":
            grown = grown + d_w * d_w
        if change == "kept":
            grown = d_w + 0.5 * grown
        rows = dz[::-1] if change == "rows" else dz
        return grown, (losses, rows @ w.T)

    start = jnp.ones_like(w) if change == "start" else jnp.zeros_like(w)
    d_w, (losses, d_x) = lax.scan(body, start, (x, y))
    if change == "dx":
        d_x = d_x * jnp.arange(x.shape[0])[:, None, None]
    return jnp.sum(losses), (d_x, d_w)


def _head(change=""):
    @jax.custom_vjp
    def head(x, w, y):
        return _engine(x, w, y)[0]

    def backward(gradients, g):
        return (*(g * t for t in gradients), None)

    head.defvjp(lambda *args: _engine(*args, change), backward)
    return head


def test_a_chunked_head_is_proved_against_materialised_logits():
    verdict = prove_vjp(_head(), SPECS, WRT, _reference)
    assert verdict.proved, verdict.reason


def test_jax_own_gradient_of_a_scan_is_proved():
    def summed(x, w, y):
        def body(total, chunk):
            return total + jnp.sum(_loss(chunk[0] @ w, chunk[1])), None

        return lax.scan(jax.checkpoint(body), jnp.zeros(()), (x, y))[0]

    verdict = prove_vjp(summed, SPECS, WRT, _reference)
    assert verdict.proved, verdict.reason


@pytest.mark.parametrize("change", ["doubled", "start", "dx", "read", "kept", "rows"])
def test_a_wrong_chunked_head_is_refuted(change):
    verdict = prove_vjp(_head(change), SPECS, WRT, _reference)
    assert_refuted(verdict)


@pytest.mark.parametrize("reduction", ["none", "mean"])
def test_a_bias_is_read_beside_the_largest_logit(reduction):
    specs = {"x": array("n d"), "w": array("d v"), "b": array("v"), "y": labels("n", classes="v")}

    def head(x, w, b, y):
        loss = xent_jax.softmax_cross_entropy_with_integer_labels
        return loss(x @ w + b, y, reduction=reduction)

    def reference(x, w, b, y):
        losses = book.logsumexp(x @ w + b) - book.at_label(x @ w + b, y)
        return losses if reduction == "none" else jnp.mean(losses)

    verdict = prove_vjp(head, specs, ("x", "w", "b"), reference)
    assert verdict.proved, verdict.reason
