"""The two ways to sum a row's exponentials: CPU runs one, other platforms the other."""

import re

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import xent_jax
from tests.cases import x64
from xent_jax import _rows


@pytest.mark.parametrize(
    "form", [lambda e, _: _rows._rounded_once(e), _rows._sums_beside_the_largest]
)
@pytest.mark.parametrize(
    "row",
    [[0.0, 0.0, 0.0], [30.0, 0.0, 1.0], [1.0, 1.0, -25.0], [2.0, 1.0, -np.inf], [5.0], [-1e9, 1e9]],
    ids=str,
)
def test_sums(form, row):
    """S and S - 1, the latter right also where S is next to 1, and with ties."""
    z = jnp.asarray([row], jnp.float32)
    shift = _rows.row_shift(z)
    total, excess = form(_rows.exp_difference(z, shift[:, None]), z == shift[:, None])
    e = np.exp(np.asarray(row) - max(row))
    rest = np.delete(e, np.argmax(row)).sum()
    np.testing.assert_allclose(total, [e.sum()], rtol=3e-7)
    np.testing.assert_allclose(excess, [rest], rtol=3e-7)


def _dominated(rng, n, k):
    """Each row's largest far above the rest, which are next to tied in half of the rows."""
    z = rng.normal(size=(n, k)) * np.where(np.arange(n) % 2, 1, 1e-3)[:, None]
    z[np.arange(n), rng.integers(0, k, n)] = z.max(axis=1) + rng.uniform(1, 20, n)
    return z


@pytest.mark.parametrize("n, k", [(2, 64), (64, 100), (2, 1000), (64, 1000), (8, 8192)])
@pytest.mark.parametrize("size", [1.0, 1e-12, 1e30])
def test_sums_are_right_to_the_last_place(n, k, size):
    """Whatever dominates a row, and at any scale; plain sums miss by up to 15 ulp."""
    rng = np.random.default_rng(0)
    for z in (_dominated(rng, n, k), 3 * rng.normal(size=(n, k)), np.zeros((n, k))):
        x = (size * np.exp(z - z.max(axis=1, keepdims=True))).astype(np.float32)
        want = x.astype(np.float64).sum(axis=1)
        got = np.asarray(jax.jit(_rows._rounded_once)(x)[0], np.float64)
        assert np.max(np.abs(got - want) / np.spacing(want.astype(np.float32))) <= 0.75


@pytest.mark.parametrize("x, want", [([0.0, 0.0], 0.0), ([np.nan, 1.0], np.nan)])
def test_sums_of_what_has_no_scale(x, want):
    total, _ = _rows._rounded_once(jnp.asarray(x, jnp.float32))
    np.testing.assert_equal(float(total), want)


def test_log1p_is_within_its_bound():
    """1.3 ulp below 1, where XLA's own errs by up to 2.5 in float32."""
    x = np.linspace(0.35, 0.9999, 100_001, dtype=np.float32)
    exact = np.log1p(x.astype(np.float64))
    error = np.abs(np.asarray(_rows.log1p(jnp.asarray(x)), np.float64) - exact)
    assert np.max(error / np.spacing(exact.astype(np.float32))) <= 1.3


def test_logits_of_half_precision_are_gathered_as_they_came():
    """Of widened ones TPU's compiler makes an array, twice the size of the logits."""
    loss = xent_jax.softmax_cross_entropy_with_integer_labels
    z, y = jnp.zeros((2, 3), jnp.bfloat16), jnp.zeros(2, jnp.int32)
    jaxpr = str(jax.make_jaxpr(jax.value_and_grad(lambda z: loss(z, y).sum()))(z))
    gathered = re.findall(r"gather\[.*?\] (\w+)", jaxpr, re.DOTALL)
    assert gathered and all(re.search(rf"\b{v}:bf16\[2,3\]", jaxpr) for v in gathered)


@pytest.mark.parametrize("dtype", ["float16", "bfloat16", "float32", "float64"])
@pytest.mark.parametrize("compiled", [False, True], ids=["eager", "jit"])
def test_only_rows_that_are_not_right_are_poisoned(compiled, dtype):
    """And the compiler does not see through it; the others keep their value to the bit."""
    poison = jax.jit(_rows.poisoned) if compiled else _rows.poisoned
    with x64():
        most = float(jnp.finfo(dtype).max)
        x = jnp.asarray([1 / 3, -most, jnp.inf, 0.0, -jnp.inf, jnp.nan], dtype)
        ok = jnp.array([True, True, True, False, False, False])
        found = poison(x, ok)
        assert found.dtype == x.dtype
        wanted = np.asarray(jnp.where(ok, x, jnp.nan), np.float64)
        np.testing.assert_array_equal(np.asarray(found, np.float64), wanted)
