"""All options at once, as hypothesis draws them: every way to compute a loss agrees.

The losses of logits in both modes and in a ``shard_map``, the head, and the head on a mesh are
compared in value and gradient with textbook formulas in float64, which JAX differentiates.
"""

import inspect
import math
import os

import hypothesis.strategies as st
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from jax.sharding import PartitionSpec as P

import xent_jax
from tests.cases import x64
from tests.meshes import mesh_of
from xent_jax import forward_mode, shard_linear_head

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
TOLERANCE = {jnp.float64: 1e-11, jnp.float32: 2e-5, jnp.bfloat16: 2e-2}


# --------------------------------------------- textbook, of [n, k] and the classes that are there


def lse_of(z, there):
    e = jnp.where(there, jnp.exp(jnp.where(there, z, 0)), 0).sum(-1)
    return jnp.log(jnp.where(e == 0, 1, e))


def soft(z, t, there, left, *, label_smoothing=0.0, z_loss=0.0, class_weights=1.0):
    absent = jnp.isneginf(z)
    count = jnp.maximum(left.sum(-1, keepdims=True), 1)
    t = class_weights * ((1 - label_smoothing) * t + label_smoothing / count)
    lse = lse_of(z, there)
    surprise = jnp.where(there, lse[:, None] - jnp.where(absent, 0, z), 0)
    return (t * surprise).sum(-1) + z_loss * lse**2


def integer(z, y, there, left, **options):
    return soft(z, jax.nn.one_hot(y, z.shape[-1], dtype=z.dtype), there, left, **options)


def focal(z, y, there, left, *, gamma=2.0, class_weights=None):
    loss = integer(z, y, there, left)
    w = 1.0 if class_weights is None else class_weights[y]
    wrong = 1 - jnp.exp(-loss)  # 0 where one class is left
    return w * jnp.where(wrong > 0, jnp.where(wrong > 0, wrong, 1) ** gamma * loss, 0)


def poly(z, t, there, left, *, epsilon=2.0):
    lse = lse_of(z, there)
    p = jnp.where(there, jnp.exp(jnp.where(there, z, 0) - lse[:, None]), 0)
    return soft(z, t, there, left) + epsilon * jnp.where(left, t * (1 - p), 0).sum(-1)


TEXTBOOK = {
    "softmax_cross_entropy": soft,
    "softmax_cross_entropy_with_integer_labels": integer,
    "softmax_focal_loss": focal,
    "poly_loss_cross_entropy": poly,
}
OPTIONS = {  # those with a gradient, from a generator of numbers and k
    "label_smoothing": lambda rng, k: rng.choice([0.0, 0.3, 1.0]),
    "z_loss": lambda rng, k: rng.uniform(0, 1),
    "class_weights": lambda rng, k: rng.uniform(0.1, 2, k),
    "gamma": lambda rng, k: rng.uniform(0.3, 4),
    "epsilon": lambda rng, k: rng.uniform(-1, 3),
}


def reduced(losses, kept, reduction, by_label=None, weights=None):
    factors = [w for w in (by_label, weights) if w is not None]
    losses = losses if weights is None else weights * losses
    losses = jnp.where(kept, losses, 0)
    if reduction == "none":
        return losses
    if reduction == "sum":
        return losses.sum()
    count = jnp.where(kept, math.prod(factors, start=jnp.ones(kept.shape)), 0).sum()
    nothing = ~kept.any() if weights is None else count == 0
    return losses.sum() / jnp.where(nothing, 1, count)


@st.composite
def problems(draw):
    """A loss, its floating arguments and options, what else it takes, and the dtype."""
    name = draw(st.sampled_from(sorted(TEXTBOOK)))
    takes = inspect.signature(getattr(xent_jax, name)).parameters
    n, k = draw(st.sampled_from([(4, 4), (2, 8)]))
    rng, dtype = np.random.default_rng(draw(seeds)), draw(dtypes)
    floats = {o: OPTIONS[o](rng, k) for o in OPTIONS if o in takes and draw(st.booleans())}
    mask = draw(st.sampled_from(["none", "examples", "classes", "shared classes"]))
    left = np.ones((n, k), bool)
    if mask != "none":
        shape = {"examples": (n, 1), "classes": (n, k), "shared classes": (1, k)}[mask]
        where = rng.random(shape) < draw(st.sampled_from([0.1, 0.7]))
        left &= where
    z = np.float64((2 * rng.standard_normal((n, k))).astype(dtype))
    there = left.copy()
    if not floats.get("label_smoothing") and draw(st.booleans()):  # a mass there would cost +inf
        absent = (rng.random((n, k)) < 0.3) & (np.cumsum(left, -1) > 1)
        z[absent], there = -np.inf, left & ~absent
    labels = np.where(there, rng.random((n, k)), 0)
    if "ignore_index" in takes:
        labels = np.argmax(labels, -1)
    if "reduction" in takes and draw(st.booleans()):
        floats["weights"] = np.where(rng.random(n) < 0.3, 0, rng.uniform(0.1, 2, n))
    floats |= {"logits": z} | ({} if "ignore_index" in takes else {"labels": labels})
    fixed = {"labels": labels} if "ignore_index" in takes else {}
    if mask != "none":
        fixed["where"] = where[:, 0] if mask == "examples" else where
    static = {}
    if "reduction" in takes:
        static["reduction"] = draw(st.sampled_from(["none", "sum", "mean"]))
    kept = left.any(-1)
    if "ignore_index" in takes and draw(st.booleans()):
        out = rng.random(n) < 0.3
        static["ignore_index"] = draw(st.sampled_from([-100, 0, k]))
        fixed["labels"] = np.where(out, static["ignore_index"], labels)
        kept &= fixed["labels"] != static["ignore_index"]
    return name, floats, fixed, static, (there, left, kept), dtype


def textbook(name, there, left, kept, fixed, static):
    def loss(f):
        labels = fixed["labels"] if "labels" in fixed else f["labels"]
        if "labels" in fixed:
            labels = jnp.clip(labels, 0, there.shape[1] - 1)
        rest = {k: v for k, v in f.items() if k not in ("logits", "labels", "weights")}
        losses = TEXTBOOK[name](f["logits"], labels, there, left, **rest)
        by_label = f.get("class_weights")
        by_label = (
            None
            if by_label is None
            or "ignore_index" not in inspect.signature(getattr(xent_jax, name)).parameters
            else by_label[labels]
        )
        return reduced(losses, kept, static.get("reduction", "none"), by_label, f.get("weights"))

    return loss


def weighed(loss):
    """The value, and the gradient of a sum that weighs the losses differently."""

    def total(f):
        value = loss(f)
        g = jnp.cos(jnp.arange(1, value.size + 1, dtype=value.dtype))
        return jnp.vdot(g, value), value

    def run(f):
        gradients, value = jax.grad(total, has_aux=True)(f)
        return value, gradients

    return run


def same(got, wanted, dtype):
    """Also which are NaN."""
    tolerance = TOLERANCE[dtype]
    assert jax.tree.structure(got) == jax.tree.structure(wanted)
    for a, b in zip(jax.tree.leaves(got), jax.tree.leaves(wanted), strict=True):
        scale = max(1.0, np.max(np.abs(np.nan_to_num(b)), initial=0))
        np.testing.assert_allclose(np.float64(a), b, rtol=tolerance, atol=tolerance * scale)


def as_dtype(floats, dtype):
    """Logits in the dtype, which holds them; options in at least float32."""
    wide = jnp.promote_types(dtype, jnp.float32)
    return {k: jnp.asarray(v, dtype if k == "logits" else wide) for k, v in floats.items()}


@drawn(16)
@given(problems(), modules, st.booleans())
def test_losses_of_logits(problem, module, first):
    """Classes last or first."""
    name, floats, fixed, static, masks, dtype = problem

    def loss(f):
        place = (lambda x: x.T if getattr(x, "ndim", 0) == 2 else x) if first else lambda x: x
        given = {k: place(v) for k, v in {**f, **fixed}.items()}
        return getattr(module, name)(**given, **static, axis=0 if first else -1)

    with x64():
        wanted = jax.jit(weighed(textbook(name, *masks, fixed, static)))(
            as_dtype(floats, jnp.float64)
        )
        same(jax.jit(weighed(loss))(as_dtype(floats, dtype)), wanted, dtype)


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
        y, kept = (
            fixed["labels"].reshape(-1),
            np.broadcast_to(left, fixed["labels"].shape).reshape(-1),
        )
        bad = kept & ((y < 0) | (y >= k))
        z = jnp.where(bad, jnp.nan, 1.0)[:, None] * z
        options = {x: f[x] for x in ("label_smoothing", "z_loss") if x in f}
        by_class = f["class_weights"][:k] if "class_weights" in f else None
        all_there = np.ones(z.shape, bool)
        y = np.clip(y, 0, k - 1)
        options["class_weights"] = 1.0 if by_class is None else by_class
        losses = integer(z, y, all_there, all_there, **options)
        by_label = None if by_class is None else jnp.where(bad, 1, by_class[y])
        weights = f["weights"].reshape(-1) if "weights" in f else None
        out = reduced(losses, kept, static["reduction"], by_label, weights)
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
        of_some = weighed(lambda f: loss({**given, **f}))
        return jax.jit(of_some)({k: given[k] for k in wrt})

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
    compared(shard_linear_head(head, mesh_of(2, 2), inputs=P("data"), kernel=kernel), problem)
