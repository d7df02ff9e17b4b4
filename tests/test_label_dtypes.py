"""Labels may have every integer dtype, and every number of it: ignored, in range or not."""

import contextlib

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import xent_jax as X
from tests.cases import x64

pytestmark = pytest.mark.fast_compile


def integer(x, w, y, **options):
    return X.softmax_cross_entropy_with_integer_labels(x @ w, y, **options)


def weighted(x, w, y, **options):
    return integer(x, w, y, class_weights=jnp.ones(w.shape[1]), **options)


def focal(x, w, y, **options):
    return X.softmax_focal_loss(x @ w, y, gamma=0.0, **options)


def head(x, w, y, **options):
    return X.linear_softmax_cross_entropy(x, w, y, reduction="none", **options)


def weighted_head(x, w, y, **options):
    return head(x, w, y, class_weights=jnp.ones(w.shape[1]), **options)


def statistics(x, w, y, **options):
    return X.linear_token_statistics(x, w, y, **options).loss


def padded(loss):
    """Returns the same loss with a kernel that is padded by three more classes."""

    def of_padded(x, w, y, **options):
        return loss(x, jnp.pad(w, ((0, 0), (0, 3))), y, num_classes=w.shape[1], **options)

    of_padded.__name__ = f"padded_{loss.__name__}"
    return of_padded


DTYPES = ["int8", "uint8", "int16", "uint16", "int32", "uint32", "int64", "uint64"]
LOSSES = [integer, weighted, focal, head, weighted_head, statistics]
LOSSES += [padded(head), padded(weighted_head), padded(statistics)]
of_each_loss = pytest.mark.parametrize("loss", LOSSES, ids=lambda f: f.__name__)
of_each_dtype = pytest.mark.parametrize(
    "dtype",
    [d if d in ("int8", "uint32") else pytest.param(d, marks=pytest.mark.slow) for d in DTYPES],
)


def wide_enough(dtype):
    return x64() if dtype.endswith("64") else contextlib.nullcontext()


def layer(tokens, classes):
    rng = np.random.default_rng(classes)
    return (jnp.asarray(rng.normal(size=s), jnp.float32) for s in ((tokens, 2), (2, classes)))


def nll(x, w, y):
    return -np.asarray(jax.nn.log_softmax(x @ w))[np.arange(len(y)), y]


@of_each_dtype
@of_each_loss
@pytest.mark.parametrize("end", ["min", "max"])
def test_either_end_of_a_dtype_can_be_ignored(end, loss, dtype):
    with wide_enough(dtype):
        ignored = int(getattr(jnp.iinfo(dtype), end))
        x, w = layer(3, 5)
        y = jnp.asarray(np.array([3, ignored, 1], dtype))
        assert y.dtype == dtype
        wanted = nll(x, w, [3, 0, 1]) * [1, 0, 1]
        jitted = jax.jit(lambda x, w, y: loss(x, w, y, ignore_index=ignored))
        np.testing.assert_allclose(jitted(x, w, y), wanted, rtol=1e-5)
        if dtype in ("int8", "uint64"):  # eagerly, at the narrowest and the widest
            np.testing.assert_allclose(loss(x, w, y, ignore_index=ignored), wanted, rtol=1e-5)


@of_each_dtype
@of_each_loss
def test_either_end_of_a_dtype_is_out_of_range_unless_it_is_0(loss, dtype):
    """No number becomes a class because its upper bits are lost, or are read as a sign."""
    with wide_enough(dtype):
        low, high = int(jnp.iinfo(dtype).min), int(jnp.iinfo(dtype).max)
        cut = [2**bits + 1 for bits in (8, 16, 31, 32) if 2**bits < high]
        numbers = [2, low, high, high - 3, *cut]
        x, w = layer(len(numbers), 5)
        losses = loss(x, w, jnp.asarray(np.array(numbers, dtype)))
        np.testing.assert_array_equal(np.isnan(losses), [not 0 <= n < 5 for n in numbers])


@of_each_loss
@pytest.mark.parametrize(("dtype", "classes"), [("int8", 300), ("uint8", 300), ("int16", 40_000)])
def test_a_dtype_that_cannot_count_the_classes(loss, dtype, classes):
    x, w = layer(3, classes)
    y = [0, int(jnp.iinfo(dtype).max), 7]
    losses = loss(x, w, jnp.asarray(y, dtype))
    np.testing.assert_allclose(losses, nll(x, w, y), rtol=1e-4)


def test_a_dtype_that_cannot_count_the_classes_gives_the_rank():
    (x, w), y = layer(5, 300), jnp.arange(5) * 20
    small, wide = (X.linear_token_statistics(x, w, y) for y in (y.astype(jnp.int8), y))
    np.testing.assert_array_equal(small.label_rank, wide.label_rank)


def test_an_ignored_label_that_is_a_class_has_no_rank():
    x, w = layer(3, 5)
    found = X.linear_token_statistics(x, w, jnp.array([0, 3, 0]), ignore_index=0)
    np.testing.assert_array_equal(found.label_rank < 0, [True, False, True])
    np.testing.assert_array_equal(found.loss == 0, [True, False, True])


@pytest.mark.parametrize("run", [head, weighted_head, statistics], ids=lambda f: f.__name__)
@pytest.mark.parametrize("value", [6, 2**31, 2**32, 2**40, 2**70])
def test_more_classes_than_the_kernel_has_are_refused_for_that(run, value):
    x, w = layer(3, 5)
    with pytest.raises(ValueError, match="from 1 to 5, the number of the kernel's classes, got "):
        run(x, w, jnp.array([0, 1, 2]), num_classes=value)
