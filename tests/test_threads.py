"""Defects that were reported for other libraries, named by their threads, do not occur here.

Other edge cases are in edges.py, in the same form.
"""

import math

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import scipy.special

import xent_jax
from tests.cases import x64
from tests.edges import BAD, INTEGER, MEAN, OUT, SOFT, Edge, check, lse, of

soft = xent_jax.softmax_cross_entropy
integer = xent_jax.softmax_cross_entropy_with_integer_labels
inf, nan = math.inf, math.nan


def softmax(z):
    return scipy.special.softmax(np.asarray(z, np.float64), axis=-1)


def close(actual, expected, rtol=1e-6, atol=0.0):
    np.testing.assert_allclose(np.asarray(actual, np.float64), expected, rtol, atol)


Z, WHERE = [0.2, 0.1, 0.4, 0.6], np.array([True, True, False, True])
LEFT = [0.5, 1.0, 3.0, -2.0], {"where": WHERE[None], "label_smoothing": 0.3}
SMOOTHED = of(LEFT[0], [0.1, 0.8, 0, 0.1], classes=WHERE)
A, B = [0.3, -1.2, 0.8], [1.5, 0.2, -0.4]
SPOILED, EXAMPLES = [nan, 2.0, 0.1], {"where": np.array([True, False, True])} | MEAN
LSE, SMOOTH = math.log(math.e + 1), [0.1, 0.1, 0.8]
ROUNDED = np.linspace(0, 1, 100).astype(jnp.bfloat16)

THREADS = {
    # -infinity where the label is 0
    "optax 896, 898": Edge(SOFT, [([-inf, 0.0], [0.0, 1.0], OUT)]),
    "optax 896, 898, integer": Edge(INTEGER, [([-inf, 0.0], 1, OUT)]),
    # Like the loss, the gradient to the labels leaves out a class of logit -infinity.
    "optax 916": Edge(SOFT, [
        ([-inf, 1.0, 0.0], [0.0, 0.25, 0.75], (LSE - 0.25, [0, LSE - 1, LSE])),
    ], wrt=1),
    # A float32 loss of bfloat16 logits
    "optax 1020": Edge(INTEGER, [(ROUNDED, 7, (of(ROUNDED, 7)[0], None))]),
    "optax 1185": Edge(INTEGER, [(Z, 4, BAD), (Z, -1, BAD), (Z, 3, of(Z, 3))]),
    # A masked example has a gradient of 0, even if its logits are NaN.
    "optax 1335": Edge(INTEGER, [(A, 2, of(A, 2)), (SPOILED, 0, OUT), (B, 1, of(B, 1))], EXAMPLES),
    "optax 1335, soft": Edge(SOFT, [
        (A, [0.0, 0, 1], of(A, 2)), (SPOILED, [1.0, 0, 0], OUT), (B, [0.0, 1, 0], of(B, 1)),
    ], EXAMPLES),
    "optax 1486": Edge(
        INTEGER, [(A, 2, of(A, SMOOTH)), (B, 2, of(B, SMOOTH))], {"label_smoothing": 0.3}
    ),
    # Smoothing is spread over the classes that ``where`` keeps.
    "optax 1760": Edge(SOFT, [(LEFT[0], [0.0, 1, 0, 0], SMOOTHED)], LEFT[1]),
    "optax 1760, integer": Edge(INTEGER, [(LEFT[0], 1, SMOOTHED)], LEFT[1]),
    # A large offset common to the logits
    "optax 1792": Edge(INTEGER, [([x] * 3, 1, of([0] * 3, 1)) for x in (1e8, -1e8)]),
    "optax 1792, soft": Edge(SOFT, [
        ([x] * 3, [0.2, 0.3, 0.5], of([0] * 3, [0.2, 0.3, 0.5])) for x in (1e8, -1e8)
    ]),
    # The gradient of logsumexp of a row of -infinity is NaN, or 0 if the row is masked out.
    "jax 6811": Edge("logsumexp", [([-inf, -inf], (-inf, nan))]),
    "jax 6811, masked": Edge("logsumexp", [([-inf, -inf], (-inf, 0))], {"where": np.array(False)}),
    # A mean where every label is ignored
    "pytorch 75181": Edge(INTEGER, [(Z, -1, OUT)] * 4, {"ignore_index": -1} | MEAN),
    "pytorch 70348": Edge(INTEGER, [(Z, -100, OUT)] * 4, {"ignore_index": -100} | MEAN),
    # A log-probability next to 0
    "pytorch 113708": Edge(INTEGER, [([g, 0.0], 0, of([g, 0], 0)) for g in (17.0, 80.0)]),
    "pytorch 113708, soft": Edge(SOFT, [([g, 0.0], [1.0, 0], of([g, 0], 0)) for g in (17.0, 80.0)]),
    "pytorch 113708, log_softmax": Edge("log_softmax", [
        ([g, 0.0], ([-math.log1p(math.exp(-g)), -lse([g, 0])[0]], None)) for g in (17.0, 80.0)
    ]),
    # T5X's loss has the gradient p - t, which is right only where t sums to 1.
    "t5x": Edge(SOFT, [(A, [0.5, 0.0, 2.0], of(A, [0.5, 0, 2]))]),
    "t5x, z-loss": Edge(SOFT, [(A, [0.5, 0.0, 2.0], of(A, [0.5, 0, 2], 0.1))], {"z_loss": 0.1}),
}  # fmt: skip


@pytest.mark.parametrize("edge", THREADS.values(), ids=THREADS)
def test_thread(edge):
    check(edge, xent_jax)


def test_optax_1762_forward_mode_at_minus_infinity_where_the_label_is_0():
    loss = xent_jax.forward_mode.softmax_cross_entropy
    logits, labels = jnp.array([-inf, 0.0, 0.0]), jnp.array([0.0, 1.0, 0.0])
    close(jax.jacfwd(loss)(logits, labels), [0, -0.5, 0.5])


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
    small = sign * math.exp(-37.42994775023705)  # computed as 1 - p, it would be 0
    with x64():
        gradient = jax.grad(lambda z: function(z)[0])(jnp.array([37.42994775023705, 0.0]))
        close(gradient, [small, -small], rtol=1e-14)


def test_pytorch_85791_float16_mean_over_more_than_its_range():
    logits, labels = jnp.zeros((8, 64, 2048), jnp.float16), jnp.zeros((8, 2048), jnp.int32)
    assert 8 * 2048 * math.log(64) > float(jnp.finfo(jnp.float16).max)
    close(integer(logits, labels, axis=1, reduction="mean"), math.log(64))


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


def test_t5x_351_forward_mode_and_a_hessian_vector_product():
    logits, v = jnp.array([0.3, -1.2, 0.8]), jnp.array([0.5, -1.0, 2.0])

    def loss(z):
        return xent_jax.forward_mode.softmax_cross_entropy_with_integer_labels(z, 1)

    p = softmax(logits)
    gradient, hessian = p - np.eye(3)[1], np.diag(p) - np.outer(p, p)
    close(jax.jvp(loss, (logits,), (v,))[1], gradient @ v)
    close(jax.jvp(jax.grad(loss), (logits,), (v,))[1], hessian @ v)
