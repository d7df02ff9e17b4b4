"""Loops that count, running sums, and arrays of constants."""

import jax.numpy as jnp
import numpy as np
import pytest
from jax import lax
from xent_jax.proofs import array, prove_equal

X, XY = {"x": array("n")}, {"x": array("n"), "y": array("n")}


def _looped(change=""):
    """The sum of x[i] i, by a loop over i."""
    start, step, end = {"start": (1, 0, 0), "end": (0, 0, 1), "step": (0, 1, 0)}.get(
        change, (0, 0, 0)
    )

    def fun(x):
        def body(i, total):
            return total + x[i] * (i + step)

        return lax.fori_loop(start, x.shape[0] - end, body, jnp.zeros(()))

    return fun


def _weighted(x):
    return jnp.sum(x * jnp.arange(x.shape[0]))


@pytest.mark.parametrize("change", ["", "end", "step"])
def test_a_loop_over_all_entries_is_their_sum(change):
    verdict = prove_equal(_looped(change), _weighted, X)
    assert verdict.status == ("refuted" if change else "proved"), verdict


def test_a_loop_from_the_second_entry_is_a_sum_of_the_others():
    verdict = prove_equal(_looped("start"), lambda x: jnp.sum((x * jnp.arange(x.shape[0]))[1:]), X)
    assert verdict.proved, verdict


@pytest.mark.parametrize("reverse", [False, True])
@pytest.mark.parametrize("by", [1, 2])
def test_a_counter_counts_in_the_order_of_the_iterations(reverse, by):
    def fun(x):
        def body(carry, row):
            t, total = carry
            return (t + by, total + t * row), t

        (t, total), times = lax.scan(body, (3, jnp.zeros(())), x, reverse=reverse)
        return total, t.astype(x.dtype), times.astype(x.dtype)

    def wanted(x, by=by):
        n = x.shape[0]
        times = jnp.arange(n)
        times = 3 + by * (n - 1 - times if reverse else times)
        total = jnp.sum(times * x)
        return total, jnp.asarray(3 + by * n, x.dtype), times.astype(x.dtype)

    assert prove_equal(fun, wanted, X).proved
    assert prove_equal(fun, lambda x: wanted(x, 3), X).status == "refuted"


@pytest.mark.parametrize(
    "body", [lambda t: 2 * t, lambda t: t + (t > 3), lambda t: jnp.maximum(t, 3)]
)
def test_an_integer_that_does_not_count_is_refused(body):
    def fun(x):
        return lax.scan(lambda t, row: (body(t), row * t), 1, x)[1]

    verdict = prove_equal(fun, fun, X, search=False)
    assert verdict.status == "refused", verdict


def test_another_while_loop_is_refused():
    def fun(x):
        return lax.while_loop(lambda t: t < 3.0, lambda t: t + 1.0, jnp.zeros(())) + x

    verdict = prove_equal(fun, fun, X, search=False)
    assert verdict.status == "refused" and "as long as a count" in verdict.reason


@pytest.mark.parametrize("reverse", [False, True])
def test_a_running_sum_runs_one_way(reverse):
    def wanted(x):
        i = jnp.arange(x.shape[0])
        counts = i[:, None] >= i if not reverse else i[:, None] <= i
        return jnp.sum(jnp.where(counts, x, 0.0), 1)

    for other in (False, True):
        verdict = prove_equal(lambda x, r=other: lax.cumsum(x, reverse=r), wanted, X)
        assert verdict.status == ("proved" if other == reverse else "refuted"), verdict


@pytest.mark.parametrize("second", [3.0, 4.0])
def test_an_array_of_constants_is_read(second):
    weights = np.array([[1.0, 3.0], [0.5, 2.0]])

    def wanted(x):
        columns = [x[:, 0] + second * x[:, 1], 0.5 * x[:, 0] + 2 * x[:, 1]]
        return jnp.stack(columns, 1)

    verdict = prove_equal(lambda x: x @ weights.T, wanted, {"x": array("n 2")})
    assert verdict.status == ("proved" if second == 3 else "refuted"), verdict
