"""Arguments that are sharded over a mesh, or not, under explicit and automatic sharding.

``jax.make_mesh`` makes explicit axes by default. Then the type of an array says how it is sharded,
and JAX does not combine arrays that are sharded differently.
"""

import dataclasses
import functools
import zlib

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.sharding import AxisType

import xent_jax
from tests.cases import CASES, FUNCTIONS, RICHEST
from tests.heads import weights
from tests.meshes import explicit, kinds, mesh_set, put
from tests.problems import Problem, close

pytestmark = [pytest.mark.fast_compile, pytest.mark.usefixtures("float64")]

N, K = 4, 6
INTEGER_LOSS = xent_jax.softmax_cross_entropy_with_integer_labels


# ---------------------------------------------------------------------- every function, once

OF_EXAMPLES = {"softmax", "generalized_kl_divergence", "softmax_focal_loss",
               "poly_loss_cross_entropy"}  # fmt: skip
ALPHA_OF_EACH = {"alpha": "unit elements", "gamma": "0.5 3"}
FOCAL = dataclasses.replace(RICHEST["sigmoid_focal_loss"], keywords=ALPHA_OF_EACH)


def with_mask(case):
    """Returns a row and the shape of its mask, which is of examples or of classes, or None."""
    shape = (N,) if case.loss in OF_EXAMPLES else (N, K)
    return case, shape if "where" in case.parameters else None


def plain(loss, *keywords):
    """Returns the first row of the table for this loss with just these keywords."""
    return next(c for c in CASES if c.loss == loss and set(c.keywords) == set(keywords))


CHOSEN = [  # each with the shape of its mask
    *map(with_mask, (RICHEST | {FOCAL.loss: FOCAL}).values()),
    (plain("softmax_cross_entropy"), None),
    (plain("softmax_cross_entropy_with_integer_labels"), (N,)),
    (plain("softmax_cross_entropy_with_integer_labels", "class_weights"), None),
    (plain("sigmoid_binary_cross_entropy"), None),
]
STATIC = {"axis", "reduction", "ignore_index", "axis_name", "batch_axis_name"}


def test_every_function_and_every_argument_is_here():
    tried = {
        (case.loss, name)
        for case, mask in CHOSEN
        for name in [*case.arguments, *case.keywords, *(["where"] if mask else [])]
    }
    # token_statistics has several results: test_token_statistics divides its arguments.
    losses = {name for name in FUNCTIONS if "linear" not in name} - {"token_statistics"}
    assert tried == {
        (loss, name) for loss in losses for name in RICHEST[loss].parameters if name not in STATIC
    }


class Masked(Problem):
    """A row of the table with its inputs, which may include a mask."""

    def __init__(self, case, mask):
        rng = np.random.default_rng(zlib.crc32(case.id.encode()))
        super().__init__(case, rng, batch=(N,), k=K)
        self.masked = self.inputs
        if mask is not None:
            left = self.rng.random(mask) < 0.7
            if mask == (N, K) and case.arguments.get("labels") == "integers":
                # A label whose class is masked would have an infinite loss.
                left[np.arange(N), self.inputs["labels"]] = True
            self.masked = self.inputs | {"where": left}

    def all(self, module, inputs):
        """Returns the value, and the gradients to all floating arguments."""
        floats = self.case.floats(inputs)
        value, pull = jax.vjp(lambda x: self.case.call(module, {**inputs, **x}), floats)
        # The cotangent is divided as the value is, like those that JAX makes.
        return value, pull(jnp.where(value == value, weights(value), 0.0))[0]

    def on(self, mesh, divided):
        """Returns the inputs on the mesh, divided over the axes that ``divided`` has for them."""
        return {k: put(mesh, v, *divided.get(k, ())) for k, v in self.masked.items()}


@functools.cache
def solved(i):
    """Returns a problem, and its value and gradients on one device."""
    problem = Masked(*CHOSEN[i])
    expected = jax.jit(functools.partial(problem.all, xent_jax))(problem.masked)
    assert all(np.isfinite(g).all() for g in expected[1].values())
    return problem, expected


def along(x, first="data", second="model"):
    """Returns an array's mesh axes: ``first`` divides examples, and ``second`` classes."""
    return {(N, K): (first, second), (N,): (first,), (K,): (second,)}.get(x.shape, ())


def crosswise(inputs):
    """Returns a division in which the two mesh axes are swapped for all arguments but the first."""
    (name, first), *rest = inputs.items()
    return {name: along(first)} | {k: along(v, "model", "data") for k, v in rest}


def divisions(inputs, kind, options):
    """Returns the divisions to try: of each argument alone, and of all.

    With explicit axes also crosswise and, for a row with options, by examples alone.
    """
    out = [{k: along(v)} for k, v in inputs.items() if v.ndim]
    if len(out) > 1:
        out.append({k: along(v) for k, v in inputs.items()})
    if kind == AxisType.Explicit and len(out) > 1:
        out.append(crosswise(inputs))
        if options:
            out.append({k: ("data",) if v.shape[:1] == (N,) else () for k, v in inputs.items()})
    return out


numbers = pytest.mark.parametrize("i", range(len(CHOSEN)), ids=[c.id for c, _ in CHOSEN])


@kinds
@numbers
def test_each_argument_divided_or_not(i, kind):
    problem, expected = solved(i)
    run = jax.jit(functools.partial(problem.all, xent_jax))
    with mesh_set(2, 2, kind) as mesh:
        for division in divisions(problem.masked, kind, problem.case.keywords):
            close(run(problem.on(mesh, division)), expected)


@explicit
@numbers
def test_forward_mode_and_eager(i, kind):
    """The first argument is divided over the mesh, and the others lie on one device, on no mesh."""
    problem, expected = solved(i)
    inputs = {k: jnp.asarray(v) for k, v in problem.masked.items()}
    first = next(iter(inputs))
    with mesh_set(2, 2, kind) as mesh:
        inputs[first] = put(mesh, inputs[first], *along(inputs[first]))
        close(problem.all(xent_jax, inputs), expected)
        close(jax.jit(functools.partial(problem.all, xent_jax.forward_mode))(inputs), expected)


@explicit
@pytest.mark.parametrize(
    "i", [pytest.param(i, id=case.id) for i, (case, _) in enumerate(CHOSEN) if case.keywords]
)
def test_tangents(i, kind):
    problem, _ = solved(i)

    def tangent(inputs):
        floats = problem.case.floats(inputs)
        value = functools.partial(problem.case.call, xent_jax.forward_mode)
        return jax.jvp(lambda x: value({**inputs, **x}), (floats,), (floats,))

    expected = jax.jit(tangent)(problem.masked)
    with mesh_set(2, 2, kind) as mesh:
        close(jax.jit(tangent)(problem.on(mesh, crosswise(problem.masked))), expected)


# ------------------------------------------------------------------ what the table has not

LOGITS = ("data",), (None, "model"), ("data", "model")


def compare(run, arrays, specs, kind):
    """Compares a run with divided arrays on a mesh with a run on one device."""
    expected = run(*arrays)
    with mesh_set(2, 2, kind) as mesh:
        divided = [put(mesh, a, *spec) for a, spec in zip(arrays, specs, strict=True)]
        close(run(*divided), expected)


@explicit
@pytest.mark.parametrize("axis, spec", [((0, 1), LOGITS[1]), ((1, 0), LOGITS[2])], ids=str)
def test_several_class_axes_that_are_divided(spec, axis, kind, rng):
    """Labels and class weights number the classes in the order of ``axis``."""
    z, w, y = rng.standard_normal((N, K)), rng.uniform(1, 2, N * K), 9
    left = rng.random((N, K)) < 0.7

    def everything(z, w, left):
        p = xent_jax.softmax(z, axis, left)
        assert jax.typeof(p) == jax.typeof(z)
        options = {"label_smoothing": 0.1, "class_weights": w}
        losses = (
            xent_jax.logsumexp(z, axis),
            INTEGER_LOSS(z, y, axis, **options),
            xent_jax.softmax_cross_entropy(z, p, axis, left, class_weights=w),
            xent_jax.softmax_focal_loss(z, y, axis, class_weights=w),
            xent_jax.kl_divergence(z, jax.lax.stop_gradient(p) + 0.1, axis, left),
        )
        return sum(losses), (p, *losses)

    run = jax.jit(jax.value_and_grad(everything, (0, 1), has_aux=True))
    compare(run, (z, w, left), (spec, ("model",), ("data",)), kind)


@explicit
@pytest.mark.parametrize("spec", LOGITS, ids=str)
@pytest.mark.parametrize("labels", [(), ("data",)], ids=["whole", "divided"])
def test_second_derivative_with_integer_labels(spec, labels, kind, rng):
    z, y, w = rng.standard_normal((N, K)), rng.integers(0, K, N), rng.uniform(1, 2, K)

    def loss(z, w, y):
        return INTEGER_LOSS(z, y, class_weights=w, label_smoothing=0.1, z_loss=0.1).sum()

    def of_gradient(z, w, y):
        return jax.grad(lambda z, w: (jax.grad(loss)(z, w, y) ** 3).sum(), (0, 1))(z, w)

    compare(jax.jit(of_gradient), (z, w, y), (spec, ("model",), labels), kind)


@explicit
def test_one_hot_labels_made_under_a_mesh(kind, rng):
    """The labels of ``jax.nn.one_hot`` are not divided by classes, though the logits are."""
    z, y = rng.standard_normal((N, K)), rng.integers(0, K, N)

    def gradient(z):
        labels = jax.nn.one_hot(jnp.asarray(y), K)
        return jax.grad(lambda z: xent_jax.softmax_cross_entropy(z, labels).sum())(z)

    for run in (gradient, jax.jit(gradient)):
        compare(run, (jnp.asarray(z),), (("data", "model"),), kind)


@pytest.mark.skipif(
    jax.__version_info__ < (0, 10),
    reason="older JAX selects nothing by a mask that vmap maps over a divided axis",
)
@explicit
def test_vmap_over_a_divided_axis(kind, rng):
    """``vmap`` maps over the divided examples, which share the class weights."""
    z, y, w = rng.standard_normal((N, K)), rng.integers(0, K, N), rng.uniform(1, 2, K)

    def gradient(z, y, w):
        each = jax.vmap(lambda z, y: INTEGER_LOSS(z, y, class_weights=w))
        return jax.grad(lambda z, w: each(z, y).sum())(z, w)

    compare(jax.jit(gradient), (z, y, w), (("data",), ("data",), ()), kind)
