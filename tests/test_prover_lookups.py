"""The prover reads drawn gathers, scatter-adds and parts of arrays as JAX computes them."""

import collections

import jax.numpy as jnp
import numpy as np
import pytest
from jax import lax
from xent_jax.proofs import array, labels
from xent_jax.proofs._normal_form import Refused
from xent_jax.proofs._prover import decision
from xent_jax.proofs._prover.spec import size_of

from tests.terms import agree, as_terms

SIZES = {"n": 4, "k": 2, "m": 3}
MODES = ("clip", "fill", "promise_in_bounds")


def _operand(rng):
    """Returns an array's dimensions, and whether each is indexed, batched with indices or free."""
    dims = [str(d) for d in rng.choice(["k", "m", "1"], rng.integers(1, 4), p=[0.5, 0.3, 0.2])]
    roles = [str(r) for r in rng.choice(["indexed", "batched", "free"], len(dims))]
    roles[int(rng.integers(len(dims)))] = "indexed"
    dims = ["k" if r == "indexed" and d == "m" else d for d, r in zip(dims, roles, strict=True)]
    return dims, roles


def _places(roles, role):
    return [i for i, r in enumerate(roles) if r == role]


def _split(rng, roles, dims):
    """Returns the axes that slices drop, and the axes along which they have size 1."""
    gone = [i for i in range(len(dims)) if roles[i] != "batched" and rng.random() < 0.5]
    short = [i for i in range(len(dims)) if i in gone or roles[i] != "free" or rng.random() < 0.3]
    return gone, short


def _table(rng, dims, roles):
    """Returns the dimensions of a table of indices, its batched axes, and the axes it indexes."""
    batched = _places(roles, "batched")
    lead = [dims[i] for i in batched] + ["n"] * int(rng.integers(0, 2))
    order = rng.permutation(len(lead))
    indexed = rng.permutation(_places(roles, "indexed")).astype(int).tolist()
    shape = [*(lead[i] for i in order), str(len(indexed))]
    return shape, [int(np.argwhere(order == j)[0, 0]) for j in range(len(batched))], indexed


def drawn_gather(rng):
    dims, roles = _operand(rng)
    gone, short = _split(rng, roles, dims)
    table, paired, indexed = _table(rng, dims, roles)
    kept = len(dims) - len(gone) - len(paired)
    out = len(table) - 1 + kept
    numbers = lax.GatherDimensionNumbers(
        tuple(sorted(rng.choice(out, kept, replace=False).tolist())) if kept else (),
        tuple(gone), tuple(indexed), tuple(_places(roles, "batched")), tuple(paired),
    )  # fmt: skip
    mode = str(rng.choice(MODES))

    def fun(x, y):
        sizes = tuple(1 if i in short else d for i, d in enumerate(x.shape))
        return lax.gather(x, y, numbers, sizes, mode=mode)

    return fun, {"x": array(" ".join(dims)), "y": labels(" ".join(table), classes="k")}


def drawn_scatter(rng):
    dims, roles = _operand(rng)
    gone, short = _split(rng, roles, dims)
    table, paired, indexed = _table(rng, dims, roles)
    kept = [i for i in range(len(dims)) if i not in gone and roles[i] != "batched"]
    rank = len(table) - 1 + len(kept)
    windows = sorted(rng.choice(rank, len(kept), replace=False).tolist()) if kept else []
    lead = iter(table[:-1])
    slices = iter("1" if i in short else dims[i] for i in kept)
    shape = [next(slices if u in windows else lead) for u in range(rank)]
    numbers = lax.ScatterDimensionNumbers(
        tuple(windows), tuple(gone), tuple(indexed), tuple(_places(roles, "batched")),
        tuple(paired),
    )  # fmt: skip
    mode = str(rng.choice(MODES))

    def fun(x, y, u):
        return lax.scatter_add(x, y, u, numbers, mode=mode)

    args = {"x": array(" ".join(dims)), "y": labels(" ".join(table), classes="k")}
    return fun, args | {"u": array(" ".join(shape))}


def _inputs(rng, specs):
    shapes = {name: tuple(size_of(d, SIZES) for d in s.dims) for name, s in specs.items()}
    return {
        name: rng.integers(0, SIZES["k"], shapes[name]).astype(np.int32)
        if spec.classes
        else rng.normal(size=shapes[name])
        for name, spec in specs.items()
    }


def drawn_part(rng):
    """Returns a function that slices, reverses, joins, pads or reshapes x, and its specs."""
    a, b, c = (int(k) for k in rng.integers(0, 3, 3))
    n, m = (lambda x: x.shape[0]), (lambda x: x.shape[1])
    functions = [
        lambda x: x[a : n(x) - b],
        lambda x: x.reshape(-1)[a::2] if a else x[b : b + 1],
        lambda x: lax.rev(x, (0,) if a else (0, 1)),
        lambda x: jnp.concatenate([x[b:], x[:b], x[a : a + 1]]),
        lambda x: jnp.concatenate([x[:, c:], x, x], 1)[:, a:],
        lambda x: jnp.stack([x, x * x, -x], a)[b : b + 1],
        lambda x: lax.pad(x, x.dtype.type(7), ((a - 1, b, c), (c, a - 1, b))),
        lambda x: lax.dynamic_slice(x, (a, n(x)), (n(x) - 2, m(x))),
        lambda x: lax.dynamic_update_slice(x, x[: n(x) - 2] ** 2, (a, 0)),
        lambda x: x.reshape(m(x), n(x)),
        lambda x: x.reshape(-1)[a:],
        lambda x: x.reshape(-1).reshape(m(x), 1, n(x))[a - 1 if a else 0],
        lambda x: lax.broadcast_in_dim(x, (2, n(x), m(x)), (1, 2)).reshape(2 * n(x), m(x)),
        lambda x: jnp.sum(x.reshape(-1)) + jnp.sum(jnp.concatenate([x[a:], x[:b] ** 2]), 0),
    ]
    return functions[int(rng.integers(14))], {"x": array("n m")}


@pytest.mark.parametrize(
    ("draw", "least", "count", "read"),
    [
        (drawn_gather, {}, 120, 60),
        (drawn_scatter, {}, 120, 60),
        (drawn_part, {"n": 4, "m": 3}, 60, 40),
    ],
)
def test_what_is_drawn_is_read_as_jax_computes_it(draw, least, count, read):
    met = collections.Counter()
    for seed in range(count):
        rng = np.random.default_rng(seed)
        fun, specs = draw(rng)
        with decision.noting(least, {}):
            try:
                terms = as_terms(fun, specs)
            except Refused as error:
                met["not JAX's" if "tracing" in str(error) else "refused"] += 1
                continue
            met["read"] += 1
            agree(fun, specs, terms, _inputs(rng, specs), SIZES)
    assert met["read"] > read and met["not JAX's"] < 12, met
