"""At concrete sizes, the terms that the prover reads from a jaxpr are what JAX computes."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from xent_jax.proofs import array, labels, scalar
from xent_jax.proofs._normal_form import Refused, Symbol
from xent_jax.proofs._prover.claims import vjp_of
from xent_jax.proofs._prover.read import least_sizes, read
from xent_jax.proofs._prover.trace import arguments, new_tensor, trace
from xent_jax.proofs._refutation.samples import samples
from xent_jax.proofs._theorems.shipped import CASES

import xent_jax
from tests.draws import draws
from tests.terms import Evaluation, agree, as_terms


def _sizes(specs, inputs):
    return {
        d: n for name, s in specs.items() for d, n in zip(s.dims, inputs[name].shape, strict=True)
    }


# The first and last case of each function, and in shards. test_identities reads all cases.
FIRST, LAST = (
    {(c.function, "in shards" in c.options): c for c in cases} for cases in (CASES[::-1], CASES)
)
SOME = {f"{c.function} {c.options}": c for c in (*FIRST.values(), *LAST.values())}


@pytest.mark.parametrize("case", SOME.values(), ids=SOME)
def test_shipped_backwards(case):
    def fun(*args):
        return case.call(xent_jax, *args)

    least_sizes.set(case.least)
    a = arguments(case.args)
    out = jax.eval_shape(fun, *a.shapes)
    backward = vjp_of(fun, a, case.wrt)
    g = new_tensor(Symbol("cotangent", "real"), read(trace(fun, a.shapes), a.tensors)[0])
    terms = read(trace(backward, [out, *a.shapes]), [g, *a.tensors])
    run = jax.jit(backward)  # traced once for the inputs below, which have the same sizes
    rng = np.random.default_rng(1)
    for inputs in list(samples(case.args, rng, case.least))[5:9]:
        sizes = _sizes(case.args, inputs)
        shape = tuple(sizes[str(d)] for d in out.shape)
        full = {"cotangent": rng.normal(size=shape), **inputs}
        agree(run, {"cotangent": array(""), **case.args}, terms, full, sizes)


SPECS = {"x": array("n k"), "p": array("n k", positive=True), "y": labels("n", classes="k")}
_UNARY = {
    "exp": lambda x, p, y: jnp.exp(x / 4),
    "tanh": lambda x, p, y: jnp.tanh(x),
    "logistic": lambda x, p, y: jax.nn.sigmoid(x),
    "abs": lambda x, p, y: jnp.abs(x),
    "relu": lambda x, p, y: jnp.maximum(x, 0),
    "square": lambda x, p, y: jnp.square(x),
    "times": lambda x, p, y: x * p,
    "minus": lambda x, p, y: x - p,
    "divide": lambda x, p, y: x / (1 + p),
    "log": lambda x, p, y: jnp.log1p(jnp.square(x) + p),
    "softmax": lambda x, p, y: jax.nn.softmax(x, -1),
    "center": lambda x, p, y: x - jnp.mean(x, 0, keepdims=True),
    "greatest": lambda x, p, y: x - jnp.max(x, -1, keepdims=True),
    "hit": lambda x, p, y: jnp.where(jnp.arange(x.shape[1]) == y[:, None], -x, x),
    "take": lambda x, p, y: x - jnp.take_along_axis(x, y[:, None], -1, mode="clip"),
    "choose": lambda x, p, y: jnp.where(x > p, x, p),
    "ties": lambda x, p, y: jnp.where(x == jnp.max(x, -1, keepdims=True), p, x),
    "transposed": lambda x, p, y: (x.T * 2).T,
    "product": lambda x, p, y: x + jnp.dot(x, jnp.dot(p.T, x)) / 8,
    "some": lambda x, p, y: jnp.where(jnp.any(x > 1, -1, keepdims=True), x, p),
}


@draws(25)
@given(st.lists(st.sampled_from(sorted(_UNARY)), min_size=1, max_size=3), st.integers(0, 99))
def test_drawn_functions(names, seed):
    def function(x, p, y):
        for name in names:
            x = _UNARY[name](x, p, y)
        return x

    least_sizes.set({})
    try:
        terms = as_terms(function, SPECS)
    except Refused:
        return  # a refusal claims nothing
    rng = np.random.default_rng(seed)
    inputs = {"x": np.round(rng.normal(size=(2, 3)), 1), "p": rng.random((2, 3)) + 0.1}
    inputs["y"] = rng.integers(0, 3, 2).astype(np.int32)
    agree(function, SPECS, terms, inputs, {"n": 2, "k": 3})


def test_few_drawn_functions_are_refused():
    """Each function that the test above composes is read, so that it does not pass vacuously."""
    least_sizes.set({})
    for f in _UNARY.values():
        as_terms(f, SPECS)


def test_scalars_are_read():
    (term,) = as_terms(lambda c: c * jnp.log(c), {"c": scalar(positive=True)})
    assert Evaluation({"c": np.array(2.0)}, {})(term.value) == pytest.approx(2 * np.log(2))
