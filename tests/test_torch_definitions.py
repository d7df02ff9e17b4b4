"""Class weights, ignore_index, label smoothing and reductions mean what PyTorch documents.

The definitions of torch.nn.CrossEntropyLoss and BCEWithLogitsLoss are written here in NumPy and
float64. They are differentiated by the complex step, f'(x) = Im f(x + ih) / h, which does not
cancel, so that the expected gradients do not depend on automatic differentiation.
"""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import xent_jax
from tests.cases import x64
from tests.heads import reductions

pytestmark = pytest.mark.fast_compile

TOLERANCE = 1e-12  # float64, for logits within 20 of each other

DRAWS = 6
each_choice = pytest.mark.parametrize(
    ("weighted", "smoothed"),
    [(False, False), (True, False), (False, True), (True, True)],
    ids=["plain", "weighted", "smoothed", "weighted and smoothed"],
)


# ------------------------------------------------------------------------ the definitions


def surprise(z):
    """Returns ``-log p`` for ``p = softmax(z)``."""
    return np.log(np.sum(np.exp(z), axis=-1, keepdims=True)) - z


def torch_cross_entropy(
    logits, labels, *, ignore_index=None, label_smoothing=0.0, class_weights=None, reduction
):
    """Returns ``(1 - e) w_y nll_y + e / K sum_c w_c nll_c``, 0 for ignored labels, reduced."""
    nll, keep, e = surprise(logits), labels != ignore_index, label_smoothing
    w = np.ones(nll.shape[-1]) if class_weights is None else class_weights
    y = np.where(keep, labels, 0)
    nll_y = np.take_along_axis(nll, y[:, None], axis=-1)[:, 0]
    losses = keep * ((1 - e) * w[y] * nll_y + e / w.size * np.sum(w * nll, axis=-1))
    # The mean is over the weights of the labels that are not ignored.
    return reduced(losses, reduction, np.sum(keep * w[y]))


def torch_cross_entropy_of_probabilities(
    logits, labels, *, label_smoothing=0.0, class_weights=None, reduction
):
    """Returns ``-sum_c w_c log p_c t'_c``, t' = (1 - e) t + e / K, reduced; the mean is over N."""
    e, w = label_smoothing, 1.0 if class_weights is None else class_weights
    smooth = (1 - e) * labels + e / logits.shape[-1]
    losses = np.sum(w * surprise(logits) * smooth, axis=-1)
    return reduced(losses, reduction, losses.size)


def torch_bce_with_logits(logits, labels, *, pos_weight=1.0, reduction):
    """Returns ``-w t log s(z) - (1 - t) log s(-z)``, s the sigmoid, reduced over all elements."""
    losses = pos_weight * labels * np.log1p(np.exp(-logits))
    losses = losses + (1 - labels) * np.log1p(np.exp(logits))
    return reduced(losses, reduction, losses.size)


def reduced(losses, reduction, divisor):
    if reduction == "none":
        return losses
    return np.sum(losses) / (divisor if reduction == "mean" else 1)


def complex_step(function, arrays, name) -> np.ndarray:
    """Returns the gradient of a scalar function to one of its arrays, by the complex step."""
    size, x = 1e-40, np.asarray(arrays[name])
    steps = 1j * size * np.eye(x.size).reshape(-1, *x.shape)
    slopes = [function(**{**arrays, name: x + step}).imag / size for step in steps]
    return np.reshape(slopes, x.shape)


def assert_same(ours, definition, arrays, fixed, rng) -> None:
    """Asserts that values, and gradients to each array at a random cotangent, are the same."""
    with x64():
        value, pull = jax.vjp(lambda given: ours(**given, **fixed), arrays)
        np.testing.assert_allclose(value, definition(**arrays, **fixed), TOLERANCE, TOLERANCE)
        g = rng.standard_normal(value.shape)
        (gradients,) = pull(jnp.asarray(g))

    def weighed(**given):
        return np.sum(g * definition(**given, **fixed))

    for name in arrays:
        expected = complex_step(weighed, arrays, name)
        np.testing.assert_allclose(gradients[name], expected, TOLERANCE, TOLERANCE, err_msg=name)


# ----------------------------------------------------------------------------- the inputs


def positive(rng, low, high, shape):
    """Returns numbers between ``low`` and ``high``, about a fifth of them replaced by 0."""
    return np.where(rng.random(shape) < 0.2, 0, rng.uniform(low, high, shape))


def classification(rng, draw, weighted, smoothed):
    """Returns logits of four classes or one, and class weights and label smoothing if asked for."""
    shape = [(3, 4), (1, 1)][draw % 2]
    arrays = {"logits": rng.uniform(-10, 10, shape)}
    if weighted:
        arrays["class_weights"] = positive(rng, 0.1, 3, shape[1:])
    if smoothed:
        arrays["label_smoothing"] = np.asarray(1.0 if draw < 2 else rng.uniform(0.01, 1))
    return arrays


def integer_labels(rng, n, k):
    """Returns labels, and maybe an ``ignore_index`` that replaces some; it may be a class too."""
    labels, ignore_index = rng.integers(0, k, n), rng.choice([None, -100, -1, k - 1])
    if ignore_index is None:
        return {"labels": labels}
    return {
        "labels": np.where(rng.random(n) < 0.4, ignore_index, labels).astype(int),
        "ignore_index": int(ignore_index),
    }


# ------------------------------------------------------------------------------ the tests


@reductions
@each_choice
def test_integer_labels(reduction, weighted, smoothed, rng):
    for draw in range(DRAWS):
        count = 0
        while not count:  # torch's mean over nothing is NaN, see the next test
            arrays = classification(rng, draw, weighted, smoothed)
            fixed = integer_labels(rng, *arrays["logits"].shape)
            left = fixed["labels"][fixed["labels"] != fixed.get("ignore_index")]
            count = np.sum(arrays.get("class_weights", np.ones(4))[left])
        ours = xent_jax.softmax_cross_entropy_with_integer_labels
        assert_same(ours, torch_cross_entropy, arrays, fixed | {"reduction": reduction}, rng)


@reductions
@each_choice
@pytest.mark.parametrize("ignore_index", [-100, 0])
def test_no_label_left(reduction, weighted, smoothed, ignore_index, rng):
    """Our loss and gradients are 0 on purpose where torch's mean is 0 / 0."""
    arrays = classification(rng, 2, weighted, smoothed)
    labels = np.full(arrays["logits"].shape[:1], ignore_index)
    fixed = {"labels": labels, "ignore_index": ignore_index, "reduction": reduction}
    with np.errstate(invalid="ignore"):
        assert np.all(np.isnan(torch_cross_entropy(**arrays, **fixed))) == (reduction == "mean")
    with x64():
        ours = xent_jax.softmax_cross_entropy_with_integer_labels
        value, pull = jax.vjp(lambda given: ours(**given, **fixed), arrays)
        for x in (value, *pull(jnp.ones_like(value))[0].values()):
            np.testing.assert_array_equal(x, 0)


@reductions
@each_choice
def test_probabilities(reduction, weighted, smoothed, rng):
    for draw in range(DRAWS):
        arrays = classification(rng, draw, weighted, smoothed)
        labels = positive(rng, 0.01, 1, arrays["logits"].shape)
        if draw < 3:  # other labels need not sum to 1; the formula is the same
            labels[:, 0] += 0.5
            labels = labels / np.sum(labels, axis=-1, keepdims=True)
        ours, fixed = xent_jax.softmax_cross_entropy, {"reduction": reduction}
        definition = torch_cross_entropy_of_probabilities
        assert_same(ours, definition, arrays | {"labels": labels}, fixed, rng)


@reductions
@pytest.mark.parametrize("weighted", ["nowhere", "element", "class", "all"])
def test_binary_with_positive_weights(reduction, weighted, rng):
    for draw in range(DRAWS):
        n, k = [(3, 4), (1, 1)][draw % 2]
        arrays = {"logits": rng.uniform(-10, 10, (n, k)), "labels": positive(rng, 0.01, 1, (n, k))}
        if weighted != "nowhere":
            shape = {"element": (n, k), "class": (k,), "all": ()}[weighted]
            arrays["pos_weight"] = positive(rng, 0.1, 3, shape)
        ours, fixed = xent_jax.sigmoid_binary_cross_entropy, {"reduction": reduction}
        assert_same(ours, torch_bce_with_logits, arrays, fixed, rng)


@pytest.mark.parametrize(
    "definition, arrays, fixed",
    [
        (
            torch_cross_entropy,
            {"logits": [[0.3, -0.7, 1.9]], "class_weights": [1, 2, 0.5], "label_smoothing": 0.1},
            {"labels": np.array([1]), "reduction": "mean"},
        ),
        (
            torch_bce_with_logits,
            {"logits": [0.3, -2.0], "labels": [0.2, 1.0], "pos_weight": [2.0, 0.5]},
            {"reduction": "sum"},
        ),
    ],
)
def test_the_complex_step_is_the_derivative(definition, arrays, fixed):
    """The other tests rest on the complex step, so it is compared with central differences."""
    arrays, h = {name: np.asarray(x, float) for name, x in arrays.items()}, 1e-5
    for name, x in arrays.items():
        slopes = complex_step(lambda **given: definition(**given, **fixed), arrays, name)
        for slope, step in zip(slopes.flat, h * np.eye(x.size), strict=True):
            moved = (x + sign * step.reshape(x.shape) for sign in (1, -1))
            up, down = (definition(**{**arrays, name: y}, **fixed) for y in moved)
            np.testing.assert_allclose((up - down) / (2 * h), slope, 1e-8, 1e-8)
