"""``chunked_loss`` against the same loss of all tokens at once."""

import functools
import re

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.sharding import PartitionSpec as P

import xent_jax
from tests.cases import x64
from xent_jax import _shards, chunked_loss, forward_mode, softmax_cross_entropy_with_integer_labels

pytestmark = pytest.mark.fast_compile

N, D, V, RANK = 37, 8, 24, 2
FIVE = 2 * 8 * V * 5  # bytes of the logits of five tokens and their gradient, in float64


def drawn(rng, dtype=jnp.float64):
    """Parameters of a norm, a kernel and its adapter, and what does not have a gradient."""
    shapes = {"scale": (D,), "kernel": (D, V), "down": (D, RANK), "up": (RANK, V)}
    params = {k: jnp.asarray(rng.standard_normal(s), dtype) for k, s in shapes.items()}
    x = jnp.asarray(rng.standard_normal((N, D)), dtype)
    return params, x, jnp.asarray(rng.integers(0, V, N))


def adapted(params, x, y):
    """Returns the losses of tokens after a norm, a kernel with an adapter, and a soft cap."""
    x = x * params["scale"] / jnp.sqrt(jnp.mean(x**2, -1, keepdims=True) + 1e-6)
    z = x @ params["kernel"] + (x @ params["down"]) @ params["up"]
    return forward_mode.softmax_cross_entropy_with_integer_labels(forward_mode.softcap(z, 30.0), y)


def reduced(reduction, params, x, weights, y, mask):
    """Returns the reduction of all losses, in plain JAX."""
    losses = jnp.where(mask, adapted(params, x, y) * weights, 0)
    if reduction == "none":
        return losses
    total = jnp.sum(losses)
    return total if reduction == "sum" else total / jnp.sum(jnp.where(mask, weights, 0))


def through(library, reduction, params, x, weights, y, mask):
    f = library.chunked_loss(adapted, reduction=reduction, max_logits_bytes=FIVE)
    return f(params, x, y, where=mask, weights=weights)


def value_and_gradients(loss, params, x, weights, *rest):
    out = lambda *args: jnp.sum(jnp.cos(jnp.arange(N)) * loss(*args, *rest))  # noqa: E731
    return jax.value_and_grad(out, (0, 1, 2))(params, x, weights)


def second(loss, params, x, weights, *rest):
    out = lambda p: jnp.sum(jnp.cos(jnp.arange(N)) * loss(p, x, weights, *rest))  # noqa: E731
    gradient = jax.grad(lambda p: jnp.sum(jnp.sin(jax.grad(out)(p)["kernel"])))
    return gradient(params)


def tangents(loss, params, x, weights, *rest):
    return jax.jvp(lambda p, x: loss(p, x, weights, *rest), (params, x), (params, x))


def by_vmap(loss, params, x, weights, *rest):
    return jax.vmap(lambda x: loss(params, x, weights, *rest))(jnp.stack([x, 2 * x]))


@pytest.mark.parametrize("reduction", ["mean", "none"])
@pytest.mark.parametrize(
    ("library", "derivative"),
    [
        (xent_jax, value_and_gradients),
        (xent_jax, second),
        (xent_jax, by_vmap),
        (forward_mode, tangents),
        (forward_mode, value_and_gradients),
    ],
)
def test_it_is_the_loss_of_all_tokens(rng, library, derivative, reduction):
    with x64():
        params, x, y = drawn(rng)
        mask, weights = jnp.arange(N) % 4 != 0, jnp.asarray(rng.uniform(0.5, 2, N))

        @functools.partial(jax.jit, static_argnums=0)
        def run(loss):
            return derivative(functools.partial(loss, reduction), params, x, weights, y, mask)

        got, wanted = run(functools.partial(through, library)), run(reduced)
        for a, b in zip(jax.tree.leaves(got), jax.tree.leaves(wanted), strict=True):
            # float64 rounds at 1e-16. Second derivatives of logits near 10 multiply that by their
            # squares and the sums over 37 tokens, each in another order.
            np.testing.assert_allclose(a, b, rtol=1e-9, atol=1e-10)  # 1e-16 times 1e6


def dots(program, times=1):
    """Counts the products of a program that have a vocabulary, each as often as it runs."""
    count = 0
    for eqn in program.eqns:
        sizes = [s for v in (*eqn.invars, *eqn.outvars) for s in getattr(v.aval, "shape", ())]
        count += times * (eqn.primitive.name == "dot_general" and V in sizes)
        inner = times * eqn.params.get("length", 1)
        for leaf in jax.tree.leaves(eqn.params, is_leaf=lambda x: hasattr(x, "jaxpr")):
            leaf = getattr(leaf, "jaxpr", leaf)
            count += dots(leaf, inner) if hasattr(leaf, "eqns") else 0
    return count


def plain(params, x, y):
    """A loss with one product for each chunk."""
    return softmax_cross_entropy_with_integer_labels(x @ params, y)


def test_three_products_for_each_chunk(rng):
    params, x, y = drawn(rng, jnp.float32)
    f = chunked_loss(plain, max_logits_bytes=8 * V * 5)
    program = jax.make_jaxpr(jax.value_and_grad(f, (0, 1)))(params["kernel"], x[:35], y[:35])
    assert dots(program.jaxpr) == 3 * 7


@pytest.mark.users_compile
def test_memory_does_not_hold_the_logits():
    n, d, v = 8192, 32, 4096
    shapes = ((d, v), "float32"), ((n, d), "float32"), ((n,), "int32")

    def temp(loss):
        program = jax.jit(jax.value_and_grad(loss, (0, 1)))
        program = program.lower(*(jax.ShapeDtypeStruct(*s) for s in shapes)).compile()
        return program.memory_analysis().temp_size_in_bytes

    tokens, kernel = 256, 4 * d * v
    chunk = 2 * 4 * v * tokens
    chunked = temp(chunked_loss(plain, max_logits_bytes=chunk))
    # A chunk's logits and their gradient, the kernel's gradient and what a chunk adds to it.
    assert chunked <= chunk + 2 * kernel + 4 * n * d + 2**20
    assert temp(lambda *args: jnp.mean(plain(*args))) > 4 * n * v


@pytest.mark.parametrize("limit", [8 * V * 5, 8 * V * 6])
def test_a_chunk_keeps_to_its_limit(rng, limit):
    """The largest array of a chunk are the logits, though the kernel is larger."""
    seen = []

    def loss(kernel, x, y):
        seen.append(len(x))
        return plain(kernel, x, y)

    params, x, y = drawn(rng, jnp.float32)
    chunked_loss(loss, max_logits_bytes=limit)(params["kernel"], x, y)
    tokens = limit // (8 * V)
    assert seen[-1] == -(-N // -(-N // tokens)) <= tokens


def test_aux_keys_integers_and_what_is_closed_over(rng):
    params, x, y = drawn(rng, jnp.float32)
    params |= {"steps": 3, "key": jax.random.key(0)}
    keys = jax.random.split(jax.random.key(1), N)

    def of(scale):
        def loss(params, x, y, key):
            noise = jax.vmap(jax.random.normal)(key)
            losses = scale * adapted(params, x, y) + 0 * params["steps"]
            return losses, {"noise": noise, "first": x[:, 0]}

        f = chunked_loss(loss, has_aux=True, max_logits_bytes=8 * V * 5)
        return f(params, x, y, keys, where=y > 2)

    (value, aux), gradient = jax.jit(jax.value_and_grad(of, has_aux=True))(2.0)
    mask = np.asarray(y > 2)
    losses = np.asarray(adapted(params, x, y))[mask]
    np.testing.assert_allclose([value, gradient], [2 * losses.mean(), losses.mean()], rtol=1e-5)
    noise = np.asarray(jax.vmap(jax.random.normal)(keys))
    np.testing.assert_array_equal(aux["noise"], np.where(mask, noise, 0))
    np.testing.assert_array_equal(aux["first"], np.where(mask, x[:, 0], 0))


def test_gradients_have_the_dtypes_of_the_parameters(rng):
    """They are summed in float32: 4096 times 1 is not what bfloat16 counts to."""
    x = jnp.ones((4096, 1), jnp.bfloat16)
    f = chunked_loss(lambda p, x: (p * x)[:, 0], reduction="sum", max_logits_bytes=64)
    gradient = jax.grad(f)(jnp.ones((), jnp.bfloat16), x)
    assert gradient.dtype == jnp.bfloat16
    assert gradient == 4096


def test_on_a_mesh(rng):
    params, x, y = drawn(rng, jnp.float32)
    x, y = x[:36], y[:36]
    mesh = jax.make_mesh((4,), ("data",), devices=jax.devices()[:4])
    mask = jnp.arange(36) % 5 != 0

    def local(params, x, y, mask):
        f = chunked_loss(adapted, batch_axis_name="data", max_logits_bytes=8 * V * 4)
        return f(params, x, y, where=mask)

    specs = P(), P("data"), P("data"), P("data")
    divided = _shards.shard_map(local, mesh, specs, P())
    got = jax.jit(jax.value_and_grad(divided, (0, 1)))(params, x, y, mask)
    whole = chunked_loss(adapted, max_logits_bytes=8 * V * 4)
    wanted = jax.value_and_grad(whole, (0, 1))(params, x, y, where=mask)
    for a, b in zip(jax.tree.leaves(got), jax.tree.leaves(wanted), strict=True):
        np.testing.assert_allclose(a, b, rtol=1e-4, atol=1e-6)  # float32, in another order


def test_the_number_of_tokens_may_be_a_symbol(rng):
    params, x, y = drawn(rng, jnp.float32)
    f = chunked_loss(plain, max_logits_bytes=8 * V * 5)
    (n,) = jax.export.symbolic_shape("n")
    shapes = [jax.ShapeDtypeStruct((n, D), x.dtype), jax.ShapeDtypeStruct((n,), y.dtype)]
    program = jax.jit(jax.value_and_grad(lambda x, y: f(params["kernel"], x, y)))
    exported = jax.export.export(program)(*shapes)
    for tokens in (3, 20, N):
        given = x[:tokens], y[:tokens]
        for a, b in zip(exported.call(*given), program(*given), strict=True):
            np.testing.assert_allclose(a, b, rtol=1e-5, atol=1e-7)  # float32, in other chunks


def test_a_call_is_compiled_once(rng):
    params, x, y = drawn(rng, jnp.float32)
    traced = []

    def counted(params, x, y):
        traced.append(1)
        return plain(params, x, y)

    scope = {"plain": plain, "traced": traced}
    exec("def loss(kernel, x, y):\n    traced.append(1)\n    return plain(kernel, x, y)", scope)
    f, closure = chunked_loss(scope["loss"]), chunked_loss(counted)
    for g, again in ((f, False), (closure, True)):
        g(params["kernel"], x, y)
        count = len(traced)
        g(params["kernel"], x, y)
        assert (len(traced) > count) is again


MISTAKES = {
    "chunked_loss: loss must be a function of parameters and arrays, got 3": (
        lambda f, p, x, y: chunked_loss(3)
    ),
    "chunked_loss: has_aux must be True or False, got 'yes'": (
        lambda f, p, x, y: chunked_loss(plain, has_aux="yes")
    ),
    "chunked_loss: arrays must have one entry for each token along their first axis, got "
    "float32[37,8], int32[3]. Give [batch, length, ...] as x.reshape(-1, *x.shape[2:])": (
        lambda f, p, x, y: f(p, x, y[:3])
    ),
    "axis, got none.": lambda f, p, x, y: f(p),
    "chunked_loss: params must be an array of numbers, or a list of them, got the function print": (
        lambda f, p, x, y: f({"kernel": print}, x, y)
    ),
    "the function takes params, arrays, where and weights, got z_loss. Give an option of the "
    "loss to the loss: chunked_loss(functools.partial(loss, z_loss=...))": (
        lambda f, p, x, y: f(p, x, y, z_loss=1)
    ),
    "where must broadcast to the shape of the tokens, [37], got bool[3]": (
        lambda f, p, x, y: f(p, x, y, where=jnp.ones(3, bool))
    ),
    "weights must be a floating-point array, got int32[37]": (
        lambda f, p, x, y: f(p, x, y, weights=y)
    ),
    "max_logits_bytes must hold the largest array of one token and its gradient, 192 bytes, and "
    "be an integer, got 3": lambda f, p, x, y: chunked_loss(plain, max_logits_bytes=3)(p, x, y),
    "loss must give one number for each token": (
        lambda f, p, x, y: chunked_loss(lambda p, x, y: jnp.sum(x @ p))(p, x, y)
    ),
    "loss must give floating-point numbers, got int32[": (
        lambda f, p, x, y: chunked_loss(lambda p, x, y: y)(p, x, y)
    ),
    "loss must give a pair (losses, aux) with has_aux=True": (
        lambda f, p, x, y: chunked_loss(plain, has_aux=True)(p, x, y)
    ),
    "aux must hold arrays with one entry for each token": (
        lambda f, p, x, y: chunked_loss(lambda *a: (plain(*a), 1.0), has_aux=True)(p, x, y)
    ),
}


@pytest.mark.parametrize("message", MISTAKES)
def test_mistakes(rng, message):
    params, x, y = drawn(rng, jnp.float32)
    with pytest.raises((TypeError, ValueError), match=re.escape(message)):
        MISTAKES[message](chunked_loss(plain), params["kernel"], x, y)
