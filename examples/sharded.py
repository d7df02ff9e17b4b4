"""Train a language model's head on 2 x 4 devices, and in two processes, as on one device.

    pip install "xent-jax[examples]"
    python examples/sharded.py

Without eight devices, the program simulates them on the CPU. Tokens are sharded over the mesh axis
"data" of size 2, and the vocabulary over the axis "model" of size 4. Devices send each other no
logits, and none holds those of the whole vocabulary. The program prints where each array lives and
what is sent, compares the loss curves and the parameters with those of one device, and draws
sharded.png. With ``--smoke`` it takes seconds.
"""

import argparse
import json
import math
import os
import re
import socket
import subprocess
import sys
import time
import traceback
from pathlib import Path
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax
import rich
from jax.sharding import AxisType, NamedSharding
from jax.sharding import PartitionSpec as P
from language_model import BLUE, CONTEXT, ORANGE, Size, corpus, draw_windows
from matplotlib.figure import Figure
from matplotlib.patches import Rectangle
from rich.table import Table

from xent_jax import linear_softmax_cross_entropy, shard_linear_head

DATA, MODEL = 2, 4
TOKENS = P("data")
LAYOUT = {"words": P(), "mixed": P(), "kernel": P(None, "model"), "bias": P("model")}
FULLY_SHARDED = LAYOUT | {"kernel": P("data", "model")}
ONE, DIVIDED, FULLY, PROCESSES = "one device", "2 x 4", "2 x 4, fully sharded", "two processes"

# The sizes begin with the number of words, which 4 devices do not divide evenly.
FULL, SMOKE = Size(10_001, None, 32, 24, None), Size(2_001, 60, 16, 6, None)
EMBEDDING, WIDTH, SEED, TIMEOUT = 32, 128, 0, 240  # TIMEOUT: seconds of the two processes
# The losses, and each parameter relative to its norm, may differ by this much from one device's.
# Sums in another order differ by some 1e-7.
TOLERANCE = 3e-6
# Adam divides a gradient by its size. Where that is nearly 0, the default eps of 1e-8 lets the
# rounding of a sum decide the step: the parameters then differ thirty times as much.
optimizer = optax.adamw(1e-2, eps=1e-6)


class Run(NamedTuple):
    """The results of a training."""

    losses: list[float]
    params: dict[str, jax.Array] | None = None  # None if other processes hold parts of them
    windows: jax.Array | None = None  # the last batch


class Collective(NamedTuple):
    """A sum or a gather in a compiled program, with the bytes that each device sends."""

    kind: str
    axes: str  # of the mesh
    moved: int  # bytes of the result, or of a reduce-scatter's operand


def mesh_of(devices, data=DATA, model=MODEL):
    kinds = (AxisType.Auto,) * 2
    devices = devices[: data * model]
    return jax.make_mesh((data, model), ("data", "model"), devices=devices, axis_types=kinds)


def batches_of(size):
    """Returns the batches of windows and the number of words, the same in each process."""
    words, _, classes = corpus(size)
    random = np.random.default_rng(SEED)
    return [draw_windows(random, words, size.batch) for _ in range(size.steps)], classes


def initial(classes):
    """Returns the initial parameters, the same in each process."""
    random = np.random.default_rng(SEED)
    padded = classes + -classes % MODEL  # because JAX divides arrays only into equal parts
    shapes = {"words": (classes, EMBEDDING), "mixed": (2 * EMBEDDING, WIDTH)}
    shapes |= {"kernel": (WIDTH, padded), "bias": (padded,)}
    scales = {"words": 1, "mixed": EMBEDDING**-0.5, "kernel": 0.02, "bias": 0}
    return {k: np.float32(scales[k] * random.standard_normal(s)) for k, s in shapes.items()}


def head_inputs(params, windows):
    """Returns hidden states (from each word and the mean so far), kernel, labels and bias."""
    x = params["words"][windows[:, :-1]]
    mean = jnp.cumsum(x, axis=1) / jnp.arange(1, CONTEXT + 1)[:, None]
    hidden = jnp.tanh(jnp.concatenate([x, mean], -1) @ params["mixed"]).reshape(-1, WIDTH)
    return hidden, params["kernel"], windows[:, 1:].reshape(-1), params["bias"]


def head_on(mesh, layout, classes):
    """Returns the loss as a function of the results of ``head_inputs``."""
    head = linear_softmax_cross_entropy
    if mesh.size > 1:
        head = shard_linear_head(head, mesh, inputs=TOKENS, kernel=layout["kernel"])
    return lambda *inputs: head(*inputs, num_classes=classes)  # the other columns are padding


def train(name, mesh, layout, batches, classes):
    """Trains the model with a step on each batch; prints and returns the results."""
    head, start = head_on(mesh, layout, classes), time.perf_counter()
    places = {k: NamedSharding(mesh, spec) for k, spec in layout.items()}
    params = jax.device_put(initial(classes), places)
    state, losses = optimizer.init(params), []  # the state is sharded as the parameters are

    def step(params, state, windows):
        value_and_grad = jax.value_and_grad(lambda p: head(*head_inputs(p, windows)))
        loss, gradient = value_and_grad(params)
        updates, state = optimizer.update(gradient, state, params)
        return optax.apply_updates(params, updates), state, loss

    # If each process reads only its part, use jax.make_array_from_process_local_data.
    batches = jax.device_put(batches, NamedSharding(mesh, TOKENS))
    step = jax.jit(step, out_shardings=(places, None, None))
    step = step.lower(params, state, batches[0]).compile()
    for windows in batches:
        params, state, loss = step(params, state, windows)
        losses.append(float(loss))
    seconds = time.perf_counter() - start
    print(f"{name:20} loss {losses[0]:.4f} -> {losses[-1]:.4f} in {seconds:.1f} s", flush=True)
    return Run(losses, params, windows)


def in_two_processes():
    """Starts this program twice; each process holds one row of the mesh."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    # Through a proxy, the processes could not reach each other.
    environment = {k: v for k, v in os.environ.items() if "_proxy" not in k.lower()}
    options = {"env": environment | {"JAX_PLATFORMS": "cpu"}, "stdout": subprocess.PIPE}
    options["start_new_session"] = True  # Ctrl-C reaches only this program, which ends both
    command, running = [sys.executable, *sys.argv, f"--port={port}"], []
    deadline = time.monotonic() + TIMEOUT
    try:
        for index in range(DATA):
            running.append(subprocess.Popen([*command, f"--process={index}"], **options, text=True))
        while None in (codes := [one.poll() for one in running]):
            if any(codes) or time.monotonic() > deadline:
                break
            time.sleep(0.05)
    finally:
        for one in running:
            one.kill()
            one.wait()
    if codes != [0] * DATA:
        sys.exit(f"The two processes ended with {codes}, None is one that had to be ended.")
    *_, told, losses = running[0].communicate()[0].splitlines()
    print(told)
    return Run(json.loads(losses))


def one_of_two(index, port, size):
    """Trains in one of the two processes, and prints the losses."""
    address = f"127.0.0.1:{port}"
    try:
        jax.config.update("jax_num_cpu_devices", MODEL)
        jax.distributed.initialize(
            address, DATA, index, initialization_timeout=60, coordinator_bind_address=address
        )
        run = train(PROCESSES, mesh_of(jax.devices()), LAYOUT, *batches_of(size))
    except Exception:
        traceback.print_exc()
        os._exit(1)  # a usual exit would wait for the other process, which waits for this one
    print(json.dumps(run.losses))


def examine(mesh, layout, classes, run):
    """Returns the head's arrays with their gradients, and the collectives of their program."""
    hidden, kernel, labels, bias = inputs = jax.jit(head_inputs)(run.params, run.windows)
    head = jax.value_and_grad(head_on(mesh, layout, classes), (0, 1, 3))
    program = jax.jit(head).lower(*inputs).compile()
    _, (d_hidden, d_kernel, d_bias) = program(*inputs)
    arrays = {"hidden states": (hidden, d_hidden), "labels": (labels, None)}
    arrays |= {"kernel": (kernel, d_kernel), "bias": (bias, d_bias)}
    return arrays, collectives(program.as_text())


def collectives(text):
    """Reads the collectives in the text of a compiled program, whose numbers have 4 bytes."""
    if " while(" in text:
        sys.exit("A collective in a loop runs more than once, which is not counted here.")
    kinds = "all-reduce|all-gather|reduce-scatter"
    groups = r"replica_groups=(?:\{\{([\d,]+)\}|\[\d+,(\d+)\])"
    found = []
    for types, kind, listed, size in re.findall(rf" = (.+) ({kinds})\(.*{groups}", text):
        devices = int(size or len(listed.split(",")))
        shapes = re.findall(r"[fs]32\[([\d,]*)\]", types)
        moved = sum(4 * math.prod(map(int, filter(None, shape.split(",")))) for shape in shapes)
        moved *= devices if kind == "reduce-scatter" else 1
        found.append(Collective(kind, {DATA: "data", MODEL: "model"}[devices], moved))
    return found


def show_places(arrays):
    for name, (x, gradient) in arrays.items():
        text = f"\n{name} {list(x.shape)}, {x.sharding.spec}"
        if gradient is not None:
            same = gradient.sharding.is_equivalent_to(x.sharding, x.ndim)
            text += f"; its gradient {'lies there too' if same else gradient.sharding.spec}"
        print(text)
        jax.debug.visualize_array_sharding(x, scale=0)  # boxes drawn to scale may not fit


def show_traffic(name, arrays, sent):
    """Prints what the head's value and gradients send between devices: payload per device."""
    tokens, classes = arrays["labels"][0].size // DATA, arrays["bias"][0].size
    bias = 4 * classes // MODEL  # bytes
    parts = {"hidden states' gradient": 4 * WIDTH * tokens, "4 bytes a token": 4 * tokens}
    parts = {"model": parts, "data": {"kernel's gradient": WIDTH * bias, "bias's gradient": bias}}
    table = Table("what", "collective", "over", "bytes", title=f"What crosses devices, {name}")
    for one in sorted(sent, key=lambda one: -one.moved):
        what, rest = [], one.moved
        for part, size in parts.get(one.axes, {}).items():
            count, rest = divmod(rest, size)
            what += [f"{count} x {part}" if count > 1 else part] if count else []
        what = ["the kernel"] if one.kind == "all-gather" else what or ["a number"]
        table.add_row(", ".join(what), one.kind, one.axes, f"{one.moved:,}")
    rich.print(table)
    logits = 4 * tokens * classes / 2**20
    print(f"No logits: a device makes {logits / MODEL:.1f} MiB of the {logits:.1f} of its tokens.")


def differences(run, reference):
    """Returns the largest relative differences of the losses and of the parameters."""
    apart = {"losses": np.max(np.abs(np.array(run.losses) / reference.losses - 1))}
    if run.params is not None:
        pairs = [(np.asarray(x), np.asarray(reference.params[k])) for k, x in run.params.items()]
        norm = np.linalg.norm
        apart["parameters"] = np.max([norm(x - y) / norm(y) for x, y in pairs])
    return apart


def report(runs):
    """Prints how far the runs are from the run on one device, and fails if it is too far."""
    apart = {name: differences(run, runs[ONE]) for name, run in runs.items() if name != ONE}
    for name, found in apart.items():
        text = ", ".join(f"{what} {size:.0e}" for what, size in found.items())
        print(f"{name:20} differs from one device by: {text}")
    first, last = runs[ONE].losses[0], runs[ONE].losses[-1]
    largest = np.max([size for found in apart.values() for size in found.values()])
    print(
        f"loss {first:.3f} -> {last:.3f}; {DATA} x {MODEL} devices, fully sharded or not, and two "
        f"processes differ from one device by {largest:.0e}"
    )
    problems = []
    if not last < first:
        problems.append("The loss did not fall: train for more steps.")
    if not largest < TOLERANCE:
        problems.append(f"Losses or parameters differ from one device's by over {TOLERANCE:.0e}.")
    if problems:
        sys.exit("\n".join(problems))


def draw(path, runs, arrays, sent):
    """Draws the loss curves, and what each device of the mesh holds."""
    figure = Figure(figsize=(14, 5), layout="constrained")
    curves, mesh = figure.subplots(1, 2, width_ratios=(2, 3))
    styles = {ONE: (BLUE, 8, "-"), DIVIDED: (ORANGE, 4, "-"), PROCESSES: ("black", 1.5, "--")}
    for name, (color, width, line) in styles.items():
        losses = runs[name].losses
        curves.plot(range(len(losses)), losses, line, color=color, linewidth=width, label=name)
    curves.set(title="Training loss [nats]", xlabel="step")
    curves.grid(alpha=0.3)
    curves.legend()
    draw_mesh(mesh, arrays, sent)
    figure.savefig(path, dpi=110, bbox_inches="tight", pad_inches=0.2)


def draw_mesh(axes, arrays, sent):
    """Draws hidden states times kernel: each device computes the logits of its two slices."""
    (hidden, _), (kernel, _) = arrays["hidden states"], arrays["kernel"]
    rows, columns = (x.sharding.devices_indices_map(x.shape) for x in (hidden, kernel))

    def block(x, y, text, color, ink="black"):
        axes.add_patch(Rectangle((x - 0.47, y - 0.45), 0.94, 0.9, fc=color, ec="black"))
        axes.text(x, y, text, ha="center", va="center", color=ink)

    for (i, j), device in np.ndenumerate(hidden.sharding.mesh.devices):
        block(j, i, f"device {device.id}", "whitesmoke")
        if j == 0:
            part = rows[device][0]
            text = f"hidden states\nof tokens\n{part.start:,} to {part.stop - 1:,}"
            block(-1, i, text, BLUE, "white")
        if i == 0:
            part = columns[device][1]
            block(j, -1, f"kernel's columns\n{part.start:,} to {part.stop - 1:,}", ORANGE)
    row, column = (
        f"{sum(one.moved for one in sent if one.axes == axis) / 2**10:,.0f} KiB"
        for axis in ("model", "data")
    )
    caption = f"""↔ {row} a device along a row: hidden states' gradient, a few numbers a token
↕ {column} a device along a column: gradients of kernel and bias
In two processes each has a row. Columns without a word are padding."""
    axes.text(1.5, 1.6, caption, ha="center", va="top", fontsize=11)
    axes.set(xlim=(-1.5, MODEL - 0.5), ylim=(DATA + 0.2, -1.5))
    axes.set_title("A device makes the logits of its row's tokens and its column's classes")
    axes.axis("off")


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--smoke", action="store_true", help="a small model, in seconds")
    output, text = Path(__file__).with_suffix(".png"), "the picture; default: next to the program"
    parser.add_argument("--output", type=Path, default=output, metavar="PATH", help=text)
    for name in ("--process", "--port"):  # the program passes these to its two processes
        parser.add_argument(name, type=int, help=argparse.SUPPRESS)
    args = parser.parse_args()
    size = SMOKE if args.smoke else FULL
    if args.process is not None:
        return one_of_two(args.process, args.port, size)

    jax.config.update("jax_num_cpu_devices", DATA * MODEL)  # before JAX looks for devices
    devices = jax.devices() if len(jax.devices()) >= DATA * MODEL else jax.devices("cpu")
    one, mesh = mesh_of(devices, 1, 1), mesh_of(devices)
    given = batches, classes = batches_of(size)
    print(f"{classes:9,} words in the vocabulary, {size.batch * CONTEXT:,} tokens in a step")
    plans = {ONE: (one, LAYOUT), DIVIDED: (mesh, LAYOUT), FULLY: (mesh, FULLY_SHARDED)}
    runs = {name: train(name, *plan, *given) for name, plan in plans.items()}
    runs[PROCESSES] = in_two_processes()

    examined = {name: examine(*plans[name], classes, runs[name]) for name in (DIVIDED, FULLY)}
    show_places(examined[DIVIDED][0])
    show_traffic(DIVIDED, *examined[DIVIDED])
    show_places({f"{FULLY}, kernel": examined[FULLY][0]["kernel"]})
    show_traffic(FULLY, *examined[FULLY])
    draw(args.output, runs, *examined[DIVIDED])
    print(f"wrote {args.output}")
    report(runs)


if __name__ == "__main__":
    try:
        main()
    except KeyboardInterrupt:
        sys.exit("interrupted")
