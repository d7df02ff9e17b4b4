"""Scans over chunks ``[chunks, size, ...]``: right ones proved, wrong ones not."""

import jax
import jax.export
import jax.numpy as jnp
import pytest
from jax import lax
from xent_jax.proofs import array, labels, prove_equal, prove_vjp
from xent_jax.proofs._theorems import textbook as book

import xent_jax

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
    """The sum of losses and all gradients, chunk by chunk."""

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
    assert verdict.status == "refuted", verdict


def test_outputs_keep_their_places_in_a_reverse_scan():
    def reverse(x):
        return lax.scan(lambda s, a: (s, 2 * a), jnp.zeros(()), x, reverse=True)[1]

    assert prove_equal(reverse, lambda x: 2 * x, {"x": array("m c")}).proved


@pytest.mark.parametrize(
    ("body", "why"),
    [
        (lambda s, a: (s * a, None), "not itself plus a term free"),
        (lambda s, a: (s + s * a, None), "not itself plus a term free"),
        (lambda s, a: (a, None), "not itself plus a term free"),
        (lambda s, a: (jnp.maximum(s, a), None), "scan"),
        (lambda s, a: (s + a, s), "in which a carry stands"),
    ],
)
def test_other_carries_are_refused_by_name(body, why):
    def fun(x):
        last, rows = lax.scan(body, jnp.ones(()), x)
        return last if rows is None else rows

    verdict = prove_equal(fun, fun, {"x": array("m")})
    assert verdict.status == "refused" and why in verdict.reason, verdict.reason
    assert "test_prover_scan.py" in verdict.reason


def test_a_carry_that_reads_another_is_refused():
    def fun(x):
        def body(carry, a):
            s, t = carry
            return (s + a, t + s), None

        return lax.scan(body, (jnp.zeros(()), jnp.zeros(())), x)[0][1]

    assert prove_equal(fun, fun, {"x": array("m")}).status == "refused"


@pytest.mark.parametrize("shift", [0, 1])
def test_slices_at_the_iteration_are_read_where_they_are_in_range(shift):
    def fun(x):
        m, c = jax.export.symbolic_shape("m, c", scope=x.shape[0].scope)

        def body(s, i):
            return s + jnp.sum(lax.dynamic_slice_in_dim(x, i * c + shift, c)), None

        return lax.scan(body, jnp.zeros(()), jnp.arange(m))[0]

    verdict = prove_equal(fun, jnp.sum, {"x": array("m*c")}, search=False)
    assert verdict.status == ("refused" if shift else "proved"), verdict
    assert not shift or "clamped" in verdict.reason


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


def test_a_maximum_of_sums_is_not_above_other_sums():
    def beside(x, b, y):
        z = x + b
        own = jnp.take_along_axis(x, y[:, None], 1)[:, 0] + 2 * b[y]
        return jnp.where(own > jnp.max(z, -1), 1.0, 0.0)

    specs = {"x": array("n v"), "b": array("v"), "y": labels("n", classes="v")}
    verdict = prove_equal(beside, lambda x, b, y: jnp.zeros_like(y, jnp.float32), specs)
    assert verdict.status == "refuted", verdict
