"""Errors for bad input name the function and the argument, what it got and what it must be."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import xent_jax as X
from tests.heads import modes
from tests.mistakes import JAX, MISTAKES, told

pytestmark = pytest.mark.fast_compile

Z = jnp.zeros((2, 3))
Y = jnp.zeros(2, int)
T = jnp.full((2, 3), 1 / 3)


IN_BOTH_MODES = [
    m for m in MISTAKES if m.typed.split()[1].partition("(")[0] in vars(X.forward_mode)
]


@pytest.mark.parametrize(
    ("mistake", "module"),
    [pytest.param(m, X, id=m.id) for m in MISTAKES]
    + [pytest.param(m, X.forward_mode, id=f"jvp: {m.id}") for m in IN_BOTH_MODES],
)
def test_error(mistake, module):
    """The message is that of mistakes.txt; the library raises the error, chained to no other."""
    # Some messages are JAX's or Python's, and change with their versions. All others are compared
    # on every version.
    if mistake.whose and jax.__version__ not in JAX:
        pytest.skip("in words of another JAX")
    message, ours, chained = told(mistake, module)
    assert message == mistake.message
    assert mistake.whose or (ours and not chained)


def test_traced_options_are_taken():
    def loss(smoothing, z_loss):
        return X.softmax_cross_entropy(Z, T, label_smoothing=smoothing, z_loss=z_loss).sum()

    np.testing.assert_allclose(jax.jit(loss)(0.1, 0.2), loss(0.1, 0.2), rtol=1e-6)


# ---------------------------------------------------------------- two dtypes

F8, F8_WIDE, BF16, F16, F32 = "float8_e4m3fn", "float8_e5m2", "bfloat16", "float16", "float32"
KERNEL = jnp.eye(3)
HEADS = {
    "linear_softmax_cross_entropy": lambda m, x, w: m.linear_softmax_cross_entropy(x, w, Y),
    "linear_token_statistics": lambda m, x, w: m.linear_token_statistics(x, w, Y).loss,
    "with_linear_head": lambda m, x, w: m.with_linear_head(lambda z: z[:, 0])(x, w),
    "linear_head_plan": lambda m, x, w: X.linear_head_plan(x, w),
}


@modes
@pytest.mark.parametrize("head", HEADS)
@pytest.mark.parametrize(
    ("inputs", "kernel", "strict", "says"),
    [
        (F8, BF16, False, "one of them, for example with inputs.astype(jnp.bfloat16)"),
        (F32, F8, False, "one of them, for example with kernel.astype(jnp.float32)"),
        (F8, F8_WIDE, False, "both with .astype(jnp.bfloat16)"),
        (BF16, F32, True, "one of them, for example with inputs.astype(jnp.float32)"),
        (F16, BF16, True, "both with .astype(jnp.float32)"),
    ],
)
def test_dtypes_that_jax_does_not_promote_are_told(inputs, kernel, strict, says, head, module):
    x, w = Z.astype(inputs), KERNEL.astype(kernel)
    got = f"{inputs}[2,3] and {kernel}[3,3]. Convert {says}"
    wanted = (
        f"{head}: inputs and kernel must have dtypes that JAX promotes to one, got {got}, or give "
        f"the dtype in which they are multiplied as dtype=."
    )
    with jax.numpy_dtype_promotion("strict" if strict else "standard"):
        with pytest.raises(TypeError) as raised:
            HEADS[head](module, x, w)
    assert str(raised.value) == wanted


@pytest.mark.parametrize(("inputs", "kernel"), [(BF16, F32), (F16, BF16), (F32, F16), (F8, F8)])
@pytest.mark.parametrize("head", [h for h in HEADS if h != "linear_head_plan"])
def test_dtypes_that_jax_promotes_go_on_together(inputs, kernel, head):
    out = HEADS[head](X, Z.astype(inputs), KERNEL.astype(kernel))
    assert out.dtype == jnp.float32
    np.testing.assert_allclose(out, HEADS[head](X, Z, KERNEL), rtol=1e-6)


@functools.cache
def in_float32(pair):
    return jnp.sum(PAIRS[pair](Z, jnp.full((2, 3), 0.5)))


PAIRS = {  # losses of logits and of a second array, whose dtype is free
    "labels": lambda z, t: X.softmax_cross_entropy(z, t),
    "class_weights": lambda z, t: X.softmax_cross_entropy_with_integer_labels(
        z, Y, class_weights=t[0]
    ),
    "weights of the focal loss": lambda z, t: X.softmax_focal_loss(z, Y, class_weights=t[0]),
    "poly": lambda z, t: X.poly_loss_cross_entropy(z, t),
    "binary": lambda z, t: X.sigmoid_binary_cross_entropy(z, t, pos_weight=t),
    "binary focal": lambda z, t: X.sigmoid_focal_loss(z, t, t),
    "kl_divergence": lambda z, t: X.kl_divergence(z, t),
    "cross_entropy": lambda z, t: X.cross_entropy(z + 0.25, t),
    "relative_entropy": lambda z, t: X.relative_entropy(t, z + 0.25),
    "softmax_kl_divergence": lambda z, t: X.softmax_kl_divergence(z, t),
    "softmax_jensen_shannon_divergence": lambda z, t: X.softmax_jensen_shannon_divergence(z, t),
    "softcap": lambda z, t: X.softcap(z, t[0, 0]),
    "bias": lambda z, t: X.linear_softmax_cross_entropy(z, KERNEL.astype(z.dtype), Y, t[0]),
}


@pytest.mark.parametrize(("first", "second"), [(F8, BF16), (BF16, F8_WIDE), (BF16, F32), (F32, F8)])
@pytest.mark.parametrize("pair", PAIRS)
def test_the_dtype_of_what_stands_beside_the_logits_is_free(pair, first, second):
    z, t = Z.astype(first), jnp.full((2, 3), 0.5, second)
    with jax.numpy_dtype_promotion("strict"):
        value, gradients = jax.jit(
            jax.value_and_grad(lambda z, t: jnp.sum(PAIRS[pair](z, t).astype(jnp.float32)), (0, 1))
        )(z, t)
    # The tolerance follows bfloat16, which has 8 bits: softcap rounds its value to the dtype of z.
    np.testing.assert_allclose(value, in_float32(pair), rtol=1e-2)
    assert [g.dtype for g in gradients] == [first, second]


@pytest.mark.parametrize("number", [np.int64(2), jnp.int32(2)])
def test_an_integer_is_one_of_any_kind(number):
    found = X.linear_token_statistics(Z, KERNEL, Y, top_k=number, num_classes=number)
    assert found.top_k_indices.shape == (2, 2)
    assert jnp.all(found.top_k_indices < 2)
