"""Bad input: the error names the function, the argument, what came and what was wanted."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import xent_jax as X

Z = jnp.zeros((2, 3))
Y = jnp.zeros(2, int)
T = jnp.full((2, 3), 1 / 3)
INTEGER, SOFT = "softmax_cross_entropy_with_integer_labels", "softmax_cross_entropy"
BINARY = "sigmoid_binary_cross_entropy"

# function, arguments, options, the error, what its message says after the function's name
ERRORS = [
    # logits
    (INTEGER, (Z.astype(int), Y), {}, TypeError, "logits must be a floating-point array, got int32[2,3]"),
    (SOFT, (Z.astype(int), T), {}, TypeError, "Convert it, for example with logits.astype(jnp.float32)"),
    (INTEGER, ("ab", Y), {}, TypeError, "logits must be an array of numbers, got str"),
    (SOFT, (None, T), {}, TypeError, "logits must be an array of numbers, got NoneType"),
    (INTEGER, (jnp.float32(1.0), Y), {}, ValueError, "logits must have a class axis, got a scalar"),
    (INTEGER, (jnp.zeros((2, 0)), Y), {}, ValueError, "logits must have at least one class, got float32[2,0]"),
    (SOFT, (jnp.zeros((2, 0)), jnp.zeros((2, 0))), {}, ValueError, "at least one class"),
    ("softmax", (jnp.zeros((2, 0)),), {}, ValueError, "at least one class"),
    ("softmax", (Y,), {}, TypeError, "logits must be a floating-point array, got int32[2]"),
    ("log_softmax", (Y,), {}, TypeError, "logits must be a floating-point array"),
    ("logsumexp", (Y,), {}, TypeError, "logits must be a floating-point array"),
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
    (INTEGER, (Z, T), {}, TypeError, "labels must be an integer array, got float32[2,3]. "
     "For one-hot or soft labels use softmax_cross_entropy."),
    (INTEGER, (Z, Y > 0), {}, TypeError, "labels must be an integer array, got bool[2]"),
    (INTEGER, (Z, jnp.zeros(3, int)), {}, ValueError,
     "labels must have shape [2] (that of logits without the class axes), got int32[3]"),
    (INTEGER, (Z, Y[:, None]), {}, ValueError, "labels must have shape [2]"),
    ("softmax_focal_loss", (Z, jnp.zeros(3, int)), {}, ValueError, "labels must have shape [2]"),
    (SOFT, (Z, Y), {}, TypeError, "labels must be probabilities, one for each logit of float32[2,3], "
     "got int32[2]. For class indices use softmax_cross_entropy_with_integer_labels."),
    (SOFT, (Z, jnp.ones((4, 3))), {}, ValueError,
     "labels must broadcast to the shape of logits, [2, 3], got float32[4,3]"),
    (SOFT, (Z, jnp.ones((5, 2, 3))), {}, ValueError, "labels must broadcast"),
    ("poly_loss_cross_entropy", (Z, Y), {}, TypeError, "labels must be probabilities"),
    (BINARY, (Z, jnp.ones(2)), {}, ValueError, "labels must broadcast to the shape of logits, [2, 3]"),
    ("sigmoid_focal_loss", (Z, jnp.ones(2)), {}, ValueError, "Each logit has one binary label."),
    # axis
    (INTEGER, (Z, Y), {"axis": 2}, ValueError, "axis must name axes of logits float32[2,3], from -2 to 1, got 2"),
    (INTEGER, (Z, Y), {"axis": (0, -2)}, ValueError, "axis must not repeat an axis, got (0, -2)"),
    (INTEGER, (Z, Y), {"axis": 1.0}, TypeError, "axis must be an int, a tuple of ints or None (all axes), got 1.0"),
    (SOFT, (Z, T), {"axis": "classes"}, TypeError, "axis must be an int"),
    ("entropy", (T,), {"axis": 5}, ValueError, "axis must name axes of p float32[2,3]"),
    ("logsumexp", (Z,), {"axis": ()}, ValueError, "axis must name axes of logits"),
    # where
    (INTEGER, (Z, Y), {"where": Y}, TypeError, "where must be a boolean array, got int32[2]. Compare it with zero"),
    (INTEGER, (Z, Y), {"where": jnp.ones(3, bool)}, ValueError,
     "where must broadcast to the shape of the examples, [2], got bool[3]. To mask classes give it all 2 dimensions"),
    (SOFT, (Z, T), {"where": jnp.ones((3, 3), bool)}, ValueError, "where must broadcast to the shape of logits, [2, 3]"),
    (BINARY, (Z, T), {"where": jnp.ones(2, bool)}, ValueError, "where must broadcast"),
    (BINARY, (Z, T), {"where": Y}, TypeError, "where must be a boolean array"),
    # options
    (INTEGER, (Z, Y), {"reduction": "avg"}, ValueError, "reduction must be one of 'none', 'sum', 'mean', got 'avg'"),
    (SOFT, (Z, T), {"reduction": None}, ValueError, "reduction must be one of"),
    (BINARY, (Z, T), {"reduction": ["sum"]}, ValueError, "reduction must be one of"),
    ("softmax_focal_loss", (Z, Y), {"reduction": "MEAN"}, ValueError, "reduction must be one of"),
    (INTEGER, (Z, Y), {"label_smoothing": 1.5}, ValueError, "label_smoothing must be from 0 to 1, got 1.5"),
    (INTEGER, (Z, Y), {"label_smoothing": np.nan}, ValueError, "label_smoothing must be from 0 to 1, got nan"),
    (SOFT, (Z, T), {"label_smoothing": -0.1}, ValueError, "label_smoothing must be from 0 to 1, got -0.1"),
    (SOFT, (Z, T), {"label_smoothing": "0.1"}, TypeError, "label_smoothing must be a number, got '0.1'"),
    (BINARY, (Z, T), {"label_smoothing": 2}, ValueError, "label_smoothing must be from 0 to 1, got 2"),
    (INTEGER, (Z, Y), {"z_loss": -1e-4}, ValueError, "z_loss must be at least 0, got -0.0001"),
    (SOFT, (Z, T), {"z_loss": jnp.ones(2)}, TypeError, "z_loss must be a number, got float32[2]"),
    (SOFT, (Z, T), {"z_loss": True}, TypeError, "z_loss must be a number, got True"),
    (INTEGER, (Z, Y), {"class_weights": jnp.ones(2)}, ValueError,
     "class_weights must have shape [3] (one for each class), got float32[2]"),
    (SOFT, (Z, T), {"class_weights": jnp.ones((1, 3))}, ValueError, "class_weights must have shape [3]"),
    (INTEGER, (Z, Y), {"ignore_index": 0.5}, TypeError, "ignore_index must be an int or None, got 0.5"),
    (INTEGER, (Z, Y.astype(jnp.uint8)), {"ignore_index": -100}, ValueError,
     "ignore_index=-100 cannot occur in labels of dtype uint8, which hold 0 to 255"),
    (BINARY, (Z, T), {"pos_weight": jnp.ones(2)}, ValueError, "pos_weight must broadcast"),
    ("sigmoid_focal_loss", (Z, T), {"alpha": jnp.ones(2)}, ValueError, "alpha must broadcast"),
    ("sigmoid_focal_loss", (Z, T), {"gamma": -1}, ValueError, "gamma must be at least 0, got -1"),
    ("softmax_focal_loss", (Z, Y), {"gamma": -0.5}, ValueError, "gamma must be at least 0, got -0.5"),
    ("poly_loss_cross_entropy", (Z, T), {"epsilon": T}, TypeError, "epsilon must be a number, got float32[2,3]"),
    ("softcap", (Z, 0.0), {}, ValueError, "cap must be above 0, got 0"),
    ("softcap", (Z, None), {}, TypeError, "cap must be a number, got None"),
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


def test_the_same_inside_jit():
    """Shapes and dtypes are known while tracing."""
    with pytest.raises(ValueError, match=r"labels must have shape \[2\]"):
        jax.jit(X.softmax_cross_entropy_with_integer_labels)(Z, jnp.zeros(3, int))


def test_traced_options_are_taken():
    def loss(smoothing, z_loss):
        return X.softmax_cross_entropy(Z, T, label_smoothing=smoothing, z_loss=z_loss).sum()

    np.testing.assert_allclose(jax.jit(loss)(0.1, 0.2), loss(0.1, 0.2), rtol=1e-6)


def test_unknown_option():
    with pytest.raises(TypeError, match="unexpected keyword argument 'smoothing'"):
        X.softmax_cross_entropy(Z, T, smoothing=0.1)
