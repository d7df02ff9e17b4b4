"""Arrays taken apart, turned round, joined and reshaped: right code proved, code off by one not."""

import collections

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax import lax
from xent_jax.proofs import array, labels, prove_equal, prove_vjp, scalar
from xent_jax.proofs._normal_form import Refused
from xent_jax.proofs._prover import decision

from tests.rules import with_backward
from tests.terms import agree, as_terms

SIZES = {"n": 5, "m": 3}
INTEGER = {"z": array("n k"), "y": labels("n", classes="k")}


def _drawn(rng):
    """A function of ``x [n, m]`` that takes it apart, turns it round, joins or reshapes it."""
    a, b, c = (int(k) for k in rng.integers(0, 3, 3))
    n, m = (lambda x: x.shape[0]), (lambda x: x.shape[1])
    return [
        lambda x: x[a : n(x) - b],
        lambda x: x.reshape(-1)[a::2] if a else x[b : b + 1],
        lambda x: lax.rev(x, (0,) if a else (0, 1)),
        lambda x: jnp.concatenate([x[b:], x[:b], x[a : a + 1]]),
        lambda x: jnp.concatenate([x[:, c:], x, x], 1)[:, a:],
        lambda x: jnp.stack([x, x * x, -x], a)[b : b + 1],
        lambda x: lax.pad(x, x.dtype.type(7), ((a - 1, b, c), (c, a - 1, b))),
        lambda x: lax.dynamic_slice(x, (a, n(x)), (n(x) - 2, m(x))),
        lambda x: lax.dynamic_update_slice(x, x[: n(x) - 2] ** 2, (a, 0)),
        lambda x: x.reshape(m(x), n(x)),
        lambda x: x.reshape(-1)[a:],
        lambda x: x.reshape(-1).reshape(m(x), 1, n(x))[a - 1 if a else 0],
        lambda x: lax.broadcast_in_dim(x, (2, n(x), m(x)), (1, 2)).reshape(2 * n(x), m(x)),
        lambda x: jnp.sum(x.reshape(-1)) + jnp.sum(jnp.concatenate([x[a:], x[:b] ** 2]), 0),
    ][int(rng.integers(14))]


def test_drawn_parts_are_read_as_jax_computes_them():
    specs, met = {"x": array("n m")}, collections.Counter()
    for seed in range(60):
        rng = np.random.default_rng(seed)
        fun, x = _drawn(rng), {"x": rng.normal(size=(5, 3))}
        with decision.noting({"n": 4, "m": 3}, {}):
            try:
                terms = as_terms(fun, specs)
            except Refused:
                met["refused"] += 1
                continue
            met["read"] += 1
            agree(fun, specs, terms, x, SIZES)
    assert met["read"] > 40, met


def _halves(x, c, s):
    a, b = jnp.split(x, 2, -1)
    return jnp.concatenate([a * c - b * s, b * c + a * s], -1)


def _pairs(x, c, s):
    a, b = x[..., ::2], x[..., 1::2]
    return jnp.stack([a * c - b * s, b * c + a * s], -1).reshape(x.shape)


@pytest.mark.slow
@pytest.mark.parametrize("rotate", [_halves, _pairs])
@pytest.mark.parametrize("sign", [-1, 1])
def test_a_rotary_embedding_is_turned_back_by_the_opposite_angle(rotate, sign):
    fun = with_backward(rotate, lambda g, x, c, s: (rotate(g, c, sign * s), None, None))
    args = {"x": array("n 2*d"), "c": array("n d"), "s": array("n d")}
    verdict = prove_vjp(fun, args, ("x",))
    assert verdict.status == ("proved" if sign == -1 else "refuted"), verdict


@pytest.mark.parametrize("order", [1, -1])
def test_the_gradients_of_a_gated_unit_have_the_order_of_its_halves(order):
    def value(x):
        a, b = jnp.split(x, 2, -1)
        return a * jax.nn.sigmoid(b)

    def backward(g, x):
        a, b = jnp.split(x, 2, -1)
        s = jax.nn.sigmoid(b)
        return (jnp.concatenate([g * s, g * a * s * (1 - s)][::order], -1),)

    verdict = prove_vjp(with_backward(value, backward), {"x": array("n 2*d")}, ("x",))
    assert verdict.status == ("proved" if order == 1 else "refuted"), verdict


@pytest.mark.slow
@pytest.mark.parametrize("start", [0, 1])
def test_a_loss_of_the_next_token_has_no_gradient_for_the_last(start):
    def value(z, y):
        z, y = z[:-1], y[1:]
        return jnp.mean(jax.nn.logsumexp(z, -1) - jnp.take_along_axis(z, y[:, None], 1)[:, 0])

    def backward(g, z, y):
        p = jax.nn.softmax(z[:-1]) - jax.nn.one_hot(y[1:], z.shape[1])
        parts = [g * p / p.shape[0], jnp.zeros_like(z[:1])]
        return jnp.concatenate(parts[::-1] if start else parts), None

    verdict = prove_vjp(with_backward(value, backward), INTEGER, ("z",), least={"n": 2})
    assert verdict.status == ("proved" if start == 0 else "refuted"), verdict


@pytest.mark.slow
@pytest.mark.parametrize("by", [-1.0, 1.0])
def test_what_is_added_at_labels_is_read(by):
    def value(z, y):
        return jax.nn.logsumexp(z, -1) - jnp.take_along_axis(z, y[:, None], 1)[:, 0]

    def backward(g, z, y):
        return g[:, None] * jax.nn.softmax(z).at[jnp.arange(z.shape[0]), y].add(by), None

    verdict = prove_vjp(with_backward(value, backward), INTEGER, ("z",))
    assert verdict.status == ("proved" if by == -1 else "refuted"), verdict


@pytest.mark.parametrize("place", [0, 1])
def test_a_column_at_labels_is_read(place):
    args = {"x": array("k 2"), "y": labels("n", classes="k")}

    def fun(x, y):
        return x[y, 0]

    assert prove_equal(fun, lambda x, y: x[y][:, place], args).proved == (place == 0)


@pytest.mark.parametrize(
    ("fun", "wanted", "args"),
    [
        (lambda x: x[1:] - x[:-1], jnp.diff, {"x": array("n")}),
        (lambda x: x[::-1][::-1], lambda x: x, {"x": array("n")}),
        (lambda x: jnp.sum(x.reshape(-1)), jnp.sum, {"x": array("n m")}),
        (lambda x: jnp.sum(x.reshape(-1, 8)), jnp.sum, {"x": array("8*d")}),
        (lambda x: jnp.sum(x[:, 0] + x[:, 1]), jnp.sum, {"x": array("n 2")}),
        (
            lambda x, y: jnp.sum(jnp.concatenate([x[None], y])),
            lambda x, y: x + jnp.sum(y),
            {"x": scalar(), "y": array("n")},
        ),
    ],
)
def test_the_same_in_other_parts_is_proved(fun, wanted, args):
    verdict = prove_equal(fun, wanted, args)
    assert verdict.proved, verdict


@pytest.mark.parametrize(
    ("fun", "wanted", "dims"),
    [
        (lambda x: x[1:], lambda x: x[:-1], "n"),
        (lambda x: x[::-1], lambda x: x, "n"),
        (lambda x: x.reshape(2, -1).T, lambda x: x.reshape(-1, 2), "2*d"),
        (lambda x: jnp.concatenate([x[1:], x[:1]]), lambda x: x, "n"),
        (lambda x: jnp.concatenate([x[:1], x[:-1]]), lambda x: x, "n"),
        (lambda x: lax.pad(x, 0.0, ((1, 0, 0),)), lambda x: lax.pad(x, 0.0, ((0, 1, 0),)), "n"),
        (lambda x: jnp.sum(jnp.concatenate([x, x[:1]])), jnp.sum, "n"),
    ],
)
def test_another_order_is_not_proved(fun, wanted, dims):
    assert prove_equal(fun, wanted, {"x": array(dims)}).status == "refuted"


@pytest.mark.slow
def test_a_flat_batch_of_tokens_has_the_loss_of_its_rows():
    def flat(z, y):
        z, y = z.reshape(-1, z.shape[-1]), y.reshape(-1)
        return jnp.mean(jax.nn.logsumexp(z, -1) - jnp.take_along_axis(z, y[:, None], 1)[:, 0])

    def rows(z, y):
        at = jnp.take_along_axis(z, y[..., None], -1)[..., 0]
        return jnp.mean(jax.nn.logsumexp(z, -1) - at)

    args = {"z": array("b t v"), "y": labels("b t", classes="v")}
    assert prove_vjp(flat, args, ("z",), rows).proved


def test_a_slice_that_may_be_moved_is_refused():
    def fun(x):
        return lax.dynamic_slice(x, (1,), (x.shape[0] - 1,)) * lax.dynamic_slice(x, (2,), (1,))

    verdict = prove_equal(fun, fun, {"x": array("n")}, least={"n": 2}, search=False)
    assert verdict.status == "refused" and "clamped" in verdict.reason
    assert prove_equal(fun, fun, {"x": array("n")}, least={"n": 3}).proved


@pytest.mark.parametrize("least", [1, 2])
def test_a_sum_that_may_be_empty_is_not_taken_for_positive(least):
    def fun(x):
        return 1 / jnp.sum(jnp.exp(x[1:]))

    verdict = prove_vjp(fun, {"x": array("n")}, ("x",), least={"n": least}, search=False)
    assert verdict.status == ("proved" if least == 2 else "refused"), verdict


@pytest.mark.parametrize("step", [0, 1])
def test_indices_are_unique_where_they_are_counted(step):
    def fun(x, u):
        return x.at[step * jnp.arange(u.shape[0])].add(u, unique_indices=True, mode="clip")

    args = {"x": array("n"), "u": array("n")}
    wanted = (lambda x, u: x + u) if step else fun
    verdict = prove_equal(fun, wanted, args, search=False)
    assert verdict.status == ("proved" if step else "refused"), verdict


@pytest.mark.parametrize("least", [1, 2])
def test_the_first_term_of_a_sum_that_may_be_empty_is_not_taken_to_be_in_it(least):
    def fun(x, y):
        return jnp.where(jnp.sum(x[:-1] ** 2) >= x[0] ** 2, y, 2 * y)

    args = {"x": array("n"), "y": array("")}
    verdict = prove_equal(fun, lambda x, y: y, args, least={"n": least}, search=False)
    assert verdict.proved == (least == 2)
