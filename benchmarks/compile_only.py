"""Temporary memory of the losses on TPU v5e, TPU v6e and H100, without the hardware.

The compilers state the memory that a program needs beside its arguments and results, and give
neither times nor results. The compiler for H100 would tune its kernels on the device; here it uses
its defaults. In bfloat16, 256 MiB of the head's memory are the float32 sum of the kernel's
gradient. In float32, that sum is the result itself, but a TPU, which multiplies in bfloat16 by
default, keeps a copy of the kernel in bfloat16, which takes 128 MiB. A compiler that is not
installed is left out.
"""

from collections.abc import Iterator
from functools import partial

import jax
import jax.numpy as jnp
import optax
from jax.sharding import PartitionSpec

import xent_jax
from benchmarks._compilers import arguments, compile_for, h100, mesh_on, tpu
from benchmarks._peers import (
    INTEGER,
    LEFT_OUT,
    TOKAMAX,
    head,
    held,
    of_optax,
    of_tokamax,
    ours,
    pulled_back,
    room,
)
from benchmarks._records import Goal, Record, reached, records
from benchmarks._running import MIB, Benchmark, temp_bytes

SIZE = 8192, 2048, 32768  # logits well above what a TPU would move to its fast memory
LARGE = (32768, 2560, 128256), (8192, 4096, 128256)
PLATFORMS = {
    "v5e": tpu("TPU v5e", "v5e:2x2", "v5litepod-4"),
    "v6e": tpu("TPU v6e", "v6e:2x2", "v6e-4"),
    "h100": h100("H100", "1x1x8"),
}
HEAD, TIED = "head, mean", 'head, mean, tied embeddings, kernel_axes="VD"'
# MiB in bfloat16: the sum of the kernel's gradient, as said above, and on the H100 one dz.
TARGETS = {"TPU v5e": 256, "H100": 290}
OF_LOGITS = 1  # % of the logits, for integer labels
NAMES = "inputs", "kernel", "labels"
Program = tuple  # study, name, function, names of its arguments, and N, D and V


def of_logits() -> Iterator[Program]:
    """Yields value and gradient, and the value alone, of the mean losses of logits."""
    options = {"ignore_index": -100, "label_smoothing": 0.1, "z_loss": 1e-4}
    losses = {
        "xent_jax, integer labels": ours,
        f"xent_jax, integer labels, options {', '.join(options)}": partial(ours, **options),
        "xent_jax, soft labels": xent_jax.softmax_cross_entropy,
        "xent_jax.forward_mode, integer labels": getattr(xent_jax.forward_mode, INTEGER),
        "optax, integer labels": of_optax,
        "optax, integer labels, logits cast to float32": (
            lambda z, y: of_optax(z.astype(jnp.float32), y)
        ),
        "optax, soft labels": optax.softmax_cross_entropy,
    }
    for what, loss in losses.items():

        def mean(z, t, loss=loss):
            return loss(z, t).mean()

        names = "logits", "soft labels" if "soft" in what else "labels"
        yield "Losses of logits", what, jax.value_and_grad(mean), names, SIZE
        if "options" not in what and "forward_mode" not in what:
            yield "Losses of logits", f"{what}: value alone", mean, names, SIZE


def with_bias(x, w, b, y):
    return head(x, w, y, b, label_smoothing=0.1, z_loss=1e-4, logit_softcap=30.0)


def of_inputs() -> Iterator[Program]:
    """Yields the linear head and its peers, with gradients to inputs, kernel and bias."""
    both, tied = partial(jax.value_and_grad, argnums=(0, 1)), ("inputs", "embedding", "labels")
    options, biased = "bias, label_smoothing, z_loss, logit_softcap", (*NAMES[:2], "bias", "labels")
    losses = {
        HEAD: (both(head), NAMES),
        f"{HEAD}, {options}": (jax.value_and_grad(with_bias, (0, 1, 2)), biased),
        'head, reduction "none"': (pulled_back, (*NAMES, "cotangents")),
        "head, value alone": (head, NAMES),
        TIED: (both(partial(head, kernel_axes="VD")), tied),
        f"{HEAD}, tied embeddings, embedding.T": (both(lambda x, e, y: head(x, e.T, y)), tied),
        "logits, optax": (both(held(of_optax)), NAMES),
        "logits cast to float32, optax": (both(held(of_optax, jnp.float32)), NAMES),
        **dict.fromkeys(TOKAMAX, (both(of_tokamax), NAMES)),
    }
    yield from (("Heads", what, *program, SIZE) for what, program in losses.items())


def chunked(x, w, y):
    def loss(w, x, y):
        return ours(jnp.dot(x, w, preferred_element_type=jnp.float32), y)

    return xent_jax.chunked_loss(loss)(w, x, y)


def of_large_vocabularies() -> Iterator[Program]:
    """Yields heads with a vocabulary of 128k, at the default chunk and at others."""
    for n, d, v in LARGE:
        shapes = (jax.ShapeDtypeStruct(shape, jnp.bfloat16) for shape in ((n, d), (d, v)))
        default = xent_jax.linear_head_plan(*shapes).chunk
        losses = {
            f"head, the default {default} tokens a chunk": (head, NAMES),
            "head, 512 tokens a chunk": (partial(head, **room(512, v)), NAMES),
            "head, some left out by where": (
                lambda x, w, y, m: head(x, w, y, where=m),
                (*NAMES, "mask"),
            ),
            "chunked_loss": (chunked, NAMES),
        }
        for what, (loss, names) in losses.items():
            yield "Large heads", what, jax.value_and_grad(loss, (0, 1)), names, (n, d, v)


def inside(name: str, quick: bool) -> list[Record]:
    """Compiles all programs for one device of a platform."""
    mesh, out = mesh_on(PLATFORMS[name], (1, 1)), []
    for study, what, function, names, size in [
        *of_logits(), *of_inputs(), *of_large_vocabularies()
    ]:  # fmt: skip
        for dtype in ("bfloat16",) if quick else ("bfloat16", "float32"):
            known = arguments(dict.fromkeys(names, PartitionSpec()), mesh, size, dtype)
            temp = temp_bytes(jax.jit(function).lower(*known).compile())
            shape, numbers = size, {"temp": temp / MIB}
            if names[0] == "logits":
                shape = known[0].shape
                numbers["share"] = 100 * temp / (known[0].size * known[0].dtype.itemsize)
            fields = {"dtype": dtype, "shape": shape, "case": PLATFORMS[name].name}
            out += records(study, what, numbers, **fields)
    return out


def summary(found: list[Record]) -> list[Record]:
    """Returns the targets: the share of the losses of logits, and the memory of the head."""
    integer = [record for record in found if record.program.startswith("xent_jax, integer")]
    what = "largest of the losses of logits with integer labels, %"
    shares = [
        Goal(f"{device}: {what}", OF_LOGITS, {"metric": "share", "case": device}, "%")
        for device in dict.fromkeys(record.case for record in integer)
    ]
    known = {"study": "Heads", "dtype": "bfloat16"}
    heads = [
        Goal(f"{program}, bfloat16, {device}, MiB", limit,
             known | {"program": program, "case": device}, "MiB")
        for program in (HEAD, TIED) for device, limit in TARGETS.items()
    ]  # fmt: skip
    return reached(integer, shares) + reached(found, heads)


def measure(quick: bool) -> list[Record]:
    found, left_out = compile_for("compile_only", PLATFORMS, quick)
    BENCHMARK.left_out = left_out + LEFT_OUT
    return summary(found) + found


BENCHMARK = Benchmark("compile_only", "Memory on accelerators", __doc__, measure, inside)
if __name__ == "__main__":
    BENCHMARK.main()
