"""Heads and losses with symbolic sizes, exported once and called at several sizes."""

import jax
import jax.export
import jax.numpy as jnp
import numpy as np
import pytest

import xent_jax
from tests.problems import close

pytestmark = pytest.mark.fast_compile

D, K = 3, 7


def statistics(library, x, w, y):
    return library.linear_token_statistics(x, w, y, top_k=2)


def integer(reduction):
    def of(library, x, w, y):
        loss = library.linear_softmax_cross_entropy
        given = {"ignore_index": 2, "z_loss": 0.1, "logit_softcap": 3.0, "reduction": reduction}

        def weighed(x, w):
            losses = loss(x, w, y, **given)
            return jnp.sum(losses * jnp.cos(jnp.sum(x, -1) if reduction == "none" else 1.0))

        return jax.value_and_grad(weighed, (0, 1))(x, w)

    return of


def focal(library, x, w, y):
    loss = library.with_linear_head(library.softmax_focal_loss)
    return jax.value_and_grad(lambda x, w: loss(x, w, y), (0, 1))(x, w)


FUNCTIONS = {"mean": integer("mean"), "none": integer("none"), "focal": focal, "stats": statistics}
TOKENS = {"n": [(1,), (1100,)], "b, 3": [(1, 3), (400, 3)], "b, t": [(2, 2), (30, 40)]}


def drawn(tokens, classes=K):
    rng = np.random.default_rng(0)
    x, w = rng.normal(size=(*tokens, D)), rng.normal(size=(D, classes))
    y = rng.integers(0, min(classes, K), tokens)
    return jnp.asarray(x, jnp.float32), jnp.asarray(w, jnp.float32), jnp.asarray(y, jnp.int32)


def exported(function, tokens, classes):
    shapes = ((*tokens, D), jnp.float32), ((D, classes), jnp.float32), (tokens, jnp.int32)
    specs = [jax.ShapeDtypeStruct(*s) for s in shapes]
    return jax.export.export(jax.jit(function))(*specs).call


@pytest.mark.parametrize(
    ("name", "tokens"),
    [("none", "n"), ("none", "b, 3"), *((name, "b, t") for name in FUNCTIONS)],
)
def test_a_head_for_any_number_of_tokens(name, tokens):
    def function(*args):
        return FUNCTIONS[name](xent_jax, *args)

    call = exported(function, jax.export.symbolic_shape(tokens), K)
    for sizes in TOKENS[tokens]:
        args = drawn(sizes)
        close(call(*args), jax.jit(function)(*args), 1e-5)


@pytest.mark.parametrize("name", ["mean", "focal"])
def test_a_head_for_any_number_of_tokens_and_classes(name):
    def function(*args):
        return FUNCTIONS[name](xent_jax, *args)

    tokens, classes = jax.export.symbolic_shape("n, k")
    call = exported(function, (tokens,), classes)
    for sizes in ((5, 7), (600, 11)):
        args = drawn(sizes[:1], sizes[1])
        close(call(*args), jax.jit(function)(*args), 1e-5)
