"""A training step that holds its logits takes little more memory for three axes than for two."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

import xent_jax as x
from tests.cases import x64
from tests.programs import temp
from xent_jax._closed_form import _made_once

BATCH, LENGTH, WIDTH, CLASSES = 4, 32, 64, 2048
integer = x.softmax_cross_entropy_with_integer_labels


def one_hot(y):
    return jax.nn.one_hot(y, CLASSES)


LOSSES = {
    "integer": integer,
    "ignore_index": functools.partial(integer, ignore_index=-1),
    "z_loss": functools.partial(integer, z_loss=1e-3),
    "smoothing": functools.partial(integer, label_smoothing=0.1, z_loss=1e-3),
    "soft": lambda z, y: x.softmax_cross_entropy(z, one_hot(y)),
    "focal": x.softmax_focal_loss,
    "softcap": lambda z, y: integer(x.softcap(z, 30.0), y),
    "divergence": lambda z, y: x.softmax_kl_divergence(z, one_hot(y)),
    "mixture": lambda z, y: x.softmax_jensen_shannon_divergence(z, one_hot(y)),
    "poly": lambda z, y: x.poly_loss_cross_entropy(z, one_hot(y)),
    "logsumexp": lambda z, y: x.logsumexp(z),
    "log_softmax": lambda z, y: x.log_softmax(z) * one_hot(y),
    "binary": lambda z, y: x.sigmoid_binary_cross_entropy(z, one_hot(y)),
    "binary focal": lambda z, y: x.sigmoid_focal_loss(z, one_hot(y)),
}
on_cpu = pytest.mark.skipif(jax.default_backend() != "cpu", reason="it is about XLA:CPU")


def of_step(loss, *batch):
    def mean(h, w, y):
        return loss(h @ w, y).mean()

    h, w = ((*batch, WIDTH), jnp.float32), ((WIDTH, CLASSES), jnp.float32)
    return temp(mean, h, w, (batch, jnp.int32))


@functools.cache
def of_product(*batch):
    """Returns the bytes for the gradients of ``h @ w``, for one of which XLA:CPU may transpose."""

    def pull(h, w, g):
        return jax.vjp(jnp.matmul, h, w)[1](g)

    h, w = ((*batch, WIDTH), jnp.float32), ((WIDTH, CLASSES), jnp.float32)
    return temp(pull, h, w, ((*batch, CLASSES), jnp.float32), wrt=())


@on_cpu
@pytest.mark.parametrize("name", LOSSES)
def test_three_axes_take_no_more_than_two_and_the_transposed_array_of_the_product(name):
    transposed = of_product(BATCH, LENGTH) - of_product(BATCH * LENGTH)
    two, three = of_step(LOSSES[name], BATCH * LENGTH), of_step(LOSSES[name], BATCH, LENGTH)
    assert three <= 1.05 * (two + transposed)


@on_cpu
@pytest.mark.parametrize(
    "ours, theirs",
    [
        (integer, optax.softmax_cross_entropy_with_integer_labels),
        (LOSSES["soft"], lambda z, y: optax.softmax_cross_entropy(z, one_hot(y))),
    ],
    ids=["integer", "soft"],
)
def test_three_axes_take_no_more_than_those_of_optax(ours, theirs):
    assert of_step(ours, BATCH, LENGTH) <= 1.05 * of_step(theirs, BATCH, LENGTH)


@pytest.mark.parametrize("dtype", ["float16", "bfloat16", "float32", "float64"])
def test_what_is_made_once_keeps_its_bits(dtype):
    with x64():
        info = jnp.finfo(dtype)
        hard = [0.0, -0.0, jnp.inf, -jnp.inf, jnp.nan, info.tiny, info.max]
        given = jnp.asarray([*hard, 1 / 3, 1 + info.eps, -7], dtype).reshape(1, 2, 5)
        made = jax.jit(_made_once)(given)
        assert made.dtype == given.dtype
        np.testing.assert_array_equal(np.signbit(made), np.signbit(given))
        np.testing.assert_array_equal(made.astype("float64"), given.astype("float64"))


@pytest.mark.slow
@pytest.mark.parametrize(
    "loss", [integer, x.forward_mode.softmax_cross_entropy_with_integer_labels]
)
def test_second_derivatives_with_three_axes_are_those_with_two(loss):
    rng = np.random.default_rng(0)
    z, v = rng.standard_normal((2, 2, 3, 5)).astype(np.float32)
    y = rng.integers(0, 5, (2, 3))

    def gradient(z, y):
        return jax.grad(lambda z: (loss(z, y, z_loss=0.1) ** 2).sum())(z)

    @jax.jit
    def in_both_modes(z, y, v):
        pushed = jax.jvp(lambda z: gradient(z, y), (z,), (v,))[1]
        pulled = jax.grad(lambda z: jnp.vdot(gradient(z, y), v))(z)
        return pushed, pulled

    flat = in_both_modes(z.reshape(6, 5), y.reshape(6), v.reshape(6, 5))
    for one, other in zip(in_both_modes(z, y, v), flat, strict=True):
        np.testing.assert_allclose(one.reshape(6, 5), other, rtol=1e-6)
    again = jax.jit(jax.vmap(in_both_modes))(*(jnp.stack([a, a]) for a in (z, y, v)))
    np.testing.assert_allclose(again[0][1].reshape(6, 5), flat[0], rtol=1e-6)


@pytest.mark.fast_compile
@pytest.mark.parametrize(
    "name", ["softmax_cross_entropy_with_integer_labels", "softmax", "log_softmax", "logsumexp"]
)
def test_the_gradient_with_three_axes_is_proved_on_every_platform(name):
    pytest.importorskip("sympy", reason="the proofs need SymPy: pip install xent-jax[proofs]")
    from xent_jax.proofs import array, labels, prove_vjp

    specs = {"z": array("b n k")}
    if "labels" in name:
        specs["y"] = labels("b n", classes="k")
    verdict = prove_vjp(getattr(x, name), specs, ("z",))
    assert verdict.proved, verdict
