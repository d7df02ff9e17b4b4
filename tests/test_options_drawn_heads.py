"""Heads agree with textbook formulas, with all options at once, as hypothesis draws them."""

import functools

import hypothesis.strategies as st
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given
from jax.sharding import PartitionSpec as P

import xent_jax
from tests import textbook as book
from tests.cases import x64
from tests.drawn_options import OPTIONS, both_derivatives, dtypes, modules, reductions, same
from tests.draws import draws, seeds
from tests.meshes import on_mesh
from tests.token_statistics import of_logits

pytestmark = [pytest.mark.fast_compile, pytest.mark.slow]

WIDTH = 3
CLASSES_IN_SHARDS = {"DV": P(None, "model"), "VD": P("model")}


@st.composite
def heads(draw, batch=None):
    """Draws the head's floating arguments, its other arrays, its static options and the dtype."""
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
        "reduction": draw(reductions),
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
    """Returns the textbook loss of logits that are held; a label out of range makes its row NaN."""
    y = fixed["labels"]
    left = fixed.get("where", np.True_) & (y != static["ignore_index"])

    def loss(f):
        w = f["kernel"] if static["kernel_axes"] == "DV" else f["kernel"].T
        z = f["inputs"] @ w + f.get("bias", 0.0)
        if "logit_softcap" in f:
            z = f["logit_softcap"] * jnp.tanh(z / f["logit_softcap"])
        z = (z / f.get("temperature", 1.0))[..., : static["num_classes"]]
        k = z.shape[-1]
        bad = left & ((y < 0) | (y >= k))
        z = jnp.where(bad, jnp.nan, 1.0)[..., None] * z
        options = {x: f[x] for x in ("label_smoothing", "z_loss") if x in f}
        by_class = f["class_weights"][:k] if "class_weights" in f else None
        some = np.clip(y, 0, k - 1)
        losses = book.integer(z, some, class_weights=by_class, **options)
        by_label = None if by_class is None else jnp.where(bad, 1, by_class[some])
        return book.reduced(losses, left, static["reduction"], by_label, f.get("weights"))

    return loss


def compared(head, problem):
    """Asserts that the head agrees with the textbook, also on which results are NaN."""
    floats, fixed, static, dtype = problem
    k = static["num_classes"] or floats["kernel"].shape[static["kernel_axes"].index("V")]
    y = fixed["labels"]
    good = ((y >= 0) & (y < k)) | (y == static["ignore_index"]) | ~fixed.get("where", np.True_)
    wrt = set(floats) if good.all() else {"inputs", "kernel", "bias"} & set(floats)

    def at(dtype):
        wide = jnp.promote_types(dtype, jnp.float32)
        halves = ("inputs", "kernel")
        given = {k: jnp.asarray(v, dtype if k in halves else wide) for k, v in floats.items()}
        return {k: given.pop(k) for k in wrt}, given

    with x64():
        (given, others), (exact, exact_others) = at(dtype), at(jnp.float64)
        found, wanted = both_derivatives(
            lambda f: head(**f, **others, **fixed, **static),
            lambda f: held(fixed, static)({**exact_others, **f}),
            given, exact,
        )  # fmt: skip
        same(found, wanted, dtype)


@draws(6)
@given(heads(), modules)
def test_the_head(problem, module):
    compared(module.linear_softmax_cross_entropy, problem)


@draws(3)
@given(heads(batch=(4,)), modules)
def test_the_head_on_a_mesh(problem, module):
    head = module.linear_softmax_cross_entropy
    compared(on_mesh(head, CLASSES_IN_SHARDS[problem[2]["kernel_axes"]]), problem)


@draws(6)
@given(
    seed=seeds, top=st.integers(1, 3), capped=st.booleans(), axes=st.sampled_from(["DV", "VD"]),
    num_classes=st.sampled_from([None, 5]), mesh=st.booleans(),
)  # fmt: skip
def test_token_statistics(seed, top, capped, axes, num_classes, mesh):
    rng, head = np.random.default_rng(seed), xent_jax.linear_token_statistics
    head = on_mesh(head, CLASSES_IN_SHARDS[axes]) if mesh else head
    options = {"top_k": top, "kernel_axes": axes, "num_classes": num_classes}
    options |= {"logit_softcap": 2.0} if capped else {}
    k = num_classes or 8
    with x64():
        x, w, b = (jnp.asarray(rng.standard_normal(s)) for s in ((4, WIDTH), (WIDTH, 8), (8,)))
        y = jnp.asarray(rng.integers(0, k, 4))
        z = x @ w + b
        z = 2 * jnp.tanh(z / 2) if capped else z
        kernel = w if axes == "DV" else w.T
        found = jax.jit(functools.partial(head, **options))(x, kernel, y, b)
        for name, wanted in of_logits(z[:, :k], y, top).items():
            got = getattr(found, name)
            # Both compute in float64 and sum over the classes in different orders.
            np.testing.assert_allclose(got, wanted, rtol=1e-12, atol=1e-12, err_msg=name)
