"""Every argument of every public function may have every form that users write.

A NumPy array or a number that a jitted function closes over is a constant, which JAX does not
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
from tests.heads import modes
from tests.problems import close

pytestmark = pytest.mark.fast_compile


EACH = [(name, argument) for name, (_, given) in CALLS.items() for argument in given]


def float32(x):
    return np.asarray(x, np.float32 if x.dtype == np.float64 else x.dtype)


def forms(x):
    """Returns a value as users write it: as NumPy and JAX arrays, and as a list or numbers."""
    x = float32(x)
    return [x, jnp.asarray(x), x.tolist(), *([x[()]] if x.ndim == 0 else [])]


def total(call, library, given, differentiated, value):
    out = call(library, {**given, differentiated: value})
    return jnp.sum(jnp.cos(out) * jnp.arange(1.0, 1 + out.size).reshape(out.shape))


@pytest.mark.parametrize(("name", "argument"), EACH, ids=["-".join(each) for each in EACH])
@pytest.mark.parametrize(
    "library",
    [xent_jax, pytest.param(xent_jax.forward_mode, marks=pytest.mark.slow)],
    ids=["vjp", "jvp"],
)
def test_an_argument_in_each_form_is_traced(name, argument, library):
    """JAX traces the gradient to another argument, or the call if no other has a gradient."""
    call, given = CALLS[name]
    given = {k: jnp.asarray(float32(v)) for k, v in given.items()}
    others = [k for k, v in given.items() if v.dtype == jnp.float32 and k != argument]
    for x in forms(CALLS[name][1][argument]):
        if (name, argument) == ("with_linear_head", "labels") and isinstance(x, list):
            continue  # with_linear_head takes a list as a tree of targets
        if others:
            of = functools.partial(total, call, library, {**given, argument: x}, others[0])
            value, gradient = jax.eval_shape(jax.value_and_grad(of), given[others[0]])
            assert (value.shape, gradient.shape) == ((), given[others[0]].shape)
        else:
            jax.eval_shape(lambda x=x: call(library, {**given, argument: x}))


@pytest.mark.parametrize("name", CALLS)
def test_all_arguments_but_one_are_constants(name):
    """NumPy constants pass through each transformation, and the other forms through ``jit``."""
    call, given = CALLS[name]
    moving = next(k for k, v in given.items() if v.dtype.kind == "f")
    value = jnp.asarray(float32(given[moving]))

    def gradient(form):
        constants = {
            # with_linear_head takes a list as a tree of targets.
            k: float32(v) if (name, k) == ("with_linear_head", "labels") else form(float32(v))
            for k, v in given.items()
        }
        return jax.value_and_grad(functools.partial(total, call, xent_jax, constants, moving))

    of_arrays = gradient(lambda x: x)

    @jax.jit
    def transformed(value):
        two = jnp.stack([value, value])
        several = jax.vmap(of_arrays)(two), jax.lax.map(of_arrays, two)
        once = of_arrays(value), gradient(np.ndarray.tolist)(value)
        return *once, jax.checkpoint(of_arrays)(value), *jax.tree.map(lambda x: x[1], several)

    wanted = jax.jit(gradient(jnp.asarray))(value)
    for found in (of_arrays(value), *transformed(value)):
        close(found, wanted, 1e-5)


@modes
@pytest.mark.parametrize("name", CALLS)
def test_every_argument_at_once_is_a_constant(name, module):
    """No argument is traced, even where ``vmap`` maps over an array that the loss does not use."""
    call, given = CALLS[name]
    wanted = call(module, jax.tree.map(jnp.asarray, given))

    @jax.jit
    def found():
        return call(module, given), jax.vmap(lambda _: call(module, given))(np.ones(1))[0]

    close(found(), (wanted, wanted), 1e-5)


def test_soft_labels_that_vmap_maps_as_a_numpy_array():
    t = np.full((4, 3), 1 / 3, np.float32)
    loss = jax.jit(lambda z: jax.vmap(xent_jax.softmax_cross_entropy)(z, t))
    close(loss(jnp.ones((4, 3))), np.full(4, np.log(3)), 1e-6)


def test_a_mask_of_rank_0():
    def loss(z):
        where = jnp.array(False)
        return xent_jax.softmax_cross_entropy_with_integer_labels(z, jnp.int32(0), where=where)

    assert jax.grad(jax.jit(loss))(jnp.zeros(3)).tolist() == [0, 0, 0]
