"""Every argument of every public function may have every form that users write.

If a jitted function closes over a NumPy array or a number, it is a constant, which JAX does not
trace by itself. Each form must give the value and gradient of plain arrays, through every
transformation.
"""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import xent_jax
from tests.calls import CALLS
from tests.problems import close

pytestmark = pytest.mark.fast_compile


EACH = [(name, argument) for name, (_, given) in CALLS.items() for argument in given]


def float32(x):
    return np.asarray(x, np.float32 if x.dtype == np.float64 else x.dtype)


def forms(x):
    """An argument as users write it: a NumPy or JAX array, a list, a NumPy or Python number."""
    x = float32(x)
    return [x, jnp.asarray(x), x.tolist(), *([x[()]] if x.ndim == 0 else [])]


def total(call, library, given, differentiated, value):
    out = call(library, **{**given, differentiated: value})
    return jnp.sum(jnp.cos(out) * jnp.arange(1.0, 1 + out.size).reshape(out.shape))


@pytest.mark.parametrize(("name", "argument"), EACH, ids="-".join)
@pytest.mark.parametrize(
    "library",
    [xent_jax, pytest.param(xent_jax.forward_mode, marks=pytest.mark.slow)],
    ids=["vjp", "jvp"],
)
def test_an_argument_in_each_form_is_traced(name, argument, library):
    """The argument is closed over, by the gradient to another one or by the function alone."""
    call, given = CALLS[name]
    given = {k: jnp.asarray(float32(v)) for k, v in given.items()}
    others = [k for k, v in given.items() if v.dtype == jnp.float32 and k != argument]
    for x in forms(CALLS[name][1][argument]):
        if (name, argument) == ("with_linear_head", "labels") and isinstance(x, list):
            continue  # a list is a tree of targets there
        if others:
            of = functools.partial(total, call, library, {**given, argument: x}, others[0])
            value, gradient = jax.eval_shape(jax.value_and_grad(of), given[others[0]])
            assert (value.shape, gradient.shape) == ((), given[others[0]].shape)
        else:
            jax.eval_shape(lambda x=x: call(library, **{**given, argument: x}))


def jitted(gradient, value):
    return jax.jit(gradient)(value)


def eager(gradient, value):
    return gradient(value)


def checkpointed(gradient, value):
    return jax.jit(jax.checkpoint(gradient))(value)


def mapped(gradient, value):
    several = jax.jit(jax.vmap(gradient))(jnp.stack([value, value]))
    return jax.tree.map(lambda x: x[1], several)


def scanned(gradient, value):
    several = jax.lax.scan(lambda c, v: (c, gradient(v)), 0, value[None])[1]
    return jax.tree.map(lambda x: x[0], several)


@pytest.mark.parametrize("name", CALLS)
def test_all_arguments_but_one_are_constants(name):
    """In each form through ``jit``, and as NumPy arrays through each transformation."""
    call, given = CALLS[name]
    moving = next(k for k, v in given.items() if v.dtype.kind == "f")
    value = jnp.asarray(float32(given[moving]))

    def gradient(form):
        constants = {
            # A list is a tree of targets there.
            k: float32(v) if (name, k) == ("with_linear_head", "labels") else form(float32(v))
            for k, v in given.items()
        }
        return jax.value_and_grad(functools.partial(total, call, xent_jax, constants, moving))

    wanted = jitted(gradient(jnp.asarray), value)
    close(jitted(gradient(lambda x: x.tolist()), value), wanted, 1e-5)
    for way in (jitted, eager, checkpointed, mapped, scanned):
        close(way(gradient(lambda x: x), value), wanted, 1e-5)


@pytest.mark.parametrize("library", [xent_jax, xent_jax.forward_mode], ids=["vjp", "jvp"])
@pytest.mark.parametrize("name", CALLS)
def test_every_argument_at_once_is_a_constant(name, library):
    """No argument is traced; then each array with an axis of examples is mapped over it."""
    call, given = CALLS[name]
    wanted = call(library, **jax.tree.map(jnp.asarray, given))
    close(jax.jit(lambda: call(library, **given))(), wanted, 1e-5)
    close(
        jax.jit(lambda: jax.vmap(lambda _: call(library, **given))(np.ones(1)))()[0], wanted, 1e-5
    )


def test_soft_labels_that_vmap_maps_as_a_numpy_array():
    t = np.full((4, 3), 1 / 3, np.float32)
    loss = jax.jit(lambda z: jax.vmap(xent_jax.softmax_cross_entropy)(z, t))
    close(loss(jnp.ones((4, 3))), np.full(4, np.log(3)), 1e-6)


def test_a_mask_of_rank_0():
    def loss(z):
        where = jnp.array(False)
        return xent_jax.softmax_cross_entropy_with_integer_labels(z, jnp.int32(0), where=where)

    assert jax.grad(jax.jit(loss))(jnp.zeros(3)).tolist() == [0, 0, 0]
