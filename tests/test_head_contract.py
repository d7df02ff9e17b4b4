"""The linear head works around every loss of logits in the table, and around users' own."""

import dataclasses
import functools
import zlib

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import xent_jax
from tests import heads
from tests.cases import CASES, CLASSES, strict
from tests.chunks import chunks_of
from tests.heads import REDUCTIONS, agree, derivatives, modes, plain, pulled, reduced
from tests.problems import arrays, close
from xent_jax import forward_mode, with_linear_head

pytestmark = [pytest.mark.fast_compile, pytest.mark.usefixtures("float64")]

BATCH, WIDTH, K = (2, 3), 4, 5
ROWS = [c for c in CASES if c.arguments.get("logits") == "logits" and "softmax" not in c.loss[-7:]]
PER_TOKEN = CLASSES | {"integers"}

rows = pytest.mark.parametrize("case", ROWS, ids=lambda case: case.id)


def drawn(case, dtype=jnp.float64):
    rng = np.random.default_rng(zlib.crc32(case.id.encode()))
    shapes = {"inputs": (*BATCH, WIDTH), "kernel": (WIDTH, K), "bias": (K,)}
    given = {name: rng.standard_normal(shape) for name, shape in shapes.items()}
    given |= {k: v for k, v in case.inputs(rng, BATCH, K).items() if k != "logits"}
    return arrays(given, dtype)


def per_token(case):
    """Returns the row without reduction and weights, which the head applies, and the reduction."""
    options = {k: v for k, v in case.options.items() if k != "reduction"}
    keywords = {k: v for k, v in case.keywords.items() if k != "weights"}
    row = dataclasses.replace(case, options=options, keywords=keywords)
    return row, case.options.get("reduction", "none")


def through_the_head(module, case, given):
    """Calls the head around the case's loss, which closes over the arrays that have no tokens."""
    row, reduction = per_token(case)
    kinds = {**row.arguments, **row.keywords}
    targets = {k: v for k, v in given.items() if kinds.get(k) in PER_TOKEN}
    others = {k: v for k, v in given.items() if k in kinds and k not in targets}

    def loss(z, targets):
        return row.call(module, {"logits": z, **targets, **others})

    head = module.with_linear_head(loss, reduction=reduction)
    more = {k: given[k] for k in ("bias", "weights") if k in given}
    return head(given["inputs"], given["kernel"], targets, **more)


def held(case, given):
    row, reduction = per_token(case)
    z = given["inputs"] @ given["kernel"] + given["bias"]
    weights = given.get("weights", jnp.ones(BATCH))
    losses = weights * row.expected({"logits": z, **given})
    if reduction == "none":
        return losses
    return jnp.sum(losses) / (jnp.sum(weights) if reduction == "mean" else 1)


def both(loss, case, given):
    """Returns the losses and their gradients."""
    losses, (gradients,) = derivatives(lambda f: loss(case, {**given, **f}), case.floats(given))
    return losses, gradients


@rows
@modes
def test_value_and_gradients(case, module):
    given = drawn(case)
    with chunks_of(4 if "forward" in module.__name__ else 3):  # 4 does not divide the 6 tokens
        got = both(functools.partial(through_the_head, module), case, given)
    wanted = both(held, case, given)
    assert set(got[1]) == set(wanted[1]) >= {"inputs", "kernel", "bias"}
    close(got, wanted)


@rows
@modes
def test_strict_promotion(case, module):
    given = drawn(case, jnp.bfloat16)
    with strict(), chunks_of(4):
        run = functools.partial(both, functools.partial(through_the_head, module), case)
        losses, gradients = jax.eval_shape(run, given)
    assert losses.dtype == jnp.float32
    assert all(g.dtype == jnp.bfloat16 for g in gradients.values())


# ---------------------------------------------------------------- losses of one's own


def two_targets(z, t, _):
    return jnp.sum(t["weights"] * jnp.sin(z), -1) + t["shift"]


def of_teacher(z, teacher, _):
    return xent_jax.kl_divergence(xent_jax.log_softmax(z), xent_jax.softmax(teacher))


def of_likeliest(z, top, _):
    p, ids = top
    rows = jnp.arange(len(ids))[:, None]
    return xent_jax.softmax_cross_entropy(z, jnp.zeros_like(z).at[rows, ids].add(p))


def losses_of_logits(batch):
    """Returns {name: (loss, targets, closed)}, for calls ``loss(logits, targets, closed)``."""
    rng, (_, teacher, _, y) = np.random.default_rng(2), heads.drawn(batch, seed=1)
    hidden = jnp.asarray(rng.normal(size=(*batch, heads.WIDTH)))
    t, shift = jnp.asarray(rng.random((*batch, heads.CLASSES))), jnp.asarray(rng.normal(size=batch))
    z = 3 * (hidden @ teacher)
    kl, js = (
        functools.partial(loss, temperature=2.0)
        for loss in (xent_jax.softmax_kl_divergence, xent_jax.softmax_jensen_shannon_divergence)
    )
    closed = {"temperature": jnp.asarray(0.7), "scale": jnp.array([2.0, 1.0])}
    return {
        "plain": (lambda z, y, _: plain(z, y), y, ()),
        "two targets": (two_targets, {"weights": t, "shift": shift}, ()),
        "a teacher": (of_teacher, z, ()),
        "its likeliest": (of_likeliest, jax.lax.top_k(xent_jax.softmax(z), 3), ()),
        "closing": (lambda z, y, c: c["scale"][0] * plain(z / c["temperature"], y), y, closed),
        "a linear teacher": (lambda z, hidden, kernel: kl(z, hidden @ kernel), hidden, teacher),
        "a linear mixture": (lambda z, hidden, kernel: js(z, hidden @ kernel), hidden, teacher),
    }


NAMES = list(losses_of_logits(()))
IN_ALL_REDUCTIONS = ["plain", "two targets", "closing"]


@pytest.mark.parametrize(
    ("name", "reduction", "jit"),
    [(name, "mean", True) for name in NAMES]
    + [(name, reduction, True) for name in IN_ALL_REDUCTIONS for reduction in ("sum", "none")]
    + [("closing", reduction, False) for reduction in REDUCTIONS],
)
def test_a_loss_of_any_kind_has_gradients_to_targets_and_what_it_closes_over(name, reduction, jit):
    batch = (2, 6)
    x, w, b, _ = heads.drawn(batch)
    loss, targets, closed = losses_of_logits(batch)[name]

    def of_head(x, w, b, closed, t):
        head = with_linear_head(
            lambda z, t: loss(z, t, closed), reduction=reduction, logit_transform=jnp.tanh
        )
        return head(x, w, t, bias=b)

    def of_held(x, w, b, closed, t):
        z, t = jax.tree.map(lambda a: a.reshape(12, *a.shape[2:]), (jnp.tanh(x @ w + b), t))
        return reduced(loss(z, t, closed).reshape(batch), reduction)

    def run(loss):
        return (derivatives if jit else pulled)(loss, x, w, b, closed, targets)

    agree(run, of_head, of_held, 5)


@pytest.mark.parametrize(("reduction", "size"), [("mean", 4), ("none", 4), ("mean", 3)])
def test_forward_mode_of_any_loss(size, reduction):
    x, w, _, y = heads.drawn((9,))
    loss = forward_mode.softmax_focal_loss

    def tangent(loss):
        return jax.jit(lambda: jax.jvp(lambda x: loss(x, w, y), (x,), (jnp.ones_like(x),)))()

    head = forward_mode.with_linear_head(loss, reduction=reduction)
    agree(tangent, head, lambda x, w, y: reduced(loss(x @ w, y), reduction), size)
