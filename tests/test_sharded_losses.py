"""On a mesh of eight devices, each row of the table of cases has the losses of one device."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.sharding import PartitionSpec as P

import xent_jax
from tests.cases import CASES, CLASSES, RICHEST, row
from tests.heads import derivatives
from tests.meshes import mesh_of, shard_map, tracked
from tests.problems import close, gradient_of_slope, hessian_times, slope, solved

pytestmark = [pytest.mark.fast_compile, pytest.mark.usefixtures("float64")]

ELEMENTS = {"elements", "unit elements"}
LOSS = xent_jax.softmax_cross_entropy_with_integer_labels


ROWS = [c for c in CASES if "axis_name" in c.parameters]
RICH = [c for c in RICHEST.values() if c in ROWS]
NAMES = {"axis_name": "model", "batch_axis_name": "data"}


def rows(**ways):
    """Returns a mark for all rows in the first way, and each function's richest in the others."""
    return pytest.mark.parametrize(
        ("case", "way"),
        [
            row(case, way, name=name, quick=i == 0)
            for i, (name, way) in enumerate(ways.items())
            for case in (RICH if i else ROWS)
        ],
    )


each_function = pytest.mark.parametrize("case", RICH, ids=lambda case: case.id)


def spec(case, name):
    kind = {**case.arguments, **case.keywords}[name]
    if kind in CLASSES | ELEMENTS:
        return P("data", None, "model")
    by_example = {"integers": P("data"), "example weights": P("data")}
    return {**by_example, "weights": P("model")}.get(kind, P())


def names_of(case):
    return {k: v for k, v in NAMES.items() if k in case.parameters}


def problem_of(case):
    return solved(case, batch=(4, 2), k=8)


def mapped(case, function, out, check_vma=True):
    """Returns shard_map of a function of a dict of inputs, each sharded by its spec."""
    specs = {name: spec(case, name) for name in problem_of(case).inputs}
    return shard_map(function, (specs,), out, check_vma=check_vma)


def sharded(case, module, check_vma=True):
    """Returns the row's losses on the mesh as a function of its floating-point arguments."""
    out = P("data")
    if case.options.get("reduction", "none") != "none":
        out = P()
    elif case.loss in ("softmax", "log_softmax"):
        out = P("data", None, "model")
    local = functools.partial(case.call, module, **names_of(case))
    run = mapped(case, local, out, check_vma)
    return lambda floats: run({**problem_of(case).inputs, **floats})


@rows(tracked=(xent_jax, True), untracked=(xent_jax, False), forward=(xent_jax.forward_mode, True))
def test_value_and_gradient(case, way):
    """Gradients to all floats, also replicated ones, are right if taken outside shard_map."""
    problem_of(case).check_gradient(sharded(case, *way))


@rows(tracked=(True, hessian_times), untracked=(False, gradient_of_slope))
def test_second_derivative(case, way):
    check_vma, second = way
    problem = problem_of(case)
    (found,) = problem.derivatives(sharded(case, xent_jax, check_vma), second)
    close((found,), problem.second[1], 1e-10)


@each_function
def test_forward_mode(case):
    problem = problem_of(case)
    losses = sharded(case, xent_jax.forward_mode)
    tangents = jax.jit(functools.partial(slope, losses))(problem.floats, problem.direction)
    close(tangents, problem.second[0])


@each_function
def test_gradient_taken_inside(case):
    """If the whole train step is in shard_map, no gradient is multiplied by the shards."""
    problem = problem_of(case)
    first = next(iter(case.arguments))

    def inside(inputs):
        def loss(x):
            values = case.call(xent_jax, inputs | {first: x}, **names_of(case))
            # Values that are divided over the model axis are also added up over it.
            divided = () if values.ndim < 3 else ("model",)
            axes = ("data", *divided) if values.ndim else divided
            return jax.lax.psum(jnp.sum(values), axes) if axes else values

        return jax.grad(loss)(inputs[first])

    found = jax.jit(mapped(case, inside, spec(case, first)))(problem.inputs)
    expected = jax.jit(jax.grad(lambda x: jnp.sum(problem.expected({**problem.floats, first: x}))))
    close(found, expected(problem.floats[first]))


# ------------------------------------------ confident rows, padded classes, and uneven examples


@pytest.mark.users_compile
@pytest.mark.parametrize("soft", [False, True], ids=["integer", "soft"])
def test_confident_rows_are_as_exact_as_on_one_device(soft, rng):
    """The label's shard or another has nearly all the mass, where S - 1 would lose its digits."""
    z = np.zeros((8, 16), np.float32)
    z[np.arange(8), rng.integers(0, 16, 8)] = rng.uniform(15, 60, 8)
    z[6:, 3] = z[6:].max(-1)  # ties over two shards
    y = np.concatenate([z[:5].argmax(-1), [0, 3, 1]]).astype(np.int32)
    loss, t = (LOSS, y) if not soft else (xent_jax.softmax_cross_entropy, np.eye(16)[y])
    t = jnp.asarray(t, None if not soft else jnp.float32)
    specs = P("data", "model"), (P("data", "model") if soft else P("data"))
    mapped = shard_map(functools.partial(loss, axis_name="model"), specs, P("data"))
    np.testing.assert_allclose(jax.jit(mapped)(z, t), loss(z, t), rtol=3e-7)


def test_a_padded_tail_takes_no_part(rng):
    """Four shards of six hold 22 classes, and a mask leaves out the two that are padding."""
    z, y = rng.standard_normal((8, 22)), rng.integers(0, 22, 8)
    options = {"label_smoothing": 0.1, "z_loss": 1e-3}
    expected = jax.jit(jax.value_and_grad(lambda z: LOSS(z, y, reduction="mean", **options)))(z)

    def local(z, y):
        classes = jax.lax.axis_index("model") * 6 + jnp.arange(6)
        return LOSS(z, y, where=classes[None] < 22, reduction="mean", **options, **NAMES)

    mapped = shard_map(local, (P("data", "model"), P("data")), P())
    padded = functools.partial(jnp.pad, pad_width=((0, 0), (0, 2)), constant_values=1e6)
    close(jax.jit(jax.value_and_grad(lambda z: mapped(padded(z), y)))(z), expected)


def test_a_mean_is_over_the_examples_of_all_shards(rng):
    """The shards keep different numbers of examples, so that a mean of their means is wrong."""
    z, y = rng.standard_normal((8, 8)), rng.integers(0, 8, 8)
    left = np.array([True] * 4 + [False, False, False, True])
    by_class, weights = rng.uniform(0.5, 2, 8), rng.uniform(0.5, 2, 8)

    def loss(z, y, left, by_class, weights, **names):
        options = {"where": left, "class_weights": by_class, "weights": weights}
        return LOSS(z, y, **options, reduction="mean", **names)

    specs = (P("data", "model"), P("data"), P("data"), P("model"), P("data"))
    mapped = shard_map(functools.partial(loss, **NAMES), specs, P())
    found, expected = (derivatives(f, z, y, left, by_class, weights) for f in (mapped, loss))
    close(found, expected)


# ---------------------------------------------------------------- gradients taken inside

SHARDS = 4
MAPS = {
    "pmap": functools.partial(jax.pmap, axis_name="i"),
    "vmap": functools.partial(jax.vmap, axis_name="i"),
}
maps = pytest.mark.parametrize("mapped", MAPS.values(), ids=MAPS)


def divided(x):
    """Returns a matrix as ``[shards, rows, columns of a shard]``."""
    return jnp.moveaxis(x.reshape(len(x), SHARDS, -1), 1, 0)


def joined(shards):
    return jnp.moveaxis(shards, 0, 1).reshape(shards.shape[1], -1)


def plain(z, y):
    """Returns the mean loss, from a shard's logits, in plain JAX."""
    m = jax.lax.pmax(jax.lax.stop_gradient(jnp.max(z, -1)), "i")
    lse = m + jnp.log(jax.lax.psum(jnp.sum(jnp.exp(z - m[:, None]), -1), "i"))
    own = jax.nn.one_hot(y - jax.lax.axis_index("i") * z.shape[-1], z.shape[-1])
    return jnp.mean(lse - jax.lax.psum(jnp.sum(own * z, -1), "i"))


mean = functools.partial(LOSS, reduction="mean")
ours = functools.partial(mean, axis_name="i")


@maps
@pytest.mark.parametrize("loss", [ours, plain], ids=["ours", "plain"])
def test_a_gradient_inside_pmap_or_vmap_is_multiplied_by_the_shards_of_classes(loss, mapped, rng):
    """As docs/limits.md says, our gradient is multiplied just as that of plain JAX is."""
    z, y = jnp.asarray(rng.normal(size=(6, 8))), jnp.arange(6)
    gradient = mapped(lambda z: jax.grad(loss)(z, y))(divided(z))
    close(joined(gradient), SHARDS * jax.grad(mean)(z, y))


@maps
def test_a_gradient_inside_pmap_or_vmap_is_multiplied_by_the_shards_of_examples(mapped, rng):
    z, y = jnp.asarray(rng.normal(size=(SHARDS, 3, 8))), jnp.arange(SHARDS * 3).reshape(-1, 3) % 8
    inside = functools.partial(mean, batch_axis_name="i")
    close(mapped(jax.grad(inside))(z, y), SHARDS * jax.grad(mean)(z, y))


@maps
def test_a_gradient_of_the_head_inside_pmap_or_vmap_is_multiplied_too(mapped, rng):
    x, w = jnp.asarray(rng.normal(size=(6, 5))), jnp.asarray(rng.normal(size=(5, 8)))

    def gradient(x, w, **names):
        head = functools.partial(xent_jax.linear_softmax_cross_entropy, **names)
        return jax.grad(lambda x, w: head(x, w, jnp.arange(6)), (0, 1))(x, w)

    inside = functools.partial(gradient, axis_name="i")
    dx, dw = mapped(inside)(jnp.broadcast_to(x, (SHARDS, *x.shape)), divided(w))
    whole = jnp.sum(dx, 0), joined(dw)  # each shard has a part of dx
    close(whole, jax.tree.map(lambda g: SHARDS * g, gradient(x, w)))


@tracked
def test_a_gradient_inside_shard_map_is_multiplied_where_types_are_not_tracked(check_vma, rng):
    z, y = jnp.asarray(rng.normal(size=(6, 8))), jnp.arange(6)
    spec, inside = P(None, "model"), functools.partial(mean, axis_name="model")
    run = shard_map(jax.grad(inside), (spec, P()), spec, check_vma=check_vma)
    factor = 1 if check_vma else mesh_of().shape["model"]
    close(jax.jit(run)(z, y), factor * jax.grad(mean)(z, y))


def test_a_gradient_outside_of_pmap_is_right(rng):
    z, y = jnp.asarray(rng.normal(size=(6, 8))), jnp.arange(6)
    outside = jax.grad(lambda z: MAPS["pmap"](lambda z: ours(z, y))(divided(z))[0])
    close(outside(z), jax.grad(mean)(z, y))
