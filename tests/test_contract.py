"""Every row of the table of cases passes the same tests, which are the contract."""

import functools

import jax
import jax.export
import jax.numpy as jnp
import numpy as np
import pytest

import xent_jax
from tests.cases import CASES, CLASSES, FUNCTIONS, RICHEST, row, strict
from tests.heads import pulled, weighed
from tests.problems import (
    Problem,
    close,
    gradient_of_slope,
    hessian_times,
    slope,
    solved,
)

pytestmark = [pytest.mark.fast_compile, pytest.mark.usefixtures("float64")]


MODES = {"vjp": xent_jax, "jvp": xent_jax.forward_mode}
cases = pytest.mark.parametrize("case", [row(case) for case in CASES])
each_loss = pytest.mark.parametrize("case", RICHEST.values(), ids=lambda case: case.id)
# Both modes compute from the same formulas, so one mode has every row and the other one row of
# each function.
CASES_AND_MODES = [
    (case, mode) for mode in MODES for case in (CASES if mode == "vjp" else RICHEST.values())
]
every_row = pytest.mark.parametrize(
    ("case", "module"),
    [pytest.param(case, MODES[mode], id=f"{mode}-{case.id}") for case, mode in CASES_AND_MODES],
)
cases_and_modes = pytest.mark.parametrize(
    ("case", "module"),
    [row(case, MODES[mode], name=mode, quick=mode == "vjp") for case, mode in CASES_AND_MODES],
)


def third(f, x, direction):
    """Returns the gradient of the second derivative along the direction, by nesting both modes."""
    return gradient_of_slope(lambda x: slope(f, x, direction), x, direction)


def curvature(f, x, direction):
    """Returns the second derivative along the direction, by forward over forward mode."""
    return slope(lambda x: slope(f, x, direction), x, direction)


@every_row
def test_value_and_gradient(case, module):
    """JAX differentiates the reference; the cotangent weighs each loss differently."""
    problem = solved(case)
    problem.check_gradient(functools.partial(problem.ours, module))


@cases_and_modes
def test_second_derivative(case, module):
    problem = solved(case)
    ours = functools.partial(problem.ours, module)
    _, (product,) = problem.second
    for found in problem.derivatives(ours, hessian_times, gradient_of_slope):
        close(found, product, 1e-10)


@pytest.mark.slow
@each_loss
def test_third_derivative(case, rng):
    problem = Problem(case, rng, batch=(2,), k=3)
    ours = functools.partial(problem.ours, xent_jax.forward_mode)
    found, expected = (problem.derivatives(f, third) for f in (ours, problem.expected))
    close(found, expected, 1e-9)


@cases
def test_forward_mode(case):
    """``jvp``, ``linearize`` and ``jvp`` of ``jvp`` give the derivatives of the reference."""
    problem = solved(case)
    direction, ours = problem.direction, functools.partial(problem.ours, xent_jax.forward_mode)

    @jax.jit
    def found(x):
        value, linear = jax.linearize(ours, x)
        curved = curvature(lambda x: weighed(ours(x)), x, direction)
        return jax.jvp(ours, (x,), (direction,)), (value, linear(direction)), curved

    *both, curved = found(problem.floats)
    tangents, (product,) = problem.second
    for one in both:
        close(one, (problem.first[0], tangents))
    close(curved, sum(np.vdot(product[k], v) for k, v in direction.items()), 1e-10)


@cases
def test_default_refuses_forward_mode(case):
    problem = solved(case)
    with pytest.raises(TypeError, match="forward-mode"):
        jax.jvp(functools.partial(problem.ours, xent_jax), (problem.floats,), (problem.floats,))


@cases_and_modes
def test_eager_scan_and_checkpoint(case, module):
    problem = solved(case)
    _, (expected,) = problem.first

    def plain(x):
        return weighed(problem.ours(module, x))

    def scanned(x):
        return jax.lax.scan(lambda s, _: (s + plain(x), None), jnp.zeros(()), None, 2)[0]

    close(jax.grad(plain)(problem.floats), expected)  # op by op
    both = jax.jit(lambda x: (jax.grad(jax.checkpoint(plain))(x), jax.grad(scanned)(x)))
    found, twice = both(problem.floats)
    close(found, expected)
    close(twice, jax.tree.map(lambda x: 2 * x, expected))


@cases_and_modes
def test_vmap(case, module):
    """``vmap`` maps value and gradient over either axis of the batch, with the same options."""
    if case.options.get("reduction", "none") != "none":
        pytest.skip("a reduction over the batch is no map over it")
    problem = solved(case)
    first = next(iter(case.arguments))

    def both(inputs):
        losses = functools.partial(case.call, module)
        values, pull = jax.vjp(lambda x: losses(inputs | {first: x}), inputs[first])
        return values, pull(jnp.cos(values))[0]

    def over(axis):
        mapped = {
            k: axis if k in case.arguments and v.ndim > 1 else None
            for k, v in problem.inputs.items()
        }
        return jax.vmap(both, (mapped,), axis)

    expected, *found = jax.jit(lambda x: [f(x) for f in (both, over(0), over(1))])(problem.inputs)
    for one in found:
        close(one, expected)


@pytest.mark.parametrize(
    ("case", "axis"),
    [
        row(case, axis, name=str(axis), quick=axis == (2, 0) or "integer" in case.loss)
        for axis in [0, 1, (1, 2), (2, 0), None]
        for case in RICHEST.values()
        if case.has_axis  # no axis of an elementwise loss is special
    ],
)
def test_axis(case, axis):
    """The classes may lie on any axis, or on several in the order given."""
    batch, sizes = () if axis is None else (4, 2), (2, 3) if isinstance(axis, tuple) else (6,)
    problem = solved(case, batch=()) if axis is None else solved(case)
    kinds = {**case.arguments, **case.keywords}

    def place(value):
        value = value.reshape(batch + sizes)
        axes = range(value.ndim) if axis is None else np.atleast_1d(axis)
        return jnp.moveaxis(value, range(len(batch), value.ndim), axes)

    def flat(value):
        axes = range(value.ndim) if axis is None else np.atleast_1d(axis)
        return jnp.moveaxis(value, axes, range(len(batch), value.ndim)).reshape(*batch, -1)

    def ours(x):
        given = problem.inputs | x
        moved = {k: place(v) if kinds[k] in CLASSES else v for k, v in given.items()}
        out = case.call(xent_jax, moved, axis=axis)
        return flat(out) if case.loss in ("softmax", "log_softmax") else out

    problem.check_gradient(ours)


@pytest.mark.parametrize(
    ("case", "dtype"),
    [
        row(case, dtype, name=dtype.__name__, quick=dtype != jnp.float16)
        for dtype in (jnp.float32, jnp.bfloat16, jnp.float16)
        for case in (RICHEST.values() if dtype == jnp.float16 else CASES)
    ],
)
def test_dtypes(case, dtype, rng):
    """Losses are float32; gradients and results for each class have the dtype of the logits."""
    problem = Problem(case, rng, dtype)
    ours = functools.partial(problem.ours, xent_jax)
    value, (gradients,) = jax.jit(functools.partial(pulled, ours))(problem.floats)
    per_class = case.loss in ("softmax", "log_softmax", "softcap")
    assert value.dtype == (dtype if per_class else jnp.float32)
    tolerance = 3e-6 if value.dtype == jnp.float32 else 2 * float(jnp.finfo(dtype).eps)
    wanted, (expected,) = problem.first
    close(value, wanted, tolerance)
    assert {v.dtype for v in gradients.values()} == {jnp.dtype(dtype)}
    close(gradients, expected, max(3e-5, float(jnp.finfo(dtype).eps)))


@cases_and_modes
@pytest.mark.parametrize("dtype", [jnp.float32, jnp.bfloat16], ids=lambda d: d.__name__)
def test_strict_promotion(case, module, dtype, rng):
    """Neither the forward nor the backward pass promotes dtypes or ranks implicitly."""
    problem = Problem(case, rng, dtype)
    with strict():
        jax.eval_shape(jax.grad(lambda x: problem.ours(module, x).sum()), problem.floats)


@pytest.mark.users_compile
@cases_and_modes
def test_extremes(case, module, rng):
    """Logits of any finite size give finite values and gradients, in float32."""
    if not {"logits", "elements"} & set(case.arguments.values()) or "z_loss" in case.keywords:
        pytest.skip("no logits, or a square that may overflow")
    problem = Problem(case, rng, jnp.float32)
    both = jax.jit(jax.value_and_grad(lambda x: problem.ours(module, x).sum()))
    for scale in (1e4, 1e9, 1e30):
        logits = problem.floats["logits"] * jnp.float32(scale)
        value, gradients = both({**problem.floats, "logits": logits})
        assert np.isfinite(value), scale
        assert np.all(np.isfinite(gradients["logits"])), (scale, gradients)


@cases_and_modes
def test_residuals(case, module, rng):
    """The residuals of the logits' gradient are the arguments and a few numbers per example."""
    n, k = 4, 200
    problem = Problem(case, rng, jnp.float32, batch=(n,), k=k)
    first = next(iter(case.arguments))
    x = problem.floats[first]
    _, backward = jax.vjp(lambda x: problem.ours(module, {first: x}), x)
    arrays = [x for x in jax.tree.leaves(backward) if hasattr(x, "size")]
    if jax.__version_info__ < (0, 7):  # older jax keeps zeros for other arguments
        arrays = [x for x in arrays if x.dtype != jax.dtypes.float0 and x.any()]
    kept = sum(x.size for x in arrays)
    arguments = sum(v.size for v in problem.inputs.values())
    examples = n if case.has_axis else n * k  # of an elementwise loss, each element is one
    assert kept <= arguments + 10 * examples + k, (kept, arguments)


PLATFORMS = ["cpu", "cuda", "rocm", "tpu"]


@cases_and_modes
def test_export(case, module, rng):
    """The gradient is exported for every platform at a symbolic batch size, and then runs."""
    problem = Problem(case, rng, jnp.float32)
    kinds = {**case.arguments, **case.keywords}
    batched = CLASSES | {"integers", "elements", "unit elements", "example weights"}
    (b,) = jax.export.symbolic_shape("b")
    specs = {
        k: jax.ShapeDtypeStruct((b, *v.shape[1:]) if kinds[k] in batched else v.shape, v.dtype)
        for k, v in problem.inputs.items()
    }

    @jax.jit
    def gradient(inputs):
        return jax.grad(lambda x: case.call(module, {**inputs, **x}).sum())(case.floats(inputs))

    exported = jax.export.export(gradient, platforms=PLATFORMS)(specs)
    assert set(exported.platforms) == set(PLATFORMS)
    close(exported.call(problem.inputs), gradient(problem.inputs), 1e-6)


# test_head_contract and test_token_statistics test these.
OTHERS = {"linear_softmax_cross_entropy", "linear_token_statistics", "with_linear_head",
          "token_statistics"}  # fmt: skip


def test_every_loss_has_a_row():
    exported = set(FUNCTIONS)
    assert exported - OTHERS == {case.loss for case in CASES}
    assert exported == set(xent_jax.forward_mode.__all__) - {
        "safe_softmax_cross_entropy",
        "chunked_loss",
    }
