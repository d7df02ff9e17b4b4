"""The mode is an argument of traced functions, not a state that JAX's caches do not see."""

import inspect
import pickle

import jax
import jax.numpy as jnp
import pytest

import xent_jax
from tests.cases import FUNCTIONS
from tests.heads import modes
from tests.problems import close
from xent_jax import forward_mode

pytestmark = pytest.mark.fast_compile

X, KERNEL, Y = jnp.eye(3, 4), jnp.linspace(-1.0, 1.0, 20).reshape(4, 5), jnp.array([0, 4, 2])
NAME = "softmax_cross_entropy_with_integer_labels"


def derivative_of_head(loss):
    return jax.jvp(lambda x: forward_mode.with_linear_head(loss)(x, KERNEL, Y), (X,), (X,))


def derivative_by_jax():
    def loss(x):
        return -jnp.mean(jnp.diag(jax.nn.log_softmax(x @ KERNEL)[:, Y]))

    return jax.jvp(loss, (X,), (X,))


@pytest.mark.parametrize("first", [xent_jax, forward_mode], ids=["vjp first", "jvp first"])
@pytest.mark.parametrize("around", [jax.jit, jax.checkpoint], ids=["jit", "checkpoint"])
def test_a_traced_loss_keeps_its_mode_in_either_order(first, around):
    reverse, forward = (around(getattr(m, NAME)) for m in (xent_jax, forward_mode))
    z = X @ KERNEL

    def use(library):
        if library is forward_mode:
            close(derivative_of_head(forward), derivative_by_jax(), 1e-6)
            return
        with pytest.raises(TypeError, match="forward-mode") as raised:
            derivative_of_head(reverse)
        assert "xent_jax.forward_mode" in "".join(raised.value.__notes__)
        with pytest.raises(TypeError, match="forward-mode"):
            jax.jvp(lambda z: reverse(z, Y), (z,), (z,))

    reverse(z, Y), forward(z, Y)
    for library in (first, *{xent_jax, forward_mode} - {first}):
        use(library)
        close(xent_jax.with_linear_head(reverse)(X, KERNEL, Y), derivative_by_jax()[0], 1e-6)
    use(first)


def test_the_forward_head_of_a_default_loss_takes_its_forward_twin():
    close(derivative_of_head(getattr(xent_jax, NAME)), derivative_by_jax(), 1e-6)


@pytest.mark.parametrize("name", FUNCTIONS)
@modes
def test_every_function_is_pickled_by_its_name(name, module):
    function = getattr(module, name)
    assert pickle.loads(pickle.dumps(function)) is function


@pytest.mark.parametrize("name", FUNCTIONS)
def test_the_mode_is_no_argument_of_users(name):
    ours, theirs = (inspect.signature(getattr(m, name)) for m in (xent_jax, forward_mode))
    assert ours == theirs
    assert "mode" not in ours.parameters
    with pytest.raises(TypeError, match=rf"^{name}: too many positional arguments\.$"):
        getattr(xent_jax, name)(*[1.0] * 20)
