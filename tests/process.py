"""The program that each process of tests/test_processes.py runs.

    python -m tests.process PORT COUNT INDEX compute FOLDER
    python -m tests.process PORT COUNT INDEX kill|fail VICTIM

With ``compute``, every case runs twice over every mesh, and this process's shards are written to
FOLDER/INDEX. With ``kill`` or ``fail``, all processes take steps together, and VICTIM ends during
one of them.
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
NAN_ROWS = [1, 3, 4, 6]  # of the edges

DEVICES = {2: 2, 4: 1}
"""How many devices a process has, by the number of processes."""

DATA_SHARDS = [1, 2]
"""Over how many the examples are divided: a mesh for each."""

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
    """A loss, and what its gradients are taken to."""

    reduction: str
    gradients: tuple[str, ...]
    edges: bool = False  # with rows that must be NaN, and no smoothing

    @property
    def of_a_head(self) -> bool:
        """Whether the loss is one of inputs and a kernel, or one of logits."""
        return "inputs" in self.gradients

    @property
    def spec(self) -> P:
        """How the loss is divided."""
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
    """What the case is computed of: the same numbers in every process."""
    rng = np.random.default_rng(0)
    labels = np.arange(TOKENS) * CLASSES // TOKENS  # some in every shard
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
        del floats["label_smoothing"]  # it makes a logit of -inf cost +inf
        labels[[1, 6]] = -1, CLASSES
        floats["logits"][0, CLASSES // 4 :] = -np.inf  # all of some shards
        floats["logits"][2:5, 0] = floats["inputs"][2:5, 0] = np.nan
        floats["logits"][4] = -np.inf
    for name in ("logits",) if case.of_a_head else ("inputs", "kernel", "bias"):
        del floats[name]
    return {"labels": labels.astype(np.int32)} | {k: np.float32(v) for k, v in floats.items()}


def computation(case: Case, mesh: Mesh | None) -> Callable[[Arrays], dict[str, Array]]:
    """The loss and its gradients over a mesh, or None for one device."""
    loss = (head_loss if case.of_a_head else logits_loss)(case, mesh)

    def compute(arguments: Arrays) -> dict[str, Array]:
        cotangents = arguments["cotangents"]
        rest = {k: v for k, v in arguments.items() if k != "cotangents"}
        differentiated = {k: rest[k] for k in case.gradients}
        value, pull = jax.vjp(lambda given: loss(rest | given), differentiated)
        return {"loss": value, **pull(cotangents if value.ndim else jnp.ones_like(value))[0]}

    return compute


def logits_loss(case: Case, mesh: Mesh | None) -> Callable[[Arrays], Array]:
    """The loss of logits, inside ``shard_map`` where there is a mesh."""
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
    """The loss of inputs and a kernel, through ``shard_linear_head`` where there is a mesh."""
    head = xent_jax.linear_softmax_cross_entropy
    if mesh is not None:
        specs = {"inputs": SPECS["inputs"], "kernel": SPECS["kernel"]}
        head = xent_jax.shard_linear_head(head, mesh, **specs)
    return lambda given: head(**given, ignore_index=IGNORED, reduction=case.reduction)


# ------------------------------------------------------------------------- what a process does


def join(port: str, count: int, index: int, patience: int) -> None:
    """Connects this process with the others, to wait so many seconds for one that is silent."""
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
    """So many data shards, each with its classes divided over different processes."""
    devices = np.array(jax.devices()).reshape(count, -1).T.ravel()
    model = min(count, devices.size // data)
    return Mesh(devices[: data * model].reshape(data, model), ("data", "model"))


def placed(case: Case, mesh: Mesh) -> Arrays:
    """The arguments as global arrays."""
    return {
        name: jax.make_array_from_callback(
            x.shape, NamedSharding(mesh, SPECS[name]), lambda part, x=x: x[part]
        )
        for name, x in arguments(case).items()
    }


def shards(x: Array) -> tuple[tuple[int, ...], list[tuple[Any, np.ndarray]]]:
    """The shape of the whole, and this process's shards with where in it they lie."""
    return x.shape, [(shard.index, np.asarray(shard.data)) for shard in x.addressable_shards]


def compute(count: int, output: Path) -> None:
    """Runs every case twice over every mesh and writes down the shards."""
    results = {}
    for data in DATA_SHARDS:
        mesh = mesh_of(count, data)
        results[data, "processes"] = [[d.process_index for d in row] for row in mesh.devices]
        for name, case in CASES.items():
            run = jax.jit(computation(case, mesh))
            results[data, name] = [jax.tree.map(shards, run(placed(case, mesh))) for _ in range(2)]
    output.write_bytes(pickle.dumps(results))


def step(count: int, ending: str) -> None:
    """Steps that all processes take together, in the midst of which this one may end.

    It ends as the system or as a mistake in it would.
    """
    case, mesh = CASES["logits, mean"], mesh_of(count, 1)
    run, given = jax.jit(computation(case, mesh)), placed(case, mesh)
    for number in range(20_000):  # minutes, should nothing end it
        jax.block_until_ready(run(given))
        time.sleep(0.01)
        if number == 50 and ending:
            print("ends here", flush=True)
            if ending == "kill":
                os.kill(os.getpid(), signal.SIGKILL)
            raise RuntimeError("this process fails")


def main(port: str, count: str, index: str, action: str, argument: str) -> None:
    """One process."""
    join(port, int(count), int(index), patience=100 if action == "compute" else 5)
    if action == "compute":
        try:
            compute(int(count), Path(argument) / index)
        except Exception:
            traceback.print_exc()
            os._exit(1)  # at a usual exit JAX waits for the others, and they for this one
    else:
        step(int(count), action if index == argument else "")


if __name__ == "__main__":
    main(*sys.argv[1:])
