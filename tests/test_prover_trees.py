"""Arguments may be trees of arrays, such as parameters in a dict, a tuple or a NamedTuple."""

from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import pytest
from xent_jax.proofs import array, labels, prove_equal, prove_jvp, prove_vjp

from tests.rules import assert_refuted, with_backward


class Params(NamedTuple):
    """The parameters of a linear layer."""

    w: Any
    b: Any


SPEC = {"w": array("d k"), "b": array("k")}
TREES = {
    "dict": (SPEC, lambda p: (p["w"], p["b"]), lambda w, b: {"w": w, "b": b}),
    "tuple": (tuple(SPEC.values()), lambda p: p, lambda w, b: (w, b)),
    "NamedTuple": (Params(**SPEC), lambda p: (p.w, p.b), Params),
    "nested": ([{"layer": Params(**SPEC)}], lambda p: p[0]["layer"],
               lambda w, b: [{"layer": Params(w, b)}]),
}  # fmt: skip


def layer(kind, slope=1.0):
    """Returns a layer of a tree of parameters, the bias's gradient times ``slope``, and specs."""
    spec, parts, tree = TREES[kind]

    def value(p, x):
        w, b = parts(p)
        return jnp.tanh(x @ w + b)

    def backward(g, p, x):
        w, b = parts(p)
        h = g * (1 - jnp.tanh(x @ w + b) ** 2)
        return tree(x.T @ h, slope * jnp.sum(h, 0)), h @ w.T

    return with_backward(value, backward), {"p": spec, "x": array("n d")}


@pytest.mark.parametrize("kind", TREES)
def test_the_gradient_to_a_tree_is_that_to_each_array(kind):
    fun, args = layer(kind)
    found = prove_vjp(fun, args, ("p", "x"))
    assert found.proved, found


@pytest.mark.parametrize("kind", TREES)
def test_one_array_of_a_tree_that_is_wrong(kind):
    fun, args = layer(kind, 2.0)
    found = prove_vjp(fun, args, ("p",))
    assert_refuted(found)
    assert len(found.counterexample) == 3  # both arrays of the tree by their own names, and x
    assert prove_vjp(fun, args, ("x",)).proved


def test_an_array_of_a_tree_by_its_name():
    fun, args = layer("dict", 2.0)
    assert prove_vjp(fun, args, ("p['w']",)).proved
    assert_refuted(prove_vjp(fun, args, ("p['b']",)))


def test_labels_in_a_tree_are_not_differentiated():
    batch = {"z": array("n k"), "y": labels("n", classes="k")}

    def loss(batch):
        rows = jnp.take_along_axis(batch["z"], batch["y"][:, None], -1)[:, 0]
        return jax.nn.logsumexp(batch["z"], -1) - rows

    assert prove_vjp(loss, {"batch": batch}, ("batch",)).proved
    assert prove_jvp(loss, {"batch": batch}, ("batch",)).proved
    assert prove_equal(loss, lambda b: 2 * loss(b) / 2, {"batch": batch}).proved
    with pytest.raises(ValueError, match="wrt must hold names of real arguments"):
        prove_vjp(lambda b: b["z"], {"b": {"z": batch["y"]}}, ("b",))


def test_what_is_no_spec_in_a_tree():
    with pytest.raises(TypeError, match="args must hold a spec for each argument, .*, got 3"):
        prove_vjp(lambda p: p[0], {"p": (array("n"), 3)}, ("p",))
