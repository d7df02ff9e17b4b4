"""The linear head on a mesh of eight devices, against the same on one."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.sharding import AxisType
from jax.sharding import PartitionSpec as P

import xent_jax
from tests import meshes
from tests.cases import x64
from tests.heads import REDUCTIONS, pulled, pulled_by_name
from tests.meshes import SPLITS, mesh_of, put, set_mesh, shard_map
from tests.problems import close
from xent_jax import (
    forward_mode,
    linear_softmax_cross_entropy,
    linear_token_statistics,
    shard_linear_head,
)

pytestmark = [pytest.mark.fast_compile, pytest.mark.usefixtures("float64")]

TOKENS, WIDTH, CLASSES = (8, 3), 6, 24
BUDGET = 5 * 8 * CLASSES  # chunks that the shard's tokens are no multiple of
FIXED = {"ignore_index": 3, "max_logits_bytes": BUDGET}
KERNELS = {"classes": P(None, "model"), "fully": P("data", "model"), "whole": P()}
NAMES = {"axis_name": "model", "batch_axis_name": "data"}
SPECS = {
    "inputs": P("data"), "kernel": P(None, "model"), "bias": P("model"), "labels": P("data"),
    "where": P("data"), "weights": P("data"), "class_weights": P("model"),
}  # fmt: skip

kernels = pytest.mark.parametrize("kernel", KERNELS.values(), ids=KERNELS)
reductions = pytest.mark.parametrize("reduction", REDUCTIONS)
tracked = pytest.mark.parametrize("check_vma", [True, False], ids=["tracked", "untracked"])


def drawn(rng, classes=CLASSES):
    """Every floating argument, the labels and the tokens left in."""
    floats = {
        "inputs": rng.standard_normal((*TOKENS, WIDTH)),
        "kernel": rng.standard_normal((WIDTH, classes)),
        "bias": rng.standard_normal(classes),
        "class_weights": rng.uniform(0.5, 2, classes),
        "label_smoothing": rng.uniform(0.05, 0.3),
        "z_loss": rng.uniform(0.01, 0.1),
        "logit_softcap": rng.uniform(2, 5),
        "temperature": rng.uniform(0.5, 2),
        "weights": rng.uniform(0.1, 2, TOKENS) * (rng.uniform(size=TOKENS) < 0.8),
    }
    fixed = {"labels": rng.integers(0, classes, TOKENS), "where": rng.uniform(size=TOKENS) < 0.8}
    fixed["where"][:4] = True  # the shards leave in different numbers
    return jax.tree.map(jnp.asarray, (floats, fixed))


def layer(rng, classes=CLASSES):
    """Inputs, kernel, labels and bias."""
    floats, fixed = drawn(rng, classes)
    return floats["inputs"], floats["kernel"], fixed["labels"], floats["bias"]


def on_mesh(head=linear_softmax_cross_entropy, kernel=KERNELS["classes"], mesh=None):
    return meshes.on_mesh(head, kernel, mesh or mesh_of())


def mapped(head, check_vma=True, out=SPECS["inputs"]):
    """The head of a shard inside shard_map, as a function of whole arrays."""

    def call(**arguments):
        arrays = {k: v for k, v in arguments.items() if not isinstance(v, int | str)}
        local = functools.partial(head, **{k: arguments[k] for k in arguments.keys() - arrays})
        specs = {k: SPECS.get(k, P()) for k in arrays}
        run = shard_map(
            lambda arrays: local(**arrays),
            mesh=mesh_of(), in_specs=(specs,), out_specs=out, check_vma=check_vma,
        )  # fmt: skip
        return run(arrays)

    return call


def both(head, *args, wrt=(0, 1), has_aux=False):
    """The value and the gradients, of which none is computed while another program runs."""
    run = jax.jit(jax.value_and_grad(head, wrt, has_aux=has_aux))
    return jax.block_until_ready(run(*args))


# ------------------------------------------------------------------------ value and gradients

CALLS = [("none", "classes"), ("none", "fully"), ("mean", "classes"), ("mean", "fully")]
CALLS = [
    *((xent_jax, *call, axes) for call in CALLS for axes in ("DV", "VD")),
    (xent_jax, "sum", "whole", "DV"),
    (forward_mode, "mean", "classes", "DV"),
    (forward_mode, "mean", "whole", "DV"),
]


def derivatives(head, floats, fixed, **options):
    """The losses and the gradient to each argument."""
    loss = functools.partial(head, **fixed, **FIXED, **options)
    run = jax.jit(functools.partial(pulled_by_name, lambda floats: loss(**floats)))
    return jax.block_until_ready(run(floats))


@functools.cache
def on_one_device(reduction):
    """Returns the floats, the other arguments, and the values and gradients of one device."""
    floats, fixed = drawn(np.random.default_rng(0))
    expected = derivatives(linear_softmax_cross_entropy, floats, fixed, reduction=reduction)
    return floats, fixed, expected


@pytest.mark.parametrize(
    ("module", "reduction", "kernel", "axes"), CALLS, ids=lambda x: getattr(x, "__name__", x)
)
def test_one_call(module, reduction, kernel, axes):
    """Every option at once; gradients of what is replicated are not multiplied."""
    (floats, fixed, expected), spec = on_one_device(reduction), KERNELS[kernel]
    if axes == "VD":
        floats, spec = floats | {"kernel": floats["kernel"].T}, P(*spec[::-1])
    sharded = on_mesh(module.linear_softmax_cross_entropy, spec)
    value, found = derivatives(sharded, floats, fixed, reduction=reduction, kernel_axes=axes)
    if axes == "VD":
        found["kernel"] = found["kernel"].T
    close((value, found), expected)


@reductions
@tracked
def test_in_shard_map(check_vma, reduction):
    floats, fixed, expected = on_one_device(reduction)
    head = functools.partial(linear_softmax_cross_entropy, **NAMES)
    sharded = mapped(head, check_vma, P("data") if reduction == "none" else P())
    close(derivatives(sharded, floats, fixed, reduction=reduction), expected)


@reductions
def test_gradient_taken_inside(reduction, rng):
    """In a train step that lies in shard_map as a whole, no gradient is multiplied."""

    def gradient(inputs, kernel, labels, **names):
        def loss(x, w):
            options = {"reduction": reduction, "max_logits_bytes": BUDGET, **names}
            out = jnp.sum(linear_softmax_cross_entropy(x, w, labels, **options))
            return jax.lax.psum(out, "data") if names and reduction == "none" else out

        return jax.grad(loss, (0, 1))(inputs, kernel)

    arrays = dict(zip(("inputs", "kernel", "labels"), layer(rng), strict=False))
    inside = mapped(functools.partial(gradient, **NAMES), out=(P("data"), P(None, "model")))
    close(jax.jit(lambda arrays: inside(**arrays))(arrays), gradient(**arrays))


def test_outside_jit(rng):
    x, w, y, _ = layer(rng)
    found, expected = (
        jax.value_and_grad(head, (0, 1))(x, w, y)
        for head in (on_mesh(), linear_softmax_cross_entropy)
    )
    close(found, expected)


@kernels
def test_statistics(kernel, rng):
    """Ties between shards, labels out of range and ignored; and the gradient of the floats."""
    x, w, y, b = layer(rng)
    w = jnp.round(w).at[:, 7].set(0).at[:, 20].set(0)
    b = b.at[jnp.array([7, 20])].set(4.0)  # a tie of classes in two shards
    y = y.at[0].set(jnp.array([-1, CLASSES, 3]))
    options = {"ignore_index": 3, "top_k": 9, "max_logits_bytes": BUDGET, "logit_softcap": 5.0}

    def run(head):
        def total(x, w, b):
            found = head(x, w, y, b, **options)
            floating = [v for v in found if jnp.issubdtype(v.dtype, jnp.floating)]
            weights = [jnp.cos(jnp.arange(v.size).reshape(v.shape)) for v in floating]
            return sum(map(jnp.nansum, map(jnp.multiply, floating, weights))), found

        return both(total, x, w, b, wrt=(0, 1, 2), has_aux=True)

    close(run(on_mesh(linear_token_statistics, kernel)), run(linear_token_statistics), 1e-9, 1e-12)


@pytest.mark.parametrize("classes", [21, 22, 3], ids=["21", "22", "fewer than shards"])
@pytest.mark.parametrize("head", [linear_softmax_cross_entropy, linear_token_statistics])
def test_classes_that_the_shards_do_not_divide(classes, head, rng):
    """They are padded; the padding gets no mass, and a label in it is out of range."""
    x, w, y, b = layer(rng, classes)
    y = y.at[0, :2].set(jnp.array([classes, classes + 1]))
    options = {"top_k": 2}
    if head is linear_softmax_cross_entropy:
        weights = jnp.arange(1.0, classes + 1)
        options = {"class_weights": weights, "label_smoothing": 0.1, "reduction": "none"}

    def run(head):
        def total(x, w, b):
            out = head(x, w, y, b, **options)
            return jnp.nansum(jax.tree.leaves(out)[0]), out

        return both(total, x, w, b, wrt=(0, 1, 2), has_aux=True)

    (_, out), _ = found = run(on_mesh(head))
    close(found, run(head))
    assert np.isnan(jax.tree.leaves(out)[0][0, :2]).all()


@pytest.mark.skipif(jax.__version_info__ < (0, 7), reason="jax 0.6 lacks jax.sharding.reshard")
@pytest.mark.parametrize("kernel", [KERNELS["classes"], KERNELS["fully"]], ids=str)
def test_explicit_sharding(kernel, rng):
    """Types say where arrays are; what is elsewhere is moved, and gradients lie as arguments."""
    mesh = mesh_of(kind=AxisType.Explicit)
    x, w, y, _ = layer(rng)
    expected = both(linear_softmax_cross_entropy, x, w, y)
    with set_mesh(mesh):
        x, w = put(mesh, x, "data"), put(mesh, w, *kernel)
        head = shard_linear_head(linear_softmax_cross_entropy, inputs=P("data"), kernel=kernel)
        actual = both(head, x, w, y)
        close(actual, expected)
        assert [jax.typeof(g) for g in actual[1]] == [jax.typeof(x), jax.typeof(w)]
        with pytest.raises(ValueError, match="Pass sharded arrays to shard_linear_head"):
            linear_softmax_cross_entropy(x, w, y)


@pytest.mark.skipif(jax.__version_info__ >= (0, 7), reason="reads explicit meshes")
def test_an_explicit_mesh_needs_a_newer_jax(rng):
    x, w, y, _ = layer(rng)
    with pytest.raises(NotImplementedError, match=r"explicit axes needs jax 0\.7"):
        on_mesh(mesh=mesh_of(kind=AxisType.Explicit))(x, w, y)


# ------------------------------------------------------------------------ any loss


def head_of(reduction="mean", module=xent_jax, axis_name=None, **more):
    """Makes a head with aux of a number that its loss closes over."""

    def make(c):
        def loss(z, targets):
            named = {"axis_name": axis_name}
            focal = module.softmax_focal_loss(z, targets["labels"], gamma=c, **named)
            return focal, {"lse": module.logsumexp(z, **named)}

        options = {"has_aux": True, "reduction": reduction, "axis_name": axis_name, **more}
        return module.with_linear_head(loss, **options)

    return make


def called(make, inputs, kernel, labels, c, **given):
    return make(c)(inputs, kernel, {"labels": labels}, **given)


def pulled_of_any(make, classes=CLASSES, more=(), call=called):
    """The value, aux, and the gradients to what has one, of the head that a number makes."""
    floats, fixed = drawn(np.random.default_rng(0), classes)
    given = {k: v for k, v in fixed.items() if k in ("labels", *more)}
    floats = {k: floats[k] for k in ("inputs", "kernel", *more) if k in floats}

    def run(floats):
        value, aux = call(make, **floats, **given)
        return jnp.sum(value * jnp.cos(jnp.arange(value.size)).reshape(value.shape)), (value, aux)

    return both(run, floats | {"c": jnp.asarray(1.3)}, wrt=0, has_aux=True)


PADDED = {"classes": 22, "more": ("bias", "weights", "where")}  # four shards have 24 classes


@functools.cache
def of_any_on_one_device(reduction):
    return pulled_of_any(head_of(reduction), **PADDED)


@kernels
@pytest.mark.parametrize("reduction", ["none", "mean"])
def test_a_loss_of_ones_own(kernel, reduction):
    """The head has aux, weights, a mask, a tree of targets, and a number in its loss."""
    make = head_of(reduction, axis_name="model" if "model" in kernel else None)
    found = pulled_of_any(lambda c: on_mesh(make(c), kernel), **PADDED)
    close(found, of_any_on_one_device(reduction))


@tracked
def test_a_loss_of_ones_own_in_shard_map(check_vma):
    chunked = {"max_logits_bytes": BUDGET}

    def call(make, **arrays):
        return mapped(functools.partial(called, make), check_vma, (P(), P("data")))(**arrays)

    found = pulled_of_any(head_of(**NAMES, **chunked), call=call)
    close(found, pulled_of_any(head_of(**chunked)))


def integer(module=xent_jax, **options):
    """A head of the integer loss, which knows the mesh axis of the classes if there are options."""
    loss = module.softmax_cross_entropy_with_integer_labels
    if options:
        loss = functools.partial(loss, axis_name="model")
        options["axis_name"] = "model"
    return module.with_linear_head(loss, **options)


def test_forward_mode_of_any_loss(rng):
    floats, fixed = drawn(rng, 22)

    def tangent(head):
        def along(s):
            x, w, y = s * floats["inputs"], floats["kernel"], fixed["labels"]
            return head(x, w, y, where=fixed["where"])

        return jax.jit(lambda: jax.jvp(along, (1.0,), (1.0,)))()

    sharded = on_mesh(integer(forward_mode, reduction="mean"))
    close(tangent(sharded), tangent(integer(forward_mode)))


def test_padding_that_its_owner_made(rng):
    x, w, y, _ = layer(rng, 22)
    padded = jnp.pad(w, ((0, 0), (0, 2)), constant_values=np.nan)
    value, (dx, dw) = both(on_mesh(integer(num_classes=22)), x, padded, y)
    close((value, (dx, dw[:, :22])), both(integer(), x, w, y))
    assert (dw[:, 22:] == 0).all()


# ------------------------------------------------------------------------ the split


@functools.cache
def on(data, model, fully):
    """Losses, their gradient to the inputs, and a mean and its gradients, in float32; twice."""
    with x64(False):
        rng = np.random.default_rng(0)
        x, w, y, b = layer(rng)
        x, w = jnp.tile(x, (1, 1, 4)), jnp.tile(w, (4, 1))  # a width that eight divide
        y = y.at[:5, 0].set(jnp.array([-1, CLASSES, 3, 0, 0]))
        x = x.at[4, 0, 0].set(jnp.nan)
        kernel = KERNELS["fully" if fully else "classes"]
        head = functools.partial(on_mesh(kernel=kernel, mesh=mesh_of(data, model)), **FIXED)

        @jax.jit
        def run(x, w, b):
            losses, dx = pulled(lambda x: head(x, w, y, b, reduction="none"), x)
            left = {"where": ~jnp.isnan(losses), "label_smoothing": 0.1, "z_loss": 1e-3}
            mean = jax.value_and_grad(lambda x, w, b: head(x, w, y, b, **left), (0, 1, 2))
            return losses, dx, mean(x, w, b)

        return run(x, w, b), run(x, w, b)


@pytest.mark.users_compile
@pytest.mark.parametrize("data, model", SPLITS)
@pytest.mark.parametrize("fully", [False, True], ids=["classes", "fully sharded"])
def test_the_split_changes_no_number(data, model, fully):
    """To 1e-6 of the largest; NaN rows alike; from run to run not a bit."""
    (expected, _), (first, second) = on(1, 1, False), on(data, model, fully)
    jax.tree.map(np.testing.assert_array_equal, first, second)
    jax.tree.map(lambda a, e: close(a, e, 1e-6, 1e-6 * np.nanmax(np.abs(e))), first, expected)
    rows = np.isnan(expected[0])
    assert rows.sum() == 3 and rows[0, 0] and rows[1, 0] and rows[4, 0]
