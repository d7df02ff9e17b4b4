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
from benchmarks._peers import TOKAMAX, head, held, in_chunks, mean, of_optax, ours, room

CHUNK = 256  # tokens at a time, where a program is told how many
SMALL = 2048, 512, 32768
BOTH, TOKENS, KERNEL, WHOLE = P("data", "model"), P("data"), P(None, "model"), P()


class Program(NamedTuple):
    """A mean loss to compile, with its gradients: ``make(mesh)(*arguments)``."""

    what: str
    make: Callable
    layout: dict[str, P]  # of the arguments but the labels, by letters as in _compilers
    target: int | None = None  # bytes per device on the CPU
    explicit: bool = False  # on a mesh as jax.make_mesh makes it
    only_cpu: bool = False
    planned: bool = False  # also on the large meshes


def plain(loss: Callable) -> Callable:
    """A function of global arrays, which the compiler or JAX shards."""
    return lambda mesh: loss


def mapped(loss: Callable, *layout: P) -> Callable:
    """A loss of what one device holds, in a shard_map."""
    local = partial(loss, axis_name="model", batch_axis_name="data")
    specs = {"in_specs": (*layout, TOKENS), "out_specs": WHOLE}
    return lambda mesh: jax.shard_map(local, mesh=mesh, **specs)


def sharded(kernel: P) -> Callable:
    return lambda mesh: xent_jax.shard_linear_head(head, mesh, inputs=TOKENS, kernel=kernel)


def sharded_in_chunks(mesh) -> Callable:
    loss, shards = sharded(KERNEL)(mesh), mesh.shape["model"]
    return lambda x, w, y: loss(x, w, y, **room(CHUNK, w.shape[1] // shards))


def over_parts(z, y):
    """Computes the loss of some tokens at a time, in parts that ignore the shards."""
    parts = z.reshape(-1, CHUNK, z.shape[1]), y.reshape(-1, CHUNK)
    return jax.lax.map(lambda part: jnp.sum(of_optax(*part)), parts).sum() / len(y)


# Targets in bytes: 24 per token; and dx and dW; and the fully sharded kernel.
N, D, V = SMALL[0] // 2, SMALL[1], SMALL[2] // 4
LOSS, HEAD, FULLY = (24 * N + 4 * D * size for size in (0, N + V, N + 2 * V))
LOGITS = {"z": BOTH}
WEIGHTS = {"x": TOKENS, "w": KERNEL}
DIVIDED = WEIGHTS | {"w": BOTH}
SHARDED = "head, shard_linear_head"
FULLY_SHARDED = "head, shard_linear_head, kernel fully sharded"
our_mean = partial(ours, reduction="mean")
held_in_float32 = plain(held(of_optax, jnp.float32))
PROGRAMS = [
    Program("loss, automatic", plain(our_mean), LOGITS, LOSS),
    Program("loss, explicit", plain(our_mean), LOGITS, LOSS, explicit=True, only_cpu=True),
    Program("loss, in shard_map", mapped(our_mean, BOTH), LOGITS, LOSS),
    Program("optax loss, automatic", plain(mean(of_optax)), LOGITS),
    Program("optax loss, explicit", plain(mean(of_optax)), LOGITS, explicit=True, only_cpu=True),
    Program(
        f"optax loss, automatic, lax.map over {CHUNK}", plain(over_parts), LOGITS, only_cpu=True
    ),
    Program(SHARDED, sharded(KERNEL), WEIGHTS, HEAD, planned=True),
    Program(f"{SHARDED}, chunks of {CHUNK}", sharded_in_chunks, WEIGHTS, HEAD),
    Program("head, in shard_map", mapped(head, TOKENS, KERNEL), WEIGHTS, HEAD),
    Program(FULLY_SHARDED, sharded(BOTH), DIVIDED, FULLY, planned=True),
    Program(f"head, automatic, chunks of {CHUNK}", plain(in_chunks(CHUNK)), WEIGHTS),
    Program("optax of held logits, automatic", held_in_float32, WEIGHTS),
    *(Program(f"{name}, automatic", plain(loss), WEIGHTS) for name, loss in TOKAMAX.items()),
]


def compiled(program: Program, platform: Platform, shape: tuple[int, int], size: tuple, dtype: str):
    """Compiles value and gradients for a mesh; each gradient is sharded as its argument."""
    mesh = mesh_on(platform, shape, program.explicit)
    known = arguments(program.layout | {"y": TOKENS}, mesh, size, dtype)
    step = jax.value_and_grad(program.make(mesh), tuple(range(len(program.layout))))
    places = tuple(argument.sharding for argument in known[:-1])
    results = None if program.explicit else (NamedSharding(mesh, WHOLE), places)
    with jax.set_mesh(mesh):
        return jax.jit(step, out_shardings=results).lower(*known).compile()
