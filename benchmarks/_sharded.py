"""The losses and heads that traffic.py compiles, and the ways to shard them.

The mesh has the axes data and model. The logits are sharded over both, the inputs of a head over
data, its kernel over model, or over both if it is fully sharded. Gradients are sharded as the
arguments that they belong to.
"""

from collections.abc import Callable
from functools import partial
from typing import NamedTuple

import jax
import jax.numpy as jnp
from jax.sharding import NamedSharding
from jax.sharding import PartitionSpec as P

import xent_jax
from benchmarks._compilers import Platform, arguments, mesh_on
from benchmarks._peers import TOKAMAX, head, held, of_optax, of_tokamax, ours, room

CHUNK = 256  # tokens at a time, where a program is told how many
SMALL = 2048, 512, 32768
BOTH, TOKENS, KERNEL, WHOLE = P("data", "model"), P("data"), P(None, "model"), P()


class Program(NamedTuple):
    """A mean loss to compile, with its gradients: ``make(mesh, size)(*arguments)``."""

    what: str
    make: Callable
    layout: dict[str, P]  # of the arguments but the labels
    target: int | None = None  # bytes per device on the CPU
    explicit: bool = False  # on a mesh as jax.make_mesh makes it
    only_cpu: bool = False
    planned: bool = False  # also on the large meshes


def plain(loss: Callable) -> Callable:
    """A function of global arrays, which the compiler or JAX shards."""
    return lambda mesh, size: loss


def mapped(loss: Callable, *layout: P) -> Callable:
    """A loss of what one device holds, in a shard_map."""
    local = partial(loss, axis_name="model", batch_axis_name="data")
    specs = {"in_specs": (*layout, TOKENS), "out_specs": WHOLE}
    return lambda mesh, size: jax.shard_map(local, mesh=mesh, **specs)


def over_parts(mesh, size) -> Callable:
    """Computes the loss of some tokens at a time, in parts that ignore the shards."""

    def loss(z, y):
        parts = z.reshape(-1, CHUNK, size[2]), y.reshape(-1, CHUNK)
        return jax.lax.map(lambda part: jnp.sum(of_optax(*part)), parts).sum() / size[0]

    return loss


def sharded(kernel: P, in_parts: bool = False) -> Callable:
    def make(mesh, size):
        loss = xent_jax.shard_linear_head(head, mesh, inputs=TOKENS, kernel=kernel)
        return partial(loss, **room(CHUNK, size[2] // mesh.shape["model"])) if in_parts else loss

    return make


def plain_in_parts(mesh, size) -> Callable:
    return partial(head, **room(CHUNK, size[2]))


def optax_mean(z, y):
    return of_optax(z, y).mean()


# Targets in bytes: 24 per token; and dx and dW; and the fully sharded kernel.
N, D, V = SMALL[0] // 2, SMALL[1], SMALL[2] // 4
LOSS, HEAD, FULLY = (24 * N + 4 * D * size for size in (0, N + V, N + 2 * V))
LOGITS = {"logits": BOTH}
WEIGHTS = {"inputs": TOKENS, "kernel": KERNEL}
DIVIDED = WEIGHTS | {"kernel": BOTH}
SHARDED = "head, shard_linear_head"
FULLY_SHARDED = "head, shard_linear_head, kernel fully sharded"
mean = partial(ours, reduction="mean")
held_in_float32 = plain(held(of_optax, jnp.float32))
PROGRAMS = [
    Program("loss, automatic", plain(mean), LOGITS, LOSS),
    Program("loss, explicit", plain(mean), LOGITS, LOSS, explicit=True, only_cpu=True),
    Program("loss, in shard_map", mapped(mean, BOTH), LOGITS, LOSS),
    Program("optax loss, automatic", plain(optax_mean), LOGITS),
    Program("optax loss, explicit", plain(optax_mean), LOGITS, explicit=True, only_cpu=True),
    Program(f"optax loss, automatic, lax.map over {CHUNK}", over_parts, LOGITS, only_cpu=True),
    Program(SHARDED, sharded(KERNEL), WEIGHTS, HEAD, planned=True),
    Program(f"{SHARDED}, chunks of {CHUNK}", sharded(KERNEL, True), WEIGHTS, HEAD),
    Program("head, in shard_map", mapped(head, TOKENS, KERNEL), WEIGHTS, HEAD),
    Program(FULLY_SHARDED, sharded(BOTH), DIVIDED, FULLY, planned=True),
    Program(f"head, automatic, chunks of {CHUNK}", plain_in_parts, WEIGHTS),
    Program("optax of held logits, automatic", held_in_float32, WEIGHTS),
    *(Program(f"{name}, automatic", plain(of_tokamax), WEIGHTS) for name in TOKAMAX),
]


def compiled(program: Program, platform: Platform, shape: tuple[int, int], size: tuple, dtype: str):
    """Compiles value and gradients for a mesh; each gradient is sharded as its argument."""
    mesh = mesh_on(platform, shape, program.explicit)
    known = arguments(program.layout | {"labels": TOKENS}, mesh, size, dtype)
    step = jax.value_and_grad(program.make(mesh, size), tuple(range(len(program.layout))))
    places = tuple(argument.sharding for argument in known[:-1])
    results = None if program.explicit else (NamedSharding(mesh, WHOLE), places)
    with jax.set_mesh(mesh):
        return jax.jit(step, out_shardings=results).lower(*known).compile()
