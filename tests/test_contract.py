"""One contract, run over every row of the table, in both differentiation modes."""

import functools

import jax
import jax.export
import jax.numpy as jnp
import numpy as np
import pytest

import xent_jax
from tests.cases import CASES, CLASSES, FUNCTIONS, strict, x64

TOLERANCE = 1e-12  # float64, against references that are themselves not careful

modes = pytest.mark.parametrize("module", [xent_jax, xent_jax.forward_mode], ids=["vjp", "jvp"])
cases = pytest.mark.parametrize("case", CASES, ids=lambda case: case.id)


@pytest.fixture(autouse=True)
def float64():
    with x64():
        yield


def close(actual, expected, tolerance=TOLERANCE):
    jax.tree.map(
        lambda a, b: np.testing.assert_allclose(
            np.asarray(a, np.float64), np.asarray(b, np.float64), rtol=tolerance, atol=tolerance
        ),
        actual,
        expected,
    )


def arrays(inputs, dtype=None):
    return {
        k: jnp.asarray(v, dtype if dtype and jnp.issubdtype(v.dtype, jnp.floating) else v.dtype)
        for k, v in inputs.items()
    }


class Problem:
    """One row with its inputs: both sides as functions of the floating arguments."""

    def __init__(self, case, rng, dtype=jnp.float64, **shape):
        self.case = case
        self.inputs = arrays(case.inputs(rng, **shape), dtype)
        self.floats = case.floats(self.inputs)
        out = jax.eval_shape(case.expected, self.inputs)
        self.cotangent = jnp.asarray(rng.standard_normal(out.shape))

    def ours(self, module, floats):
        return self.case.call(module, {**self.inputs, **floats})

    def expected(self, floats):
        return self.case.expected({**self.inputs, **floats})

    def check(self, transform, module, tolerance=TOLERANCE):
        """``transform`` of <g, loss>, jitted, is the same for ours and the reference."""

        def run(losses):
            return jax.jit(transform(lambda x: jnp.vdot(self.cotangent, losses(x))))(self.floats)

        close(run(functools.partial(self.ours, module)), run(self.expected), tolerance)


@cases
@modes
def test_value_and_gradient(case, module, rng):
    """Against autodiff of the reference, with random cotangents."""
    problem = Problem(case, rng, batch=(4, 2))
    value = jax.jit(functools.partial(problem.ours, module))(problem.floats)
    close(value, problem.expected(problem.floats))
    problem.check(jax.grad, module)


@pytest.mark.usefixtures("unoptimized")
@cases
@modes
@pytest.mark.parametrize("second", [jax.jacfwd, jax.jacrev], ids=["over-fwd", "over-rev"])
def test_second_derivative(case, module, second, rng):
    Problem(case, rng, batch=(2,), k=4).check(lambda f: second(jax.grad(f)), module, 1e-10)


@pytest.mark.slow
@pytest.mark.usefixtures("unoptimized")
@cases
@modes
def test_third_derivative(case, module, rng):
    problem = Problem(case, rng, batch=(2,), k=3)
    first = next(iter(case.arguments))
    problem.floats = {first: problem.floats[first]}
    problem.check(lambda f: jax.jacrev(jax.jacfwd(jax.grad(f))), module, 1e-9)


@cases
def test_forward_mode(case, rng):
    """jvp, linearize and jacfwd of jacfwd."""
    problem = Problem(case, rng, batch=(2,), k=3)
    x = problem.floats
    direction = {k: jnp.asarray(rng.standard_normal(v.shape)) for k, v in x.items()}
    ours = functools.partial(problem.ours, xent_jax.forward_mode)
    expected = jax.jvp(problem.expected, (x,), (direction,))
    close(jax.jit(lambda: jax.jvp(ours, (x,), (direction,)))(), expected)
    value, linear = jax.linearize(ours, x)
    close((value, linear(direction)), expected)
    problem.check(lambda f: jax.jacfwd(jax.jacfwd(f)), xent_jax.forward_mode, 1e-10)


@cases
def test_default_refuses_forward_mode(case, rng):
    problem = Problem(case, rng)
    with pytest.raises(TypeError, match="forward-mode"):
        jax.jvp(functools.partial(problem.ours, xent_jax), (problem.floats,), (problem.floats,))


@cases
@modes
def test_eager_scan_and_checkpoint(case, module, rng):
    problem = Problem(case, rng)

    def plain(x):
        return jnp.vdot(problem.cotangent, problem.ours(module, x))

    def scanned(x):
        return jax.lax.scan(lambda s, _: (s + plain(x), None), jnp.zeros(()), None, 2)[0]

    expected = jax.grad(plain)(problem.floats)  # op by op
    close(jax.jit(jax.grad(jax.checkpoint(plain)))(problem.floats), expected)
    close(jax.jit(jax.grad(scanned))(problem.floats), jax.tree.map(lambda x: 2 * x, expected))


@cases
@modes
def test_vmap(case, module, rng):
    """Value and gradient mapped over either axis of the batch, the options held."""
    if case.options.get("reduction", "none") != "none":
        pytest.skip("a reduction over the batch is no map over it")
    problem = Problem(case, rng, batch=(2, 3))
    first = next(iter(case.arguments))

    def both(inputs):
        def loss(floats):
            losses = case.call(module, {**inputs, **floats})
            return jnp.sum(jnp.sin(losses)), losses

        gradients, losses = jax.grad(loss, has_aux=True)(case.floats(inputs))
        return losses, gradients[first]

    expected = jax.jit(both)(problem.inputs)
    for axis in (0, 1):
        mapped = {
            k: axis if k in case.arguments and v.ndim > 1 else None
            for k, v in problem.inputs.items()
        }
        close(jax.jit(jax.vmap(both, (mapped,), axis))(problem.inputs), expected)


@pytest.mark.usefixtures("unoptimized")
@cases
@pytest.mark.parametrize("axis", [0, 1, (1, 2), (2, 0), None])
def test_axis(case, axis, rng):
    """Classes anywhere, or over several axes, in the order given."""
    if not case.has_axis:
        pytest.skip("elementwise: no axis is special")
    sizes = (2, 3) if isinstance(axis, tuple) else (4,)
    batch = () if axis is None else (3,) if isinstance(axis, tuple) else (2, 3)
    problem = Problem(case, rng, batch=batch, k=int(np.prod(sizes)))
    kinds = {**case.arguments, **case.keywords}

    def place(value):
        value = value.reshape(batch + sizes)
        axes = range(value.ndim) if axis is None else np.atleast_1d(axis)
        return jnp.moveaxis(value, range(len(batch), value.ndim), axes)

    def ours(x):
        moved = {
            k: place(v) if kinds[k] in CLASSES else v for k, v in {**problem.inputs, **x}.items()
        }
        return case.call(xent_jax, moved, axis=axis)

    def expected(x):
        out = problem.expected(x)
        return place(out) if case.loss in ("softmax", "log_softmax") else out

    close(jax.jit(ours)(problem.floats), expected(problem.floats))
    gradients = [jax.jit(jax.grad(lambda x, f=f: jnp.sin(f(x)).sum())) for f in (ours, expected)]
    close(*(gradient(problem.floats) for gradient in gradients))


@cases
@pytest.mark.parametrize(
    "dtype", [jnp.float32, jnp.bfloat16, jnp.float16], ids=lambda d: d.__name__
)
def test_dtypes(case, dtype, rng):
    """Half precision: losses in float32, gradients and per-class results in their own."""
    problem = Problem(case, rng, dtype)
    ours = functools.partial(problem.ours, xent_jax)
    exact = {k: v.astype(jnp.float64) for k, v in problem.floats.items()}
    value = jax.jit(ours)(problem.floats)
    per_class = case.loss in ("softmax", "log_softmax", "softcap")
    assert value.dtype == (dtype if per_class else jnp.float32)
    tolerance = 3e-6 if value.dtype == jnp.float32 else 2 * float(jnp.finfo(dtype).eps)
    close(value, problem.expected(exact), tolerance)
    gradients = jax.jit(jax.grad(lambda x: ours(x).sum()))(problem.floats)
    assert {v.dtype for v in gradients.values()} == {jnp.dtype(dtype)}
    expected = jax.jit(jax.grad(lambda x: problem.expected(x).sum()))(exact)
    close(gradients, expected, max(3e-5, float(jnp.finfo(dtype).eps)))


@cases
@modes
@pytest.mark.parametrize("dtype", [jnp.float32, jnp.bfloat16], ids=lambda d: d.__name__)
def test_strict_promotion(case, module, dtype, rng):
    """No implicit promotion of dtypes or ranks inside, forward or backward."""
    problem = Problem(case, rng, dtype)
    with strict():
        jax.eval_shape(jax.grad(lambda x: problem.ours(module, x).sum()), problem.floats)


@cases
@modes
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


@cases
@modes
def test_residuals(case, module, rng):
    """Of the logits' gradient: the arguments, and a few numbers per example."""
    n, k = 4, 200
    problem = Problem(case, rng, jnp.float32, batch=(n,), k=k)
    first = next(iter(case.arguments))
    x = problem.floats[first]
    _, backward = jax.vjp(lambda x: problem.ours(module, {first: x}), x)
    arrays = [x for x in jax.tree.leaves(backward) if hasattr(x, "size")]
    if jax.__version_info__ < (0, 7):  # which holds the zero tangents of the other arguments too
        arrays = [x for x in arrays if x.dtype != jax.dtypes.float0 and x.any()]
    kept = sum(x.size for x in arrays)
    arguments = sum(v.size for v in problem.inputs.values())
    examples = n if case.has_axis else n * k  # elementwise: each element is one
    assert kept <= arguments + 10 * examples + k, (kept, arguments)


PLATFORMS = ["cpu", "cuda", "rocm", "tpu"]


@cases
@modes
def test_export(case, module, rng):
    """The gradient lowers for every platform, at a symbolic batch, and runs from there."""
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


# Around the rows, in test_head_contract, test_head_statistics and test_token_statistics.
OTHERS = {"linear_softmax_cross_entropy", "linear_token_statistics", "with_linear_head",
          "token_statistics"}  # fmt: skip


def test_every_loss_has_a_row():
    exported = set(FUNCTIONS)
    assert exported - OTHERS == {case.loss for case in CASES}
    assert exported == set(xent_jax.forward_mode.__all__)
