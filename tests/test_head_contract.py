"""The contract for the linear head around every loss of logits in the table of cases."""

import dataclasses
import functools
import zlib

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from tests.cases import CASES, CLASSES, strict
from tests.chunks import chunks_of
from tests.heads import modes, pulled_by_name
from tests.problems import arrays, close

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
    """The row without its reduction and weights, which are the head's."""
    options = {k: v for k, v in case.options.items() if k != "reduction"}
    keywords = {k: v for k, v in case.keywords.items() if k != "weights"}
    row = dataclasses.replace(case, options=options, keywords=keywords)
    return row, case.options.get("reduction", "none")


def through_the_head(case, module, given):
    """Targets go through the head, what has no token is closed over."""
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
    """The losses and their gradients."""
    run = functools.partial(pulled_by_name, lambda floats: loss({**given, **floats}))
    return jax.jit(run)(case.floats(given))


@rows
@modes
def test_value_and_gradients(case, module):
    given = drawn(case)
    with chunks_of(4 if "forward" in module.__name__ else 3):  # does not divide the tokens, does
        got = both(functools.partial(through_the_head, case, module), case, given)
    wanted = both(functools.partial(held, case), case, given)
    assert set(got[1]) == set(wanted[1]) >= {"inputs", "kernel", "bias"}
    close(got, wanted)


@rows
@modes
def test_strict_promotion(case, module):
    given = drawn(case, jnp.bfloat16)
    with strict(), chunks_of(4):
        run = functools.partial(both, functools.partial(through_the_head, case, module), case)
        losses, gradients = jax.eval_shape(run, given)
    assert losses.dtype == jnp.float32
    assert all(g.dtype == jnp.bfloat16 for g in gradients.values())
