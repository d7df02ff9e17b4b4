"""Token statistics, of logits and of a linear head, are what their definitions say."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.sharding import PartitionSpec as P

import xent_jax
from tests import heads
from tests.cases import strict
from tests.chunks import chunks_of
from tests.heads import CLASSES, modes
from tests.meshes import kinds, mesh_of, mesh_set, on_mesh, put, shard_map
from tests.problems import close
from tests.token_statistics import (
    FLOATS,
    compare,
    drawn,
    equal_zeros_tie,
    filled,
    jit_and_mode,
    logits_of,
    of_logits,
    sources,
    statistics,
    weighed,
)
from xent_jax import linear_token_statistics

pytestmark = [pytest.mark.fast_compile, pytest.mark.usefixtures("float64")]

DTYPES = ["float32", "float64", "bfloat16", "float16"]
BATCHES = [("logits", batch, 1) for batch in [(), (5,), (2, 3), (0,)]]
# Chunks of 3 and 12 divide the tokens, and chunks of 5 do not.
CHUNKS = [("head", (2, 6), 3), ("head", (13,), 5), ("head", (2, 6), 12)]


@pytest.mark.parametrize(("source", "batch", "size"), BATCHES + CHUNKS, ids=str)
@jit_and_mode
def test_each_is_what_its_definition_says(source, batch, size, jit, module):
    floats, y = drawn(source, batch)
    run = functools.partial(statistics, module=module, top_k=3)
    with chunks_of(size):
        found = (jax.jit(run) if jit else run)(floats, y)
    compare(found, of_logits(logits_of(floats), y))


@modes
@sources
def test_gradients_of_each(source, module):
    """First derivatives, second ones of held logits, and tangents in forward mode are right."""
    floats, y = drawn(source, (2, 3), tied=False)
    direction = jax.tree.map(jnp.cos, floats)
    options = {"logit_softcap": 3.0, "temperature": 0.7} if source == "head" else {}

    def ours(floats, options):
        return statistics(floats, y, module, top_k=3, **options)._asdict()

    def held(floats, options):
        z = logits_of(floats)
        if options:
            cap, temperature = options.values()
            z = cap * jnp.tanh(z / cap) / temperature
        return of_logits(z, y)

    def derivatives(name, statistics):
        def of(floats, options):
            return heads.weighed(statistics(floats, options)[name])

        def along(floats):
            return sum(map(jnp.vdot, jax.grad(of)(floats, options), direction))

        found = [jax.value_and_grad(of, (0, 1))(floats, options)]
        if module is not xent_jax:
            found.append(jax.jvp(lambda floats: of(floats, options), (floats,), (direction,)))
        if source == "logits":
            found.append(jax.grad(along)(floats))
        return found

    def every(statistics):
        return jax.jit(lambda: {name: derivatives(name, statistics) for name in FLOATS})()

    with chunks_of(4):
        got = every(ours)
    close(got, every(held), 1e-11)


def test_transformed():
    (z,), y = drawn("logits", (3, 2))

    def run(z, y):
        return jax.grad(lambda z: jnp.sum(weighed(statistics((z,), y, top_k=1))))(z)

    @jax.jit
    def every(z, y):
        scanned = jax.lax.scan(lambda c, zy: (c, run(*zy)), 0, (z, y))[1]
        return jax.vmap(run)(z, y), scanned, jax.checkpoint(run)(z, y)

    close(every(z, y), (run(z, y),) * 3)


# ------------------------------------------------------------------ dtypes


@pytest.mark.parametrize("dtype", ["bfloat16", "float32"])
@modes
def test_strict_promotion(module, dtype):
    (z,), y = drawn("logits", (2, 3))
    with strict():
        run = jax.grad(lambda z: weighed(statistics((z,), y, module, top_k=2)).sum())
        jax.eval_shape(run, z.astype(dtype))


@pytest.mark.parametrize(
    ("source", "dtype", "tolerance"),
    [("logits", dtype, 1e-6) for dtype in ("bfloat16", "float16", "float32")]
    + [("head", "bfloat16", 1e-5)],  # whose logits are summed in float32
)
def test_floats_are_float32_and_the_gradient_has_the_dtype_of_the_logits(source, dtype, tolerance):
    floats, y = drawn(source, (6,))
    floats = tuple(a.astype(dtype) for a in floats)

    def run(floats):
        found = statistics(floats, y, top_k=3)
        return jnp.sum(weighed(found)), found

    gradients, found = jax.jit(jax.grad(run, has_aux=True))(floats)
    assert all(getattr(found, name).dtype == jnp.float32 for name in FLOATS)
    compare(found, of_logits(logits_of([a.astype(float) for a in floats]), y), tolerance)
    assert {g.dtype for g in gradients} == {jnp.dtype(dtype)}


# ------------------------------------------------------------------ what is none, and ties


@sources
@pytest.mark.parametrize("label, loss", [(CLASSES, np.nan), (-1, np.nan), (-7, 0)])
def test_a_label_that_is_none(label, loss, source):
    floats, y = drawn(source, (5,))
    found = statistics(floats, y.at[2].set(label), ignore_index=-7, top_k=2)
    wanted = statistics(floats, y, top_k=2)
    loss, rank = wanted.loss.at[2].set(loss), wanted.label_rank.at[2].set(-1)
    wanted = wanted._replace(loss=loss, label_rank=rank)
    jax.tree.map(np.testing.assert_array_equal, found, wanted)


@sources
@pytest.mark.parametrize("bad", [np.nan, np.inf])
def test_logits_without_a_log_sum_exp_poison_their_token_alone(bad, source):
    (z, *rest), y = drawn(source, (5,))
    found = statistics((z.at[2, 4].set(bad), *rest), y, top_k=2)
    wanted = filled(statistics((z, *rest), y, top_k=2), 2)
    jax.tree.map(np.testing.assert_array_equal, found, wanted)


ZEROS = [("of the logits", "float64")]
ZEROS += [(f"of the {part}", dtype) for part in ("kernel", "bias") for dtype in DTYPES]


@jit_and_mode
@pytest.mark.parametrize(("zeros", "dtype"), ZEROS)
def test_negative_zero_ties_with_zero(zeros, dtype, jit, module):
    z, y = np.array([-0.0, 0.0, -0.0, -1.0, 0.0, -0.0]), jnp.arange(6)
    x, row = jnp.ones((6, 1), dtype), jnp.asarray(z, dtype)
    function, *given = {
        "of the logits": (module.token_statistics, jnp.tile(row, (6, 1)), y),
        "of the kernel": (module.linear_token_statistics, x, row[None], y),
        "of the bias": (module.linear_token_statistics, x, jnp.full((1, 6), -0.0, dtype), y, row),
    }[zeros]
    run = functools.partial(function, top_k=4)
    equal_zeros_tie((jax.jit(run) if jit else run)(*given), z, 4)


def test_negative_zero_ties_with_zero_in_any_shard():
    z = np.tile([-0.0, 0.0, -1.0], 8)  # over four shards
    x, w, y = jnp.ones((24, 1)), jnp.asarray(z[None]), jnp.arange(24)
    sharded = on_mesh(linear_token_statistics, mesh=mesh_of())
    equal_zeros_tie(jax.jit(functools.partial(sharded, top_k=20))(x, w, y), z, 20)


@pytest.mark.parametrize(
    ("module", "shape"),
    [
        *((xent_jax, shape) for shape in [(), (3,), (2, 1), (2, 3, 1)]),
        (xent_jax.forward_mode, (2, 1)),
    ],
    ids=["rank 0", "rank 1", "rank 2", "rank 3", "forward mode"],
)
@sources
def test_tokens_that_are_out(source, shape, module, rng):
    """Tokens that are left out give 0, or -1 for an integer, and a gradient of 0, even if NaN."""
    (z, *rest), y = drawn(source, (2, 3))
    mask = jnp.asarray(rng.random(shape) < 0.5)
    kept = jnp.broadcast_to(mask[..., 0] if mask.ndim == 3 else mask, (2, 3))
    bad = jnp.where(kept[..., None], z, jnp.nan)

    def run(z, y, **more):
        found = statistics((z, *rest), y, module, top_k=2, **more)
        return jnp.sum(jnp.where(kept, weighed(found), 0.0)), found

    both = jax.jit(jax.grad(run, has_aux=True))
    gradient, found = both(bad, jnp.where(kept, y, CLASSES), where=mask)
    wanted_gradient, wanted = both(z, y)
    # In float64: XLA may order the sums of the two programs, with and without a mask, differently.
    close((gradient, found), (wanted_gradient, filled(wanted, ~kept, 0)), 1e-12, 1e-14)


# ------------------------------------------------------------------ on a mesh


def with_gradient(z, y, **options):
    def run(z):
        found = xent_jax.token_statistics(z, y, ignore_index=0, top_k=5, **options)
        return jnp.nansum(weighed(found)), found

    gradient, found = jax.grad(run, has_aux=True)(z)
    return found, gradient


on_one_device = jax.jit(with_gradient)


def special(rng):
    """Returns logits with ties between shards, and labels, some ignored or out of range."""
    z, y = rng.standard_normal((16, 8)), rng.integers(0, 8, 16)
    z[..., 2], y[:3] = z[..., 5], [-1, 8, 0]
    return jnp.asarray(z), jnp.asarray(y)


def test_classes_in_shards(rng):
    z, y = special(rng)
    split, local = P("data", "model"), functools.partial(with_gradient, axis_name="model")
    with strict():
        found = jax.jit(shard_map(local, (split, P("data")), (P("data"), split)))(z, y)
    # In float64: a sum over the shards has another order, and gradients near 0 have no digits.
    close(found, on_one_device(z, y), 1e-12, 1e-14)


@kinds
@pytest.mark.parametrize("of_labels", [(), ("data",), ("model",)], ids=str)
@pytest.mark.parametrize("spec", [("data",), (None, "model"), ("data", "model")], ids=str)
def test_arrays_divided_over_a_mesh(spec, of_labels, kind, rng):
    z, y = special(rng)
    wanted = on_one_device(z, y)
    with mesh_set(2, 2, kind) as mesh:
        found = jax.jit(with_gradient)(put(mesh, z, *spec), put(mesh, y, *of_labels))
    close(found, wanted, 1e-12, 1e-14)  # as in the test above
