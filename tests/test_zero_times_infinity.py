"""In every derivative zero times infinity is 0: a cotangent, tangent, weight or probability of 0.

The expected values in the table are limits that were derived by hand.
"""

import functools
import re
from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import xent_jax
from tests import exact
from tests.cases import CASES, FUNCTIONS, x64
from tests.heads import modes
from xent_jax import forward_mode

INF, NAN = np.inf, np.nan
LOG2 = np.log(2)
HEADS = {"linear_softmax_cross_entropy", "linear_token_statistics", "with_linear_head"}


class Row(NamedTuple):
    """A call at the edge, and the gradient of the sum of its result by each of its arguments."""

    args: tuple[Any, ...]
    wanted: Callable[[], tuple[Any, ...]]
    call: Callable[..., Any]  # (function, *args)

    def arrays(self):
        return tuple(jnp.asarray(a, jnp.float32) for a in self.args)

    def total(self, function):
        """The sum of what the function gives, of the arguments."""
        return lambda *args: jnp.sum(self.call(function, *args))


def at(args, wanted, names="", options=None, part=lambda out: out):
    """Returns a row of the table; ``names`` are the keywords of the last arguments."""
    first = len(args) - len(names.split())

    def call(function, *args):
        named = dict(zip(names.split(), args[first:], strict=True))
        return part(function(*args[:first], **named, **(options or {})))

    return Row(args, lambda: wanted, call)


HALF = [0, 0.5, 0.5]
Z = [0.5, -INF, 2.0]
P = np.exp([0.5, 2.0]) / np.exp([0.5, 2.0]).sum()  # the softmax of Z without its second class
LSE = np.log(np.exp([0.5, 2.0]).sum())
STUDENT = 3 / 16 * np.log(4 / 3)  # (1 - beta) q (log(q / m) - KL(q || m)), with beta = 1/4
H_SLOPE = -P[0] * P[1] * np.log(P[0] / P[1])  # of the entropy: -p (log p + H)
MEAN = 0.4 * P[0] + 0.6 * P[1]
POLY = [LSE - 0.5 + 2 * P[1], LSE - 2 + 2 * P[0]]  # -log p + 2 (1 - p)
BY_POLY = [P[0] - 0.4 + 2 * P[0] * (MEAN - 0.4), 0, P[1] - 0.6 + 2 * P[1] * (MEAN - 0.6)]
LEFT = {"where": jnp.array([True, False, True])}
ZERO, ONE = {"labels": jnp.array(0)}, {"labels": jnp.array(1)}


ROWS = {
    "entropy": at((HALF,), ([INF, LOG2 - 1, LOG2 - 1],)),
    "cross_entropy of 0 and 0": at(
        (HALF, [0, 0.25, 0.75]), ([INF, -np.log(0.25), -np.log(0.75)], [0, -2, -2 / 3]),
    ),
    "cross_entropy of infinity": at(
        ([0.5, 0.5, 0], [0, 0.5, 0.5]), ([INF, LOG2, LOG2], [-INF, -1, 0]),
    ),
    "relative_entropy of 0 and 0": at((HALF, HALF), ([-INF, 1, 1], [0, -1, -1])),
    "relative_entropy of 0": at(
        (HALF, [0.2, 0.4, 0.4]), ([-INF, np.log(1.25) + 1, np.log(1.25) + 1], [0, -1.25, -1.25]),
    ),
    "relative_entropy of infinity": at(
        ([0.5, 0.5, 0], [0, 0.5, 0.5]), ([INF, 1, -INF], [-INF, -1, 0]),
    ),
    "kl_divergence of 0 and 0": at(([-INF, -LOG2, -LOG2], HALF), ([0, -0.5, -0.5], [-INF, 1, 1])),
    "kl_divergence of 0": at(
        (np.log([0.2, 0.4, 0.4]), HALF),
        ([0, -0.5, -0.5], [-INF, np.log(1.25) + 1, np.log(1.25) + 1]),
    ),
    "kl_divergence of infinity": at(
        ([-INF, -LOG2, -LOG2], [0.5, 0.5, 0]), ([-0.5, -0.5, 0], [INF, 1, -INF]),
    ),
    "kl_divergence, masked": at(
        (np.log([0.5, 0.2, 0.3]), [0.4, 0, 0.6]), ([-0.4, 0, -0.6], [np.log(0.8) + 1, 0, LOG2 + 1]),
        options=LEFT,
    ),
    "kl_divergence_with_log_targets of 0 and 0": at(
        ([-INF, -LOG2, -LOG2], [-INF, -LOG2, -LOG2]), ([0, -0.5, -0.5], [0, 0.5, 0.5]),
    ),
    "kl_divergence_with_log_targets of infinity": at(
        ([-INF, -LOG2, -LOG2], [-LOG2, -LOG2, -INF]), ([-0.5, -0.5, 0], [INF, 0.5, 0]),
    ),
    "generalized_kl_divergence of 0 and 0": at(
        ([-INF, 0, -LOG2], HALF), ([0, 0.5, 0], [-INF, -LOG2, 0]),
    ),
    "generalized_kl_divergence of infinity": at(
        ([-INF, -LOG2, INF], [0.5, 0, 0.5]), ([-0.5, 0.5, INF], [INF, -INF, -INF]),
    ),
    # Each logit has a weight of the positive class and a label.
    "sigmoid_binary_cross_entropy": at(
        ([INF, INF, INF, -INF, -INF, -INF, -INF], [0, 0.3, 1, 0, 0.3, 1, 0.3]),
        ([1, 0.7, 0, 0, -0.3, -1, -0.3], [-INF] * 3 + [INF] * 4),
    ),
    "sigmoid_binary_cross_entropy, weights": at(
        ([INF, INF, -INF, -INF, -INF], [0, 1, 0, 0.5, 1], [0, 1, 0.5, 0, 1]),
        ([1, 0, 0, 0, -1], [-INF, -INF, INF, 0, INF], [0, 0, 0, INF, INF]), "pos_weight",
    ),
    "sigmoid_binary_cross_entropy, smoothing": at(
        ([INF, -INF], [0, 1], 0.2), ([0.9, -0.9], [-INF, INF], -INF), "label_smoothing",
    ),
    "sigmoid_focal_loss": at(
        ([INF, INF, INF, -INF, -INF, -INF], [0, 0.3, 1, 0, 0.3, 1], 2.0),
        ([1, 0.7**3, 0, 0, -(0.3**3), -1], [-INF, -INF, 0, 0, INF, INF], -INF), "gamma",
    ),
    "sigmoid_focal_loss, gamma of hard labels": at(
        ([INF, INF, -INF, -INF], [0, 1, 0, 1], 0.5), ([1, 0, 0, -1], [-INF, 0, 0, INF], 0), "gamma",
    ),
    "sigmoid_focal_loss, gamma 0": at(
        ([INF, INF, -INF, -INF], [0, 1, 0, 1], 0.0), ([1, 0, 0, -1], [-INF, -INF, INF, INF], 0),
        "gamma",
    ),
    "sigmoid_focal_loss, alpha": at(
        ([INF, -INF, INF, -INF], [0, 1, 0.5, 0], [1, 0, 0.5, 0.5]),
        ([0, 0, 0.0625, 0], [INF, -INF, -INF, 0], [-INF, INF, 0, 0]),
    ),
    "softmax": at((Z,), ([P[0] * P[1], 0, -P[0] * P[1]],), part=lambda p: p[0]),
    "log_softmax": at((Z,), ([P[1], 0, -P[1]],), part=lambda p: p[0]),
    "logsumexp": at((Z,), ([P[0], 0, P[1]],)),
    "softmax_entropy": at((Z,), ([H_SLOPE, 0, -H_SLOPE],)),
    "token_statistics, entropy": at(
        (Z,), ([H_SLOPE, 0, -H_SLOPE],), options=ZERO, part=lambda found: found.entropy,
    ),
    "token_statistics, the likeliest": at(
        (Z,), ([P[1], 0, -P[1]],), options=ZERO | {"top_k": 2},
        part=lambda found: found.top_k_log_probabilities[1],
    ),
    "softmax_cross_entropy": at(
        (Z, [0.4, 0, 0.6]), ([P[0] - 0.4, 0, P[1] - 0.6], [LSE - 0.5, 0, LSE - 2]),
    ),
    "softmax_cross_entropy of infinity": at(
        (Z, [0.4, 0.1, 0.5]), ([P[0] - 0.4, -0.1, P[1] - 0.5], [LSE - 0.5, INF, LSE - 2]),
    ),
    "softmax_cross_entropy, weights": at(
        (Z, [0.4, 0, 0.6], [1, 2, 2]),
        ([1.6 * P[0] - 0.4, 0, 1.6 * P[1] - 1.2], [LSE - 0.5, 0, 2 * (LSE - 2)],
         [0.4 * (LSE - 0.5), 0, 0.6 * (LSE - 2)]), "class_weights",
    ),
    "softmax_cross_entropy, masked": at(
        ([0.5, 1, 2], [0.4, 0, 0.6]), ([P[0] - 0.4, 0, P[1] - 0.6], [LSE - 0.5, 0, LSE - 2]),
        options=LEFT,
    ),
    "softmax_cross_entropy, smoothing": at(
        (Z, [1, 0, 0], 0.3),
        ([P[0] - 0.8, -0.1, P[1] - 0.1], [0.7 * (LSE - 0.5), INF, 0.7 * (LSE - 2)], INF),
        "label_smoothing",
    ),
    "softmax_cross_entropy_with_integer_labels": at(
        (Z, [1, 2, 3]), ([2 * P[0], -2, 2 * P[1]], [0, INF, 0]), "class_weights", ONE,
    ),
    "softmax_cross_entropy_with_integer_labels, smoothing": at(
        (Z, [0, 1, 0], 1.0),
        ([P[0] / 3, -1 / 3, P[1] / 3], [(LSE - 0.5) / 3, INF, (LSE - 2) / 3], INF),
        "class_weights label_smoothing", ZERO,
    ),
    "softmax_focal_loss": at(
        (Z, [1, 2, 3]), ([2 * P[0], -2, 2 * P[1]], [0, INF, 0]), "class_weights", ONE,
    ),
    "softmax_focal_loss, gamma": at((Z, 2.0), ([P[0], -1, P[1]], 0), "gamma", ONE),
    "poly_loss_cross_entropy": at(
        (Z, [0, 0.1, 0], 2.0),
        ([0.1 * P[0], -0.1, 0.1 * P[1]], [LSE - 0.5 + 2 * P[1], INF, LSE - 2 + 2 * P[0]], 0.1),
    ),
    "poly_loss_cross_entropy of 0": at((Z, [0.4, 0, 0.6]), (BY_POLY, [*POLY[:1], 2, *POLY[1:]])),
    "poly_loss_cross_entropy, masked": at(
        ([0.5, 1, 2], [0.4, 0, 0.6]), (BY_POLY, [*POLY[:1], 0, *POLY[1:]]), options=LEFT,
    ),
    # p = (1, 0, 1) / 2, q = P, and a class that neither has.
    "softmax_kl_divergence": at(
        (Z, [1.0, -INF, 1.0], 1.0),
        ([P[0] - 0.5, 0, P[1] - 0.5], [0.375, 0, -0.375], 1.5 * (0.5 - P[1])), "temperature",
    ),
    # The student has a class that the teacher has not.
    "softmax_kl_divergence of 0": at(
        ([0.0, 0.0, 0.0], [1.0, -INF, 1.0]), ([1 / 3 - 0.5, 1 / 3, 1 / 3 - 0.5], [0, 0, 0]),
    ),
    # A class of both, one of each, and one of neither.
    "softmax_jensen_shannon_divergence": at(
        ([1.0, 1.0, -INF, -INF], [1.0, -INF, 1.0, -INF], 1.0, 0.25),
        ([-STUDENT, STUDENT, 0, 0], [-LOG2 / 8, 0, LOG2 / 8, 0], 0, np.log(3) / 2),
        "temperature beta",
    ),
    "softcap": at(([INF, -INF, 0], 2.0), ([0, 0, 1], 0)),
}  # fmt: skip

ENDS = {"probabilities": 0.0, "soft": 0.0}  # of the range of a kind; of the others -inf


def of_the_contract(case):
    """Returns a row of the contract with one class of the first argument at the end of its range.

    So is that class of other arguments of the same kind. The wanted gradients are limits of the
    reference's; a number that still grows far out is infinite.
    """
    inputs = case.inputs(np.random.default_rng(0), (), 3)
    inputs |= {k: np.int32(0) for k, kind in case.arguments.items() if kind == "integers"}
    floats = {k: np.asarray(v, np.float32) for k, v in case.floats(inputs).items()}
    kind, *_ = case.arguments.values()

    def call(function, *args):
        out = case.apply(function, {**inputs, **dict(zip(floats, args, strict=True))}, {})
        return out * jnp.arange(1.0, 1 + jnp.size(out)).reshape(jnp.shape(out))

    def moved(entry):
        ends = {k for k, other in case.arguments.items() if other == kind}
        return tuple(np.append(v[:-1], entry) if k in ends else v for k, v in floats.items())

    @jax.jit
    def gradients(args):
        every = tuple(range(len(args)))
        return jax.grad(lambda *args: jnp.sum(call(case.reference, *args)), every)(*args)

    @functools.cache
    def limits():
        with x64():
            far = [np.exp(x) if kind in ENDS else x for x in (-150.0, -300.0)]
            pairs = zip(*(gradients([np.float64(v) for v in moved(x)]) for x in far), strict=True)
            return [np.where(np.isclose(a, b, rtol=1e-9), b, b * INF) for a, b in pairs]

    return Row(moved(ENDS.get(kind, -INF)), limits, call)


PLAIN = {case.loss: case for case in reversed(CASES)}  # without options
NAMES = [re.split("[ ,]", key)[0] for key in ROWS]
every_row = pytest.mark.parametrize(
    ("name", "row"),
    [
        *(
            pytest.param(name, row, id=key)
            for name, (key, row) in zip(NAMES, ROWS.items(), strict=True)
        ),
        *(
            pytest.param(name, of_the_contract(case), id=f"{name}, of the contract",
                         marks=pytest.mark.slow if name in NAMES else ())
            for name, case in PLAIN.items()
        ),
    ],
)  # fmt: skip
fast = pytest.mark.fast_compile  # where the other way is compiled as users compile it
wraps = pytest.mark.parametrize(
    "wrap", [pytest.param(lambda f: f, id="eager", marks=fast), pytest.param(jax.jit, id="jit")]
)
ways = pytest.mark.parametrize(
    ("module", "wrap"),
    [
        pytest.param(xent_jax, jax.jit, id="vjp-jit"),
        pytest.param(forward_mode, lambda f: f, id="jvp-eager", marks=fast),
    ],
)


def test_the_tables_have_every_function():
    assert {*NAMES, *PLAIN} == set(FUNCTIONS) - HEADS


def check(row, gradients):
    for got, wanted in zip(gradients, row.wanted(), strict=True):
        np.testing.assert_allclose(got, wanted, rtol=2e-6, atol=1e-7)


@every_row
@ways
def test_reverse_mode(name, row, module, wrap):
    """A cotangent of 1, one of 0, and one of NaN, which every argument sees."""

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
    """The derivative along each entry of each argument, and along a tangent of 0."""

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
    """XLA sees that the probabilities are one constant, but not the cotangent."""
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
    """p, and log p with 0 in place of -inf, to 60 digits."""
    row = exact.softmax(z)
    return row.p, np.where(row.p > 0, exact.exact(z) - row.shift - row.log_total, 0)


def mean_gradient(p, x):
    """``p (x - <p, x>)``, the softmax's derivative of the mean of ``x``, and that mean."""
    return float(p @ x), (p * (x - p @ x)).astype(float)


GAPS = [[0.0, gap] for gap in (60.0, 87.0, 88.0, 104.0, 200.0, 800.0)]
GAPS += [[-INF, 0.0, 1.0], [-88.0, 0.0, 1.0], [0.5, 200.0, 199.0]]
widths = pytest.mark.parametrize("wide", [False, True], ids=["float32", "float64"])


@pytest.mark.users_compile
@ways
@widths
@pytest.mark.parametrize("of", ["probabilities", "logits"])
def test_entropy_of_a_softmax(of, wide, module, wrap):
    """Its gradient is -p (log p + H)."""
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
@ways
def test_teacher_s_gradient(module, wrap):
    """It is t (log t - l - KL)."""
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
    """Its gradient by p is log(p / m) / 2, and by logits 0 at a probability of 0."""
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
    """NaN logits and NaN probabilities give NaN rows, next to a probability of 0 too."""
    student, teacher = jnp.array([[1.0, NAN, 0]] * 2), jnp.array([[-INF, 0, 1.0], [0, 0, 1.0]])
    gradients = jax.grad(lambda s, t: distillation(module)(s, t).sum(), (0, 1))
    assert all(np.isnan(g).all() for g in jax.jit(gradients)(student, teacher))
    gradient = jax.jit(jax.grad(module.entropy))(jnp.array([NAN, 0.0, 1.0]))
    np.testing.assert_array_equal(gradient, [NAN, INF, -1])
