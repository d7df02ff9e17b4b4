"""The row statistics are accurate and do not overflow, in blocks and beside gradients too."""

import re

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import xent_jax
from tests.cases import x64
from xent_jax import _rows, _shards
from xent_jax._blocks import block_width, others_in_blocks

ROWS = [
    [0.0, 0.0, 0.0],
    [30.0, 0.0, 1.0],
    [1.0, 1.0, -25.0],
    [2.0, 1.0, -np.inf],
    [5.0],
    [-1e9, 1e9],
]


@pytest.mark.parametrize("offset", [0, -50, 40, 100, 1e4])
@pytest.mark.parametrize("row", ROWS, ids=str)
def test_statistics_without_labels(row, offset):
    """The log of the sum relative to the largest logit is right also for ties and sums near 1."""
    row = np.asarray(row + np.float32(offset), np.float32).astype(np.float64)
    z = jnp.asarray([row], jnp.float32)
    rows = _rows.row_statistics(z, None, _rows.row_shift(z), None, _shards.WHOLE, False)
    e = np.exp(row - max(row))
    np.testing.assert_allclose(rows.log_total, [np.log1p(np.sort(e)[:-1].sum())], rtol=3e-7)
    top = np.exp(max(row) - float(rows.origin[0]))
    np.testing.assert_allclose(rows.total, [e.sum() * top], rtol=5e-7)


@pytest.mark.parametrize("dtype, reach", [("float32", 87.0), ("float64", 708.0)])
def test_a_logit_less_the_origin_is_exact_in_the_reach_of_the_exponential(dtype, reach):
    """The difference errs by at most eps / 2 times the gap beyond ``most``; z - m errs far more."""
    rng = np.random.default_rng(0)
    most = 64 if dtype == "float32" else 512
    with x64():
        m = np.concatenate([10.0 ** rng.uniform(-3, 9, 2000), rng.uniform(0, 3 * most, 2000)])
        m = (m * rng.choice([-1, 1], len(m))).astype(dtype)
        c = np.asarray(_rows.row_origin(jnp.asarray(m)))
        assert ((m - c >= 0) & (m - c <= most + 1)).all()
        gap = rng.uniform(0, reach, len(m))
        z = (m - gap).astype(dtype)
        exact = z.astype(np.longdouble) - c.astype(np.longdouble)
        error = np.abs((z - c).astype(np.longdouble) - exact) / np.finfo(dtype).eps
        assert (error <= np.maximum(gap - most, 0) / 2 + 1e-9).all()
        plain = np.abs((z - m).astype(np.longdouble) - (z.astype(np.longdouble) - m))
        assert (plain / np.finfo(dtype).eps).max() > 8  # what the origin is for


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("m", [-1e4, -300.0, 0.0, 64.0, 64.9, 255.9, 300.0, 512.9, 2047.9, 1e30])
def test_exponentials_of_many_classes_do_not_overflow(dtype, m):
    with x64():
        z = jnp.full((1, 2**20), m, dtype)
        loss = xent_jax.softmax_cross_entropy_with_integer_labels(z, jnp.array([7]))
        np.testing.assert_allclose(loss, [20 * np.log(2)], rtol=1e-6)
        np.testing.assert_allclose(xent_jax.softmax(z)[0, :3], 2.0**-20, rtol=1e-5)


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("blocks, width", [(1, 12), (3, 4), (12, 1), (64, 32)])
def test_the_sum_in_blocks_leaves_out_the_label_alone(dtype, blocks, width):
    rng = np.random.default_rng(0)
    with x64():
        z = rng.normal(size=(5, 40, blocks * width)).astype(dtype)
        z[0, 0, 1 % z.shape[-1]] = -np.inf
        y = rng.integers(0, z.shape[-1], z.shape[:2])
        z[1][np.arange(40), y[1]] = 60.0  # labels next to which the others vanish
        y[2] = rng.choice([-width, -1, z.shape[-1], z.shape[-1] + 1], 40)  # labels of other shards
        z, y = jnp.asarray(z), jnp.asarray(y, jnp.int32)
        m = _rows.row_shift(z)
        c = _rows.row_origin(m)
        parts = z.reshape(*z.shape[:-1], blocks, width)
        found = others_in_blocks(parts, y // width, y % width, m, c)
        rtol = 1e-6 if dtype == "float32" else 1e-14
        not_fused = jnp.sum(_rows.other_exponentials(z, y, c), axis=-1)
        np.testing.assert_allclose(found, not_fused, rtol=rtol)


@pytest.mark.parametrize("k", [512, 1000, 8192, 50257, 128256, 131072])
@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_a_value_alone_is_that_beside_its_gradient(k, dtype):
    rng = np.random.default_rng(0)
    loss = xent_jax.softmax_cross_entropy_with_integer_labels
    with x64():
        z = jnp.asarray(5 * rng.normal(size=(6, k)), dtype)
        z = z.at[3, 5].set(jnp.nan).at[4, 5].set(jnp.inf).at[5].set(-jnp.inf)
        y = jnp.asarray([0, k - 1, k // 2, 0, 0, 0])
        assert block_width(z) is not None
        alone, beside = (
            jax.jit(loss)(z, y),
            jax.jit(lambda z: jax.vjp(lambda z: loss(z, y), z)[0])(z),
        )
        np.testing.assert_allclose(alone, beside, rtol=1e-6 if dtype == "float32" else 1e-14)
        assert np.isnan(alone[3:]).all()


def test_blocks_are_where_they_are_faster_and_a_mesh_can_divide_them():
    def width(k, dtype="float32"):
        with x64():
            return block_width(jnp.zeros((1, k), dtype))

    assert width(100) is None and width(8192, "bfloat16") is None
    assert width(523) is None  # a prime
    for k in (512, 4096, 8192, 32768, 50304, 131072, 128256, 1000):
        shards = min(k & -k, 64, k // 32)
        assert k % width(k) == 0 and (k // width(k)) % shards == 0


def test_logits_of_half_precision_are_gathered_as_they_came():
    """Logits widened before the gather would be stored in float32; XLA:CPU gathers their bits."""
    loss = xent_jax.softmax_cross_entropy_with_integer_labels
    z, y = jnp.zeros((2, 3), jnp.bfloat16), jnp.zeros(2, jnp.int32)
    jaxpr = str(jax.make_jaxpr(jax.value_and_grad(lambda z: loss(z, y).sum()))(z))
    gathered = re.findall(r"gather\[.*?\] (\w+)", jaxpr, re.DOTALL)
    found = {re.search(rf"\b{v}:(\w+)\[2,3\]", jaxpr)[1] for v in gathered}
    assert found == {"u16", "bf16"}


@pytest.mark.parametrize("dtype", ["float16", "bfloat16", "float32", "float64"])
@pytest.mark.parametrize("compiled", [False, True], ids=["eager", "jit"])
def test_only_rows_that_are_not_right_are_poisoned(compiled, dtype):
    """The other rows keep their values to the bit, whether the function is compiled or not."""
    poison = jax.jit(_rows.poisoned) if compiled else _rows.poisoned
    with x64():
        most = float(jnp.finfo(dtype).max)
        x = jnp.asarray([1 / 3, -most, jnp.inf, 0.0, -jnp.inf, jnp.nan], dtype)
        ok = jnp.array([True, True, True, False, False, False])
        found = poison(x, ok)
        assert found.dtype == x.dtype
        wanted = np.asarray(jnp.where(ok, x, jnp.nan), np.float64)
        np.testing.assert_array_equal(np.asarray(found, np.float64), wanted)
