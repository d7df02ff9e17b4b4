"""For programs drawn at random, no true derivative is refuted and no wrong one is proved.

The search for a counterexample also tries what seems proved, and has the last word.
"""

import itertools
import random

import jax
import jax.numpy as jnp
import pytest
from xent_jax.proofs import array, labels, prove_vjp
from xent_jax.proofs._prover import counterexample
from xent_jax.proofs._theorems.shipped import THEOREMS

from tests.draws import TIMES

SPECS = {"x": array("n k"), "w": array("k"), "y": labels("n", classes="k")}
STEPS = {
    "exp": lambda x, w, y: jnp.exp(x / 4),
    "tanh": lambda x, w, y: jnp.tanh(x),
    "sine": lambda x, w, y: jnp.sin(x),
    "softplus": lambda x, w, y: jax.nn.softplus(x),
    "silu": lambda x, w, y: jax.nn.silu(x),
    "relu": lambda x, w, y: jax.nn.relu(x),
    "relu squared": lambda x, w, y: jnp.square(jax.nn.relu(x)),
    "Huber": lambda x, w, y: jnp.where(jnp.abs(x) < 1, x * x / 2, jnp.abs(x) - 0.5),
    "square": lambda x, w, y: jnp.square(x),
    "root": lambda x, w, y: jnp.sqrt(1 + x * x),
    "times": lambda x, w, y: x * w,
    "minus": lambda x, w, y: x - w,
    "log": lambda x, w, y: jnp.log(1 + x * x),
    "softmax": lambda x, w, y: jax.nn.softmax(x, -1),
    "log-softmax": lambda x, w, y: jax.nn.log_softmax(x, -1),
    "center": lambda x, w, y: x - jnp.mean(x, -1, keepdims=True),
    "center rows": lambda x, w, y: x - jnp.mean(x, 0, keepdims=True),
    "normalize": lambda x, w, y: x / jnp.sqrt(jnp.mean(x * x, -1, keepdims=True) + 1e-6),
    "hit": lambda x, w, y: jnp.where(jnp.arange(x.shape[1]) == y[:, None], -x, x),
    "add": lambda x, w, y: x + jnp.sum(x * w, -1, keepdims=True),
}
SLIPS = {
    "scaled": lambda x, w, y: 1.001 * x,
    "cut off": lambda x, w, y: jnp.clip(x, -4, 4),
    "n for k": lambda x, w, y: x * x.shape[0] / x.shape[1],
    "wrong at 0": lambda x, w, y: x + jnp.where(x == 0, x, 0),
    "NaN at 0": lambda x, w, y: jnp.where(x == 0, x, x * x / x),
    "small": lambda x, w, y: x + jnp.sum(x * w, -1, keepdims=True) * 1e-3,
}  # mistakes, which only a mutant has
ENDS = {
    "none": lambda x, y: x,
    "sum": lambda x, y: jnp.sum(x, -1),
    "mean": lambda x, y: jnp.mean(x, -1),
    "total": lambda x, y: jnp.mean(jnp.sum(x, -1)),
    "log-sum-exp": lambda x, y: jax.nn.logsumexp(x, -1),
    "label": lambda x, y: jnp.take_along_axis(x, y[:, None], -1, mode="clip")[:, 0],
}


def program(steps, end):
    def value(x, w, y):
        for step in steps:
            x = (STEPS | SLIPS)[step](x, w, y)
        return ENDS[end](x, y)

    return value


def drawn(rng):
    """Returns a program, and a copy with one step replaced or one mistake added."""
    steps = rng.choices(list(STEPS), k=rng.randint(1, 3))
    end, place = rng.choice(list(ENDS)), rng.randrange(len(steps))
    other = rng.choice([s for s in STEPS if s != steps[place]])
    slip, slips = rng.choice(list(SLIPS)), rng.random() < 0.5
    changed = [steps[place], slip] if slips else [other]
    return (steps, end), ([*steps[:place], *changed, *steps[place + 1 :]], end)


def with_derivative_of(value, other):
    fun = jax.custom_vjp(value)
    fun.defvjp(lambda *a: (value(*a), a), lambda a, g: (*jax.vjp(other, *a)[1](g)[:2], None))
    return fun


def verdict_on(value, other):
    fun = with_derivative_of(program(*value), program(*other))
    return prove_vjp(fun, SPECS, ("x", "w"), timeout=20)


def check(seed, count):
    rng = random.Random(seed)
    statuses = []
    for _ in range(count):
        true, mutated = drawn(rng)
        verdict = verdict_on(true, true)
        assert verdict.status != "refuted", (true, str(verdict))
        verdict = verdict_on(true, mutated)
        assert "seemed proved" not in verdict.reason, (true, mutated, str(verdict))
        statuses.append(verdict.status)
    return statuses


def test_programs():
    statuses = check(0, 8)
    assert statuses.count("refuted") >= 7, statuses  # one mutant may equal its program


@pytest.mark.slow
@pytest.mark.parametrize("seed", range(1, 1 + 5 * TIMES))
def test_more_programs(seed):
    statuses = check(seed, 20)
    assert statuses.count("refuted") >= 12, statuses  # some mutants equal their programs


ONE_OF_EACH = {(t.function, t.kind): t for t in reversed(THEOREMS)}.values()


@pytest.fixture
def fewer_points(monkeypatch):
    """Tries every third point only; all sizes and all kinds of points are among these."""
    every = counterexample.samples
    monkeypatch.setattr(
        counterexample, "samples", lambda *args: itertools.islice(every(*args), 0, None, 3)
    )


@pytest.mark.slow
@pytest.mark.parametrize("theorem", ONE_OF_EACH, ids=lambda t: t.name)
def test_numbers_agree_with_what_ships(theorem, fewer_points):
    """No counterexample is found; ``tests.second_engine`` decides all theorems exactly."""
    b = theorem.build
    rest = b.args, b.least, lambda: True
    if theorem.kind == "value":
        found = counterexample.equal(b.fun, b.reference, *rest)
    elif theorem.kind == "forward mode":
        found = counterexample.jvp(b.fun, b.wrt, b.reference, *rest)
    else:
        second = theorem.kind == "second order"
        found = counterexample.vjp(b.fun, b.wrt, b.reference, b.reference, second, *rest)
    assert found is None, (found.what, found.at, found.claimed, found.truth)
