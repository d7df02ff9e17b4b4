"""Token statistics of the linear head, against those of logits that are held."""

import re

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import xent_jax
from tests.chunks import chunks_of
from tests.heads import (
    CLASSES,
    FLOATS,
    WHOLE,
    drawn,
    first_classes,
    jit_and_mode,
    modes,
    of_logits,
    same,
)
from tests.problems import close

pytestmark = [pytest.mark.fast_compile, pytest.mark.usefixtures("float64")]


@modes
@pytest.mark.parametrize("size", [3, 4, 12])  # divides the tokens, does not, all at once
def test_each_is_what_held_logits_give(size, module):
    x, w, b, y = drawn((2, 6))
    w = w.at[:, 4].set(w[:, 9])  # ties, but for the bias
    b = b.at[4].set(b[9])
    with chunks_of(size):
        found = jax.jit(lambda: module.linear_token_statistics(x, w, y, b, top_k=3))()
    wanted = of_logits(x @ w + b, y)
    for name in FLOATS:
        close(getattr(found, name), wanted[name])
    for name in WHOLE:
        assert getattr(found, name).dtype == jnp.int32
        np.testing.assert_array_equal(getattr(found, name), wanted[name])


@modes
@pytest.mark.parametrize("name", FLOATS)
def test_gradients(name, module):
    x, w, b, y = drawn((2, 6))

    def weighed(out):
        return jnp.sum(out * jnp.cos(jnp.arange(out.size)).reshape(out.shape))

    def ours(x, w, b, cap):
        found = module.linear_token_statistics(x, w, y, b, top_k=3, logit_softcap=cap)
        return weighed(getattr(found, name))

    def held(x, w, b, cap):
        log_p = jax.nn.log_softmax(z := cap * jnp.tanh((x @ w + b) / cap))
        return weighed({
            "loss": -jnp.take_along_axis(log_p, y[..., None], -1)[..., 0],
            "logsumexp": jax.nn.logsumexp(z, axis=-1),
            "entropy": -jnp.sum(jnp.exp(log_p) * log_p, axis=-1),
            "top_k_log_probabilities": jax.lax.top_k(log_p, 3)[0],
        }[name])  # fmt: skip

    def gradients(f):
        return jax.jit(jax.value_and_grad(f, (0, 1, 2, 3)))(x, w, b, jnp.asarray(3.0))

    with chunks_of(4):
        got = gradients(ours)
    same(got, gradients(held), digits=11)


@pytest.mark.users_compile
def test_the_gradient_of_one_makes_no_work_for_the_others():
    x, w, b, y = drawn((12,))

    def loss(x):
        return jnp.sum(xent_jax.linear_token_statistics(x, w, y, b, top_k=3).loss)

    def work(f):
        text = jax.jit(f).lower(x).compile().as_text()
        return set(re.findall(r"\b(TopK|sort|scatter|dot)\b", text))

    assert work(lambda x: jax.vjp(loss, x)[1](1.0)) == {"dot"}
    assert work(lambda x: xent_jax.linear_token_statistics(x, w, y, b, top_k=3)) & {"TopK", "sort"}


@pytest.mark.parametrize(
    "label, loss, rank", [(CLASSES, np.nan, -1), (-1, np.nan, -1), (-7, 0, -1)]
)
def test_a_label_that_is_none(label, loss, rank):
    x, w, b, y = drawn((5,))
    found = xent_jax.linear_token_statistics(x, w, y.at[2].set(label), b, ignore_index=-7, top_k=2)
    plain = xent_jax.linear_token_statistics(x, w, y, b, top_k=2)
    np.testing.assert_array_equal(found.loss, plain.loss.at[2].set(loss))
    np.testing.assert_array_equal(found.label_rank, plain.label_rank.at[2].set(-1))
    for name in ("logsumexp", "entropy", "argmax", "top_k_log_probabilities", "top_k_indices"):
        np.testing.assert_array_equal(getattr(found, name), getattr(plain, name))


def test_labels_of_a_dtype_too_small_for_all_classes():
    x, w, b, y = drawn((5,), classes=300)
    small = xent_jax.linear_token_statistics(x, w, (y % 100).astype(jnp.int8), b)
    wide = xent_jax.linear_token_statistics(x, w, y % 100, b)
    np.testing.assert_array_equal(small.label_rank, wide.label_rank)
    np.testing.assert_array_equal(small.loss, wide.loss)


@pytest.mark.parametrize("bad", [np.nan, np.inf])
def test_logits_without_a_log_sum_exp_poison_their_token_alone(bad):
    x, w, b, y = drawn((5,))
    found = xent_jax.linear_token_statistics(x.at[2].set(bad), w, y, b, top_k=2)
    plain = xent_jax.linear_token_statistics(x, w, y, b, top_k=2)
    others = np.array([0, 1, 3, 4])
    for name in FLOATS + WHOLE:
        np.testing.assert_array_equal(getattr(found, name)[others], getattr(plain, name)[others])
        there = getattr(found, name)[2]
        assert np.all(np.isnan(there) if name in FLOATS else there == -1), name


def test_a_class_that_the_bias_rules_out():
    x, w, b, y = drawn((5,))
    found = xent_jax.linear_token_statistics(x, w, 0 * y, b.at[3].set(-jnp.inf), top_k=CLASSES)
    less = xent_jax.linear_token_statistics(
        x, jnp.delete(w, 3, axis=1), 0 * y, jnp.delete(b, 3), top_k=CLASSES - 1
    )
    same((found.loss, found.logsumexp, found.entropy), less[:3])
    assert np.all(found.top_k_log_probabilities[:, -1] == -np.inf)
    assert np.all(found.top_k_indices[:, -1] == 3)
    gradient = jax.grad(lambda b: jnp.sum(
        xent_jax.linear_token_statistics(x, w, y, b).entropy))(b.at[3].set(-jnp.inf))  # fmt: skip
    assert np.all(np.isfinite(gradient)) and gradient[3] == 0


@jit_and_mode
@pytest.mark.parametrize("dtype", ["float32", "float64", "bfloat16", "float16"])
@pytest.mark.parametrize("zeros", ["of the kernel", "of the bias"])
def test_negative_zero_ties_with_zero(zeros, dtype, jit, module):
    z = np.array([-0.0, 0.0, -0.0, -1.0, 0.0, -0.0])
    y = jnp.arange(6)
    x, w, b = jnp.full((6, 1), 1, dtype), jnp.asarray(z[None], dtype), None
    if zeros == "of the bias":
        w, b = jnp.full((1, 6), -0.0, dtype), jnp.asarray(z, dtype)

    def run(x, w, y, b):
        return module.linear_token_statistics(x, w, y, b, top_k=4)

    found = (jax.jit(run) if jit else run)(x, w, y, b)
    argmax, rank, top = first_classes(np.tile(z, (6, 1)), 4)
    np.testing.assert_array_equal(found.argmax, argmax)
    np.testing.assert_array_equal(found.label_rank, rank[0])
    np.testing.assert_array_equal(found.top_k_indices, top)


def test_half_precision():
    x, w, b, y = drawn((6,))
    x, w, b = (a.astype(jnp.bfloat16) for a in (x, w, b))
    found = xent_jax.linear_token_statistics(x, w, y, b, top_k=2)
    wanted = of_logits(x.astype(float) @ w.astype(float) + b.astype(float), y, 2)
    for name in FLOATS:
        assert getattr(found, name).dtype == jnp.float32
        close(getattr(found, name), wanted[name], 1e-5)  # the logits are sums in float32


@pytest.mark.parametrize("top_k", [-1, CLASSES + 1, 2.0, "3"])
def test_top_k_out_of_range_is_refused(top_k):
    x, w, _, y = drawn((5,))
    with pytest.raises(ValueError, match=r"top_k must be an integer in \[0, 11\].*got "):
        xent_jax.linear_token_statistics(x, w, y, top_k=top_k)
