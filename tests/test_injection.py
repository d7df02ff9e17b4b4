"""NaN and infinities in drawn rows reach no other row, and no result if the row is masked."""

import functools
import inspect
from collections.abc import Callable
from typing import Any, NamedTuple

import hypothesis.strategies as st
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given, settings
from jax.sharding import PartitionSpec as P

import xent_jax
from tests.cases import CLASSES, RICHEST, draw
from tests.chunks import chunks_of
from tests.meshes import mesh_of
from xent_jax import shard_linear_head

ROWS, WIDTH, K = 8, 4, 6
BY_ROW = CLASSES | {"integers", "elements", "unit elements", "example weights"}
drawn = settings(max_examples=10, deadline=None, derandomize=True, database=None)
poisons = st.tuples(
    st.sets(st.integers(0, ROWS - 1), min_size=1, max_size=ROWS - 1),
    st.sampled_from([np.nan, np.inf, -np.inf]),
    st.integers(0, 99),
)


class Problem(NamedTuple):
    """A function of named arrays, eight rows of each kind in ``BY_ROW``."""

    kinds: dict[str, str]
    clean: dict[str, np.ndarray]
    losses: Callable[..., Any]  # (arrays, **options)
    options: frozenset[str]  # that it takes

    def poisoned(self, rows, bad, seed):
        """In each of the rows one entry of one argument, or a label out of range."""
        rng = np.random.default_rng(seed)
        dirty = {k: np.array(v) for k, v in self.clean.items()}
        for row in rows:
            name = rng.choice([k for k, kind in self.kinds.items() if kind in BY_ROW])
            if self.kinds[name] == "integers":
                dirty[name][row] = rng.choice([-1, K, 10**6])
            elif self.kinds[name] == "example weights":
                dirty[name][row] = bad
            else:
                dirty[name][row, rng.integers(dirty[name].shape[1])] = bad
        return dirty

    def pulled(self, inputs, **more):
        """The losses, and the gradient to each floating argument for cotangents that differ."""
        floats = {k: v for k, v in inputs.items() if jnp.issubdtype(v.dtype, jnp.floating)}
        with chunks_of(3):
            value, pull = jax.vjp(lambda f: self.losses({**inputs, **f}, **more), floats)
            g = jnp.cos(jnp.arange(value.size, dtype=value.dtype)).reshape(value.shape)
            return value, pull(g)[0]


def of_table(name, module):
    """The row of the contract's table with the most options."""
    case = RICHEST[name]
    kinds = {**case.arguments, **case.keywords}
    arrays = case.inputs(np.random.default_rng(0), (ROWS,), K)
    options = {k: v for k, v in case.options.items() if k != "reduction"}
    function = getattr(module, name)

    def losses(arrays, **more):
        positional = [arrays[name] for name in case.arguments]
        named = {name: arrays[name] for name in case.keywords}
        return function(*positional, **named, **(options | more))

    return kinds, arrays, losses, inspect.signature(function).parameters


HEAD = {"inputs": "elements", "kernel": "all", "bias": "all", "labels": "integers"}


def head_arrays(**more):
    rng = np.random.default_rng(0)
    shapes = {"inputs": (ROWS, WIDTH), "kernel": (WIDTH, K), "bias": (K,)}
    arrays = {name: rng.standard_normal(shape) for name, shape in shapes.items()}
    arrays["labels"] = draw("integers", rng, (ROWS,), K)
    return arrays | {name: draw(kind, rng, (ROWS,), K) for name, kind in more.items()}


def cross_entropy(module, sharded=lambda head: head):
    options = {"class_weights": "weights", "label_smoothing": "0.1 0.2", "z_loss": "0.1 0.2"}
    options |= {"weights": "example weights", "temperature": "0.5 2"}

    def losses(arrays, reduction="none", **more):
        head = sharded(module.linear_softmax_cross_entropy)
        return head(**arrays, reduction=reduction, **more)

    return HEAD | options, head_arrays(**options), losses, {"where", "ignore_index", "reduction"}


def summed(found):
    return found.loss + found.logsumexp + found.entropy + found.top_k_log_probabilities[:, 0]


def of_logits(module):
    kinds = {"logits": "logits", "labels": "integers"}
    rng = np.random.default_rng(0)
    arrays = {name: draw(kind, rng, (ROWS,), K) for name, kind in kinds.items()}

    def losses(arrays, **more):
        return summed(module.token_statistics(**arrays, **more, top_k=1))

    return kinds, arrays, losses, {"where"}


def token_statistics(module, sharded=lambda head: head):
    def losses(arrays, **more):
        return summed(sharded(module.linear_token_statistics)(**arrays, **more, top_k=1))

    return HEAD, head_arrays(), losses, {"where"}


def any_head(module):
    kinds = HEAD | {"labels": "soft", "epsilon": "0.1 0.2"}

    def losses(arrays, reduction="none", where=None):
        def poly(z, t):
            return module.poly_loss_cross_entropy(z, t, arrays["epsilon"])

        head = module.with_linear_head(poly, reduction=reduction)
        names = "inputs", "kernel", "labels"
        return head(*(arrays[k] for k in names), bias=arrays["bias"], where=where)

    return kinds, head_arrays(labels="soft", epsilon="0.1 0.2"), losses, {"where", "reduction"}


def on_a_mesh(head):
    return shard_linear_head(head, mesh_of(2, 2), inputs=P("data"), kernel=P(None, "model"))


HEADS = {
    "linear_softmax_cross_entropy": cross_entropy,
    "token_statistics": of_logits,
    "linear_token_statistics": token_statistics,
    "with_linear_head": any_head,
    "shard_linear_head": functools.partial(cross_entropy, sharded=on_a_mesh),
    "shard_linear_head, statistics": functools.partial(token_statistics, sharded=on_a_mesh),
}
LOSSES = {name: functools.partial(of_table, name) for name in RICHEST}
modes = pytest.mark.parametrize("module", [xent_jax, xent_jax.forward_mode], ids=["vjp", "jvp"])


def made(make, module):
    kinds, arrays, losses, options = make(module)
    arrays = {k: v if kinds[k] == "integers" else np.float32(v) for k, v in arrays.items()}
    return Problem(kinds, arrays, losses, frozenset(options))


def equal(got, wanted, rows=...):
    """To the bit."""
    for a, b in zip(jax.tree.leaves(got), jax.tree.leaves(wanted), strict=True):
        np.testing.assert_array_equal(np.asarray(a)[rows], np.asarray(b)[rows])


every_loss = pytest.mark.parametrize(
    ("make", "module"),
    [pytest.param(make, xent_jax, id=name) for name, make in (LOSSES | HEADS).items()]
    + [
        pytest.param(LOSSES[name], xent_jax.forward_mode, id=f"{name}, forward mode")
        for name in ("softmax_cross_entropy", "softmax_cross_entropy_with_integer_labels")
    ],
)


@every_loss
def test_other_rows(make, module):
    problem = made(make, module)
    run = jax.jit(problem.pulled)

    def by_row(found):
        return found[0], {k: v for k, v in found[1].items() if problem.kinds[k] in BY_ROW}

    wanted = by_row(run(problem.clean))

    @drawn
    @given(poisons)
    def check(poison):
        others = np.delete(np.arange(ROWS), list(poison[0]))
        equal(by_row(run(problem.poisoned(*poison))), wanted, others)

    check()


@every_loss
def test_rows_left_out(make, module):
    """Even rows by ``where``, odd ones by ``ignore_index`` where there is one; also of a mean."""
    problem = made(make, module)
    if "where" not in problem.options:
        pytest.skip("it leaves nothing out")
    more = {"reduction": "mean"} if "reduction" in problem.options else {}
    ignores = "ignore_index" in problem.options
    if ignores:
        more["ignore_index"] = -100
    elements = problem.clean.get("logits") is not None and "elements" in problem.kinds.values()

    @jax.jit
    def run(arrays, out):
        where = ~out | (jnp.arange(ROWS) % 2 == 1) if ignores else ~out
        if ignores:
            arrays = arrays | {"labels": jnp.where(where & out, -100, arrays["labels"])}
        return problem.pulled(arrays, where=where[:, None] if elements else where, **more)

    @drawn
    @given(poisons)
    def check(poison):
        out = np.isin(np.arange(ROWS), list(poison[0]))
        equal(run(problem.poisoned(*poison), out), run(problem.clean, out))

    check()


@modes
def test_binary_weights_of_elements_left_out(module):
    """They have the elements' own shape; NaN there reaches neither value nor smoothing."""
    z, w = jnp.array([0.3, -1.0]), jnp.array([2.0, np.nan])

    def loss(z, w, smoothing):
        options = {"pos_weight": w, "where": z > 0, "label_smoothing": smoothing}
        return module.sigmoid_binary_cross_entropy(z, jnp.ones(2), reduction="mean", **options)

    found = jax.value_and_grad(loss, (0, 1, 2))(z, w, 0.1)
    assert all(np.isfinite(x).all() for x in jax.tree.leaves(found))


@pytest.mark.parametrize("make", [cross_entropy, HEADS["shard_linear_head"]], ids=["one", "mesh"])
@modes
def test_a_poisoned_token_makes_what_all_share_nan(make, module):
    """The kernel's gradient is a sum over the tokens; a token left in is not hidden."""
    problem = made(make, module)
    problem.clean["inputs"][5, 1] = np.nan
    _, gradients = jax.jit(problem.pulled)(problem.clean)
    shared = {k: v for k, v in gradients.items() if problem.kinds[k] not in BY_ROW}
    assert set(shared) > {"kernel", "bias", "z_loss"}
    assert all(np.isnan(v).all() for k, v in shared.items() if k != "class_weights")
