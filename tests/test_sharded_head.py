"""The linear head gives the same numbers on a mesh of eight devices as on one device."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.sharding import AxisType
from jax.sharding import PartitionSpec as P

import xent_jax
from tests import heads
from tests.heads import pulled, reductions, weighed
from tests.meshes import mesh_of, mesh_set, put, tracked
from tests.problems import close
from tests.sharded_heads import (
    BUDGET,
    CLASSES,
    FIXED,
    KERNELS,
    NAMES,
    both,
    drawn,
    kernels,
    layer,
    mapped,
    on_mesh,
)
from xent_jax import forward_mode, linear_softmax_cross_entropy, linear_token_statistics

pytestmark = [pytest.mark.fast_compile, pytest.mark.usefixtures("float64")]

# ------------------------------------------------------------------------ value and gradients

CALLS = [
    *(
        (xent_jax, reduction, layout, axes)
        for reduction in ("none", "mean")
        for layout in ("classes", "fully")
        for axes in ("DV", "VD")
    ),
    (xent_jax, "sum", "whole", "DV"),
    (forward_mode, "mean", "classes", "DV"),
    (forward_mode, "mean", "whole", "DV"),
]


def derivatives(head, floats, fixed, **options):
    """Returns the losses and the gradient to each floating-point argument."""
    loss = functools.partial(head, **fixed, **FIXED, **options)
    value, (gradients,) = heads.derivatives(lambda floats: loss(**floats), floats)
    return jax.block_until_ready((value, gradients))


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
    """No gradient of a replicated argument is multiplied by the number of shards."""
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
    """If the whole train step is in shard_map, no gradient is multiplied by the shards."""

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
    close(pulled(on_mesh(), x, w, y), pulled(linear_softmax_cross_entropy, x, w, y))


def pulled_of_all(head, x, w, y, b, **options):
    """Returns a weighted sum of the head's outputs, beside the outputs, and the sum's gradients."""

    def total(x, w, b):
        out = head(x, w, y, b, **options)
        return weighed(out), out

    return both(total, x, w, b, wrt=(0, 1, 2), has_aux=True)


@kernels
def test_statistics(kernel, rng):
    """The inputs have ties between shards, and labels that are ignored or out of range."""
    x, w, y, b = map(np.array, layer(rng))
    w = np.round(w)
    w[:, [7, 20]], b[[7, 20]] = 0, 4.0  # a tie of classes in two shards
    y[0] = -1, CLASSES, 3
    options = {"ignore_index": 3, "top_k": 9, "max_logits_bytes": BUDGET, "logit_softcap": 5.0}

    found, expected = (
        pulled_of_all(head, x, w, y, b, **options)
        for head in (on_mesh(linear_token_statistics, kernel), linear_token_statistics)
    )
    close(found, expected, 1e-9, 1e-12)


@pytest.mark.parametrize("classes", [21, 22, 3], ids=["21", "22", "fewer than shards"])
@pytest.mark.parametrize("head", [linear_softmax_cross_entropy, linear_token_statistics])
def test_classes_that_the_shards_do_not_divide(classes, head, rng):
    """The classes are padded; the padding gets no mass, and a label in it is out of range."""
    x, w, y, b = map(np.array, layer(rng, classes))
    y[0, :2] = classes, classes + 1
    options = {"top_k": 2}
    if head is linear_softmax_cross_entropy:
        weights = jnp.arange(1.0, classes + 1)
        options = {"class_weights": weights, "label_smoothing": 0.1, "reduction": "none"}

    (_, out), _ = found = pulled_of_all(on_mesh(head), x, w, y, b, **options)
    close(found, pulled_of_all(head, x, w, y, b, **options))
    assert np.isnan(jax.tree.leaves(out)[0][0, :2]).all()


@pytest.mark.skipif(jax.__version_info__ < (0, 7), reason="jax 0.6 lacks jax.sharding.reshard")
@pytest.mark.parametrize("kernel", [KERNELS["classes"], KERNELS["fully"]], ids=str)
def test_explicit_sharding(kernel, rng):
    """Arrays whose types say how they are sharded get gradients that are sharded alike."""
    x, w, y, _ = layer(rng)
    expected = both(linear_softmax_cross_entropy, x, w, y)
    with mesh_set(kind=AxisType.Explicit) as mesh:
        x, w = put(mesh, x, "data"), put(mesh, w, *kernel)
        shard = functools.partial(xent_jax.shard_linear_head, inputs=P("data"), kernel=kernel)
        head = shard(linear_softmax_cross_entropy)
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


def integer(module=xent_jax, **options):
    """Returns a head of the integer loss; with options it has the classes' mesh axis too."""
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
