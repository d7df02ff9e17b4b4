"""Defects that were reported for other libraries, named by their threads, do not occur here."""

import math

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import xent_jax
from tests.cases import x64

soft = xent_jax.softmax_cross_entropy
integer = xent_jax.softmax_cross_entropy_with_integer_labels
inf = math.inf


def softmax(z):
    """In NumPy, float64."""
    e = np.exp(np.asarray(z, np.float64) - np.max(z, axis=-1, keepdims=True))
    return e / np.sum(e, axis=-1, keepdims=True)


def close(actual, expected, rtol=1e-6, atol=0.0):
    np.testing.assert_allclose(np.asarray(actual, np.float64), expected, rtol, atol)


# ---------------------------------------------------------------------------------- optax


@pytest.mark.parametrize("loss, label", [(soft, [0.0, 1.0]), (integer, 1)], ids=["soft", "integer"])
def test_optax_896_898_minus_infinity_where_the_label_is_0(loss, label):
    value, gradient = jax.value_and_grad(loss)(jnp.array([-inf, 0.0]), jnp.array(label))
    close(value, 0)
    close(gradient, [0, 0])


def test_optax_916_gradient_to_the_labels_at_minus_infinity():
    labels, logits = jnp.array([0.0, 0.25, 0.75]), jnp.array([-inf, 1.0, 0.0])
    lse = math.log(math.e + 1)
    # The class can have no label: what it would cost is left out, as in the value.
    close(jax.grad(soft, argnums=1)(logits, labels), [0, lse - 1, lse])


def test_optax_1020_bfloat16_logits_have_a_float32_loss():
    logits = jnp.linspace(0, 1, 100, dtype=jnp.bfloat16)
    loss = integer(logits, 7)
    assert loss.dtype == jnp.float32
    close(loss, -np.log(softmax(logits)[7]))


@pytest.mark.parametrize("label", [4, -1])
def test_optax_1185_label_out_of_range_is_nan_in_value_and_gradient(label):
    logits = jnp.array([[0.2, 0.1, 0.4, 0.6]] * 2)
    losses, pull = jax.vjp(lambda z: integer(z, jnp.array([label, 3])), logits)
    assert np.isnan(losses).tolist() == [True, False]
    assert np.isnan(pull(jnp.ones(2))[0]).tolist() == [[True] * 4, [False] * 4]


def test_optax_1335_masked_examples_have_the_same_gradient_with_either_label():
    logits = jnp.array([[0.3, -1.2, 0.8], [jnp.nan, 2.0, 0.1], [1.5, 0.2, -0.4]])
    labels, where = jnp.array([2, 0, 1]), jnp.array([True, False, True])
    targets = jax.nn.one_hot(labels, 3)

    def mean(loss, labels):
        return lambda z: jnp.mean(loss(z, labels, where=where[:, None]), where=where)

    expected = np.where(where[:, None], softmax(logits) - targets, 0) / 2
    close(jax.grad(mean(integer, labels))(logits), expected, atol=1e-7)
    close(jax.grad(mean(soft, targets))(logits), expected, atol=1e-7)


@pytest.mark.parametrize("axis", [0, 1])
def test_optax_1486_label_smoothing_of_integer_labels(axis):
    logits = np.array([[0.3, -1.2, 0.8], [2.0, 0.1, -0.5], [1.5, 0.2, -0.4]])
    labels = np.array([2, 0, 1])
    smooth = 0.9 * np.eye(3)[labels] + 0.1 / 3
    expected = -np.sum(smooth * np.log(softmax(np.moveaxis(logits, axis, -1))), axis=-1)
    close(integer(jnp.asarray(logits), labels, axis, label_smoothing=0.1), expected)


@pytest.mark.parametrize(
    "loss, label", [(soft, [0.0, 1.0, 0.0, 0.0]), (integer, 1)], ids=["soft", "integer"]
)
def test_optax_1760_smoothing_stays_within_the_classes_left_in(loss, label):
    where = jnp.array([True, True, False, True])

    def smoothed(z):
        return loss(z, jnp.array(label), where=where, label_smoothing=0.3)

    value, gradient = jax.value_and_grad(smoothed)(jnp.array([0.5, 1.0, 3.0, -2.0]))
    p, t = softmax([0.5, 1.0, -2.0]), np.array([0.1, 0.8, 0.1])
    close(value, -np.sum(t * np.log(p)))
    close(gradient, np.insert(p - t, 2, 0))


def test_optax_1762_forward_mode_at_minus_infinity_where_the_label_is_0():
    loss = xent_jax.forward_mode.softmax_cross_entropy
    logits, labels = jnp.array([-inf, 0.0, 0.0]), jnp.array([0.0, 1.0, 0.0])
    close(jax.jacfwd(loss)(logits, labels), [0, -0.5, 0.5])


@pytest.mark.parametrize("offset", [1e8, -1e8])
def test_optax_1792_a_large_offset_common_to_the_logits(offset):
    close(integer(jnp.full(3, offset), 1), math.log(3))
    close(soft(jnp.full(3, offset), jnp.array([0.2, 0.3, 0.5])), math.log(3))


# ------------------------------------------------------------------------------------ jax


def test_jax_6811_gradient_of_logsumexp_where_all_is_minus_infinity():
    """-inf and, as the edges have it, NaN; 0 where the row is masked out."""
    logits = jnp.array([-inf, -inf])
    value, gradient = jax.value_and_grad(xent_jax.logsumexp)(logits)
    assert value == -inf and jnp.all(jnp.isnan(gradient))
    masked = jax.grad(lambda z: xent_jax.logsumexp(z, where=jnp.array(False)))(logits)
    close(masked, [0, 0])


@pytest.mark.parametrize("function", [xent_jax.softmax, xent_jax.log_softmax])
def test_jax_17117_a_large_logit_that_where_leaves_out(function):
    where = jnp.array([True, True, False])

    def first(z):
        return function(z, where=where)[0]

    slope = 0.25 if function is xent_jax.softmax else 0.5
    close(jax.grad(first)(jnp.array([1.0, 1.0, 100.0])), [slope, -slope, 0])


def test_jax_40409_gradient_of_log_softmax_of_many_float16_logits():
    logits = np.full(2**16 + 4, -1, np.float16)
    logits[0] = 3
    gradient = jax.grad(lambda z: jnp.sum(xent_jax.log_softmax(z)))(jnp.asarray(logits))
    assert gradient.dtype == jnp.float16
    close(gradient, 1 - logits.size * softmax(logits), rtol=1e-3)


@pytest.mark.parametrize(
    "function, sign",
    [(xent_jax.log_softmax, 1), (xent_jax.softmax, 1), (lambda z: [integer(z, 0)], -1)],
    ids=["log_softmax", "jax-40386-softmax", "pytorch-195678-cross-entropy"],
)
def test_jax_40384_the_confident_component_of_a_float64_gradient(function, sign):
    small = sign * math.exp(-37.42994775023705)  # it goes to 0 where 1 - p is subtracted
    with x64():
        gradient = jax.grad(lambda z: function(z)[0])(jnp.array([37.42994775023705, 0.0]))
        close(gradient, [small, -small], rtol=1e-14)


# -------------------------------------------------------------------------------- pytorch


@pytest.mark.parametrize("ignored", [-1, -100], ids=["pytorch-75181", "pytorch-70348"])
def test_mean_where_every_label_is_ignored(ignored):
    def mean(z):
        return integer(z, jnp.full(4, ignored), ignore_index=ignored, reduction="mean")

    value, gradient = jax.value_and_grad(mean)(jnp.arange(20.0).reshape(4, 5))
    close(value, 0)
    close(gradient, np.zeros((4, 5)))


@pytest.mark.parametrize("gap", [17.0, 80.0])
def test_pytorch_113708_a_log_probability_next_to_0(gap):
    expected = math.log1p(math.exp(-gap))
    logits = jnp.array([gap, 0.0])
    close(-xent_jax.log_softmax(logits)[0], expected)
    close(integer(logits, 0), expected)
    close(soft(logits, jnp.array([1.0, 0.0])), expected)


def test_pytorch_85791_float16_mean_over_more_than_its_range():
    logits, labels = jnp.zeros((8, 64, 2048), jnp.float16), jnp.zeros((8, 2048), jnp.int32)
    assert 8 * 2048 * math.log(64) > float(jnp.finfo(jnp.float16).max)
    close(integer(logits, labels, axis=1, reduction="mean"), math.log(64))


# ---------------------------------------------------------------------------------- Liger

LABELS = np.array([-100, 0, 1])  # the first row's gradient is 0: it must not scale the others
WEIGHTS = np.array([0.5, 2.0, -3.0])


def weighted(logits):
    return jnp.vdot(WEIGHTS, integer(logits, LABELS, ignore_index=-100))


def weighted_gradient(logits):
    rows = softmax(logits) - (LABELS[:, None] == np.arange(3))
    return np.where(LABELS != -100, WEIGHTS, 0)[:, None] * rows


def test_liger_678_unreduced_losses_weighted_row_by_row():
    logits = np.array([[0.3, -1.2, 0.8], [2.0, 0.1, -0.5], [1.5, 0.2, -0.4]])
    close(jax.grad(weighted)(jnp.asarray(logits)), weighted_gradient(logits))


def test_liger_968_unreduced_losses_weighted_behind_a_linear_layer():
    inputs = np.array([[1.0, 0.5], [-0.3, 2.0], [0.7, -1.1]])
    kernel = np.array([[0.2, -1.0, 0.6], [1.3, 0.4, -0.8]])
    rows = weighted_gradient(inputs @ kernel)
    gradients = jax.grad(lambda x, w: weighted(x @ w), argnums=(0, 1))(inputs, kernel)
    close(gradients[0], rows @ kernel.T, rtol=1e-5)
    close(gradients[1], inputs.T @ rows, rtol=1e-5)


# ------------------------------------------------------------------------------------ t5x


def test_t5x_351_forward_mode_and_a_hessian_vector_product():
    logits, v = jnp.array([0.3, -1.2, 0.8]), jnp.array([0.5, -1.0, 2.0])

    def loss(z):
        return xent_jax.forward_mode.softmax_cross_entropy_with_integer_labels(z, 1)

    p = softmax(logits)
    gradient, hessian = p - np.eye(3)[1], np.diag(p) - np.outer(p, p)
    close(jax.jvp(loss, (logits,), (v,))[1], gradient @ v)
    close(jax.jvp(jax.grad(loss), (logits,), (v,))[1], hessian @ v)


def test_t5x_gradient_of_targets_that_do_not_sum_to_1():
    """T5X's loss returns p - t, right where sum(t) = 1 alone."""
    logits, t = np.array([0.3, -1.2, 0.8]), np.array([0.5, 0.0, 2.0])
    p, lse = softmax(logits), math.log(np.sum(np.exp(logits)))
    close(jax.grad(soft)(jnp.asarray(logits), t), 2.5 * p - t)
    gradient = jax.grad(soft)(jnp.asarray(logits), t, z_loss=0.1)
    close(gradient, (2.5 + 2 * 0.1 * lse) * p - t)
