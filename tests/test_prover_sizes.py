"""Code whose Python looks at sizes or dtypes is proved only if it is right for all of them."""

import functools

import jax.numpy as jnp
import numpy as np
import pytest
from xent_jax.proofs import array, labels, prove_equal, prove_jvp, prove_vjp
from xent_jax.proofs._prover import counterexample

from tests.cases import x64
from tests.rules import assert_refuted, with_backward

Z = {"z": array("n k")}
TWO = {"z": array("n k"), "w": array("m k")}


def squares(z):
    return jnp.sum(z * z, -1)


def _unless(asks):
    """Returns ``squares``, but twice as large at the sizes for which ``asks`` is true."""
    return lambda z, *rest: (2 if asks(z, *rest) else 1) * squares(z)


def _within(z):
    try:
        return z.shape[-1] > 10
    except Exception:
        return False


def definitely_equal(a, b):
    return a == b


@functools.lru_cache
def _remembered(k):
    return k == 1


WRONG = {
    "one class": lambda z: z.shape[-1] == 1,
    "one class, from the right": lambda z: 1 == z.shape[-1],
    "one class, as a float": lambda z: z.shape[-1] == 1.0,
    "one class, of NumPy": lambda z: z.shape[-1] == np.int64(1),
    "not several classes": lambda z: not z.shape[-1] != 1,
    "one class less": lambda z: not z.shape[-1] - 1,
    "one entry": lambda z: z.size == 1,
    "six entries": lambda z: z.size == 6,
    "a square": lambda z: z.shape[0] == z.shape[1],
    "even": lambda z: z.shape[-1] % 2 == 0,
    "not odd": lambda z: not z.shape[-1] % 2,
    "even entries of two rows": lambda z: 2 * z.shape[0] == z.shape[1],
    "two thirds": lambda z: 2 * z.shape[0] == 3 * z.shape[1],
    "one of several": lambda z: z.shape[-1] in (1, 2),
    "a shape": lambda z: z.shape == (2, 3),
    "an index": lambda z: (1, 2).count(z.shape[-1]),
    "two at once": lambda z: all([z.shape[0] == 1, z.shape[1] == 2]),
    "a function with the name of one of JAX": lambda z: definitely_equal(z.shape[-1], 1),
}
UNKNOWN = {
    "an array": lambda z: z.shape[-1] == jnp.asarray(1),
    "a set": lambda z: z.shape[-1] in {1, 2},
    "a dict": lambda z: {1: True}.get(z.shape[-1], False),
    "a set of sizes": lambda z: len(set(z.shape)) == 1,
    "a cache": lambda z: _remembered(z.shape[-1]),
    "odd": lambda z: z.shape[-1] % 2 == 1,
    "one more": lambda z: z.shape[0] == z.shape[1] + 1,
    "an inequality whose error is caught": _within,
}


@pytest.mark.parametrize("asks", WRONG.values(), ids=WRONG)
def test_code_that_is_wrong_at_some_sizes_is_refuted_there(asks):
    verdict = prove_equal(_unless(asks), squares, Z)
    assert verdict.status == "refuted" and verdict.reason.startswith("where ")
    assert asks(verdict.counterexample["z"])


@pytest.mark.parametrize("asks", UNKNOWN.values(), ids=UNKNOWN)
def test_a_question_of_sizes_that_is_not_followed_is_refused(asks, monkeypatch):
    monkeypatch.setattr(counterexample, "equal", lambda *_: None)
    verdict = prove_equal(_unless(asks), squares, Z)
    assert verdict.status == "refused"
    assert "the code asks whether" in verdict.reason and __file__ in verdict.reason


def test_arrays_too_large_to_be_drawn_are_not_proved():
    verdict = prove_equal(_unless(lambda z: z.shape[-1] == 10**12), squares, Z)
    assert verdict.status == "unknown" and "where k == 1000000000000" in verdict.reason


def test_shapes_that_are_equal_for_some_sizes_are_proved_apart():
    same = _unless(lambda z, w: z.shape == w.shape)
    verdict = prove_equal(same, lambda z, w: squares(z), TWO)
    assert verdict.status == "refuted" and "where n == m" in verdict.reason


def test_what_jax_numpy_asks_is_followed_too():
    def fun(z, w):
        return jnp.where(jnp.array_equal(z, w), 2.0, 1.0) * squares(z)

    assert not prove_equal(fun, lambda z, w: squares(z), TWO).proved


def test_code_of_jax_that_is_right_either_way_is_not_traced_again():
    """The branch of ``jax.numpy`` where ``definitely_equal`` is false fits equal sizes too."""
    traced = []

    def fun(z, w):
        traced.append(z.shape)
        return jnp.einsum("nk,mk->nm", z, jnp.where(jnp.sum(w, -1, keepdims=True) > 0, w, 0.0))

    def wanted(z, w):
        return z @ (w * (jnp.sum(w, -1, keepdims=True) > 0)).T

    assert prove_equal(fun, wanted, TWO, search=False).proved
    assert len(traced) == 1


def test_a_backward_and_a_reference_may_not_be_right_for_most_sizes_only():
    fun = with_backward(squares, lambda g, z: (3 if z.shape[-1] == 1 else 2) * z * g[:, None])
    verdict = prove_vjp(fun, Z, ("z",))
    assert verdict.status == "refuted" and verdict.counterexample["z"].shape[-1] == 1
    reference = _unless(lambda z: z.shape[0] == 1)
    assert_refuted(prove_vjp(squares, Z, ("z",), reference))
    assert_refuted(prove_jvp(squares, Z, ("z",), reference))


def test_code_that_is_right_at_all_sizes_is_proved():
    def fun(z):
        if z.shape[-1] == 1:
            return jnp.squeeze(z, 1) ** 2
        if z.shape[0] == z.shape[1]:
            return jnp.sum(z.T.T * z, 1)
        return squares(z)

    verdict = prove_vjp(fun, Z, ("z",), squares)
    assert verdict.proved, verdict.reason
    assert {"n is at least 1", "k is at least 1"} <= set(verdict.assumptions)


def test_sizes_below_the_least_are_not_asked_for():
    wrong = _unless(lambda z: z.shape[-1] == 1)
    assert prove_equal(wrong, squares, Z, least={"k": 2}).proved
    wrong = _unless(lambda z: z.shape[-1] == 2)
    assert_refuted(prove_equal(wrong, squares, Z, least={"k": 2}))
    assert prove_equal(_unless(lambda z: z.shape[-1] == 0), squares, Z).proved


@pytest.mark.parametrize("ignore", [None, -100])
def test_labels_and_masks_of_one_class_are_read(ignore):
    """Every label that counts is 0 if there is one class, and a mask that keeps it is true."""
    args = {
        "z": array("n k"),
        "y": labels("n", classes="k", ignore=ignore),
        "m": array("n k", dtype=bool, keeps="y"),
    }

    def ignored(y):
        return jnp.zeros_like(y, bool) if ignore is None else y == ignore

    def wanted(z, y, m):
        return jnp.where(ignored(y)[:, None] | ~m, 0.0, z).sum(-1)

    def fun(z, y, m):
        if z.shape[-1] != 1:
            return wanted(z, y, m)
        return jnp.where(ignored(y), 0.0, z[:, 0] + y)

    verdict = prove_equal(fun, wanted, args)
    assert verdict.proved, verdict.reason


# ---------------------------------------------------------------- dtypes and promises


def test_the_verdict_says_for_which_dtypes_it_holds():
    def fun(z):
        return (1 if z.dtype == jnp.float32 else 2) * squares(z)

    verdict = prove_equal(fun, squares, Z, search=False)
    assert verdict.proved and "for arguments of float32" in verdict.assumptions
    assert prove_equal(fun, squares, Z).status == "refuted"  # because numbers are tried in float64
    verdict = prove_equal(fun, squares, {"z": array("n k", dtype=jnp.bfloat16)})
    assert not verdict.proved


def test_float64_is_refused_where_jax_would_trace_float32():
    args = {"z": array("n", dtype=np.float64)}
    verdict = prove_equal(jnp.exp, jnp.exp, args)
    assert verdict.status == "refused" and "jax_enable_x64" in verdict.reason
    with x64():
        verdict = prove_equal(jnp.exp, jnp.exp, args)
    assert verdict.proved and "for arguments of float64" in verdict.assumptions


def test_labels_that_become_a_small_float_say_up_to_which_number():
    args = {"z": array("n k"), "y": labels("n", classes="k")}

    def at(dtype):
        def fun(z, y):
            hit = jnp.arange(z.shape[1]).astype(dtype) == y.astype(dtype)[:, None]
            return jnp.sum(jnp.where(hit, z, 0.0), -1)

        return fun

    verdict = prove_equal(at(jnp.bfloat16), at(jnp.int32), args)
    assert "integers that become bfloat16 are at most 256 in absolute value" in verdict.assumptions
    assert not any(
        "become" in a for a in prove_equal(at(jnp.int32), at(jnp.int32), args).assumptions
    )


@pytest.mark.parametrize("promise", ["indices_are_sorted", "unique_indices"])
def test_promises_about_indices_are_refused(promise):
    """Labels may repeat and be unsorted, and then JAX promises nothing about the result."""
    args = {"x": array("k"), "y": labels("n", classes="k")}

    def taken(x, y, **promises):
        return x.at[y].get(mode="promise_in_bounds", **promises)

    def added(x, y, **promises):
        return x.at[y].add(1.0, mode="promise_in_bounds", **promises)

    for fun in (taken, added):
        assert prove_equal(fun, fun, args).proved
        verdict = prove_equal(functools.partial(fun, **{promise: True}), fun, args)
        assert verdict.status == "refused" and promise in verdict.reason
