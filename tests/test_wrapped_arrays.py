"""A variable of flax acts as its array, and the error for a box of flax says how to unbox it."""

import functools

import flax.linen
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx

import xent_jax as X

pytestmark = pytest.mark.fast_compile

Z, Y, W = jnp.array([[0.5, -1.0, 2.0], [0.0, 3.0, 1.0]]), jnp.array([2, 0]), jnp.eye(3)
WHERE = jnp.array([True, False])
integer = functools.partial(X.softmax_cross_entropy_with_integer_labels, Z, Y)
head = functools.partial(X.linear_softmax_cross_entropy, Z, W, Y)

BOXES = [flax.linen.Partitioned, flax.linen.LogicallyPartitioned]
CALLS = [  # the argument's name, a call with it, and an array for it
    ("logits", lambda x: X.softmax(x), Z),
    ("labels", lambda x: X.softmax_cross_entropy_with_integer_labels(Z, x), Y),
    ("class_weights", lambda x: integer(class_weights=x), jnp.ones(3)),
    ("where", lambda x: integer(where=x), WHERE),
    ("z_loss", lambda x: integer(z_loss=x), jnp.float32(0.1)),
    ("inputs", lambda x: X.linear_softmax_cross_entropy(x, W, Y), Z),
    ("kernel", lambda x: X.linear_softmax_cross_entropy(Z, x, Y), W),
    ("bias", lambda x: head(bias=x), jnp.ones(3)),
    ("kernel", lambda x: X.with_linear_head(lambda z: z[:, 0])(Z, x), W),
    ("p", lambda x: X.entropy(x), jnp.full(3, 1 / 3)),
]
of_each_call = pytest.mark.parametrize(("name", "call", "array"), CALLS)


@of_each_call
@pytest.mark.parametrize("box", BOXES)
def test_a_box_is_refused_and_the_message_opens_it(box, name, call, array):
    boxed = box(array, names=(None,) * array.ndim)
    with pytest.raises(TypeError, match=rf"\w+: {name} must be an array of.*got ") as raised:
        call(boxed)
    assert str(raised.value).endswith(f"pass {name}.unbox().")
    np.testing.assert_array_equal(call(boxed.unbox()), call(array))


@of_each_call
@pytest.mark.parametrize("wrap", [lambda f: f, jax.jit], ids=["eager", "jit"])
def test_a_variable_of_nnx_is_an_array(wrap, name, call, array):
    np.testing.assert_array_equal(wrap(call)(nnx.Param(array)), wrap(call)(array))
