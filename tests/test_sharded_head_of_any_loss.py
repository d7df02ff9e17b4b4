"""A head of a user's own loss gives the same numbers on a mesh of eight devices as on one."""

import functools

import jax.numpy as jnp
import numpy as np
import pytest
from jax.sharding import PartitionSpec as P

import xent_jax
from tests.heads import weighed
from tests.meshes import tracked
from tests.problems import close
from tests.sharded_heads import BUDGET, CLASSES, NAMES, both, drawn, kernels, mapped, on_mesh

pytestmark = [pytest.mark.fast_compile, pytest.mark.usefixtures("float64")]


def head_of(wrap=lambda head: head, **options):
    """Returns a head with aux as a function of named arrays; its loss closes over the number c."""

    def call(inputs, kernel, labels, c, **given):
        def loss(z, targets):
            named = {"axis_name": options.get("axis_name")}
            focal = xent_jax.softmax_focal_loss(z, targets["labels"], gamma=c, **named)
            return focal, {"lse": xent_jax.logsumexp(z, **named)}

        head = wrap(xent_jax.with_linear_head(loss, has_aux=True, **options))
        return head(inputs, kernel, {"labels": labels}, **given)

    return call


def pulled_of(call, classes=CLASSES, more=()):
    """Returns the value, the aux, and the gradients to all floating-point inputs."""
    floats, fixed = drawn(np.random.default_rng(0), classes)
    given = {k: v for k, v in fixed.items() if k in ("labels", *more)}
    floats = {k: floats[k] for k in ("inputs", "kernel", *more) if k in floats}

    def run(floats):
        value, aux = call(**floats, **given)
        return weighed(value), (value, aux)

    return both(run, floats | {"c": jnp.asarray(1.3)}, wrt=0, has_aux=True)


PADDED = {"classes": 22, "more": ("bias", "weights", "where")}  # padded to 24 for four shards


@functools.cache
def on_one_device(reduction):
    return pulled_of(head_of(reduction=reduction), **PADDED)


@kernels
@pytest.mark.parametrize("reduction", ["none", "mean"])
def test_a_loss_of_ones_own(kernel, reduction):
    """The head has aux, weights, a mask, a tree of targets, and a number in its loss."""
    options = {"reduction": reduction, "axis_name": "model" if "model" in kernel else None}
    sharded = head_of(functools.partial(on_mesh, kernel=kernel), **options)
    close(pulled_of(sharded, **PADDED), on_one_device(reduction))


@tracked
def test_a_loss_of_ones_own_in_shard_map(check_vma):
    chunked = {"max_logits_bytes": BUDGET}
    sharded = mapped(head_of(**NAMES, **chunked), check_vma, (P(), P("data")))
    close(pulled_of(sharded), pulled_of(head_of(**chunked)))
