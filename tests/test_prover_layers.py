"""Layer by layer, right derivatives of long programs are proved, and wrong ones are not."""

from functools import partial, reduce

import jax
import jax.numpy as jnp
import pytest
from jax.nn import relu, softmax
from xent_jax.proofs import array, labels, prove_jvp, prove_vjp
from xent_jax.proofs._normal_form import Refused, limited
from xent_jax.proofs._prover import counterexample, decision
from xent_jax.proofs._prover.claims import Differs, vjp_claims
from xent_jax.proofs._prover.layers import by_layers
from xent_jax.proofs._prover.sizes import Sizes

from tests.rules import Rule, each, with_backward

ROW = {"x": array("n")}
WEIGHTS = {"u": array("d h"), "v": array("h k"), "w": array("k o")}
PERCEPTRON = {"x": array("n d")} | WEIGHTS
ATTENTION = {"x": array("t d"), "q": array("d h"), "k": array("d h"), "v": array("d d")}
TWICE = ATTENTION | {"q2": array("d h"), "k2": array("d h"), "v2": array("d d")}


def decided(fun, args):
    """Returns whether the gradients are proved layer by layer alone, without tried numbers."""

    def claims(a):
        return vjp_claims(fun, a, tuple(args))

    with decision.noting({}, {}), by_layers():
        try:
            with limited(60.0, "60 s"):
                decision.shown(Sizes(args, {}), claims, kinks=True)
        except Differs:
            return False
        return True


def perceptron(x, u, v, w):
    return jnp.tanh(jnp.tanh(x @ u) @ v) @ w


def perceptron_backward(g, x, u, v, w, slope=1.0, first=1.0, turned=False):
    a = jnp.tanh(x @ u)
    b = jnp.tanh(a @ v)
    db = g @ w.T * (1 - slope * b * b)
    da = db @ v.T * (1 - a * a) if not turned else db @ v.T * (1 - a)
    return da @ u.T, x.T @ da, first * a.T @ db, b.T @ g


def attention(x, q, k, v):
    return softmax(x @ q @ (x @ k).T) @ (x @ v)


def attention_backward(g, x, q, k, v, rowwise=1.0, keys=1.0):
    p = softmax(x @ q @ (x @ k).T)
    dp = g @ (x @ v).T
    ds = p * (dp - rowwise * jnp.sum(p * dp, -1, keepdims=True))
    dq, dk, dv = ds @ (x @ k), ds.T @ (x @ q), p.T @ g
    return dq @ q.T + keys * dk @ k.T + dv @ v.T, x.T @ dq, x.T @ dk, x.T @ dv


def twice(x, q, k, v, q2, k2, v2):
    return attention(attention(x, q, k, v), q2, k2, v2)


def twice_backward(g, x, q, k, v, q2, k2, v2, *, upper=1.0, lower=1.0, keys=1.0):
    y = attention(x, q, k, v)
    dy, dq2, dk2, dv2 = attention_backward(g, y, q2, k2, v2, upper, keys)
    dx, dq, dk, dv = attention_backward(dy, x, q, k, v, lower)
    return dx, dq, dk, dv, dq2, dk2, dv2


RULES = {
    "perceptron": Rule(perceptron, PERCEPTRON, (None, perceptron_backward), (
        partial(perceptron_backward, slope=0.99),
        partial(perceptron_backward, turned=True),
        partial(perceptron_backward, first=2.0),
    )),
    "two layers of attention": Rule(twice, TWICE, (None, twice_backward), (
        partial(twice_backward, upper=0.5),
        partial(twice_backward, lower=0.5),
        partial(twice_backward, keys=-1.0),
    )),
    "with what went in added": Rule(lambda *a: a[0] + attention(*a), ATTENTION),
    "perceptron of relu": Rule(lambda x, u, v, w: relu(relu(x @ u) @ v) @ w, PERCEPTRON),
    "product of six": Rule(
        lambda a, b, c, d, e, f: a @ b @ c @ d @ e @ f,
        {"a": array("n m"), "b": array("m k"), "c": array("k l"), "d": array("l p"),
         "e": array("p q"), "f": array("q r")},
    ),
    "ten of tanh": Rule(lambda x: reduce(lambda y, _: jnp.tanh(y), range(10), x), ROW),
    "two of tanh": Rule(lambda x: jnp.tanh(jnp.tanh(x)), ROW, (None,), (lambda g, x: 0.0 * g,)),
}  # fmt: skip


@each(RULES, "right")
def test_what_is_right_is_proved(rule, backward):
    assert decided(with_backward(rule.value, backward), rule.args)


@each(RULES, "wrong")
def test_what_is_wrong_is_not(rule, backward):
    assert not decided(with_backward(rule.value, backward), rule.args)


def by_rows(x, u, v, step=lambda total, h: total + h):
    """Returns the sum over rows of a layer's outputs, computed in a loop."""

    def row(total, x):
        return step(total, jnp.tanh(x @ u) @ v), None

    return jax.lax.scan(row, jnp.zeros(v.shape[1:]), x)[0]


def test_what_a_loop_computes_has_no_name():
    args = {"x": array("n d"), "u": array("d h"), "v": array("h k")}
    assert decided(by_rows, args)

    def of_all(g, x, u, v):
        return jax.vjp(lambda *a: jnp.sum(jnp.tanh(a[0] @ a[1]) @ a[2], 0), x, u, v)[1](g)

    def of_the_first(g, x, u, v):
        dx, du, dv = of_all(g, x[:1], u, v)
        return jnp.broadcast_to(dx, x.shape), du, dv

    assert decided(with_backward(lambda *a: by_rows(*a), of_all), args)
    assert not decided(with_backward(lambda *a: by_rows(*a), of_the_first), args)
    with pytest.raises(Refused, match="a carry that is not itself plus a term free of all carries"):
        decided(lambda x, u, v: by_rows(x, u, v, lambda total, h: jnp.tanh(total + h)), args)


def test_a_loss_of_labels_on_layers():
    def loss(x, u, v, y):
        z = jnp.tanh(x @ u) @ v
        return jnp.mean(jax.nn.logsumexp(z, -1) - jnp.take_along_axis(z, y[:, None], -1)[:, 0])

    args = {"x": array("n d"), "u": array("d h"), "v": array("h k")}
    assert prove_vjp(loss, args | {"y": labels("n", classes="k")}, tuple(args)).proved


def test_they_are_tried_where_the_other_way_does_not_decide(monkeypatch):
    monkeypatch.setattr(decision, "_SHORT", 0.1)
    fun = with_backward(perceptron, perceptron_backward)
    assert prove_vjp(fun, PERCEPTRON, tuple(PERCEPTRON)).proved


@pytest.mark.parametrize("forward", [True, False])
def test_what_does_not_follow_the_names_is_refused(forward, monkeypatch):
    """If the names of layers counted as constants, a rule with derivative 0 would seem right."""
    for search in ("vjp", "jvp"):
        monkeypatch.setattr(counterexample, search, lambda *_: None)
    fun = jax.custom_jvp(lambda x: jnp.tanh(x))
    fun.defjvp(lambda primals, tangents: (jnp.tanh(primals[0]), 0.0 * tangents[0]))
    with by_layers():
        if forward:
            found = prove_jvp(fun, ROW, ("x",))
        else:
            found = prove_vjp(fun, ROW, ("x",), second_order=True)
    assert found.status == "refused"
    assert "layer by layer" in found.reason
