"""In every derivative, a cotangent, tangent, weight or probability of 0 times infinity is 0.

The expected values are the limits in ``gradient_limits``.
"""

import re

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import xent_jax
from tests import exact
from tests.cases import CASES, FUNCTIONS, x64
from tests.edges import every_way
from tests.gradient_limits import HALF, INF, LOG2, ROWS, of_the_contract
from tests.heads import modes
from xent_jax import forward_mode

NAN = np.nan
HEADS = {"linear_softmax_cross_entropy", "linear_token_statistics", "with_linear_head"}


PLAIN = {case.loss: case for case in reversed(CASES)}  # without options
NAMES = {key: re.split("[ ,]", key)[0] for key in ROWS}
every_row = pytest.mark.parametrize(
    ("name", "row"),
    [pytest.param(NAMES[key], row, id=key) for key, row in ROWS.items()]
    + [pytest.param(name, of_the_contract(case), id=f"{name}, of the contract",
                    marks=pytest.mark.slow if name in NAMES.values() else ())
       for name, case in PLAIN.items()],
)  # fmt: skip
wraps = pytest.mark.parametrize(
    "wrap",
    [
        pytest.param(lambda f: f, id="eager", marks=pytest.mark.fast_compile),
        pytest.param(jax.jit, id="jit"),
    ],
)


def test_the_tables_have_every_function():
    assert {*NAMES.values(), *PLAIN} == set(FUNCTIONS) - HEADS


def check(row, gradients):
    for got, wanted in zip(gradients, row.wanted(), strict=True):
        np.testing.assert_allclose(got, wanted, rtol=2e-6, atol=1e-7)


@every_row
@every_way
def test_reverse_mode(name, row, module, wrap):
    """A cotangent of 1 gives the gradient, 0 gives 0, and NaN reaches every argument."""

    @wrap
    def pulled(g, *args):
        return jax.vjp(row.total(getattr(module, name)), *args)[1](g)

    check(row, pulled(jnp.float32(1), *row.arrays()))
    for gradient in pulled(jnp.float32(0), *row.arrays()):
        np.testing.assert_array_equal(gradient, np.zeros_like(gradient))
    for gradient in pulled(jnp.float32(NAN), *row.arrays()):
        assert np.isnan(gradient).any()


@every_row
@wraps
def test_forward_mode(name, row, wrap):
    """The derivative is right along each entry of each argument, and 0 along a tangent of 0."""

    @wrap
    def moved(args, tangents):
        return jax.jvp(row.total(getattr(forward_mode, name)), args, tangents)[1]

    args = row.arrays()
    still = tuple(map(jnp.zeros_like, args))

    def derivative(i, entry):
        tangent = jnp.zeros(args[i].size, jnp.float32).at[entry].set(1).reshape(args[i].shape)
        return moved(args, (*still[:i], tangent, *still[i + 1 :]))

    slopes = ([derivative(i, j) for j in range(a.size)] for i, a in enumerate(args))
    check(row, [np.reshape(s, a.shape) for s, a in zip(slopes, args, strict=True)])
    assert moved(args, still) == 0


@pytest.mark.fast_compile
@every_row
def test_hessian_under_a_cotangent_of_zero(name, row):
    def out(*args):
        return jnp.where(False, row.total(getattr(xent_jax, name))(*args), 0.0)

    every = tuple(range(len(row.args)))
    for block in jax.tree.leaves(jax.jit(jax.hessian(out, every))(*row.arrays())):
        np.testing.assert_array_equal(block, np.zeros_like(block))


def test_no_constant_is_folded_into_a_product_of_zero_and_infinity():
    """XLA may fold the probabilities, which are one constant, but not the cotangent."""
    pulled = jax.jit(lambda g: jax.vjp(xent_jax.entropy, jnp.zeros(4))[1](g)[0])
    np.testing.assert_array_equal(pulled(0.0), np.zeros(4))
    np.testing.assert_array_equal(pulled(1.0), np.full(4, INF))


@modes
def test_hessian_of_entropy_at_zero(module):
    wanted = [[-INF, 0, 0], [0, -2, 0], [0, 0, -2]]
    for outer in (jax.jacfwd, jax.jacrev):
        got = jax.jit(outer(jax.jacrev(module.entropy)))(jnp.asarray(HALF))
        np.testing.assert_array_equal(got, wanted)


# ------------------------------------------------------ compositions with softmax


def log_softmax(z):
    """Returns p, and log p with 0 in place of -infinity, to 60 digits."""
    row = exact.softmax(z)
    return row.p, np.where(row.p > 0, exact.exact(z) - row.shift - row.log_total, 0)


def mean_gradient(p, x):
    """Returns the mean ``<p, x>``, and its gradient to the logits of p, ``p (x - <p, x>)``."""
    return float(p @ x), (p * (x - p @ x)).astype(float)


GAPS = [[0.0, gap] for gap in (60.0, 87.0, 88.0, 104.0, 200.0, 800.0)]
GAPS += [[-INF, 0.0, 1.0], [-88.0, 0.0, 1.0], [0.5, 200.0, 199.0]]
widths = pytest.mark.parametrize("wide", [False, True], ids=["float32", "float64"])


@pytest.mark.users_compile
@every_way
@widths
@pytest.mark.parametrize("of", ["probabilities", "logits"])
def test_entropy_of_a_softmax(of, wide, module, wrap):
    """The gradient to the logits is ``-p (log p + H)``."""
    # In float32 the rounding of a logit near -88 changes its exponential by up to 4e-6, in
    # float64 by 7e-15. What is below the smallest normal number may be flushed to 0.
    rtol = 1e-4 if of == "probabilities" else 1e-13 if wide else 5e-6
    entropy = (
        module.softmax_entropy if of == "logits" else lambda z: module.entropy(module.softmax(z))
    )
    with x64(wide):
        both = wrap(jax.value_and_grad(entropy))
        for z in GAPS:
            value, gradient = both(jnp.asarray(z, jnp.float64 if wide else jnp.float32))
            h, slope = mean_gradient(*log_softmax(z))
            np.testing.assert_allclose(gradient, -slope, rtol, atol=1e-35, err_msg=str(z))
            if of == "logits":
                np.testing.assert_allclose(value, -h, rtol, atol=1e-35, err_msg=str(z))
            elif z == [0.0, 200.0] and not wide:
                np.testing.assert_array_equal(gradient, [0, 0])


def distillation(module):
    def loss(student, teacher):
        return module.kl_divergence(module.log_softmax(student), module.softmax(teacher))

    return loss


@pytest.mark.users_compile
@every_way
def test_teacher_s_gradient(module, wrap):
    """The gradient to the teacher's logits is ``t (log t - l - KL)``, l the student's log p."""
    gradient = wrap(jax.grad(distillation(module), 1))
    for teacher in GAPS:
        student = [1.0, 2.0, -1.0][: len(teacher)]
        got = gradient(jnp.asarray(student), jnp.asarray(teacher))
        t, log_t = log_softmax(teacher)
        _, wanted = mean_gradient(t, log_t - log_softmax(student)[1])
        np.testing.assert_allclose(got, wanted, rtol=1e-4, atol=2e-7, err_msg=str(teacher))


def test_second_derivatives_of_compositions():
    def of_entropy(module):
        return lambda z: module.entropy(module.softmax(z))

    @jax.jit
    def hessians(z, student, teacher):
        modules = xent_jax, forward_mode
        of_entropies = [jax.hessian(of_entropy(module))(z) for module in modules]
        of_entropies.append(jax.jacfwd(jax.jacfwd(of_entropy(forward_mode)))(z))
        return of_entropies, [jax.hessian(distillation(m), 1)(student, teacher) for m in modules]

    z, student, teacher = map(jnp.array, ([0.0, 200.0], [1.0, 2.0, 2.0], [-INF, 0.0, 0.0]))
    of_entropies, of_divergences = hessians(z, student, teacher)
    for hessian in of_entropies:
        np.testing.assert_array_equal(hessian, np.zeros((2, 2)))
    for hessian in of_divergences:
        wanted = [[0, 0, 0], [0, 0.25, -0.25], [0, -0.25, 0.25]]  # diag(t) - t t', l_1 = l_2
        np.testing.assert_allclose(hessian, wanted, atol=1e-6)


def jensen_shannon(module, p, q):
    m = (p + q) / 2
    return (module.relative_entropy(p, m) + module.relative_entropy(q, m)) / 2


@modes
def test_jensen_shannon_divergence(module):
    """The gradient to p is log(p / m) / 2; the gradient to a logit is 0 if its probability is 0."""
    p, q = jnp.array([0, 0, 0.5, 0.5]), jnp.array([0, 0.5, 0.5, 0])
    got = jax.jit(jax.grad(lambda p, q: jensen_shannon(module, p, q), (0, 1)))(p, q)
    np.testing.assert_allclose(got[0], [-INF, -INF, 0, LOG2 / 2], atol=1e-7)
    np.testing.assert_allclose(got[1], [-INF, LOG2 / 2, 0, -INF], atol=1e-7)

    def of_logits(a, b):
        return jensen_shannon(module, module.softmax(a), module.softmax(b))

    a, b = jnp.array([-INF, -200.0, 0, 0]), jnp.array([-200.0, 0, 0, -INF])
    got = jax.jit(jax.grad(of_logits, (0, 1)))(a, b)
    # p_j (log(p_j / m_j) - <p, log(p / m)>) / 2 for p = (0, 0, 1/2, 1/2).
    np.testing.assert_allclose(got[0], [0, 0, -LOG2 / 8, LOG2 / 8], atol=1e-7)
    np.testing.assert_allclose(got[1], [0, LOG2 / 8, -LOG2 / 8, 0], atol=1e-7)


@modes
def test_poison_is_not_hidden(module):
    """NaN logits give NaN rows, and NaN probabilities give NaN, next to a probability of 0 too."""
    student, teacher = jnp.array([[1.0, NAN, 0]] * 2), jnp.array([[-INF, 0, 1.0], [0, 0, 1.0]])
    gradients = jax.grad(lambda s, t: distillation(module)(s, t).sum(), (0, 1))
    assert all(np.isnan(g).all() for g in jax.jit(gradients)(student, teacher))
    gradient = jax.jit(jax.grad(module.entropy))(jnp.array([NAN, 0.0, 1.0]))
    np.testing.assert_array_equal(gradient, [NAN, INF, -1])
