"""Runs the mistakes in mistakes.txt: what users type by mistake, and the message that they get.

A block of that file has an optional title, what is typed, the message and, if the message is not
ours, whose it is, in brackets. ``python -m tests.mistakes`` writes the present messages into the
file, for people to read.
"""

import contextlib
import functools
import io
import re
import subprocess
import sys
import traceback
from pathlib import Path
from typing import NamedTuple
from unittest import mock

import jax
import jax.numpy as jnp
import numpy as np
from jax.sharding import PartitionSpec as P
from xent_jax.proofs.__main__ import main as xent_prove

import xent_jax
from xent_jax import _shards, proofs

TABLE = Path(__file__).with_name("mistakes.txt")
OURS = tuple(str(Path(m.__file__).parent) for m in (xent_jax, proofs))
BLOCK = re.compile(
    r"(?P<title># .*\n)?(?P<typed>(>>>|\$) .*)\n(?P<message>(.|\n)*?)(?P<whose>\n\(.*\))?"
)


class Mistake(NamedTuple):
    """A block of the file."""

    title: str
    typed: str
    message: str
    whose: str

    @property
    def id(self):
        return self.title.strip("# \n") or self.typed


JAX, *_BLOCKS = TABLE.read_text("utf-8").strip().split("\n\n")
MISTAKES = [Mistake(*BLOCK.fullmatch(b).group(*Mistake._fields)) for b in _BLOCKS]
MISTAKES = [m._replace(title=m.title or "", whose=m.whose or "") for m in MISTAKES]


class NamedArray:
    """Holds an array as the class of haliax does."""

    def __init__(self, array):
        self.array = array

    def __repr__(self):
        return f"{type(self).__name__}(...)"


class Partitioned:
    """Holds an array as the class of flax does; flax's own is tested in test_wrapped_arrays."""

    def __init__(self, value):
        self.value = value

    def unbox(self):
        return self.value

    __repr__ = NamedArray.__repr__


@jax.custom_vjp
def squared(z):
    """Returns ``z^2``, with a wrong backward pass that lacks the factor 2."""
    return z**2


squared.defvjp(lambda z: (z**2, z), lambda z, g: (g * z,))


def of_layer(kernel, inputs, labels):
    """Returns the losses of a linear layer without a bias."""
    return xent_jax.softmax_cross_entropy_with_integer_labels(inputs @ kernel, labels)


@functools.cache
def namespace(library) -> dict:
    """Returns the names that the user can type, with the library's functions in one mode."""
    names = {"jax": jax, "jnp": jnp, "np": np, "P": P, "shard_map": _shards.shard_map}
    names |= {f.__name__: f for f in (NamedArray, Partitioned, squared, of_layer)}
    for module in (xent_jax, library):
        names |= {name: getattr(module, name) for name in module.__all__}
    names |= {n: getattr(proofs, n) for n in ("array", "assert_vjp_proved", "prove_vjp")}
    labels = jnp.zeros(8, jnp.int32)
    names |= {"logits": jnp.zeros((8, 10)), "labels": labels, "onehot": jax.nn.one_hot(labels, 10)}
    names |= {"inputs": jnp.ones((8, 16)), "kernel": jnp.zeros((16, 10))}
    return names | {"mesh": jax.make_mesh((2, 4), ("data", "model"))}


class Told(NamedTuple):
    """The error and the message that the user sees."""

    message: str
    ours: bool  # raised in a file of ours, or the command's one line
    chained: bool  # another traceback stands above it


def told(mistake: Mistake, library=xent_jax) -> Told:
    """Runs what a mistake types, and returns what the user sees."""
    prompt, _, code = mistake.typed.partition(" ")
    if prompt == "$":
        message, *rest = _of_command(code, "SymPy" in mistake.title)
    elif "SymPy" in mistake.title:
        message, *rest = _of_process(code)
    else:
        message, *rest = _of_code(code, library)
    # Before jax 0.7, messages write a P as PartitionSpec.
    message = re.sub(r" at 0x\w+", "", message.replace("PartitionSpec(", "P("))
    return Told(re.sub(r"\. Did you mean .*", "", message), *rest)  # Python adds this from 3.13


def _of_code(code: str, library) -> tuple[str, bool, bool]:
    specs = {"labels": proofs.labels} if re.search(r"(?<![\w.])array\(", code) else {}
    try:
        exec(code, namespace(library) | specs)
    except Exception as error:
        file = traceback.extract_tb(error.__traceback__)[-1].filename
        notes = [n for n in getattr(error, "__notes__", ()) if "xent_jax" in n]
        above = error.__cause__ or (error.__context__ and not error.__suppress_context__)
        message = "\n".join([f"{type(error).__name__}: {error}", *notes])
        return message, file.startswith(OURS), bool(above)
    return "nothing: it was taken", False, False


def _of_process(code: str) -> tuple[str, bool, bool]:
    code = f"import sys; sys.modules['sympy'] = None; {code}"
    run = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    *frames, message = run.stderr.strip().splitlines()
    last = [f for f in frames if f.startswith("  File")][-1]
    return message, any(ours in last for ours in OURS), run.stderr.count("Traceback") > 1


def _of_command(command: str, without_sympy: bool) -> tuple[str, bool, bool]:
    """Returns what the command prints, which is its own message if the exit status is 2."""
    missing = mock.patch("importlib.util.find_spec", lambda name: None if name == "sympy" else name)
    with missing if without_sympy else contextlib.nullcontext():
        with contextlib.redirect_stderr(io.StringIO()) as err:
            status = xent_prove(command.split()[1:])
    line = err.getvalue().strip()
    return line, status == 2, "\n" in line


if __name__ == "__main__":
    jax.config.update("jax_num_cpu_devices", 8)
    blocks = [f"{m.title}{m.typed}\n{told(m).message}{m.whose}" for m in MISTAKES]
    TABLE.write_text("\n\n".join([f"jax {jax.__version__}", *blocks]) + "\n", "utf-8")
