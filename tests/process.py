"""Runs as each of the processes that tests/test_processes.py starts.

    python -m tests.process PORT COUNT INDEX compute FOLDER
    python -m tests.process PORT COUNT INDEX kill|fail VICTIM

With ``compute``, every case runs twice over every mesh, and this process's shards are written to
FOLDER/INDEX. With ``kill`` or ``fail``, all processes take steps together, and the process
VICTIM ends during one of them.
"""

import inspect
import os
import pickle
import signal
import sys
import time
import traceback
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array
from jax.sharding import Mesh, NamedSharding
from jax.sharding import PartitionSpec as P

import xent_jax

if hasattr(jax, "shard_map"):
    shard_map = jax.shard_map
else:
    from jax.experimental.shard_map import shard_map

Arrays = dict[str, Any]

# -------------------------------------------------------------------------- what is computed

TOKENS, WIDTH, CLASSES = 8, 6, 32
IGNORED = -100
NAN_ROWS = [1, 3, 4, 6]  # of the cases with edges

DEVICES = {2: 2, 4: 1}
"""How many devices a process has, by the number of processes."""

DATA_SHARDS = [1, 2]
"""The numbers of shards into which the examples are divided; each has a mesh."""

SPECS = {
    "logits": P("data", "model"),
    "inputs": P("data"),
    "kernel": P(None, "model"),
    "bias": P("model"),
    "labels": P("data"),
    "class_weights": P("model"),
    "label_smoothing": P(),
    "z_loss": P(),
    "cotangents": P("data"),
}


class Case(NamedTuple):
    """A loss, and the arguments by which it is differentiated."""

    reduction: str
    gradients: tuple[str, ...]
    edges: bool = False  # with rows that must be NaN, and no smoothing

    @property
    def of_a_head(self) -> bool:
        """Whether the loss takes inputs and a kernel, or else logits."""
        return "inputs" in self.gradients

    @property
    def spec(self) -> P:
        """The partition spec of the loss."""
        return P("data") if self.reduction == "none" else P()


OPTIONS = ("class_weights", "label_smoothing", "z_loss")
CASES = {
    "logits, mean": Case("mean", ("logits", *OPTIONS)),
    "logits, edges": Case("none", ("logits",), edges=True),
    "head, mean": Case("mean", ("inputs", "kernel", "bias", *OPTIONS)),
    "head, none": Case("none", ("inputs", "kernel", "bias", *OPTIONS)),
    "head, edges": Case("none", ("inputs",), edges=True),
}


def arguments(case: Case) -> Arrays:
    """Returns the arguments of a case, which are the same numbers in every process."""
    rng = np.random.default_rng(0)
    labels = np.arange(TOKENS) * CLASSES // TOKENS  # every shard of the classes has some
    labels[[2, 5]] = IGNORED
    floats = {
        "logits": 3 * rng.standard_normal((TOKENS, CLASSES)),
        "inputs": rng.standard_normal((TOKENS, WIDTH)),
        "kernel": rng.standard_normal((WIDTH, CLASSES)),
        "bias": rng.standard_normal(CLASSES),
        "class_weights": rng.uniform(0.5, 2, CLASSES),
        "label_smoothing": np.array(0.1),
        "z_loss": np.array(1e-2),
        "cotangents": rng.standard_normal(TOKENS),
    }
    if case.edges:
        del floats["label_smoothing"]  # with smoothing, a logit of -inf makes the loss +inf
        labels[[1, 6]] = -1, CLASSES
        floats["logits"][0, CLASSES // 4 :] = -np.inf  # all classes of some shards
        floats["logits"][2:5, 0] = floats["inputs"][2:5, 0] = np.nan
        floats["logits"][4] = -np.inf
    for name in ("logits",) if case.of_a_head else ("inputs", "kernel", "bias"):
        del floats[name]
    return {"labels": labels.astype(np.int32)} | {k: np.float32(v) for k, v in floats.items()}


def computation(case: Case, mesh: Mesh | None) -> Callable[[Arrays], dict[str, Array]]:
    """Returns a function that computes a case's loss and gradients, over a mesh if one is given."""
    loss = (head_loss if case.of_a_head else logits_loss)(case, mesh)

    def compute(arguments: Arrays) -> dict[str, Array]:
        cotangents = arguments["cotangents"]
        rest = {k: v for k, v in arguments.items() if k != "cotangents"}
        differentiated = {k: rest[k] for k in case.gradients}
        value, pull = jax.vjp(lambda given: loss(rest | given), differentiated)
        return {"loss": value, **pull(cotangents if value.ndim else jnp.ones_like(value))[0]}

    return compute


def logits_loss(case: Case, mesh: Mesh | None) -> Callable[[Arrays], Array]:
    """Returns the loss of logits, inside ``shard_map`` if there is a mesh."""
    axes = {} if mesh is None else {"axis_name": "model", "batch_axis_name": "data"}

    def loss(given: Arrays) -> Array:
        return xent_jax.softmax_cross_entropy_with_integer_labels(
            **given, ignore_index=IGNORED, reduction=case.reduction, **axes
        )

    if mesh is None:
        return loss
    specs = {k: SPECS[k] for k in arguments(case) if k != "cotangents"}
    return shard_map(loss, mesh=mesh, in_specs=(specs,), out_specs=case.spec)


def head_loss(case: Case, mesh: Mesh | None) -> Callable[[Arrays], Array]:
    """Returns the loss of inputs and a kernel, by ``shard_linear_head`` if there is a mesh."""
    head = xent_jax.linear_softmax_cross_entropy
    if mesh is not None:
        specs = {"inputs": SPECS["inputs"], "kernel": SPECS["kernel"]}
        head = xent_jax.shard_linear_head(head, mesh, **specs)
    return lambda given: head(**given, ignore_index=IGNORED, reduction=case.reduction)


# ------------------------------------------------------------------------- what a process does


def join(port: str, count: int, index: int, patience: int) -> None:
    """Connects this process with the others; each waits ``patience`` seconds for a silent one."""
    jax.config.update("jax_num_cpu_devices", DEVICES[count])
    known = inspect.signature(jax.distributed.initialize).parameters
    timeouts = ("heartbeat_timeout_seconds", "shutdown_timeout_seconds")
    jax.distributed.initialize(
        f"127.0.0.1:{port}",
        num_processes=count,
        process_id=index,
        initialization_timeout=60,
        coordinator_bind_address=f"127.0.0.1:{port}",
        **{name: patience for name in timeouts if name in known},
    )


def mesh_of(count: int, data: int) -> Mesh:
    """Returns a mesh with ``data`` data shards, each divided by class over different processes."""
    devices = np.array(jax.devices()).reshape(count, -1).T.ravel()
    model = min(count, devices.size // data)
    return Mesh(devices[: data * model].reshape(data, model), ("data", "model"))


def placed(case: Case, mesh: Mesh) -> Arrays:
    """Returns the arguments of a case as global arrays on the mesh."""
    return {
        name: jax.make_array_from_callback(
            x.shape, NamedSharding(mesh, SPECS[name]), lambda part, x=x: x[part]
        )
        for name, x in arguments(case).items()
    }


def shards(x: Array) -> tuple[tuple[int, ...], list[tuple[Any, np.ndarray]]]:
    """Returns the shape of a global array, and this process's shards with their indices in it."""
    return x.shape, [(shard.index, np.asarray(shard.data)) for shard in x.addressable_shards]


def compute(count: int, output: Path) -> None:
    """Runs every case twice over every mesh, and writes this process's shards to a file."""
    results = {}
    for data in DATA_SHARDS:
        mesh = mesh_of(count, data)
        results[data, "processes"] = [[d.process_index for d in row] for row in mesh.devices]
        for name, case in CASES.items():
            run = jax.jit(computation(case, mesh))
            results[data, name] = [jax.tree.map(shards, run(placed(case, mesh))) for _ in range(2)]
    output.write_bytes(pickle.dumps(results))


def step(count: int, ending: str) -> None:
    """Runs steps that all processes take together, during which this one may end.

    It is killed, or it raises an exception.
    """
    case, mesh = CASES["logits, mean"], mesh_of(count, 1)
    run, given = jax.jit(computation(case, mesh)), placed(case, mesh)
    for number in range(20_000):  # takes minutes if no process ends
        jax.block_until_ready(run(given))
        time.sleep(0.01)
        if number == 50 and ending:
            print("ends here", flush=True)
            if ending == "kill":
                os.kill(os.getpid(), signal.SIGKILL)
            raise RuntimeError("this process fails")


def main(port: str, count: str, index: str, action: str, argument: str) -> None:
    """Runs one process."""
    join(port, int(count), int(index), patience=100 if action == "compute" else 5)
    if action == "compute":
        try:
            compute(int(count), Path(argument) / index)
        except Exception:
            traceback.print_exc()
            os._exit(1)  # a normal exit would wait for the others, which wait for this one
    else:
        step(int(count), action if index == argument else "")


if __name__ == "__main__":
    main(*sys.argv[1:])
