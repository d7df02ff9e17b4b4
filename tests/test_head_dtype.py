"""The option dtype of the heads: products in another dtype than that of the arrays."""

import re

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.sharding import PartitionSpec as P

import xent_jax
from tests.cases import strict
from tests.meshes import mesh_of
from tests.programs import named

N, D, V = 16, 8, 32
Y = jnp.arange(N) % V
INTEGER = xent_jax.softmax_cross_entropy_with_integer_labels


def integer(library, x, w, dtype, reduction="mean"):
    return library.linear_softmax_cross_entropy(x, w, Y, dtype=dtype, reduction=reduction)


def any_loss(library, x, w, dtype, reduction="mean"):
    loss = library.softmax_cross_entropy_with_integer_labels
    return library.with_linear_head(loss, dtype=dtype, reduction=reduction)(x, w, Y)


def statistics(library, x, w, dtype):
    return library.linear_token_statistics(x, w, Y, dtype=dtype).loss


def arrays(x="bfloat16", w="float32"):
    rng = np.random.default_rng(0)
    return jnp.asarray(rng.normal(size=(N, D)), x), jnp.asarray(rng.normal(size=(D, V)), w)


def both(head, library, dtype, **options):
    """The sum of what the head gives, and the gradients to inputs and kernel."""

    def total(x, w):
        return jnp.sum(head(library, x, w, dtype, **options))

    return jax.jit(jax.value_and_grad(total, (0, 1)))


def close(got, wanted, rtol):
    for a, b in zip(jax.tree.leaves(got), jax.tree.leaves(wanted), strict=True):
        scale = np.abs(np.asarray(b, np.float64)).max()
        np.testing.assert_allclose(np.float64(a), np.float64(b), rtol, atol=rtol * scale)


modules = pytest.mark.parametrize("library", [xent_jax, xent_jax.forward_mode], ids=["vjp", "jvp"])
heads = pytest.mark.parametrize("head", [integer, any_loss, statistics], ids=named)


@modules
@heads
@pytest.mark.parametrize("dtype", ["bfloat16", "float16"])
def test_the_factors_are_rounded_and_nothing_else(head, dtype, library):
    """Logits and losses are those of rounded factors, whose product is summed in float32."""
    x, w = arrays()
    value, gradients = both(head, library, dtype)(x, w)
    rounded = [a.astype(dtype).astype(jnp.float32) for a in (x, w)]
    wanted, slopes = both(head, library, None)(*rounded)
    close(value, wanted, 1e-6)
    assert [g.dtype for g in gradients] == [x.dtype, w.dtype]
    # dz is rounded too, and the inputs' gradient to their own dtype.
    close(gradients, slopes, 2 * float(jnp.finfo(jnp.bfloat16).eps))


@heads
def test_no_product_is_in_a_wider_dtype(head):
    """The kernel's own dtype would decide it otherwise."""
    program = str(jax.make_jaxpr(both(head, xent_jax, "bfloat16"))(*arrays()))
    factors = re.findall(r"dot_general\[.*?\] (\w+) (\w+)", program, flags=re.DOTALL)
    types = dict(re.findall(r"(\w+):(\w+)\[", program))
    assert len(factors) >= 3
    assert {types[name] for pair in factors for name in pair} == {"bf16"}


def test_the_kernel_s_gradient_keeps_float32():
    """It is summed over the tokens in float32, and not rounded to the dtype of the products."""
    x, w = arrays()
    _, (_, gradient) = both(integer, xent_jax, "bfloat16")(x, w)
    assert (gradient != gradient.astype(jnp.bfloat16).astype(jnp.float32)).any()


def test_a_wider_dtype_than_that_of_the_arrays():
    x, w = arrays("bfloat16", "bfloat16")
    wide = [a.astype(jnp.float32) for a in (x, w)]
    value, _ = both(integer, xent_jax, jnp.float32)(x, w)
    close(value, both(integer, xent_jax, None)(*wide)[0], 1e-6)


@heads
def test_strict_promotion_and_dtypes_without_a_common_one(head):
    """JAX promotes neither pair by itself here: without ``dtype`` both are refused."""
    with strict():
        for pair in (arrays(), arrays("float8_e4m3fn", "bfloat16")):
            jax.eval_shape(both(head, xent_jax, jnp.bfloat16), *pair)
            with pytest.raises(TypeError, match="or give the dtype in which they are multiplied"):
                jax.eval_shape(both(head, xent_jax, None), *pair)


def test_small_gradients_in_float16():
    """A cotangent that float16 cannot hold is taken out before the products, and put back."""
    x, w = arrays("float32")

    def scaled(dtype):
        def loss(x, w):
            return 1e-9 * jnp.sum(integer(xent_jax, x, w, dtype, reduction="none"))

        return jax.jit(jax.grad(loss, (0, 1)))(x, w)

    close(scaled(jnp.float16), scaled(None), 4e-3)


def test_on_a_mesh():
    x, w = arrays()
    head = xent_jax.shard_linear_head(
        xent_jax.linear_softmax_cross_entropy,
        mesh_of(2, 2),
        inputs=P("data"),
        kernel=P(None, "model"),
    )

    def sharded(library, x, w, dtype):
        return head(x, w, Y, dtype=dtype)

    wanted, slopes = both(integer, xent_jax, jnp.bfloat16)(x, w)
    value, gradients = both(sharded, xent_jax, jnp.bfloat16)(x, w)
    close(value, wanted, 1e-6)
    # Each shard rounds its part of the inputs' gradient to bfloat16, and dz.
    close(gradients, slopes, float(jnp.finfo(jnp.bfloat16).eps))


@pytest.mark.parametrize("pair", [("bfloat16", "float32"), ("float32", "float32")], ids=str)
@pytest.mark.parametrize("wrt", [(), ("inputs", "kernel")], ids=named)
def test_the_plan_bounds_what_the_compiler_takes(wrt, pair):
    shapes = [
        jax.ShapeDtypeStruct(s, d) for s, d in zip(((2048, 96), (96, 16384)), pair, strict=True)
    ]
    given = {"dtype": "bfloat16", "max_logits_bytes": 2 * 4 * 16384 * 256}

    def loss(x, w):
        y = jnp.zeros(2048, jnp.int32)
        return xent_jax.linear_softmax_cross_entropy(x, w, y, **given)

    program = jax.value_and_grad(loss, (0, 1)) if wrt else loss
    taken = jax.jit(program).lower(*shapes).compile().memory_analysis().temp_size_in_bytes
    plan = xent_jax.linear_head_plan(*shapes, wrt=wrt, **given)
    assert taken <= plan.temporary_bytes <= 4 * taken
