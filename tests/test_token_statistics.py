"""Token statistics of logits, held or of a linear head, against their definitions."""

import functools
import re

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.sharding import PartitionSpec as P

import xent_jax
from tests import heads
from tests.cases import strict
from tests.chunks import chunks_of
from tests.heads import (
    CLASSES,
    FLOATS,
    WHOLE,
    equal_zeros_tie,
    jit_and_mode,
    modes,
    of_logits,
)
from tests.meshes import kinds, mesh_of, on_mesh, put, set_mesh, shard_map
from tests.problems import close
from xent_jax import linear_token_statistics

pytestmark = [pytest.mark.fast_compile, pytest.mark.usefixtures("float64")]

DTYPES = ["float32", "float64", "bfloat16", "float16"]
sources = pytest.mark.parametrize("source", ["logits", "head"])


def drawn(source, batch, tied=True):
    """The logits alone, or inputs, kernel and bias; and labels. Two classes tie everywhere."""
    x, w, b, y = heads.drawn(batch)
    if tied:
        w, b = w.at[:, 4].set(w[:, 9]), b.at[4].set(b[9])
    floats = (x, w, b) if source == "head" else (x @ w + b,)
    return floats, y


def logits_of(floats):
    z, *layer = floats
    return z @ layer[0] + layer[1] if layer else z


def statistics(floats, y, module=xent_jax, **options):
    if len(floats) == 1:
        return module.token_statistics(*floats, y, **options)
    x, w, b = floats
    return module.linear_token_statistics(x, w, y, b, **options)


def compare(found, wanted, tolerance=1e-12):
    for name in FLOATS:
        close(getattr(found, name), wanted[name], tolerance)
    for name in WHOLE:
        assert getattr(found, name).dtype == jnp.int32
        np.testing.assert_array_equal(getattr(found, name), wanted[name])


def weighed(found):
    """Combines all floating-point fields into one number for each token."""
    return found.loss + 2 * found.logsumexp * found.entropy + found.top_k_log_probabilities[..., 0]


def filled(found, rows, loss=None):
    """The statistics with the fields of some rows NaN or -1, or with the loss that is given."""
    if loss is not None:
        rank = found.label_rank.at[rows].set(-1)
        return found._replace(loss=found.loss.at[rows].set(loss), label_rank=rank)
    fill = {name: np.nan for name in FLOATS} | {name: -1 for name in WHOLE}
    return found._replace(**{k: getattr(found, k).at[rows].set(v) for k, v in fill.items()})


# ------------------------------------------------------------------ definitions

BATCHES = [("logits", batch, 1) for batch in [(), (5,), (2, 3), (0,)]]
CHUNKS = [("head", (2, 6), size) for size in (3, 4, 12)]  # divides the tokens, does not, all


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
    """First and, of held logits, second derivatives; tangents in forward mode."""
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
            out = statistics(floats, options)[name]
            return jnp.sum(out * jnp.cos(jnp.arange(out.size)).reshape(out.shape))

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


def test_strict_promotion_of_classes_in_shards():
    z, y = jnp.zeros((4, 8)), jnp.zeros(4, int)
    run = functools.partial(xent_jax.token_statistics, top_k=5, axis_name="model")
    specs = {"in_specs": (P("data", "model"), P("data")), "out_specs": P("data")}
    with strict():
        jax.eval_shape(shard_map(run, mesh=mesh_of(2, 4), **specs), z, y)


@pytest.mark.parametrize(
    ("source", "dtype", "tolerance"),
    [("logits", dtype, 1e-6) for dtype in ("bfloat16", "float16", "float32")]
    + [("head", "bfloat16", 1e-5)],  # the logits are sums in float32
)
def test_floats_are_float32_and_the_gradient_has_the_dtype_of_the_logits(source, dtype, tolerance):
    floats, y = drawn(source, (6,))
    floats = tuple(a.astype(dtype) for a in floats)

    def run(floats):
        found = statistics(floats, y, top_k=3)
        return jnp.sum(weighed(found)), found

    gradients, found = jax.grad(run, has_aux=True)(floats)
    assert all(getattr(found, name).dtype == jnp.float32 for name in FLOATS)
    compare(found, of_logits(logits_of([a.astype(float) for a in floats]), y), tolerance)
    assert {g.dtype for g in gradients} == {jnp.dtype(dtype)}


# ------------------------------------------------------------------ what is none, and ties


@sources
@pytest.mark.parametrize("label, loss", [(CLASSES, np.nan), (-1, np.nan), (-7, 0)])
def test_a_label_that_is_none(label, loss, source):
    floats, y = drawn(source, (5,))
    found = statistics(floats, y.at[2].set(label), ignore_index=-7, top_k=2)
    wanted = filled(statistics(floats, y, top_k=2), 2, loss)
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
    """Whatever they hold they give 0 and -1, and get a gradient of 0."""
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
    fields = {}
    for name in FLOATS + WHOLE:
        fields[name] = np.array(getattr(wanted, name))
        fields[name][~np.asarray(kept)] = 0 if name in FLOATS else -1
    # In float64: XLA may order the sums of the two programs, with and without a mask, differently.
    close((gradient, found), (wanted_gradient, wanted._replace(**fields)), 1e-12, 1e-14)


# ------------------------------------------------------------------ of the head alone


def test_a_class_that_the_bias_rules_out():
    x, w, b, y = heads.drawn((5,))
    out, first = b.at[3].set(-jnp.inf), 0 * y
    found = linear_token_statistics(x, w, first, out, top_k=CLASSES)
    w_kept, b_kept = jnp.delete(w, 3, axis=1), jnp.delete(b, 3)
    close(found[:3], linear_token_statistics(x, w_kept, first, b_kept, top_k=CLASSES - 1)[:3])
    assert np.all(found.top_k_log_probabilities[:, -1] == -np.inf)
    assert np.all(found.top_k_indices[:, -1] == 3)
    gradient = jax.grad(lambda b: jnp.sum(linear_token_statistics(x, w, y, b).entropy))(out)
    assert np.all(np.isfinite(gradient)) and gradient[3] == 0


def test_labels_of_a_dtype_too_small_for_all_classes():
    x, w, b, y = heads.drawn((5,), classes=300)
    y = y % 100
    small, wide = (linear_token_statistics(x, w, y, b) for y in (y.astype(jnp.int8), y))
    np.testing.assert_array_equal(small.label_rank, wide.label_rank)
    np.testing.assert_array_equal(small.loss, wide.loss)


@pytest.mark.users_compile
def test_the_gradient_of_one_makes_no_work_for_the_others():
    x, w, b, y = heads.drawn((12,))

    def of(x):
        return linear_token_statistics(x, w, y, b, top_k=3)

    def work(f):
        text = jax.jit(f).lower(x).compile().as_text()
        return set(re.findall(r"\b(TopK|sort|scatter|dot)\b", text))

    assert work(jax.grad(lambda x: jnp.sum(of(x).loss))) == {"dot"}
    assert work(of) & {"TopK", "sort"}


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
    z, y = rng.standard_normal((16, 8)), rng.integers(0, 8, 16)
    z[..., 2], y[:3] = z[..., 5], [-1, 8, 0]
    return jnp.asarray(z), jnp.asarray(y)


def test_classes_in_shards(rng):
    z, y = special(rng)
    local = functools.partial(with_gradient, axis_name="model")
    split = P("data", "model")
    specs = {"in_specs": (split, P("data")), "out_specs": (P("data"), split)}
    found = jax.jit(shard_map(local, mesh=mesh_of(2, 4), **specs))(z, y)
    # In float64: a sum over the shards has another order, and gradients near 0 have no digits.
    close(found, on_one_device(z, y), 1e-12, 1e-14)


@kinds
@pytest.mark.parametrize("of_labels", [(), ("data",), ("model",)], ids=str)
@pytest.mark.parametrize("spec", [("data",), (None, "model"), ("data", "model")], ids=str)
def test_arrays_divided_over_a_mesh(spec, of_labels, kind, rng):
    z, y = special(rng)
    wanted, mesh = on_one_device(z, y), mesh_of(2, 2, kind)
    with set_mesh(mesh):
        found = jax.jit(with_gradient)(put(mesh, z, *spec), put(mesh, y, *of_labels))
    close(found, wanted, 1e-12, 1e-14)  # as in shards
