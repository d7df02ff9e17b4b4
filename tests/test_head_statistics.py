"""What is peculiar to the token statistics of the linear head: ties, labels and the bias."""

import functools
import re

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.sharding import PartitionSpec as P

from tests.heads import CLASSES, drawn, equal_zeros_tie, jit_and_mode
from tests.meshes import mesh_of
from tests.problems import close
from xent_jax import linear_token_statistics, shard_linear_head

pytestmark = [pytest.mark.fast_compile, pytest.mark.usefixtures("float64")]


@jit_and_mode
@pytest.mark.parametrize("dtype", ["float32", "float64", "bfloat16", "float16"])
@pytest.mark.parametrize("zeros", ["of the kernel", "of the bias"])
def test_negative_zero_ties_with_zero(zeros, dtype, jit, module):
    z = np.array([-0.0, 0.0, -0.0, -1.0, 0.0, -0.0])
    x, w, b = jnp.ones((6, 1), dtype), jnp.asarray(z[None], dtype), None
    if zeros == "of the bias":
        w, b = jnp.full_like(w, -0.0), w[0]
    run = functools.partial(module.linear_token_statistics, top_k=4)
    equal_zeros_tie((jax.jit(run) if jit else run)(x, w, jnp.arange(6), b), z, 4)


def test_negative_zero_ties_with_zero_in_any_shard():
    z = np.tile([-0.0, 0.0, -1.0], 8)  # over four shards
    x, w, y = jnp.ones((24, 1)), jnp.asarray(z[None]), jnp.arange(24)
    sharded = shard_linear_head(
        linear_token_statistics, mesh_of(), inputs=P("data"), kernel=P(None, "model")
    )
    equal_zeros_tie(jax.jit(functools.partial(sharded, top_k=20))(x, w, y), z, 20)


def test_a_class_that_the_bias_rules_out():
    x, w, b, y = drawn((5,))
    out, first = b.at[3].set(-jnp.inf), 0 * y
    found = linear_token_statistics(x, w, first, out, top_k=CLASSES)
    w_kept, b_kept = jnp.delete(w, 3, axis=1), jnp.delete(b, 3)
    close(found[:3], linear_token_statistics(x, w_kept, first, b_kept, top_k=CLASSES - 1)[:3])
    assert np.all(found.top_k_log_probabilities[:, -1] == -np.inf)
    assert np.all(found.top_k_indices[:, -1] == 3)
    gradient = jax.grad(lambda b: jnp.sum(linear_token_statistics(x, w, y, b).entropy))(out)
    assert np.all(np.isfinite(gradient)) and gradient[3] == 0


def test_labels_of_a_dtype_too_small_for_all_classes():
    x, w, b, y = drawn((5,), classes=300)
    y = y % 100
    small, wide = (linear_token_statistics(x, w, y, b) for y in (y.astype(jnp.int8), y))
    np.testing.assert_array_equal(small.label_rank, wide.label_rank)
    np.testing.assert_array_equal(small.loss, wide.loss)


@pytest.mark.users_compile
def test_the_gradient_of_one_makes_no_work_for_the_others():
    x, w, b, y = drawn((12,))

    def of(x):
        return linear_token_statistics(x, w, y, b, top_k=3)

    def work(f):
        text = jax.jit(f).lower(x).compile().as_text()
        return set(re.findall(r"\b(TopK|sort|scatter|dot)\b", text))

    assert work(jax.grad(lambda x: jnp.sum(of(x).loss))) == {"dot"}
    assert work(of) & {"TopK", "sort"}
