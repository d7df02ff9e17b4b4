"""In every derivative zero times infinity is 0: a cotangent, tangent, weight or probability of 0.

The expected values in the table are limits that were derived by hand.
"""

import functools
from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import mpmath
import numpy as np
import pytest

import xent_jax
from tests.cases import CASES, FUNCTIONS, x64
from xent_jax import forward_mode

INF, NAN = np.inf, np.nan
LOG2 = np.log(2)
HEADS = {"linear_softmax_cross_entropy", "linear_token_statistics", "with_linear_head"}


class Row(NamedTuple):
    """A call at the edge, and the gradient of the sum of its result by each of its arguments."""

    name: str
    args: tuple[Any, ...]
    wanted: tuple[Any, ...] | Callable[[], Any]
    call: Callable[..., Any] | None = None  # (function, *args), where it is not function(*args)

    def of(self, module):
        function = getattr(module, self.name)
        call = self.call or (lambda function, *args: function(*args))
        return lambda *args: jnp.sum(call(function, *args))

    def arrays(self):
        return tuple(jnp.asarray(a, jnp.float32) for a in self.args)


HALF = [0, 0.5, 0.5]
Z = [0.5, -INF, 2.0]
P = np.exp([0.5, 2.0]) / np.exp([0.5, 2.0]).sum()  # the softmax of Z without its second class
LSE = np.log(np.exp([0.5, 2.0]).sum())
STUDENT = 3 / 16 * np.log(4 / 3)  # (1 - beta) q (log(q / m) - KL(q || m)), with beta = 1/4
H_SLOPE = -P[0] * P[1] * np.log(P[0] / P[1])  # of the entropy: -p (log p + H)


def weighted(y, **options):
    """Integer labels, the logits and the class weights as arguments."""
    return lambda loss, z, w: loss(z, jnp.array(y), class_weights=w, **options)


ROWS = {
    "entropy": Row("entropy", (HALF,), ([INF, LOG2 - 1, LOG2 - 1],)),
    "cross_entropy of 0 and 0": Row(
        "cross_entropy",
        (HALF, [0, 0.25, 0.75]),
        ([INF, -np.log(0.25), -np.log(0.75)], [0, -2, -2 / 3]),
    ),
    "cross_entropy of infinity": Row(
        "cross_entropy", ([0.5, 0.5, 0], [0, 0.5, 0.5]), ([INF, LOG2, LOG2], [-INF, -1, 0])
    ),
    "relative_entropy of 0 and 0": Row(
        "relative_entropy", (HALF, HALF), ([-INF, 1, 1], [0, -1, -1])
    ),
    "relative_entropy of 0": Row(
        "relative_entropy",
        (HALF, [0.2, 0.4, 0.4]),
        ([-INF, np.log(1.25) + 1, np.log(1.25) + 1], [0, -1.25, -1.25]),
    ),
    "relative_entropy of infinity": Row(
        "relative_entropy", ([0.5, 0.5, 0], [0, 0.5, 0.5]), ([INF, 1, -INF], [-INF, -1, 0])
    ),
    "kl_divergence of 0 and 0": Row(
        "kl_divergence", ([-INF, -LOG2, -LOG2], HALF), ([0, -0.5, -0.5], [-INF, 1, 1])
    ),
    "kl_divergence of 0": Row(
        "kl_divergence",
        (np.log([0.2, 0.4, 0.4]), HALF),
        ([0, -0.5, -0.5], [-INF, np.log(1.25) + 1, np.log(1.25) + 1]),
    ),
    "kl_divergence of infinity": Row(
        "kl_divergence",
        ([-INF, -LOG2, -LOG2], [0.5, 0.5, 0]),
        ([-0.5, -0.5, 0], [INF, 1, -INF]),
    ),
    "kl_divergence_with_log_targets of 0 and 0": Row(
        "kl_divergence_with_log_targets",
        ([-INF, -LOG2, -LOG2], [-INF, -LOG2, -LOG2]),
        ([0, -0.5, -0.5], [0, 0.5, 0.5]),
    ),
    "kl_divergence_with_log_targets of infinity": Row(
        "kl_divergence_with_log_targets",
        ([-INF, -LOG2, -LOG2], [-LOG2, -LOG2, -INF]),
        ([-0.5, -0.5, 0], [INF, 0.5, 0]),
    ),
    "generalized_kl_divergence of 0 and 0": Row(
        "generalized_kl_divergence", ([-INF, 0, -LOG2], HALF), ([0, 0.5, 0], [-INF, -LOG2, 0])
    ),
    "generalized_kl_divergence of infinity": Row(
        "generalized_kl_divergence",
        ([-INF, -LOG2, INF], [0.5, 0, 0.5]),
        ([-0.5, 0.5, INF], [INF, -INF, -INF]),
    ),
    # Each logit has a weight of the positive class and a label.
    "sigmoid_binary_cross_entropy": Row(
        "sigmoid_binary_cross_entropy",
        ([INF, INF, INF, -INF, -INF, -INF, -INF], [0, 0.3, 1, 0, 0.3, 1, 0.3]),
        ([1, 0.7, 0, 0, -0.3, -1, -0.3], [-INF] * 3 + [INF] * 4),
    ),
    "sigmoid_binary_cross_entropy, weights": Row(
        "sigmoid_binary_cross_entropy",
        ([INF, INF, -INF, -INF, -INF], [0, 1, 0, 0.5, 1], [0, 1, 0.5, 0, 1]),
        ([1, 0, 0, 0, -1], [-INF, -INF, INF, 0, INF], [0, 0, 0, INF, INF]),
        lambda loss, z, t, w: loss(z, t, pos_weight=w),
    ),
    "sigmoid_binary_cross_entropy, smoothing": Row(
        "sigmoid_binary_cross_entropy",
        ([INF, -INF], [0, 1], 0.2),
        ([0.9, -0.9], [-INF, INF], -INF),
        lambda loss, z, t, e: loss(z, t, label_smoothing=e),
    ),
    "sigmoid_focal_loss": Row(
        "sigmoid_focal_loss",
        ([INF, INF, INF, -INF, -INF, -INF], [0, 0.3, 1, 0, 0.3, 1], 2.0),
        ([1, 0.7**3, 0, 0, -(0.3**3), -1], [-INF, -INF, 0, 0, INF, INF], -INF),
        lambda loss, z, t, gamma: loss(z, t, gamma=gamma),
    ),
    "sigmoid_focal_loss, gamma of hard labels": Row(
        "sigmoid_focal_loss",
        ([INF, INF, -INF, -INF], [0, 1, 0, 1], 0.5),
        ([1, 0, 0, -1], [-INF, 0, 0, INF], 0),
        lambda loss, z, t, gamma: loss(z, t, gamma=gamma),
    ),
    "sigmoid_focal_loss, gamma 0": Row(
        "sigmoid_focal_loss",
        ([INF, INF, -INF, -INF], [0, 1, 0, 1], 0.0),
        ([1, 0, 0, -1], [-INF, -INF, INF, INF], 0),
        lambda loss, z, t, gamma: loss(z, t, gamma=gamma),
    ),
    "sigmoid_focal_loss, alpha": Row(
        "sigmoid_focal_loss",
        ([INF, -INF, INF, -INF], [0, 1, 0.5, 0], [1, 0, 0.5, 0.5]),
        ([0, 0, 0.0625, 0], [INF, -INF, -INF, 0], [-INF, INF, 0, 0]),
        lambda loss, z, t, alpha: loss(z, t, alpha),
    ),
    "softmax": Row("softmax", (Z,), ([P[0] * P[1], 0, -P[0] * P[1]],), lambda f, z: f(z)[0]),
    "log_softmax": Row("log_softmax", (Z,), ([P[1], 0, -P[1]],), lambda f, z: f(z)[0]),
    "logsumexp": Row("logsumexp", (Z,), ([P[0], 0, P[1]],)),
    "softmax_entropy": Row("softmax_entropy", (Z,), ([H_SLOPE, 0, -H_SLOPE],)),
    "token_statistics, entropy": Row(
        "token_statistics",
        (Z,),
        ([H_SLOPE, 0, -H_SLOPE],),
        lambda f, z: f(z, jnp.array(0)).entropy,
    ),
    "token_statistics, the likeliest": Row(
        "token_statistics",
        (Z,),
        ([P[1], 0, -P[1]],),
        lambda f, z: f(z, jnp.array(0), top_k=2).top_k_log_probabilities[1],
    ),
    "softmax_cross_entropy": Row(
        "softmax_cross_entropy",
        (Z, [0.4, 0, 0.6]),
        ([P[0] - 0.4, 0, P[1] - 0.6], [LSE - 0.5, 0, LSE - 2]),
    ),
    "softmax_cross_entropy of infinity": Row(
        "softmax_cross_entropy",
        (Z, [0.4, 0.1, 0.5]),
        ([P[0] - 0.4, -0.1, P[1] - 0.5], [LSE - 0.5, INF, LSE - 2]),
    ),
    "softmax_cross_entropy, smoothing": Row(
        "softmax_cross_entropy",
        (Z, [1, 0, 0], 0.3),
        ([P[0] - 0.8, -0.1, P[1] - 0.1], [0.7 * (LSE - 0.5), INF, 0.7 * (LSE - 2)], INF),
        lambda loss, z, t, e: loss(z, t, label_smoothing=e),
    ),
    "softmax_cross_entropy_with_integer_labels": Row(
        "softmax_cross_entropy_with_integer_labels",
        (Z, [1, 2, 3]),
        ([2 * P[0], -2, 2 * P[1]], [0, INF, 0]),
        weighted(1),
    ),
    "softmax_cross_entropy_with_integer_labels, smoothing": Row(
        "softmax_cross_entropy_with_integer_labels",
        (Z, [0, 1, 0], 1.0),
        ([P[0] / 3, -1 / 3, P[1] / 3], [(LSE - 0.5) / 3, INF, (LSE - 2) / 3], INF),
        lambda loss, z, w, e: loss(z, jnp.array(0), class_weights=w, label_smoothing=e),
    ),
    "softmax_focal_loss": Row(
        "softmax_focal_loss", (Z, [1, 2, 3]), ([2 * P[0], -2, 2 * P[1]], [0, INF, 0]), weighted(1)
    ),
    "softmax_focal_loss, gamma": Row(
        "softmax_focal_loss",
        (Z, 2.0),
        ([P[0], -1, P[1]], 0),
        lambda loss, z, gamma: loss(z, jnp.array(1), gamma=gamma),
    ),
    "poly_loss_cross_entropy": Row(
        "poly_loss_cross_entropy",
        (Z, [0, 0.1, 0], 2.0),
        ([0.1 * P[0], -0.1, 0.1 * P[1]], [LSE - 0.5 + 2 * P[1], INF, LSE - 2 + 2 * P[0]], 0.1),
    ),
    "softmax_kl_divergence": Row(  # p = (1, 0, 1) / 2, q = P, and a class that neither has
        "softmax_kl_divergence",
        (Z, [1.0, -INF, 1.0], 1.0),
        ([P[0] - 0.5, 0, P[1] - 0.5], [0.375, 0, -0.375], 1.5 * (0.5 - P[1])),
        lambda loss, z, w, t: loss(z, w, temperature=t),
    ),
    "softmax_kl_divergence of 0": Row(  # the student has a class that the teacher has not
        "softmax_kl_divergence",
        ([0.0, 0.0, 0.0], [1.0, -INF, 1.0]),
        ([1 / 3 - 0.5, 1 / 3, 1 / 3 - 0.5], [0, 0, 0]),
    ),
    "softmax_jensen_shannon_divergence": Row(  # a class of both, one of each, and one of neither
        "softmax_jensen_shannon_divergence",
        ([1.0, 1.0, -INF, -INF], [1.0, -INF, 1.0, -INF], 1.0, 0.25),
        ([-STUDENT, STUDENT, 0, 0], [-LOG2 / 8, 0, LOG2 / 8, 0], 0, np.log(3) / 2),
        lambda loss, z, w, t, b: loss(z, w, temperature=t, beta=b),
    ),
    "softcap": Row("softcap", ([INF, -INF, 0], 2.0), ([0, 0, 1], 0)),
}  # fmt: skip

ENDS = {"probabilities": 0.0, "soft": 0.0}  # of the range of a kind; of the others -inf


def of_the_contract(case):
    """A row of the contract with one class of the first argument at the end of its range.

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

    return Row(case.loss, moved(ENDS.get(kind, -INF)), limits, call)


PLAIN = {case.loss: case for case in reversed(CASES)}  # without options
by_hand = {row.name for row in ROWS.values()}
every_row = pytest.mark.parametrize(
    "row",
    [
        *(pytest.param(row, id=name) for name, row in ROWS.items()),
        *(
            pytest.param(of_the_contract(case), id=f"{name}, of the contract",
                         marks=pytest.mark.slow if name in by_hand else ())
            for name, case in PLAIN.items()
        ),
    ],
)  # fmt: skip
modules = pytest.mark.parametrize("module", [xent_jax, forward_mode], ids=["vjp", "jvp"])
wraps = pytest.mark.parametrize("wrap", [lambda f: f, jax.jit], ids=["eager", "jit"])
ways = pytest.mark.parametrize(
    ("module", "wrap"),
    [(xent_jax, jax.jit), (forward_mode, lambda f: f)],
    ids=["vjp-jit", "jvp-eager"],
)


def test_the_tables_have_every_function():
    assert by_hand | set(PLAIN) == set(FUNCTIONS) - HEADS


def check(row, gradients):
    every = row.wanted() if callable(row.wanted) else row.wanted
    for got, wanted in zip(gradients, every, strict=True):
        np.testing.assert_allclose(got, wanted, rtol=2e-6, atol=1e-7)


@every_row
@ways
def test_reverse_mode(row, module, wrap):
    """A cotangent of 1, one of 0, and one of NaN, which every argument sees."""

    @wrap
    def pulled(g, *args):
        return jax.vjp(row.of(module), *args)[1](g)

    check(row, pulled(jnp.float32(1), *row.arrays()))
    for gradient in pulled(jnp.float32(0), *row.arrays()):
        np.testing.assert_array_equal(gradient, np.zeros_like(gradient))
    for gradient in pulled(jnp.float32(NAN), *row.arrays()):
        assert np.isnan(gradient).any()


@every_row
@wraps
def test_forward_mode(row, wrap):
    """The derivative along each entry of each argument, and along a tangent of 0."""

    @wrap
    def moved(args, tangents):
        return jax.jvp(row.of(forward_mode), args, tangents)[1]

    args = row.arrays()
    still = tuple(map(jnp.zeros_like, args))

    def derivative(i, entry):
        tangent = jnp.zeros(args[i].size, jnp.float32).at[entry].set(1).reshape(args[i].shape)
        return moved(args, (*still[:i], tangent, *still[i + 1 :]))

    slopes = ([derivative(i, j) for j in range(a.size)] for i, a in enumerate(args))
    check(row, [np.reshape(s, a.shape) for s, a in zip(slopes, args, strict=True)])
    assert moved(args, still) == 0


@every_row
def test_hessian_under_a_cotangent_of_zero(row):
    def out(*args):
        return jnp.where(False, row.of(xent_jax)(*args), 0.0)

    every = tuple(range(len(row.args)))
    for block in jax.tree.leaves(jax.jit(jax.hessian(out, every))(*row.arrays())):
        np.testing.assert_array_equal(block, np.zeros_like(block))


def test_no_constant_is_folded_into_a_product_of_zero_and_infinity():
    """XLA sees that the probabilities are one constant, but not the cotangent."""
    pulled = jax.jit(lambda g: jax.vjp(xent_jax.entropy, jnp.zeros(4))[1](g)[0])
    np.testing.assert_array_equal(pulled(0.0), np.zeros(4))
    np.testing.assert_array_equal(pulled(1.0), np.full(4, INF))


@modules
def test_hessian_of_entropy_at_zero(module):
    wanted = [[-INF, 0, 0], [0, -2, 0], [0, 0, -2]]
    for outer in (jax.jacfwd, jax.jacrev):
        got = outer(jax.jacrev(module.entropy))(jnp.asarray(HALF))
        np.testing.assert_array_equal(got, wanted)


# ------------------------------------------------------ compositions with softmax


def mp_softmax(z):
    e = [mpmath.exp(x) for x in z]
    return [x / mpmath.fsum(e) for x in e]


def mp_entropy_gradient(z):
    """-p_j (log p_j + H), with p_j log p_j = 0 at p_j = 0."""
    p = mp_softmax(z)
    terms = [x * mpmath.log(x) if x else mpmath.mpf(0) for x in p]
    return [-(t - x * mpmath.fsum(terms)) for t, x in zip(terms, p, strict=True)]


def mp_teacher_gradient(student, teacher):
    """t_j (log t_j - l_j - KL), with 0 at t_j = 0."""
    t, q = mp_softmax(teacher), mp_softmax(student)
    surplus = [mpmath.log(a / b) if a else mpmath.mpf(0) for a, b in zip(t, q, strict=True)]
    kl = mpmath.fsum(a * s for a, s in zip(t, surplus, strict=True))
    return [a * (s - kl) for a, s in zip(t, surplus, strict=True)]


GAPS = [[0.0, gap] for gap in (60.0, 87.0, 88.0, 104.0, 200.0, 800.0)]
GAPS += [[-INF, 0.0, 1.0], [-88.0, 0.0, 1.0], [0.5, 200.0, 199.0]]
widths = pytest.mark.parametrize("wide", [False, True], ids=["float32", "float64"])


@ways
@widths
def test_entropy_of_a_softmax(wide, module, wrap):
    with x64(wide):
        gradient = wrap(jax.grad(lambda z: module.entropy(module.softmax(z))))
        for z in GAPS:
            got = gradient(jnp.asarray(z, jnp.float64 if wide else jnp.float32))
            wanted = np.array(mp_entropy_gradient(z), float)
            # What is below the smallest normal number may be flushed to 0.
            np.testing.assert_allclose(got, wanted, rtol=1e-4, atol=1e-35, err_msg=str(z))
            if z == [0.0, 200.0] and not wide:
                np.testing.assert_array_equal(got, [0, 0])


@ways
@widths
def test_entropy_of_logits(wide, module, wrap):
    # In float32 the rounding of a logit near -88 changes its exponential by up to 4e-6, in
    # float64 by 7e-15. What is below the smallest normal number may be flushed to 0.
    rtol = 1e-13 if wide else 5e-6
    with x64(wide):
        both = wrap(jax.value_and_grad(module.softmax_entropy))
        for z in GAPS:
            got = both(jnp.asarray(z, jnp.float64 if wide else jnp.float32))
            with mpmath.workdps(800):  # of a probability next to 1 the distance from 1 counts
                value = -mpmath.fsum(x * mpmath.log(x) for x in mp_softmax(z) if x)
                wanted = [float(value), *map(float, mp_entropy_gradient(z))]
            np.testing.assert_allclose(np.hstack(got), wanted, rtol, atol=1e-35, err_msg=str(z))


def distillation(module):
    def loss(student, teacher):
        return module.kl_divergence(module.log_softmax(student), module.softmax(teacher))

    return loss


@ways
def test_teacher_s_gradient(module, wrap):
    gradient = wrap(jax.grad(distillation(module), 1))
    for teacher in GAPS:
        student = [1.0, 2.0, -1.0][: len(teacher)]
        got = gradient(jnp.asarray(student), jnp.asarray(teacher))
        wanted = np.array(mp_teacher_gradient(student, teacher), float)
        np.testing.assert_allclose(got, wanted, rtol=1e-4, atol=2e-7, err_msg=str(teacher))


def test_second_derivatives_of_compositions():
    z, teacher = jnp.array([0.0, 200.0]), jnp.array([-INF, 0.0, 0.0])
    for module in (xent_jax, forward_mode):
        hessian = jax.hessian(lambda z, m=module: m.entropy(m.softmax(z)))(z)
        np.testing.assert_array_equal(hessian, np.zeros((2, 2)))
        hessian = jax.hessian(distillation(module), 1)(jnp.array([1.0, 2.0, 2.0]), teacher)
        wanted = [[0, 0, 0], [0, 0.25, -0.25], [0, -0.25, 0.25]]  # diag(t) - t t', l_1 = l_2
        np.testing.assert_allclose(hessian, wanted, atol=1e-6)
    h = jax.jacfwd(jax.jacfwd(lambda z: forward_mode.entropy(forward_mode.softmax(z))))(z)
    np.testing.assert_array_equal(h, np.zeros((2, 2)))


def jensen_shannon(module, p, q):
    m = (p + q) / 2
    return (module.relative_entropy(p, m) + module.relative_entropy(q, m)) / 2


@modules
def test_jensen_shannon_divergence(module):
    """Its gradient by p is log(p / m) / 2, and by logits 0 at a probability of 0."""
    p, q = jnp.array([0, 0, 0.5, 0.5]), jnp.array([0, 0.5, 0.5, 0])
    got = jax.grad(lambda p, q: jensen_shannon(module, p, q), (0, 1))(p, q)
    np.testing.assert_allclose(got[0], [-INF, -INF, 0, LOG2 / 2], atol=1e-7)
    np.testing.assert_allclose(got[1], [-INF, LOG2 / 2, 0, -INF], atol=1e-7)

    def of_logits(a, b):
        return jensen_shannon(module, module.softmax(a), module.softmax(b))

    a, b = jnp.array([-INF, -200.0, 0, 0]), jnp.array([-200.0, 0, 0, -INF])
    got = jax.grad(of_logits, (0, 1))(a, b)
    # p_j (log(p_j / m_j) - <p, log(p / m)>) / 2 for p = (0, 0, 1/2, 1/2).
    np.testing.assert_allclose(got[0], [0, 0, -LOG2 / 8, LOG2 / 8], atol=1e-7)
    np.testing.assert_allclose(got[1], [0, LOG2 / 8, -LOG2 / 8, 0], atol=1e-7)


@modules
def test_poison_is_not_hidden(module):
    """NaN logits and NaN probabilities give NaN rows, next to a probability of 0 too."""
    student, teacher = jnp.array([[1.0, NAN, 0]] * 2), jnp.array([[-INF, 0, 1.0], [0, 0, 1.0]])
    by_student, by_teacher = jax.grad(lambda s, t: distillation(module)(s, t).sum(), (0, 1))(
        student, teacher
    )
    assert np.isnan(by_student).all() and np.isnan(by_teacher).all()
    gradient = jax.grad(module.entropy)(jnp.array([NAN, 0.0, 1.0]))
    np.testing.assert_array_equal(gradient, [NAN, INF, -1])
