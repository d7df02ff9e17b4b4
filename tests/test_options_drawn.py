"""All options at once, as hypothesis draws them: every way to compute a loss agrees.

The losses of logits in both modes and in a ``shard_map``, the head, and the head on a mesh are
compared in value and gradient with textbook formulas in float64, which JAX differentiates.
"""

import inspect
import math
import os
from typing import NamedTuple

import hypothesis.strategies as st
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from jax.sharding import PartitionSpec as P

import xent_jax
from tests import textbook as book
from tests.cases import x64
from tests.heads import pulled_by_name
from tests.meshes import on_mesh
from xent_jax import forward_mode

pytestmark = pytest.mark.fast_compile

TIMES = int(os.environ.get("XENT_JAX_DRAWS", "1"))
"""How many times as many problems: ``XENT_JAX_DRAWS=50 pytest tests/test_options_drawn.py``."""


def drawn(examples):
    return settings(
        max_examples=TIMES * examples,
        deadline=None,
        derandomize=TIMES == 1,
        database=None,
        suppress_health_check=[HealthCheck.too_slow],
    )


seeds = st.integers(0, 2**32 - 1)
modules = st.sampled_from([xent_jax, forward_mode])
dtypes = st.sampled_from([jnp.float64, jnp.float32, jnp.bfloat16])
TOLERANCE = {jnp.float64: 1e-11, jnp.float32: 2e-5, jnp.bfloat16: 2e-2, jnp.float16: 3e-3}

# -------------------------------------------------------------------------- losses of logits

TEXTBOOK = {
    "softmax_cross_entropy": book.soft,
    "softmax_cross_entropy_with_integer_labels": book.integer,
    "softmax_focal_loss": book.focal,
    "poly_loss_cross_entropy": book.poly,
}
PLAIN = {name: TEXTBOOK[name] for name in list(TEXTBOOK)[:2]} | {"softmax": book.softmax}
OPTIONS = {  # those with a gradient, from a generator of numbers and k
    "label_smoothing": lambda rng, k: rng.choice([0.0, 0.3, 1.0]),
    "z_loss": lambda rng, k: rng.uniform(0, 1),
    "class_weights": lambda rng, k: rng.uniform(0.1, 2, k),
    "gamma": lambda rng, k: rng.uniform(0.3, 4),
    "epsilon": lambda rng, k: rng.uniform(-1, 3),
}


class Layout(NamedTuple):
    """The sizes of the batch and of the classes, and the axes of the classes, in order."""

    batch: tuple[int, ...]
    sizes: tuple[int, ...]
    axes: tuple[int, ...]
    argument: int | tuple[int, ...]  # the axes as they are given

    def place(self, x):
        """Divides the last axis into those of the classes, and moves them."""
        x = jnp.reshape(x, (*x.shape[:-1], *self.sizes))
        return jnp.moveaxis(x, range(len(self.batch), x.ndim), self.axes)

    def flat(self, x):
        """The inverse of ``place``."""
        x = jnp.moveaxis(x, self.axes, range(len(self.batch), x.ndim))
        return x.reshape(*self.batch, -1)


@st.composite
def layouts(draw):
    shape = draw(st.lists(st.integers(1, 4), min_size=1, max_size=4))
    order = draw(st.permutations(range(len(shape))))
    axes = tuple(order[: draw(st.integers(1, len(shape)))])
    signed = tuple(a - draw(st.sampled_from([0, len(shape)])) for a in axes)
    batch = tuple(n for a, n in enumerate(shape) if a not in axes)
    argument = signed[0] if len(signed) == 1 and draw(st.booleans()) else signed
    return Layout(batch, tuple(shape[a] for a in axes), axes, argument)


@st.composite
def problems(draw, names, optional=True):
    """A loss, its floating arguments and options, what else it takes, its layout and dtype.

    The classes lie on the last axis.
    """
    name = draw(st.sampled_from(sorted(names)))
    takes = inspect.signature(getattr(xent_jax, name)).parameters
    layout, dtype = draw(layouts()), draw(dtypes | st.just(jnp.float16))
    batch, k = layout.batch, math.prod(layout.sizes)
    rng = np.random.default_rng(draw(seeds))
    chosen = [o for o in OPTIONS if o in takes and optional and draw(st.booleans())]
    floats = {o: OPTIONS[o](rng, k) for o in chosen}
    mask = draw(st.sampled_from(["none", "examples", "classes", "shared classes"]))
    left, fixed, static = np.ones((*batch, k), bool), {}, {}
    if mask != "none":
        shapes = {"examples": (*batch, 1), "classes": (*batch, k)}
        where = rng.random(shapes.get(mask, (*[1] * len(batch), k)))
        where = where < draw(st.sampled_from([0.1, 0.7]))
        left &= where
        fixed["where"] = where[..., 0] if mask == "examples" else where
    z = np.float64((2 * rng.standard_normal(left.shape)).astype(dtype))
    there = left.copy()
    if not floats.get("label_smoothing") and draw(st.booleans()):  # a mass there would cost +inf
        absent = (rng.random(z.shape) < 0.3) & (np.cumsum(left, -1) > 1)
        z[absent], there = -np.inf, left & ~absent
    labels = np.where(there, rng.random(z.shape), 0)
    if "ignore_index" in takes:
        fixed["labels"] = np.argmax(labels, -1)
        if draw(st.booleans()):
            static["ignore_index"] = draw(st.sampled_from([-100, 0, k]))
            out = rng.random(batch) < 0.3
            fixed["labels"] = np.where(out, static["ignore_index"], fixed["labels"])
    elif "labels" in takes:
        floats["labels"] = labels
    if "reduction" in takes:
        static["reduction"] = draw(st.sampled_from(["none", "sum", "mean"]))
        if optional and draw(st.booleans()):
            floats["weights"] = np.where(rng.random(batch) < 0.3, 0, rng.uniform(0.1, 2, batch))
    return name, floats | {"logits": z}, fixed, static, layout, dtype


derivatives = jax.jit(pulled_by_name, static_argnums=0)


def same(got, wanted, dtype, plain=False):
    """Also which are NaN. Without options each result has its own dtype's tolerance."""
    assert jax.tree.structure(got) == jax.tree.structure(wanted)
    for a, b in zip(jax.tree.leaves(got), jax.tree.leaves(wanted), strict=True):
        tolerance, scale = TOLERANCE[dtype], max(1.0, np.max(np.abs(np.nan_to_num(b)), initial=0))
        if plain:
            least = 1e-12 if dtype == jnp.float64 else 2e-6
            tolerance, scale = max(least, float(jnp.finfo(a.dtype).eps)), 2
        np.testing.assert_allclose(np.float64(a), b, rtol=tolerance, atol=tolerance * scale)


def as_dtype(floats, dtype):
    """Logits in the dtype, which holds them; options in at least float32."""
    wide = jnp.promote_types(dtype, jnp.float32)
    return {k: jnp.asarray(v, dtype if k == "logits" else wide) for k, v in floats.items()}


def compare(problem, module, plain=False):
    name, floats, fixed, static, layout, dtype = problem

    def loss(f):
        given = {**f, **fixed}
        for k in {"logits", "labels", "where"} & given.keys():
            if given[k].ndim > len(layout.batch):
                given[k] = layout.place(given[k])
        out = getattr(module, name)(**given, **static, axis=layout.argument)
        return layout.flat(out) if name == "softmax" else out

    def textbook(f):
        given = f | fixed
        first = [given.pop(k) for k in ("logits", "labels") if k in given]
        return (TEXTBOOK | PLAIN)[name](*first, **given, **static)

    with x64():
        wanted = derivatives(textbook, as_dtype(floats, jnp.float64))
        value, gradients = derivatives(loss, as_dtype(floats, dtype))
        same((value, gradients), wanted, dtype, plain)
    assert gradients["logits"].dtype == dtype
    wide = dtype if name == "softmax" else jnp.promote_types(dtype, jnp.float32)
    assert value.dtype == wide


@drawn(16)
@given(problems(TEXTBOOK), modules)
def test_losses_of_logits(problem, module):
    compare(problem, module)


@drawn(48)
@given(problems(PLAIN, optional=False))
def test_losses_without_options(problem):
    compare(problem, xent_jax, plain=True)


# ---------------------------------------------------------------------------------- the head

WIDTH = 3


@st.composite
def heads(draw, batch=None):
    """The head's floating arguments, its other arrays, its static options and the dtype."""
    batch = batch or draw(st.sampled_from([(4,), (2, 3)]))
    k = draw(st.sampled_from([4, 8]))
    rng, dtype = np.random.default_rng(draw(seeds)), draw(dtypes)
    optional = {
        "bias": lambda rng, k: rng.standard_normal(k),
        "logit_softcap": lambda rng, k: rng.uniform(1, 5),
        "temperature": lambda rng, k: rng.uniform(0.3, 3),
        "weights": lambda rng, k: np.where(rng.random(batch) < 0.3, 0, rng.uniform(0.1, 2, batch)),
        **{name: OPTIONS[name] for name in ("label_smoothing", "z_loss", "class_weights")},
    }
    floats = {name: make(rng, k) for name, make in optional.items() if draw(st.booleans())}
    floats |= {
        "inputs": rng.standard_normal((*batch, WIDTH)),
        "kernel": rng.standard_normal((WIDTH, k)),
    }
    static = {
        "reduction": draw(st.sampled_from(["none", "sum", "mean"])),
        "kernel_axes": draw(st.sampled_from(["DV", "VD"])),
        "max_logits_bytes": draw(st.sampled_from([None, 1, 2, 3])),
        "num_classes": draw(st.none() | st.integers(2, k)),
        "ignore_index": draw(st.sampled_from([None, -100, 0])),
    }
    if static["max_logits_bytes"]:
        static["max_logits_bytes"] *= 8 * k  # so many tokens in a chunk
    if static["kernel_axes"] == "VD":
        floats["kernel"] = floats["kernel"].T
    fixed = {"labels": rng.integers(0, static["num_classes"] or k, batch)}
    if draw(st.booleans()):
        fixed["where"] = rng.random(batch) < draw(st.sampled_from([0.1, 0.7]))
    if static["ignore_index"] is not None:
        fixed["labels"][rng.random(batch) < 0.3] = static["ignore_index"]
    if draw(st.integers(0, 3)) == 0:
        fixed["labels"].flat[0] = draw(st.sampled_from([-1, static["num_classes"] or k, 10**6]))
    rounded = {x: np.float64(floats[x].astype(dtype)) for x in ("inputs", "kernel")}
    return floats | rounded, fixed, static, dtype


def held(fixed, static):
    """Of logits made by hand."""
    left = fixed.get("where", np.True_) & (fixed["labels"] != static["ignore_index"])

    def loss(f):
        w = f["kernel"] if static["kernel_axes"] == "DV" else f["kernel"].T
        z = (f["inputs"] @ w + f.get("bias", 0.0)).reshape(-1, w.shape[1])
        if "logit_softcap" in f:
            z = f["logit_softcap"] * jnp.tanh(z / f["logit_softcap"])
        z = z / f.get("temperature", 1.0)
        z = z[:, : static["num_classes"]]
        k = z.shape[1]
        y = fixed["labels"].reshape(-1)
        kept = np.broadcast_to(left, fixed["labels"].shape).reshape(-1)
        bad = kept & ((y < 0) | (y >= k))
        z = jnp.where(bad, jnp.nan, 1.0)[:, None] * z
        options = {x: f[x] for x in ("label_smoothing", "z_loss") if x in f}
        by_class = f["class_weights"][:k] if "class_weights" in f else None
        y = np.clip(y, 0, k - 1)
        losses = book.integer(z, y, class_weights=by_class, **options)
        by_label = None if by_class is None else jnp.where(bad, 1, by_class[y])
        weights = f["weights"].reshape(-1) if "weights" in f else None
        out = book.reduced(losses, kept, static["reduction"], by_label, weights)
        return out.reshape(fixed["labels"].shape) if static["reduction"] == "none" else out

    return loss


def compared(head, problem):
    """With the textbook; of a label out of range the row, and what all tokens share, is NaN."""
    floats, fixed, static, dtype = problem
    k = static["num_classes"] or floats["kernel"].shape[static["kernel_axes"].index("V")]
    y = fixed["labels"]
    good = ((y >= 0) & (y < k)) | (y == static["ignore_index"]) | ~fixed.get("where", np.True_)
    wrt = set(floats) if good.all() else {"inputs", "kernel", "bias"} & set(floats)

    def at(dtype):
        wide = jnp.promote_types(dtype, jnp.float32)
        halves = ("inputs", "kernel")
        return {k: jnp.asarray(v, dtype if k in halves else wide) for k, v in floats.items()}

    def run(loss, given):
        return derivatives(lambda f: loss({**given, **f}), {k: given[k] for k in wrt})

    with x64():
        wanted = run(held(fixed, static), at(jnp.float64))
        same(run(lambda f: head(**f, **fixed, **static), at(dtype)), wanted, dtype)


@drawn(6)
@given(heads(), modules)
def test_the_head(problem, module):
    compared(module.linear_softmax_cross_entropy, problem)


@drawn(3)
@given(heads(batch=(4,)), modules)
def test_the_head_on_a_mesh(problem, module):
    kernel = P(None, "model") if problem[2]["kernel_axes"] == "DV" else P("model")
    head = module.linear_softmax_cross_entropy
    compared(on_mesh(head, kernel), problem)
