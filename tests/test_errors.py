"""Errors for bad input name the function, the argument, what came and what was wanted."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import xent_jax as X
from tests.mistakes import MISTAKES, TRANSCRIPT, told

pytestmark = pytest.mark.fast_compile

Z = jnp.zeros((2, 3))
Y = jnp.zeros(2, int)
T = jnp.full((2, 3), 1 / 3)
INTEGER, SOFT = "softmax_cross_entropy_with_integer_labels", "softmax_cross_entropy"
BINARY = "sigmoid_binary_cross_entropy"
MIXTURE = "softmax_jensen_shannon_divergence"

# function, arguments, options, the error, what its message says after the function's name
ERRORS = [
    # logits
    (INTEGER, (Z.astype(int), Y), {}, TypeError, "logits must be a floating-point array, got int32[2,3]"),
    (SOFT, (Z.astype(int), T), {}, TypeError, "Convert it, for example with jnp.asarray(logits, jnp.float32)"),
    (SOFT, (jnp.zeros((2, 0)), jnp.zeros((2, 0))), {}, ValueError, "at least one class"),
    ("softmax", (jnp.zeros((2, 0)),), {}, ValueError, "at least one class"),
    ("log_softmax", (Y,), {}, TypeError, "logits must be a floating-point array"),
    ("logsumexp", (Y,), {}, TypeError, "logits must be a floating-point array"),
    ("softmax_entropy", (Y,), {}, TypeError, "logits must be a floating-point array, got int32[2]"),
    ("softmax_entropy", (Z,), {"where": jnp.ones((3, 3), bool)}, ValueError, "where must broadcast"),
    ("softcap", (Y, 3.0), {}, TypeError, "logits must be a floating-point array"),
    ("softmax_focal_loss", (Y, Y), {}, TypeError, "logits must be a floating-point array"),
    ("poly_loss_cross_entropy", (Y, T), {}, TypeError, "logits must be a floating-point array"),
    ("sigmoid_focal_loss", (Y, T), {}, TypeError, "logits must be a floating-point array"),
    ("entropy", (Y,), {}, TypeError, "p must be a floating-point array, got int32[2]"),
    ("cross_entropy", (T, Y), {}, TypeError, "q must be a floating-point array, got int32[2]"),
    ("relative_entropy", (Y, T), {}, TypeError, "p must be a floating-point array"),
    ("kl_divergence", (T, Y), {}, TypeError, "targets must be a floating-point array"),
    ("kl_divergence", (T, jnp.ones((4, 3))), {}, ValueError,
     "log_predictions and targets must broadcast to each other, got float32[2,3] and float32[4,3]"),
    # labels
    (INTEGER, (Z, Y > 0), {}, TypeError, "labels must be an integer array, got bool[2]"),
    ("token_statistics", (Y, Z), {}, TypeError, "logits must be a floating-point array, got int32[2]. The logits come"),
    ("token_statistics", (Z, T), {}, TypeError, "labels must be an integer array, got float32[2,3]"),
    ("token_statistics", (Z, jnp.zeros(3, int)), {}, ValueError, "labels must have shape [2]"),
    ("token_statistics", (Z, Y), {"top_k": 4}, ValueError,
     "top_k must be an integer in [0, 3], the number of classes, got 4."),
    ("softmax_focal_loss", (Z, jnp.zeros(3, int)), {}, ValueError, "labels must have shape [2]"),
    (SOFT, (Z, jnp.ones((4, 3))), {}, ValueError,
     "labels must broadcast to the shape of logits, [2, 3], got float32[4,3]"),
    (SOFT, (Z, jnp.ones((5, 2, 3))), {}, ValueError, "labels must broadcast"),
    ("poly_loss_cross_entropy", (Z, Y), {}, TypeError, "labels must be probabilities"),
    (BINARY, (Z, jnp.ones(2)), {}, ValueError, "labels must broadcast to the shape of logits, [2, 3]"),
    ("sigmoid_focal_loss", (Z, jnp.ones(2)), {}, ValueError, "Each logit has one binary label."),
    # axis
    (INTEGER, (Z, Y), {"axis": 1.0}, TypeError, "axis must be an int, a tuple of ints or None (all axes), got 1.0"),
    (SOFT, (Z, T), {"axis": "classes"}, TypeError, "axis must be an int"),
    ("entropy", (T,), {"axis": 5}, ValueError, "axis must name axes of p float32[2,3]"),
    ("logsumexp", (Z,), {"axis": ()}, ValueError, "axis must name axes of logits"),
    # where
    (SOFT, (Z, T), {"where": jnp.ones((3, 3), bool)}, ValueError, "where must broadcast to the shape of logits, [2, 3]"),
    (BINARY, (Z, T), {"where": jnp.ones(2, bool)}, ValueError, "where must broadcast"),
    (BINARY, (Z, T), {"where": Y}, TypeError, "where must be a boolean array"),
    # options
    (SOFT, (Z, T), {"reduction": None}, ValueError, "reduction must be one of"),
    (BINARY, (Z, T), {"reduction": ["sum"]}, ValueError, "reduction must be one of"),
    ("softmax_focal_loss", (Z, Y), {"reduction": "MEAN"}, ValueError, "reduction must be one of"),
    (INTEGER, (Z, Y), {"label_smoothing": np.nan}, ValueError, "label_smoothing must be from 0 to 1, got nan"),
    (SOFT, (Z, T), {"label_smoothing": -0.1}, ValueError, "label_smoothing must be from 0 to 1, got -0.1"),
    (SOFT, (Z, T), {"label_smoothing": "0.1"}, TypeError, "label_smoothing must be a number, got '0.1'"),
    (BINARY, (Z, T), {"label_smoothing": 2}, ValueError, "label_smoothing must be from 0 to 1, got 2"),
    (SOFT, (Z, T), {"z_loss": jnp.ones(2)}, TypeError, "z_loss must be a number, got float32[2]"),
    (SOFT, (Z, T), {"z_loss": True}, TypeError, "z_loss must be a number, got True"),
    (SOFT, (Z, T), {"class_weights": jnp.ones((1, 3))}, ValueError, "class_weights must have shape [3]"),
    (BINARY, (Z, T), {"pos_weight": jnp.ones(2)}, ValueError, "pos_weight must broadcast"),
    ("sigmoid_focal_loss", (Z, T), {"alpha": jnp.ones(2)}, ValueError, "alpha must broadcast"),
    ("sigmoid_focal_loss", (Z, T), {"gamma": -1}, ValueError, "gamma must be at least 0, got -1"),
    ("poly_loss_cross_entropy", (Z, T), {"epsilon": T}, TypeError, "epsilon must be a number, got float32[2,3]"),
    ("softmax_kl_divergence", (Y, T), {}, TypeError, "logits must be a floating-point array"),
    ("softmax_kl_divergence", (Z, Y), {}, TypeError, "target_logits must be a floating-point array, got int32[2]"),
    ("softmax_kl_divergence", (Z, jnp.ones((4, 3))), {}, ValueError,
     "target_logits must broadcast to the shape of logits, [2, 3], got float32[4,3]"),
    ("softmax_kl_divergence", (Z, T), {"temperature": 0}, ValueError, "temperature must be above 0, got 0"),
    ("softmax_kl_divergence", (Z, T), {"temperature": T}, TypeError, "temperature must be a number, got float32[2,3]"),
    (MIXTURE, (Z, Y), {}, TypeError, "target_logits must be a floating-point array, got int32[2]"),
    (MIXTURE, (Z, T), {"temperature": 0}, ValueError, "temperature must be above 0, got 0"),
    (MIXTURE, (Z, T), {"beta": 0}, ValueError,
     "beta must be above 0 and below 1, got 0.0 in float32. Where other libraries take 0 or 1 for a KL divergence, "
     "call softmax_kl_divergence: with (logits, target_logits) for 0, with the two exchanged for 1."),
    (MIXTURE, (Z, T), {"beta": 1}, ValueError, "beta must be above 0 and below 1, got 1.0 in float32"),
    (MIXTURE, (Z, T), {"beta": 1 - 1e-9}, ValueError, "beta must be above 0 and below 1, got 0.999999999 in float32"),
    (MIXTURE, (Z, T), {"beta": float("nan")}, ValueError, "beta must be above 0 and below 1, got nan in float32"),
    (MIXTURE, (Z, T), {"beta": T}, TypeError, "beta must be a number, got float32[2,3]"),
    (MIXTURE, (Z, T), {"beta": None}, TypeError, "beta must be a number, got None"),
    ("softcap", (Z, None), {}, TypeError, "cap must be a number, got None"),
    # what is not real, and what is no integer
    (SOFT, (Z, 1j * T), {}, TypeError, "labels must be real, got complex64[2,3]. Pass the real part."),
    (BINARY, (Z, 1j * T), {}, TypeError, "labels must be real, got complex64[2,3]"),
    (BINARY, (Z, T), {"pos_weight": 1j}, TypeError, "pos_weight must be real, got complex64[]"),
    ("sigmoid_focal_loss", (Z, T), {"alpha": 1j}, TypeError, "alpha must be real, got complex64[]"),
    ("sigmoid_focal_loss", (Z, T), {"gamma": 1j}, TypeError, "gamma must be real, got complex64[]"),
    (INTEGER, (Z, Y), {"class_weights": 1j * T[0]}, TypeError, "class_weights must be real, got complex64[3]"),
    (INTEGER, (Z, Y), {"ignore_index": True}, TypeError, "ignore_index must be an int or None, got True"),
    (INTEGER, (Z, [2**40, 0]), {}, TypeError, "labels must be an array of numbers, or a list of them, got [1099511627776, 0]"),
    (SOFT, (Z, T), {"reduction": np.array(["sum", "mean"])}, ValueError, "reduction must be one of"),
]  # fmt: skip


@pytest.mark.parametrize("module", [X, X.forward_mode], ids=["vjp", "jvp"])
@pytest.mark.parametrize(
    ("function", "args", "options", "error", "says"), ERRORS, ids=[e[4][:50] for e in ERRORS]
)
def test_error(module, function, args, options, error, says):
    with pytest.raises(error) as raised:
        getattr(module, function)(*args, **options)
    message = str(raised.value)
    assert message.startswith(function + ": "), message
    assert says in message, message


def test_traced_options_are_taken():
    def loss(smoothing, z_loss):
        return X.softmax_cross_entropy(Z, T, label_smoothing=smoothing, z_loss=z_loss).sum()

    np.testing.assert_allclose(jax.jit(loss)(0.1, 0.2), loss(0.1, 0.2), rtol=1e-6)


# ---------------------------------------------------------------- as a user meets them

JAX, *TOLD = TRANSCRIPT.read_text("utf-8").strip().split("\n\n# ")
of_each_mistake = pytest.mark.parametrize("mistake", MISTAKES, ids=[m.title for m in MISTAKES])


@of_each_mistake
def test_a_mistake_is_told_as_the_transcript_has_it(mistake):
    """``python -m tests.mistakes --write`` writes the transcript anew, to be read."""
    # Seven are in words of JAX or Python, which change with it; ours are compared on every version.
    if mistake.whose and jax.__version__ not in JAX:
        pytest.skip("in words of another JAX")
    said = told(mistake)
    assert said.text.removeprefix("# ").strip() in TOLD, said.text
    assert said.message.startswith(mistake.begins) and mistake.has in said.message


@pytest.mark.parametrize("mistake", [m for m in MISTAKES if not m.whose], ids=lambda m: m.title)
def test_a_mistake_is_told_by_us_and_by_no_traceback_above(mistake):
    assert told(mistake).ours
    assert not told(mistake).chained


def test_the_transcript_has_each_mistake_once():
    assert [block.partition("\n")[0] for block in TOLD] == [m.title for m in MISTAKES]


# ---------------------------------------------------------------- two dtypes

F8, F8_WIDE, BF16, F16, F32 = "float8_e4m3fn", "float8_e5m2", "bfloat16", "float16", "float32"
KERNEL = jnp.eye(3)
HEADS = {
    "linear_softmax_cross_entropy": lambda m, x, w: m.linear_softmax_cross_entropy(x, w, Y),
    "linear_token_statistics": lambda m, x, w: m.linear_token_statistics(x, w, Y).loss,
    "with_linear_head": lambda m, x, w: m.with_linear_head(lambda z: z[:, 0])(x, w),
    "linear_head_plan": lambda m, x, w: X.linear_head_plan(x, w),
}


@pytest.mark.parametrize("module", [X, X.forward_mode], ids=["vjp", "jvp"])
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


PAIRS = {  # of a loss and an array beside the logits, whose dtype is free
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
    wanted = jnp.sum(PAIRS[pair](Z, jnp.full((2, 3), 0.5)))
    # softcap rounds its value to bfloat16, which has 8 bits.
    np.testing.assert_allclose(value, wanted, rtol=1e-2)
    assert [g.dtype for g in gradients] == [first, second]


@pytest.mark.parametrize("number", [np.int64(2), jnp.int32(2)])
def test_an_integer_is_one_of_any_kind(number):
    kernel = jnp.eye(3)
    found = X.linear_token_statistics(Z, kernel, Y, top_k=number, num_classes=number)
    assert found.top_k_indices.shape == (2, 2)
    assert jnp.all(found.top_k_indices < 2)
