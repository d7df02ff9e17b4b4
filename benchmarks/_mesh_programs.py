"""The programs that traffic.py compiles: losses and heads, and the ways to shard them.

The mesh has the axes data and model. The logits are sharded over both, the inputs of a head over
data, its kernel over model, or over both if it is fully sharded. Gradients are sharded as the
arguments that they belong to.
"""

from collections.abc import Callable
from functools import partial
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from _losses import head, held, of_optax, of_tokamax, ours, room, tokamax
from _topologies import AXES, SMALL, Site, Size
from jax.sharding import AxisType, Mesh, NamedSharding
from jax.sharding import PartitionSpec as P

import xent_jax

CHUNK = 256  # tokens at a time, where a program is told how many
BOTH, TOKENS, KERNEL, WHOLE = P("data", "model"), P("data"), P(None, "model"), P()


class Program(NamedTuple):
    """A mean loss to compile, with its gradients: ``make(mesh, size)(*arguments)``."""

    what: str
    make: Callable
    layout: dict[str, P]  # of the arguments but the labels
    target: int | None = None  # bytes per device on the CPU
    explicit: bool = False  # on a mesh as jax.make_mesh makes it
    where: tuple[str, ...] = ("all",)


def plain(loss: Callable) -> Callable:
    """A function of global arrays, which the compiler or JAX shards."""
    return lambda mesh, size: loss


def mapped(loss: Callable, *layout: P) -> Callable:
    """A loss of what one device holds, in a shard_map."""
    local = partial(loss, axis_name="model", batch_axis_name="data")
    specs = {"in_specs": (*layout, TOKENS), "out_specs": WHOLE}
    return lambda mesh, size: jax.shard_map(local, mesh=mesh, **specs)


def over_parts(mesh, size: Size) -> Callable:
    """Computes the loss of some tokens at a time, in parts that ignore the shards."""

    def loss(z, y):
        parts = z.reshape(-1, CHUNK, size.v), y.reshape(-1, CHUNK)
        return jax.lax.map(lambda part: jnp.sum(of_optax(*part)), parts).sum() / size.n

    return loss


def sharded(kernel: P) -> Callable:
    return lambda mesh, size: xent_jax.shard_linear_head(head, mesh, inputs=TOKENS, kernel=kernel)


def sharded_in_parts(mesh, size: Size) -> Callable:
    of_shards = sharded(KERNEL)(mesh, size)
    local = room(CHUNK, size.v // mesh.shape["model"])
    return lambda x, w, y: of_shards(x, w, y, **local)


def plain_in_parts(mesh, size: Size) -> Callable:
    return lambda x, w, y: head(x, w, y, **room(CHUNK, size.v))


def mean(z, y, **options):
    return ours(z, y, reduction="mean", **options)


def optax_mean(z, y):
    return of_optax(z, y).mean()


def limits() -> tuple[int, int, int]:
    """Returns targets in bytes: 24 per token; and dx and dW; and the fully sharded kernel."""
    n, d, v = SMALL.n // 2, SMALL.d, SMALL.v // 4
    return 24 * n, 24 * n + 4 * d * (n + v), 24 * n + 4 * d * (n + 2 * v)


LOSS, HEAD, FULLY = limits()
LOGITS = {"logits": BOTH}
WEIGHTS = {"inputs": TOKENS, "kernel": KERNEL}
DIVIDED = WEIGHTS | {"kernel": BOTH}
MAIN = "all", "main"
SHARDED = "head, shard_linear_head"
FULLY_SHARDED = "head, shard_linear_head, kernel fully sharded"
PROGRAMS = [
    Program("loss, automatic", plain(mean), LOGITS, LOSS, where=MAIN),
    Program("loss, explicit", plain(mean), LOGITS, LOSS, explicit=True),
    Program("loss, in shard_map", mapped(mean, BOTH), LOGITS, LOSS, where=MAIN),
    Program("optax loss, automatic", plain(optax_mean), LOGITS, where=MAIN),
    Program("optax loss, explicit", plain(optax_mean), LOGITS, explicit=True),
    Program(f"optax loss, automatic, lax.map over {CHUNK}", over_parts, LOGITS),
    Program(SHARDED, sharded(KERNEL), WEIGHTS, HEAD, where=(*MAIN, "planned")),
    Program(f"{SHARDED}, chunks of {CHUNK}", sharded_in_parts, WEIGHTS, HEAD, where=MAIN),
    Program("head, in shard_map", mapped(head, TOKENS, KERNEL), WEIGHTS, HEAD, where=MAIN),
    Program(FULLY_SHARDED, sharded(BOTH), DIVIDED, FULLY, where=(*MAIN, "planned")),
    Program(f"head, automatic, chunks of {CHUNK}", plain_in_parts, WEIGHTS, where=MAIN),
    Program(
        "optax of held logits, automatic", plain(held(of_optax, jnp.float32)), WEIGHTS, where=MAIN
    ),
    *(
        [Program("tokamax head, chunked_xla, automatic", plain(of_tokamax), WEIGHTS, where=MAIN)]
        if tokamax
        else []
    ),
]


def programs(site: Site) -> list[Program]:
    return [program for program in PROGRAMS if site.programs in program.where]


def compiled(program: Program, site: Site, devices: np.ndarray):
    """Compiles value and gradients for those devices; each gradient is sharded as its argument."""
    kinds = (AxisType.Explicit if program.explicit else AxisType.Auto,) * 2
    mesh, size = Mesh(devices.reshape(site.mesh), AXES, axis_types=kinds), site.size
    shapes = {"logits": (size.n, size.v), "inputs": (size.n, size.d), "kernel": (size.d, size.v)}
    places = {name: NamedSharding(mesh, spec) for name, spec in program.layout.items()}
    arguments = [
        jax.ShapeDtypeStruct(shapes[name], size.dtype, sharding=place)
        for name, place in places.items()
    ]
    labels = jax.ShapeDtypeStruct((size.n,), "int32", sharding=NamedSharding(mesh, TOKENS))
    step = jax.value_and_grad(program.make(mesh, size), tuple(range(len(arguments))))
    results = None if program.explicit else (NamedSharding(mesh, WHOLE), tuple(places.values()))
    with jax.set_mesh(mesh):
        return jax.jit(step, out_shardings=results).lower(*arguments, labels).compile()
