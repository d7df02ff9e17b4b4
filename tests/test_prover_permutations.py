"""Gradients and round trips of shuffles by a permutation are proved, and wrong ones are not."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from xent_jax.proofs import _users, array, labels, permutation, prove_equal, prove_jvp, prove_vjp

from tests.rules import Rule, assert_refuted, each, verdict_on

ROW = {"x": array("n"), "p": permutation("n")}
ROWS = {"x": array("n d"), "p": permutation("n")}
SQUARE = {"x": array("n n"), "p": permutation("n")}
TWO = ROW | {"q": permutation("n")}
LABELS = {"x": array("n"), "p": labels("n", classes="n")}


def take(x, p):
    return x[p]


def put(x, p):
    return jnp.zeros_like(x).at[p].set(x)


def added(x, p):
    return jnp.zeros_like(x).at[p].add(x)


def put_in_columns(x, p):
    return jnp.zeros_like(x).at[:, p].set(x)


def experts(x, p):
    """Returns tanh of the shuffled rows, each put back to where it was before the shuffle."""
    return put(jnp.tanh(take(x, p)), p)


def numbered(x):
    return jnp.arange(x.shape[0])


RULES = {
    "x[p]": Rule(take, ROW, (
        lambda g, x, p: added(g, p),
        lambda g, x, p: put(g, p),
        lambda g, x, p: jnp.zeros_like(x).at[p].set(g, unique_indices=True),
        lambda g, x, p: g[jnp.argsort(p)],
        lambda g, x, p: g[put(numbered(x), p)],
    ), (
        lambda g, x, p: g,
        lambda g, x, p: g[p],
        lambda g, x, p: put(g, p[p]),
        lambda g, x, p: put(g, jnp.argsort(p)),
        lambda g, x, p: x.at[p].add(g),
        lambda g, x, p: jnp.zeros_like(x).at[p].set(g, indices_are_sorted=True),
    )),
    "x[p] of labels": Rule(take, LABELS, (lambda g, x, p: added(g, p),), (
        lambda g, x, p: put(g, p),
        lambda g, x, p: jnp.zeros_like(x).at[p].set(g, unique_indices=True),
        lambda g, x, p: jnp.zeros_like(x).at[p].add(g, unique_indices=True),
        lambda g, x, p: g[jnp.argsort(p)],
    )),
    "take of rows": Rule(lambda x, p: jnp.take(x, p, axis=0), ROWS, (
        lambda g, x, p: added(g, p),
        lambda g, x, p: put(g, p),
    ), (
        lambda g, x, p: g[p],
        lambda g, x, p: put(g, p[::-1]),
    )),
    "take of columns": Rule(lambda x, p: jnp.take(x, p, axis=1), SQUARE, (
        lambda g, x, p: put_in_columns(g, p),
        lambda g, x, p: put(g.T, p).T,
    ), (
        lambda g, x, p: put(g, p),
        lambda g, x, p: put(g.T, p),
        lambda g, x, p: g[:, p],
    )),
    "both axes": Rule(lambda x, p: x[p[:, None], p], SQUARE, (
        lambda g, x, p: jnp.zeros_like(x).at[p[:, None], p].add(g),
        lambda g, x, p: put(put_in_columns(g, p), p),
    ), (
        lambda g, x, p: jnp.zeros_like(x).at[p, p[:, None]].add(g),
        lambda g, x, p: put(g, p),
    )),
    "rows by p, columns by q": Rule(lambda x, p, q: x[p][:, q], TWO | {"x": array("n n")}, (
        lambda g, x, p, q: put(put_in_columns(g, q), p),
    ), (
        lambda g, x, p, q: put(put_in_columns(g, p), q),
        lambda g, x, p, q: put(put_in_columns(g.T, q), p),
    )),
    "twice": Rule(lambda x, p: x[p][p], ROW, (
        lambda g, x, p: put(put(g, p), p),
        lambda g, x, p: put(g, p[p]),
    ), (
        lambda g, x, p: put(g, p),
        lambda g, x, p: g,
    )),
    "by p, then by q": Rule(lambda x, p, q: x[p][q], TWO, (
        lambda g, x, p, q: put(put(g, q), p),
        lambda g, x, p, q: put(g, p[q]),
    ), (
        lambda g, x, p, q: put(put(g, p), q),
        lambda g, x, p, q: put(g, q[p]),
    )),
    "put": Rule(put, ROW, (lambda g, x, p: g[p],), (
        lambda g, x, p: put(g, p),
        lambda g, x, p: g[p[::-1]],
    )),
    "part of a shuffle": Rule(lambda x, p: x[p[1:]], ROW, (
        lambda g, x, p: jnp.zeros_like(x).at[p[1:]].set(g),
    ), (
        lambda g, x, p: jnp.zeros_like(x).at[p[:-1]].set(g),
        lambda g, x, p: jnp.ones_like(x).at[p[1:]].set(g),
        lambda g, x, p: jnp.zeros_like(x).at[1:].set(g)[p],
    )),
    "shuffle backwards": Rule(lambda x, p: x[p[::-1]], ROW, (
        lambda g, x, p: put(g, p[::-1]),
        lambda g, x, p: put(g[::-1], p),
    ), (
        lambda g, x, p: put(g, p),
        lambda g, x, p: put(g, p)[::-1],
    )),
    "experts": Rule(experts, ROWS, (
        lambda g, x, p: g * (1 - jnp.tanh(x) ** 2),
        lambda g, x, p: put(g[p] * (1 - jnp.tanh(x[p]) ** 2), p),
    ), (
        lambda g, x, p: g * (1 - jnp.tanh(x[p]) ** 2),
        lambda g, x, p: put(g * (1 - jnp.tanh(x[p]) ** 2), p),
    )),
    "rows in rows of rows": Rule(
        lambda x, p: x.reshape(-1)[p], {"x": array("m c"), "p": permutation("m*c")}, (
        lambda g, x, p: put(g, p).reshape(x.shape),
    ), (
        lambda g, x, p: g[p].reshape(x.shape),
        lambda g, x, p: g.reshape(x.shape),
    )),
}  # fmt: skip


@each(RULES, "right")
def test_the_derivative_is_proved(rule, backward):
    found = verdict_on(rule, backward, search=False)
    assert found.proved, found


@each(RULES, "wrong")
def test_what_is_no_derivative_is_not(rule, backward):
    """Wrong rules are refuted, or refused if they promise something unchecked about indices."""
    found = verdict_on(rule, backward, search=False)
    assert found.status in ("refuted", "refused"), found
    assert found.status == "refuted" or "which is not checked" in found.reason


def logsumexp(x, p):
    return jax.nn.logsumexp(x[p])


def beside_infinity(p):
    return jnp.where(p == 1, -jnp.inf, p.astype(jnp.float32))


EQUAL = {
    "a round trip": (lambda x, p: put(x[p], p), lambda x, p: x, ROW),
    "the other round trip": (lambda x, p: put(x, p)[p], lambda x, p: x, ROWS),
    "a round trip by the order": (lambda x, p: x[p][jnp.argsort(p)], lambda x, p: x, ROW),
    "an order of an order": (lambda x, p: x[jnp.argsort(jnp.argsort(p))], take, ROW),
    "sorted": (lambda x, p: x * jnp.sort(p), lambda x, p: x * numbered(x), ROW),
    "an order backwards": (lambda x, p: x[jnp.argsort(x.shape[0] - 1 - p)],
                           lambda x, p: put(x, p)[::-1], ROW),
    "experts": (experts, lambda x, p: jnp.tanh(x), ROWS),
    "labels on either side": (lambda x, p, y, z: jnp.where(p[z] == y, x, 0),
                              lambda x, p, y, z: jnp.where(z == jnp.argsort(p)[y], x, 0),
                              ROW | {"y": LABELS["p"], "z": LABELS["p"]}),
    "a sum": (lambda x, p: jnp.sum(x[p]), lambda x, p: jnp.sum(x), ROW),
    "a sum of numbers": (lambda x, p: x * jnp.sum(p), lambda x, p: x * jnp.sum(numbered(x)), ROW),
    "a maximum": (lambda x, p: jnp.max(x[p]), lambda x, p: jnp.max(x), ROW),
    "log-sum-exp": (logsumexp, lambda x, p: jax.nn.logsumexp(x), ROW),
    "softmax": (lambda x, p: jax.nn.softmax(x[p]), lambda x, p: jax.nn.softmax(x)[p], ROW),
    "a product": (lambda x, p: x[p] @ jnp.exp(x), lambda x, p: x @ put(jnp.exp(x), p), ROW),
    "a form": (lambda x, p: jnp.sum(x[p[:, None], p] * x),
               lambda x, p: jnp.sum(x * put(put_in_columns(x, p), p)), SQUARE),
}  # fmt: skip
UNEQUAL = {
    "a shuffle": (take, lambda x, p: x, ROW),
    "the inverse": (take, put, ROW),
    "a round trip of labels": (lambda x, p: put(x[p], p), lambda x, p: x, LABELS),
    "a sum of labels": (lambda x, p: jnp.sum(x[p]), lambda x, p: jnp.sum(x), LABELS),
    "sorted in part": (lambda x, p: x[1:] * jnp.sort(p[1:]),
                       lambda x, p: x[1:] * numbered(x[1:]), ROW),
    "sorted beside -inf": (lambda x, p: x[jnp.argsort(beside_infinity(p))],
                           lambda x, p: x[jnp.argsort(p)], ROW),
    "a sum of the end": (lambda x, p: jnp.sum(x[p[1:]]), lambda x, p: jnp.sum(x[1:]), ROW),
    "a sum of the start": (lambda x, p: jnp.sum(x[p[:-1]]), lambda x, p: jnp.sum(x[:-1]), ROW),
    "a maximum of the start": (lambda x, p: jnp.max(x[p[:-1]], initial=-9.0),
                               lambda x, p: jnp.max(x[:-1], initial=-9.0), ROW),
    "rows and columns": (lambda x, p: x[p], lambda x, p: x[:, p], SQUARE),
    "a trace": (lambda x, p: jnp.trace(x[p]), lambda x, p: jnp.trace(x), SQUARE),
    "a product": (lambda x, p: x[p] @ jnp.exp(x), lambda x, p: x @ jnp.exp(x)[p], ROW),
    "two orders": (lambda x, p, q: x[p][q], lambda x, p, q: x[q][p], TWO),
}  # fmt: skip


@pytest.mark.parametrize("name", EQUAL)
def test_equal_values_are_proved(name):
    f, g, args = EQUAL[name]
    found = prove_equal(f, g, args)
    assert found.proved, found


@pytest.mark.parametrize("name", UNEQUAL)
def test_other_values_are_refuted(name):
    f, g, args = UNEQUAL[name]
    assert_refuted(prove_equal(f, g, args, search=False))


def test_what_jax_differentiates_itself_is_proved_in_each_mode():
    for fun in (take, put, experts, logsumexp):
        assert prove_vjp(fun, ROW, ("x",)).proved
        assert prove_jvp(fun, ROW, ("x",)).proved
    assert prove_vjp(lambda x, p: logsumexp(x, p) ** 2, ROW, ("x",), second_order=True).proved


def test_the_verdict_says_that_an_argument_is_a_permutation():
    found = prove_vjp(take, ROW, ("x",))
    assert "p is a permutation: it holds each integer in [0, n) once" in found.assumptions
    assert "p^-1[a0]" in str(found.identity)


@pytest.mark.parametrize(
    ("make", "error", "words"),
    [
        (lambda: permutation("n", dtype=np.float32), ValueError, "dtype must be one of integers"),
        (lambda: permutation("n", dtype=bool), ValueError, "dtype must be one of integers"),
        (lambda: permutation("n k"), ValueError, "dims must be one dimension, like 'n', got 'n k'"),
        (lambda: permutation(""), ValueError, "dims must be one dimension"),
        (lambda: permutation("n!"), ValueError, "permutation: dims must be names"),
        (lambda: permutation("n", ignore=-1), TypeError, "unexpected keyword argument 'ignore'"),
    ],
)
def test_a_bad_spec_says_what_is_wrong(make, error, words):
    with pytest.raises(error, match=words):
        make()


def test_the_command_reads_the_spec():
    assert _users._specs('x=array("n"), p=permutation("n")') == ROW
