"""``chunked_loss`` has the results of the same loss of all tokens at once."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.sharding import PartitionSpec as P

import xent_jax
from tests.meshes import mesh_of, shard_map
from tests.problems import close
from tests.programs import sizes, temp
from xent_jax import chunked_loss, forward_mode, softmax_cross_entropy_with_integer_labels

pytestmark = pytest.mark.fast_compile

N, D, V, RANK = 37, 8, 24, 2
FIVE = 2 * 8 * V * 5  # bytes of the logits of five tokens and their gradient, in float64


def drawn(rng):
    """Returns parameters of a norm, a kernel and its adapter, then inputs and integer labels."""
    shapes = {"scale": (D,), "kernel": (D, V), "down": (D, RANK), "up": (RANK, V)}
    params = {k: jnp.asarray(rng.standard_normal(s)) for k, s in shapes.items()}
    x = jnp.asarray(rng.standard_normal((N, D)))
    return params, x, jnp.asarray(rng.integers(0, V, N))


def adapted(params, x, y):
    """Returns the losses of tokens after a norm, a kernel with an adapter, and a soft cap."""
    x = x * params["scale"] / jnp.sqrt(jnp.mean(x**2, -1, keepdims=True) + 1e-6)
    z = x @ params["kernel"] + (x @ params["down"]) @ params["up"]
    return forward_mode.softmax_cross_entropy_with_integer_labels(forward_mode.softcap(z, 30.0), y)


def held(params, x, y, where, weights, reduction):
    """Returns the reduction of all losses, in plain JAX."""
    losses = jnp.where(where, adapted(params, x, y) * weights, 0)
    if reduction == "none":
        return losses
    return jnp.sum(losses) / jnp.sum(jnp.where(where, weights, 0))


def derivatives(loss, names, params, x, weights, y, mask):
    """Returns {name: result} for transformations of the loss, which run in one program."""

    def of(params, x, weights=weights):
        return loss(params, x, y, where=mask, weights=weights)

    def total(*args):
        return jnp.sum(jnp.cos(jnp.arange(N)) * of(*args))

    def of_gradient(params):
        return jnp.sum(jnp.sin(jax.grad(total)(params, x)["kernel"]))

    made = {
        "first": lambda: jax.value_and_grad(total, (0, 1, 2))(params, x, weights),
        "second": lambda: jax.grad(of_gradient)(params),
        "vmap": lambda: jax.vmap(lambda x: of(params, x))(jnp.stack([x, 2 * x])),
        "tangents": lambda: jax.jvp(of, (params, x), (params, x)),
    }
    return jax.jit(lambda: {name: made[name]() for name in names})()


@pytest.mark.usefixtures("float64")
@pytest.mark.parametrize("reduction", ["mean", "none"])
@pytest.mark.parametrize(
    ("library", "names"),
    [(xent_jax, ("first", "second", "vmap")), (forward_mode, ("first", "tangents"))],
    ids=["vjp", "jvp"],
)
def test_it_is_the_loss_of_all_tokens(rng, library, names, reduction):
    params, x, y = drawn(rng)
    mask, weights = jnp.arange(N) % 4 != 0, jnp.asarray(rng.uniform(0.5, 2, N))
    chunked = library.chunked_loss(adapted, reduction=reduction, max_logits_bytes=FIVE)
    whole = functools.partial(held, reduction=reduction)
    got, wanted = (derivatives(f, names, params, x, weights, y, mask) for f in (chunked, whole))
    # float64 rounds at 1e-16. Second derivatives multiply this by the squares of logits near 10
    # and by the number of tokens, 37, which are summed in another order.
    close(got, wanted, 1e-9, 1e-10)  # 1e-16 times 1e6


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
    """Returns the losses of tokens after a layer, which is one product for each chunk."""
    return softmax_cross_entropy_with_integer_labels(x @ params, y)


def test_three_products_for_each_chunk(rng):
    params, x, y = drawn(rng)
    f = chunked_loss(plain, max_logits_bytes=8 * V * 5)
    program = jax.make_jaxpr(jax.value_and_grad(f, (0, 1)))(params["kernel"], x[:35], y[:35])
    assert dots(program.jaxpr) == 3 * 7


@pytest.mark.users_compile
def test_memory_does_not_hold_the_logits():
    n, d, v = 8192, 32, 4096
    inputs, kernel, labels = sizes(n, d, v)
    tokens, of_kernel = 256, 4 * d * v
    chunk = 2 * 4 * v * tokens
    taken = temp(chunked_loss(plain, max_logits_bytes=chunk), kernel, inputs, labels)
    # A chunk's logits and their gradient, the kernel's gradient and what a chunk adds to it.
    assert taken <= chunk + 2 * of_kernel + 4 * n * d + 2**20
    assert temp(lambda *args: jnp.mean(plain(*args)), kernel, inputs, labels) > 4 * n * v


@pytest.mark.parametrize("limit", [8 * V * 5, 8 * V * 6])
def test_a_chunk_keeps_to_its_limit(rng, limit):
    """The limit counts a chunk's logits and their gradient, but not the kernel, which is larger."""
    seen = []

    def loss(kernel, x, y):
        seen.append(len(x))
        return plain(kernel, x, y)

    params, x, y = drawn(rng)
    chunked_loss(loss, max_logits_bytes=limit)(params["kernel"], x, y)
    tokens = limit // (8 * V)
    assert seen[-1] == -(-N // -(-N // tokens)) <= tokens


def test_aux_keys_integers_and_what_is_closed_over(rng):
    params, x, y = drawn(rng)
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
    """Gradients are summed in float32, because bfloat16 cannot count to 4096 in steps of 1."""
    x = jnp.ones((4096, 1), jnp.bfloat16)
    f = chunked_loss(lambda p, x: (p * x)[:, 0], reduction="sum", max_logits_bytes=64)
    gradient = jax.grad(f)(jnp.ones((), jnp.bfloat16), x)
    assert gradient.dtype == jnp.bfloat16
    assert gradient == 4096


def test_on_a_mesh(rng):
    params, x, y = drawn(rng)
    x, y = x[:36], y[:36]
    mask = jnp.arange(36) % 5 != 0

    def gradients(wrap, **names):
        def local(params, x, y, mask):
            f = chunked_loss(adapted, max_logits_bytes=8 * V * 4, **names)
            return f(params, x, y, where=mask)

        return jax.jit(jax.value_and_grad(wrap(local), (0, 1)))(params, x, y, mask)

    specs = P(), P("data"), P("data"), P("data")
    got = gradients(lambda f: shard_map(f, specs, P(), mesh_of(4, 1)), batch_axis_name="data")
    close(got, gradients(lambda f: f), 1e-4, 1e-6)  # float32, in another order


def test_the_number_of_tokens_may_be_a_symbol(rng):
    params, x, y = drawn(rng)
    f = chunked_loss(plain, max_logits_bytes=8 * V * 5)
    (n,) = jax.export.symbolic_shape("n")
    shapes = [jax.ShapeDtypeStruct((n, D), x.dtype), jax.ShapeDtypeStruct((n,), y.dtype)]
    program = jax.jit(jax.value_and_grad(lambda x, y: f(params["kernel"], x, y)))
    exported = jax.export.export(program)(*shapes)
    for tokens in (3, 20, N):
        given = x[:tokens], y[:tokens]
        close(exported.call(*given), tuple(program(*given)), 1e-5, 1e-7)  # float32, other chunks


TRACED = []


def counted(kernel, x, y):
    TRACED.append(1)
    return plain(kernel, x, y)


def test_a_call_is_compiled_once(rng):
    """Only a function that closes over an array is traced again."""
    (params, x, y), one = drawn(rng), jnp.ones(())

    def closing(kernel, x, y):
        return one * counted(kernel, x, y)

    for loss, again in ((counted, False), (closing, True)):
        f = chunked_loss(loss)
        f(params["kernel"], x, y)
        count = len(TRACED)
        f(params["kernel"], x, y)
        assert (len(TRACED) > count) is again
