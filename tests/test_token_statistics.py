"""Token statistics of logits that are held, against definitions in NumPy."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.sharding import AxisType
from jax.sharding import PartitionSpec as P

import xent_jax
from tests.cases import strict
from tests.heads import (
    FLOATS,
    WHOLE,
    first_classes,
    jit_and_mode,
    modes,
    of_logits,
)
from tests.meshes import EXPLICIT, mesh_of, put, set_mesh, shard_map
from tests.problems import close

pytestmark = [pytest.mark.fast_compile, pytest.mark.usefixtures("float64")]

K = 8


def drawn(batch, rng, k=K):
    """Draws logits, with two equal ones in each row, and labels."""
    z = rng.standard_normal((*batch, k))
    z[..., 2] = z[..., 5]
    return jnp.asarray(z), jnp.asarray(rng.integers(0, k, batch))


def compare(found, wanted, tolerance=1e-12):
    for name in FLOATS:
        close(getattr(found, name), wanted[name], tolerance)
    for name in WHOLE:
        assert getattr(found, name).dtype == jnp.int32
        np.testing.assert_array_equal(getattr(found, name), wanted[name])


def weighed(found):
    """Combines all floating-point fields into one number for each token."""
    return found.loss + 2 * found.logsumexp * found.entropy + found.top_k_log_probabilities[..., 0]


@pytest.mark.parametrize("batch", [(), (5,), (2, 3), (0,)], ids=str)
@jit_and_mode
def test_each_is_what_its_definition_says(jit, batch, module, rng):
    z, y = drawn(batch, rng)
    run = functools.partial(module.token_statistics, top_k=3)
    compare((jax.jit(run) if jit else run)(z, y), of_logits(z, y))


@modes
@pytest.mark.parametrize("name", FLOATS)
def test_gradients(name, module, rng):
    z, y = drawn((4,), rng)
    u = jnp.asarray(rng.standard_normal(4))

    def ours(z):
        return u @ getattr(module.token_statistics(z, y, top_k=3), name).reshape(4, -1).sum(-1)

    def held(z):
        log_p = jax.nn.log_softmax(z)
        return u @ {
            "loss": -jnp.take_along_axis(log_p, y[:, None], -1)[:, 0],
            "logsumexp": jax.nn.logsumexp(z, axis=-1),
            "entropy": -jnp.sum(jnp.exp(log_p) * log_p, axis=-1),
            "top_k_log_probabilities": jax.lax.top_k(log_p, 3)[0].sum(-1),
        }[name]  # fmt: skip

    v = jnp.asarray(rng.standard_normal(z.shape))

    def derivatives(f):
        @jax.jit
        def run(z):
            second = jax.grad(lambda z: jnp.vdot(jax.grad(f)(z), v))(z)
            tangent = 0.0 if module is xent_jax else jax.jvp(f, (z,), (v,))
            return (jax.grad(f)(z), tangent), second

        return run(z)

    (first, second), (wanted, wanted_second) = derivatives(ours), derivatives(held)
    close(first, wanted, 1e-12)
    close(second, wanted_second, 1e-11)


@pytest.mark.parametrize("transform", ["vmap", "scan", "checkpoint"])
def test_transformed(transform, rng):
    z, y = drawn((3, 2), rng)

    @jax.jit
    def run(z, y):
        return jax.grad(lambda z: jnp.sum(weighed(xent_jax.token_statistics(z, y, top_k=1))))(z)

    got = {
        "vmap": lambda: jax.vmap(run)(z, y),
        "scan": lambda: jax.lax.scan(lambda c, zy: (c, run(*zy)), 0, (z, y))[1],
        "checkpoint": lambda: jax.jit(jax.checkpoint(run))(z, y),
    }[transform]()
    close(got, run(z, y), 1e-12)


@pytest.mark.parametrize("dtype", ["bfloat16", "float32"])
@modes
def test_strict_promotion(module, dtype, rng):
    z, y = drawn((2, 3), rng)
    with strict():
        run = jax.grad(lambda z: weighed(module.token_statistics(z, y, top_k=2)).sum())
        jax.eval_shape(run, z.astype(dtype))


def test_strict_promotion_of_classes_in_shards(rng):
    z, y = drawn((4,), rng)
    run = functools.partial(xent_jax.token_statistics, top_k=5, axis_name="model")
    specs = {"in_specs": (P("data", "model"), P("data")), "out_specs": P("data")}
    with strict():
        jax.eval_shape(shard_map(run, mesh=mesh_of(2, 4), **specs), z, y)


@pytest.mark.parametrize("dtype", ["bfloat16", "float16", "float32"])
def test_floats_are_float32_and_the_gradient_has_the_dtype_of_the_logits(dtype, rng):
    z, y = drawn((4,), rng)
    z = z.astype(dtype)
    found = xent_jax.token_statistics(z, y, top_k=3)
    assert all(getattr(found, name).dtype == jnp.float32 for name in FLOATS)
    compare(found, of_logits(z.astype(float), y), 1e-6)
    gradient = jax.grad(lambda z: jnp.sum(weighed(xent_jax.token_statistics(z, y, top_k=3))))(z)
    assert gradient.dtype == z.dtype


@pytest.mark.parametrize("label, loss", [(K, np.nan), (-1, np.nan), (-7, 0)])
def test_a_label_that_is_none(label, loss, rng):
    z, y = drawn((5,), rng)
    found = xent_jax.token_statistics(z, y.at[2].set(label), ignore_index=-7, top_k=2)
    plain = xent_jax.token_statistics(z, y, top_k=2)
    wanted = plain._replace(
        loss=plain.loss.at[2].set(loss), label_rank=plain.label_rank.at[2].set(-1)
    )
    jax.tree.map(np.testing.assert_array_equal, found, wanted)


@pytest.mark.parametrize("bad", [np.nan, np.inf])
def test_logits_without_a_log_sum_exp_poison_their_token_alone(bad, rng):
    z, y = drawn((3,), rng)
    found = xent_jax.token_statistics(z.at[1, 4].set(bad), y, top_k=2)
    plain = xent_jax.token_statistics(z, y, top_k=2)
    for name in FLOATS + WHOLE:
        fill = np.nan if name in FLOATS else -1
        np.testing.assert_array_equal(getattr(found, name), getattr(plain, name).at[1].set(fill))


def test_negative_zero_ties_with_zero():
    z = jnp.array([-0.0, 0.0, -0.0, -1.0, 0.0, -0.0])
    found = xent_jax.token_statistics(jnp.tile(z, (6, 1)), jnp.arange(6), top_k=4)
    argmax, rank, top = first_classes(np.tile(z, (6, 1)), 4)
    np.testing.assert_array_equal(found.argmax, argmax)
    np.testing.assert_array_equal(found.label_rank, rank[0])
    np.testing.assert_array_equal(found.top_k_indices, top)


def test_the_head_s_are_these(rng):
    x, w = jnp.asarray(rng.standard_normal((5, 3))), jnp.asarray(rng.standard_normal((3, K)))
    _, y = drawn((5,), rng)
    of_head = xent_jax.linear_token_statistics(x, w, y, top_k=3, max_logits_bytes=512)
    # In float64, where the two differ by the order in which products and sums are taken.
    jax.tree.map(
        lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-12),
        of_head, xent_jax.token_statistics(x @ w, y, top_k=3),
    )  # fmt: skip


@pytest.mark.parametrize(
    ("module", "shape"),
    [
        *((xent_jax, shape) for shape in [(), (3,), (2, 1), (2, 3, 1)]),
        (xent_jax.forward_mode, (2, 1)),
    ],
    ids=["rank 0", "rank 1", "rank 2", "rank 3", "forward mode"],
)
@pytest.mark.parametrize("head", [False, True])
def test_tokens_that_are_out(head, shape, module, rng):
    """Whatever they hold they give 0 and -1, and get a gradient of 0."""
    z, y = drawn((2, 3), rng)
    mask = jnp.asarray(rng.random(shape) < 0.5)
    kept = jnp.broadcast_to(mask[..., 0] if mask.ndim == 3 else mask, (2, 3))
    bad = jnp.where(kept[..., None], z, jnp.nan)

    def run(z, y, **more):
        if head:
            found = module.linear_token_statistics(z, jnp.eye(K), y, top_k=2, **more)
        else:
            found = module.token_statistics(z, y, top_k=2, **more)
        return jnp.sum(jnp.where(kept, weighed(found), 0.0)), found

    both = jax.jit(jax.grad(run, has_aux=True))
    gradient, found = both(bad, jnp.where(kept, y, K), where=mask)
    wanted_gradient, wanted = both(z, y)
    # In float64: XLA may order the sums of the two programs, with and without a mask, differently.
    np.testing.assert_allclose(gradient, wanted_gradient, rtol=1e-12)
    for name in FLOATS + WHOLE:
        want = np.array(getattr(wanted, name))
        want[~np.asarray(kept)] = 0 if name in FLOATS else -1
        np.testing.assert_allclose(getattr(found, name), want, rtol=1e-12)


def test_a_mask_of_classes_is_refused(rng):
    z, y = drawn((2, 3), rng)
    with pytest.raises(
        ValueError, match="where must broadcast to the shape of the tokens, .* -inf"
    ):
        xent_jax.token_statistics(z, y, where=jnp.ones(z.shape, bool))


# ------------------------------------------------------------------ on a mesh


def with_gradient(z, y, **options):
    def run(z):
        found = xent_jax.token_statistics(z, y, ignore_index=0, top_k=5, **options)
        return jnp.nansum(weighed(found)), found

    gradient, found = jax.grad(run, has_aux=True)(z)
    return found, gradient


on_one_device = jax.jit(with_gradient)


def special(rng):
    """Ties between shards; labels out of range, ignored, and of many classes."""
    z, y = drawn((16,), rng)
    return z, y.at[:3].set(jnp.array([-1, K, 0]))


def test_classes_in_shards(rng):
    z, y = special(rng)
    local = functools.partial(with_gradient, axis_name="model")
    specs = dict(
        in_specs=(P("data", "model"), P("data")), out_specs=(P("data"), P("data", "model"))
    )
    found = jax.jit(shard_map(local, mesh=mesh_of(2, 4), **specs))(z, y)
    # In float64: a sum over the shards has another order, and gradients near 0 have no digits.
    jax.tree.map(
        lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-12, atol=1e-14),
        found, on_one_device(z, y),
    )  # fmt: skip


@pytest.mark.parametrize("kind", [pytest.param(AxisType.Auto, id="auto"), EXPLICIT])
@pytest.mark.parametrize("of_labels", [(), ("data",), ("model",)], ids=str)
@pytest.mark.parametrize("spec", [("data",), (None, "model"), ("data", "model")], ids=str)
def test_arrays_divided_over_a_mesh(spec, of_labels, kind, rng):
    z, y = special(rng)
    wanted, mesh = on_one_device(z, y), mesh_of(2, 2, kind)
    with set_mesh(mesh):
        found = jax.jit(with_gradient)(put(mesh, z, *spec), put(mesh, y, *of_labels))
    # In float64: a sum over the devices has another order, and gradients near 0 have no digits.
    jax.tree.map(
        lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-12, atol=1e-14), found, wanted
    )
