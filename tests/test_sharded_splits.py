"""How many shards the tokens and the classes are divided into changes no number."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.sharding import PartitionSpec as P

import xent_jax
from tests.heads import pulled
from tests.meshes import mesh_of, shard_map, tracked
from tests.problems import close
from tests.sharded_heads import CLASSES, FIXED, KERNELS, layer, on_mesh

INTEGER = xent_jax.softmax_cross_entropy_with_integer_labels
SPLITS = [(d, m) for d in (1, 2, 4, 8) for m in (1, 2, 4, 8) if d * m <= 8]  # data x model
QUICK = (2, 4), (8, 1)
splits = pytest.mark.parametrize(
    "data, model",
    [pytest.param(*split, marks=() if split in QUICK else pytest.mark.slow) for split in SPLITS],
)


def same_numbers(first, second, expected):
    """Asserts that two runs are equal to the bit, and within 1e-6 of the largest expected number.

    The same numbers must be NaN or infinite.
    """
    jax.tree.map(np.testing.assert_array_equal, first, second)

    def compare(a, e):
        close(a, e, 1e-6, 1e-6 * np.max(np.abs(e), where=np.isfinite(e), initial=0))

    jax.tree.map(compare, first, expected)


def one_row_in_four_is_bad(rng):
    z = rng.standard_normal((16, 24)).astype(np.float32) * 3
    z[5], z[7, 20], z[9, 3] = -np.inf, np.nan, np.inf
    y = rng.integers(0, 24, 16).astype(np.int32)
    y[:3] = -1, 24, -100
    z[11, y[11]] = -np.inf
    return z, y


def of_rows(mesh, check_vma=True):
    """Returns a compiled function of logits and labels that returns losses and a gradient."""
    given = {"ignore_index": -100, "label_smoothing": 0.1, "z_loss": 1e-3, "axis_name": "model"}
    loss, specs = functools.partial(INTEGER, **given), (P("data", "model"), P("data"))
    mapped = shard_map(loss, specs, P("data"), mesh, check_vma)
    return jax.jit(functools.partial(pulled, mapped))


@functools.cache
def of_logits_on(data, model, check_vma):
    """Returns the losses and the gradient of two runs."""
    run = of_rows(mesh_of(data, model), check_vma)
    rows = one_row_in_four_is_bad(np.random.default_rng(0))
    return run(*rows), run(*rows)


@tracked
@splits
def test_the_split_changes_no_number_of_logits(data, model, check_vma):
    """Other splits differ by 1e-6 at most, and two runs are equal to the bit."""
    (expected, _), runs = of_logits_on(1, 1, True), of_logits_on(data, model, check_vma)
    same_numbers(*runs, expected)
    assert np.isnan(expected[0]).tolist() == [i in (0, 1, 5, 7, 9) for i in range(16)]


def test_the_order_of_tokens_changes_no_number(rng):
    z, y = one_row_in_four_is_bad(rng)
    order, run = rng.permutation(16), of_rows(mesh_of(2, 4))
    np.testing.assert_array_equal(run(z[order], y[order])[0], run(z, y)[0][order])


@functools.cache
def of_head_on(data, model, fully):
    """Returns the losses, their gradient, and a mean with its gradients, of two float32 runs."""
    rng = np.random.default_rng(0)
    x, w, y, b = layer(rng)
    x, w = jnp.tile(x, (1, 1, 4)), jnp.tile(w, (4, 1))  # eight divides the width
    y = y.at[:5, 0].set(jnp.array([-1, CLASSES, 3, 0, 0]))
    x = x.at[4, 0, 0].set(jnp.nan)
    kernel = KERNELS["fully" if fully else "classes"]
    head = functools.partial(on_mesh(kernel=kernel, mesh=mesh_of(data, model)), **FIXED)

    @jax.jit
    def run(x, w, b):
        losses, dx = pulled(lambda x: head(x, w, y, b, reduction="none"), x)
        left = {"where": ~jnp.isnan(losses), "label_smoothing": 0.1, "z_loss": 1e-3}
        mean = jax.value_and_grad(lambda x, w, b: head(x, w, y, b, **left), (0, 1, 2))
        return losses, dx, mean(x, w, b)

    return run(x, w, b), run(x, w, b)


@splits
@pytest.mark.parametrize("fully", [False, True], ids=["classes", "fully sharded"])
def test_the_split_changes_no_number_of_a_head(data, model, fully):
    """Other splits differ by 1e-6 of the largest at most; two runs are equal to the bit."""
    (expected, _), runs = of_head_on(1, 1, False), of_head_on(data, model, fully)
    same_numbers(*runs, expected)
    rows = np.isnan(expected[0])
    assert rows.sum() == 3 and rows[0, 0] and rows[1, 0] and rows[4, 0]
