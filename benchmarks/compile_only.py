"""Temporary memory of the losses on TPU v5e, TPU v6e and H100, without the hardware.

The compilers state the memory that a program needs beside its arguments and results, and give
neither times nor results. The compiler for H100 would tune its kernels on the device; here it uses
its defaults. In bfloat16, 256 MiB of the head's memory are the float32 sum of the kernel's
gradient. In float32, that sum is the result itself, but a TPU, which multiplies in bfloat16 by
default, keeps a copy of the kernel in bfloat16, which takes 128 MiB. A compiler that is not
installed is left out.
"""

import itertools
import re
from collections.abc import Callable
from functools import partial

import jax
import jax.numpy as jnp
import optax
from jax.sharding import PartitionSpec

import xent_jax
from benchmarks._compilers import arguments, compile_for, h100, mesh_on, tpu
from benchmarks._peers import LEFT_OUT, TOKAMAX, chunked, head, held, mean, of_optax, ours, pullback
from benchmarks._records import Goal, Record, reached, records
from benchmarks._running import Benchmark, compiled, temp_mib, temp_share

SIZE = 8192, 2048, 32768  # logits well above what a TPU would move to its fast memory
LARGE = (32768, 2560, 128256), (8192, 4096, 128256)
PLATFORMS = {
    "v5e": tpu("TPU v5e", "v5e:2x2", "v5litepod-4"),
    "v6e": tpu("TPU v6e", "v6e:2x2", "v6e-4"),
    "h100": h100("H100", "1x1x8"),
}
HEAD, TIED = "head, mean", 'head, mean, tied embeddings, kernel_axes="VD"'
SHARES = [  # goals for the losses of logits with integer labels
    Goal(f"{one.name}: largest of the losses of logits with integer labels, %", 1,
         {"metric": "share", "case": one.name}, "%")
    for one in PLATFORMS.values()
]  # fmt: skip
HEADS = [
    Goal(f"{program}, bfloat16, {device}, MiB", limit,
         {"study": "Heads", "dtype": "bfloat16", "program": program, "case": device}, "MiB")
    for program in (HEAD, TIED)
    # The limits allow for the sum of the kernel's gradient, and on the H100 also for one dz.
    for device, limit in {"TPU v5e": 256, "H100": 290}.items()
]  # fmt: skip
Named = tuple[str, Callable]  # the letters of the arguments, as in _compilers, and their function


def gradients(letters: str, loss: Callable) -> Named:
    """Returns a loss as its value and its gradients to all arguments before the labels."""
    wrt = re.match("[^yt]*", letters).end()
    return letters, jax.value_and_grad(loss, tuple(range(wrt)))


def of_logits() -> dict[str, Named]:
    """Returns value and gradient, and the value alone, of the mean losses of logits."""
    options = {"ignore_index": -100, "label_smoothing": 0.1, "z_loss": 1e-4}
    forward_mode = xent_jax.forward_mode.softmax_cross_entropy_with_integer_labels
    losses = {
        "xent_jax, integer labels": ("zy", ours),
        f"xent_jax, integer labels, options {', '.join(options)}": ("zy", partial(ours, **options)),
        "xent_jax, soft labels": ("zt", xent_jax.softmax_cross_entropy),
        "xent_jax.forward_mode, integer labels": ("zy", forward_mode),
        "optax, integer labels": ("zy", of_optax),
        "optax, integer labels, logits cast to float32": (
            "zy", lambda z, y: of_optax(z.astype(jnp.float32), y)
        ),
        "optax, soft labels": ("zt", optax.softmax_cross_entropy),
    }  # fmt: skip
    out = {}
    for what, (letters, loss) in losses.items():
        out[what] = gradients(letters, mean(loss))
        if "options" not in what and "forward_mode" not in what:
            out[f"{what}: value alone"] = letters, mean(loss)
    return out


def of_inputs() -> dict[str, Named]:
    """Returns the linear head and its peers, with gradients to inputs, kernel and bias."""
    options = {"label_smoothing": 0.1, "z_loss": 1e-4, "logit_softcap": 30.0}
    with_bias = gradients("xwby", lambda x, w, b, y: head(x, w, y, b, **options))
    return {
        HEAD: gradients("xwy", head),
        f"{HEAD}, bias, {', '.join(options)}": with_bias,
        'head, reduction "none"': ("xwyg", pullback),
        "head, value alone": ("xwy", head),
        TIED: gradients("xey", partial(head, kernel_axes="VD")),
        f"{HEAD}, tied embeddings, embedding.T": gradients("xey", lambda x, e, y: head(x, e.T, y)),
        "logits, optax": gradients("xwy", held(of_optax)),
        "logits cast to float32, optax": gradients("xwy", held(of_optax, jnp.float32)),
        **{name: gradients("xwy", loss) for name, loss in TOKAMAX.items()},
    }


def of_any_loss(x, w, y):
    """Returns the head's value as ``chunked_loss`` computes it."""

    def loss(w, x, y):
        return ours(jnp.dot(x, w, preferred_element_type=jnp.float32), y)

    return xent_jax.chunked_loss(loss)(w, x, y)


def of_large_vocabularies(n: int, d: int, v: int) -> dict[str, Named]:
    """Returns heads with a vocabulary of 128k, at the default chunk and at others."""
    shapes = (jax.ShapeDtypeStruct(shape, jnp.bfloat16) for shape in ((n, d), (d, v)))
    default = xent_jax.linear_head_plan(*shapes).chunk
    masked = gradients("xwym", lambda x, w, y, m: head(x, w, y, where=m))
    return {
        f"head, the default {default} tokens a chunk": gradients("xwy", head),
        "head, 512 tokens a chunk": gradients("xwy", chunked(512)),
        "head, some left out by where": masked,
        "chunked_loss": gradients("xwy", of_any_loss),
    }


def inside(name: str, quick: bool) -> list[Record]:
    """Compiles all programs for one device of a platform."""
    mesh, out = mesh_on(PLATFORMS[name], (1, 1)), []
    studies = [("Losses of logits", SIZE, of_logits()), ("Heads", SIZE, of_inputs())]
    studies += [("Large heads", size, of_large_vocabularies(*size)) for size in LARGE]
    known = [(study, size, *one) for study, size, programs in studies for one in programs.items()]
    dtypes = ("bfloat16",) if quick else ("bfloat16", "float32")
    for (study, size, what, (letters, function)), dtype in itertools.product(known, dtypes):
        given = arguments(dict.fromkeys(letters, PartitionSpec()), mesh, size, dtype)
        program = compiled(function, given)
        shape, numbers = size, {"temp": temp_mib(program)}
        if study == "Losses of logits":
            shape, numbers["share"] = given[0].shape, temp_share(program, given[0])
        fields = {"dtype": dtype, "shape": shape, "case": PLATFORMS[name].name}
        out += records(study, what, numbers, **fields)
    return out


def measure(quick: bool) -> list[Record]:
    found = compile_for(PLATFORMS, BENCHMARK, quick)
    integer = [record for record in found if record.program.startswith("xent_jax, integer")]
    return reached(integer, SHARES) + reached(found, HEADS) + found


BENCHMARK = Benchmark("compile_only", "Memory on accelerators", __doc__, measure, inside, LEFT_OUT)
if __name__ == "__main__":
    BENCHMARK.main()
