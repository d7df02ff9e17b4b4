"""``shard_linear_head`` of what ``with_linear_head`` returns, against the same on one device."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.sharding import PartitionSpec as P

import xent_jax
from tests.meshes import bytes_per_device, mesh_of
from tests.problems import close
from xent_jax import shard_linear_head

pytestmark = [pytest.mark.fast_compile, pytest.mark.usefixtures("float64")]

TOKENS, WIDTH, CLASSES = (8, 3), 6, 22  # of which four shards are padded
KERNELS = {"classes": P(None, "model"), "fully": P("data", "model"), "whole": P()}
kernels = pytest.mark.parametrize("spec", KERNELS.values(), ids=KERNELS)
reductions = pytest.mark.parametrize("reduction", ["none", "mean"])


def drawn(rng):
    floats = {
        "inputs": rng.standard_normal((*TOKENS, WIDTH)),
        "kernel": rng.standard_normal((WIDTH, CLASSES)),
        "bias": rng.standard_normal(CLASSES),
        "weights": rng.uniform(0.5, 2, TOKENS),
        "c": rng.uniform(0.5, 2),
    }
    floats = {k: jnp.asarray(v) for k, v in floats.items()}
    where = rng.uniform(size=TOKENS) < 0.8
    return floats, jnp.asarray(rng.integers(0, CLASSES, TOKENS)), jnp.asarray(where)


def pulled(make, floats, labels, where, g):
    """What a head gives of the floats, and the gradients to them.

    ``make`` maps a number, which the loss closes over, to a head.
    """

    def run(floats):
        given = dict(floats)
        head = make(given.pop("c"))
        inputs, kernel = given.pop("inputs"), given.pop("kernel")
        value, aux = head(inputs, kernel, {"labels": labels}, where=where, **given)
        return jnp.vdot(g.reshape(value.shape) if value.ndim else 1.0, value), (value, aux)

    return jax.jit(jax.value_and_grad(run, has_aux=True))(floats)


def head_of(module, reduction, axis_name=None):
    def make(c):
        def loss(z, targets):
            named = {"axis_name": axis_name}
            focal = module.softmax_focal_loss(z, targets["labels"], gamma=c, **named)
            return focal, {"lse": module.logsumexp(z, **named)}

        options = {"has_aux": True, "reduction": reduction, "axis_name": axis_name}
        return module.with_linear_head(loss, **options)

    return make


@kernels
@reductions
def test_a_loss_of_ones_own(spec, reduction, rng):
    """The head has aux, weights, a mask, a tree of targets, and a number in its loss."""
    floats, labels, where = drawn(rng)
    g = jnp.asarray(rng.standard_normal(TOKENS))
    make = head_of(xent_jax, reduction, "model" if "model" in spec else None)

    def sharded(c):
        return shard_linear_head(make(c), mesh_of(2, 4), inputs=P("data"), kernel=spec)

    wanted = pulled(head_of(xent_jax, reduction), floats, labels, where, g)
    close(pulled(sharded, floats, labels, where, g), wanted)


def test_forward_mode(rng):
    floats, labels, where = drawn(rng)
    library = xent_jax.forward_mode
    loss = functools.partial(library.softmax_cross_entropy_with_integer_labels, axis_name="model")
    head = library.with_linear_head(loss, axis_name="model")
    sharded = shard_linear_head(head, mesh_of(2, 4), inputs=P("data"), kernel=P(None, "model"))

    def tangent(head):
        def along(s):
            return head(s * floats["inputs"], floats["kernel"], labels, where=where)

        return jax.jit(lambda: jax.jvp(along, (1.0,), (1.0,)))()

    one = library.with_linear_head(library.softmax_cross_entropy_with_integer_labels)
    close(tangent(sharded), tangent(one))


def test_padding_that_its_owner_made(rng):
    floats, labels, _ = drawn(rng)
    loss = xent_jax.softmax_cross_entropy_with_integer_labels
    kernel = jnp.pad(floats["kernel"], ((0, 0), (0, 2)), constant_values=np.nan)
    head = xent_jax.with_linear_head(
        functools.partial(loss, axis_name="model"), axis_name="model", num_classes=CLASSES
    )
    sharded = shard_linear_head(head, mesh_of(2, 4), inputs=P("data"), kernel=P(None, "model"))
    found = jax.jit(jax.value_and_grad(sharded, (0, 1)))(floats["inputs"], kernel, labels)
    wanted = jax.value_and_grad(xent_jax.with_linear_head(loss), (0, 1))(
        floats["inputs"], floats["kernel"], labels
    )
    value, (dx, dw) = found
    close((value, (dx, dw[:, :CLASSES])), wanted)
    assert (dw[:, CLASSES:] == 0).all()


@pytest.mark.users_compile
def test_no_more_crosses_than_with_the_head_of_integer_labels():
    """Both send the gradients and a few numbers for each token between the devices."""
    n, d, v = 256, 32, 512
    loss = functools.partial(xent_jax.softmax_cross_entropy_with_integer_labels, axis_name="model")
    specs = {"inputs": P("data"), "kernel": P(None, "model")}
    shapes = [((n, d), jnp.float32), ((d, v), jnp.float32), ((n,), jnp.int32)]

    def crossing(head):
        run = jax.jit(jax.value_and_grad(shard_linear_head(head, mesh_of(2, 4), **specs), (0, 1)))
        lowered = run.lower(*(jax.ShapeDtypeStruct(*s) for s in shapes))
        return bytes_per_device(lowered.compile().as_text())

    of_any = crossing(xent_jax.with_linear_head(loss, axis_name="model"))
    assert 0 < of_any <= crossing(xent_jax.linear_softmax_cross_entropy)


X, W, Y = jnp.ones((8, 6)), jnp.ones((6, 8)), jnp.arange(8)
LOSS = xent_jax.softmax_cross_entropy_with_integer_labels
MESSAGES = {
    "no axis where the classes are divided": (
        xent_jax.with_linear_head(LOSS), P(None, "model"), Y,
        "shard_linear_head: with_linear_head, and the loss .* axis_name that divides the kernel's "
        "classes, 'model', got None",
    ),
    "an axis where they are not": (
        xent_jax.with_linear_head(LOSS, axis_name="model"), P(), Y, "None, got 'model'",
    ),
    "another axis": (
        xent_jax.with_linear_head(LOSS, axis_name="data"), P(None, "model"), Y,
        "'model', got 'data'",
    ),
    "an axis of the batch": (
        xent_jax.with_linear_head(LOSS, batch_axis_name="data"), P(), Y,
        "batch_axis_name must be left out, for shard_linear_head gives it, got 'data'",
    ),
    "what the head refuses": (
        xent_jax.with_linear_head(LOSS), P(), Y[:3],
        r"with_linear_head: targets must have one entry for each token, \[8\], got int",
    ),
}  # fmt: skip


@pytest.mark.parametrize("head, spec, labels, message", MESSAGES.values(), ids=MESSAGES)
def test_messages(head, spec, labels, message):
    sharded = shard_linear_head(head, mesh_of(2, 4), inputs=P("data"), kernel=spec)
    with pytest.raises(ValueError, match=message):
        sharded(X, W, labels)
