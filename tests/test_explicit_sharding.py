"""Arguments divided over a mesh, each or not, under explicit sharding and automatic.

``jax.make_mesh`` makes explicit axes by default. There the type of an array says how it is
divided, and JAX does not combine arrays that are divided differently.
"""

import dataclasses
import functools
import inspect
import zlib

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.sharding import AxisType
from jax.sharding import PartitionSpec as P

import xent_jax
from tests.cases import CASES, FUNCTIONS, x64
from tests.meshes import EXPLICIT, collectives, mesh_of, put, set_mesh
from tests.test_contract import close

N, K = 4, 6
INTEGER_LOSS = xent_jax.softmax_cross_entropy_with_integer_labels
explicit = pytest.mark.parametrize("kind", [EXPLICIT])


@pytest.fixture(autouse=True)
def float64(unoptimized):
    with x64():
        yield


# ---------------------------------------------------------------------- every function, once


def row(loss, *keywords, **changed):
    """The first row of the contract with just these keywords."""
    found = next(c for c in CASES if c.loss == loss and set(c.keywords) == set(keywords))
    return dataclasses.replace(found, **changed)


SMOOTHED = "label_smoothing", "z_loss", "class_weights"
IGNORING = {"ignore_index": 1, "reduction": "mean"}
ALPHA_OF_EACH = {"alpha": "unit elements", "gamma": "0.5 3"}
CHOSEN = [  # each with the shape of its mask
    (row("softmax"), (N,)),
    (row("log_softmax"), (N, K)),
    (row("logsumexp"), (N, K)),
    (row("softcap"), None),
    (row("entropy"), None),
    (row("cross_entropy"), None),
    (row("relative_entropy"), None),
    (row("kl_divergence"), (N, K)),
    (row("softmax_cross_entropy"), None),
    (row("softmax_cross_entropy", *SMOOTHED), (N, K)),
    (row("softmax_cross_entropy_with_integer_labels"), (N,)),
    (row("softmax_cross_entropy_with_integer_labels", "class_weights"), None),
    (row("softmax_cross_entropy_with_integer_labels", *SMOOTHED, options=IGNORING), (N, K)),
    (row("softmax_focal_loss", "gamma", "class_weights"), (N,)),
    (row("poly_loss_cross_entropy", "epsilon"), (N,)),
    (row("sigmoid_binary_cross_entropy"), None),
    (row("sigmoid_binary_cross_entropy", "pos_weight", "label_smoothing"), (N, K)),
    (row("sigmoid_focal_loss"), None),
    (row("sigmoid_focal_loss", "alpha", "gamma", keywords=ALPHA_OF_EACH), None),
]
STATIC = {"axis", "reduction", "ignore_index", "axis_name", "batch_axis_name"}


def test_every_function_and_every_argument_is_here():
    tried = {
        (case.loss, name)
        for case, mask in CHOSEN
        for name in [*case.arguments, *case.keywords, *(["where"] if mask else [])]
    }
    losses = {name for name in FUNCTIONS if "linear" not in name}
    assert tried == {
        (loss, name)
        for loss in losses
        for name in inspect.signature(getattr(xent_jax, loss)).parameters
        if name not in STATIC
    }


class Problem:
    """One row, its inputs, and what one device makes of them."""

    def __init__(self, case, mask):
        self.case = case
        rng = np.random.default_rng(zlib.crc32(case.id.encode()))
        self.inputs = case.inputs(rng, (N,), K)
        if mask is not None:
            self.inputs["where"] = rng.random(mask) < 0.7
            if mask == (N, K) and case.arguments.get("labels") == "integers":
                # A label whose class is out costs infinity.
                self.inputs["where"][np.arange(N), self.inputs["labels"]] = True
        shape = jax.eval_shape(functools.partial(self.value, xent_jax), self.inputs).shape
        self.cotangent = rng.standard_normal(shape)

    def value(self, module, inputs):
        where = {"where": inputs["where"]} if "where" in inputs else {}
        return self.case.call(module, inputs, **where)

    def all(self, module, inputs):
        """The value, and the gradients to all floating arguments."""
        floats = self.case.floats(inputs)
        value, pull = jax.vjp(lambda x: self.value(module, {**inputs, **x}), floats)
        # Divided as the value is, as the cotangents are that JAX makes.
        return value, pull(jnp.where(value == value, self.cotangent, 0.0))[0]

    def on(self, mesh, divided):
        """The inputs on the mesh, of which those named are divided as it says."""
        return {k: put(mesh, v, *divided.get(k, ())) for k, v in self.inputs.items()}


@functools.cache
def solved(i):
    """A problem and its solution on one device."""
    problem = Problem(*CHOSEN[i])
    expected = jax.jit(functools.partial(problem.all, xent_jax))(problem.inputs)
    assert all(np.isfinite(g).all() for g in expected[1].values())
    return problem, expected


def along(x):
    """Its examples divided over one axis of the mesh, and its classes over the other."""
    return {(N, K): ("data", "model"), (N,): ("data",), (K,): ("model",)}.get(x.shape, ())


def by_examples(x):
    return ("data",) if x.shape[:1] == (N,) else ()


def across(x):
    """The other way around."""
    return {(N, K): ("model", "data"), (N,): ("model",), (K,): ("data",)}.get(x.shape, ())


def divisions(problem, kind):
    """Which arguments are divided, and how: each alone, all by examples, and crosswise."""
    arrays = {k: v for k, v in problem.inputs.items() if v.ndim}
    alone = [{k: along(v)} for k, v in arrays.items()]
    if kind == AxisType.Auto or len(arrays) == 1:
        return alone
    first = next(iter(arrays))
    crosswise = {k: (along if k == first else across)(v) for k, v in arrays.items()}
    return [*alone, {k: by_examples(v) for k, v in arrays.items()}, crosswise]


numbers = pytest.mark.parametrize("i", range(len(CHOSEN)), ids=[c.id for c, _ in CHOSEN])


@pytest.mark.parametrize("kind", [pytest.param(AxisType.Auto, id="auto"), EXPLICIT])
@numbers
def test_each_argument_divided_or_not(i, kind):
    problem, expected = solved(i)
    mesh = mesh_of(2, 2, kind)
    run = jax.jit(functools.partial(problem.all, xent_jax))
    for division in divisions(problem, kind):
        with set_mesh(mesh):
            inputs = problem.on(mesh, division)
            close(run(inputs), expected)


@explicit
@numbers
def test_forward_mode_and_eager(i, kind):
    """The first argument is divided; the others lie on one device, and on no mesh."""
    problem, expected = solved(i)
    mesh = mesh_of(2, 2, kind)
    inputs = {k: jnp.asarray(v) for k, v in problem.inputs.items()}
    first = next(iter(inputs))
    with set_mesh(mesh):
        inputs[first] = put(mesh, inputs[first], *along(inputs[first]))
        close(problem.all(xent_jax, inputs), expected)
        close(jax.jit(functools.partial(problem.all, xent_jax.forward_mode))(inputs), expected)


CROSSWISE = [i for i, (case, _) in enumerate(CHOSEN) if case.keywords]


@explicit
@pytest.mark.parametrize("i", CROSSWISE, ids=[CHOSEN[i][0].id for i in CROSSWISE])
def test_tangents(i, kind):
    problem, _ = solved(i)
    mesh = mesh_of(2, 2, kind)

    def tangent(inputs):
        floats = problem.case.floats(inputs)
        value = functools.partial(problem.value, xent_jax.forward_mode)
        return jax.jvp(lambda x: value({**inputs, **x}), (floats,), (floats,))

    expected = jax.jit(tangent)(problem.inputs)
    with set_mesh(mesh):
        close(jax.jit(tangent)(problem.on(mesh, divisions(problem, kind)[-1])), expected)
