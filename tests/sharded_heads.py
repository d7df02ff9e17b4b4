"""Draws the arguments of a linear head on a mesh of eight devices, and calls it there."""

import functools

import jax
import jax.numpy as jnp
import pytest
from jax.sharding import PartitionSpec as P

from tests import meshes
from tests.meshes import mesh_of, shard_map
from xent_jax import linear_softmax_cross_entropy

TOKENS, WIDTH, CLASSES = (8, 3), 6, 24
BUDGET = 5 * 8 * CLASSES  # the tokens of a shard are no multiple of its chunks
FIXED = {"ignore_index": 3, "max_logits_bytes": BUDGET}
KERNELS = {"classes": P(None, "model"), "fully": P("data", "model"), "whole": P()}
NAMES = {"axis_name": "model", "batch_axis_name": "data"}
SPECS = {
    "inputs": P("data"), "kernel": P(None, "model"), "bias": P("model"), "labels": P("data"),
    "where": P("data"), "weights": P("data"), "class_weights": P("model"),
}  # fmt: skip

kernels = pytest.mark.parametrize("kernel", KERNELS.values(), ids=KERNELS)


def drawn(rng, classes=CLASSES):
    """Draws the floating arguments, and separately the labels and the mask of tokens."""
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
    fixed["where"][:4] = True  # so that shards leave in different numbers of tokens
    return jax.tree.map(jnp.asarray, (floats, fixed))


def layer(rng, classes=CLASSES):
    """Draws inputs, a kernel, labels and a bias."""
    floats, fixed = drawn(rng, classes)
    return floats["inputs"], floats["kernel"], fixed["labels"], floats["bias"]


def on_mesh(head=linear_softmax_cross_entropy, kernel=KERNELS["classes"], mesh=None):
    return meshes.on_mesh(head, kernel, mesh or mesh_of())


def mapped(head, check_vma=True, out=SPECS["inputs"]):
    """Returns the head inside shard_map, as a function of whole arrays."""

    def call(**arguments):
        arrays = {k: v for k, v in arguments.items() if not isinstance(v, int | str)}
        local = functools.partial(head, **{k: arguments[k] for k in arguments.keys() - arrays})
        specs = {k: SPECS.get(k, P()) for k in arrays}
        return shard_map(lambda arrays: local(**arrays), (specs,), out, check_vma=check_vma)(arrays)

    return call


def both(head, *args, wrt=(0, 1), has_aux=False):
    """Returns the value and gradients once computed, so that no other program runs meanwhile."""
    run = jax.jit(jax.value_and_grad(head, wrt, has_aux=has_aux))
    return jax.block_until_ready(run(*args))
