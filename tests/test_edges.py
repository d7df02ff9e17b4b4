"""The promised results of edge cases, eager and jitted, in both modes."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import xent_jax
from xent_jax import forward_mode

INF, NAN = np.inf, np.nan

# What both modes compute from is the same, and so is what is compiled by jit and eagerly.
every_way = pytest.mark.parametrize(
    ("module", "wrap"),
    [(xent_jax, jax.jit), (xent_jax.forward_mode, lambda f: f)],
    ids=["vjp-jit", "jvp-eager"],
)


def both(wrap, loss, logits, *args, **options):
    """Losses of the rows, and the gradient of their sum."""
    logits = jnp.asarray(logits, jnp.float32) if isinstance(logits, list) else logits

    def total(z):
        losses = loss(z, *args, **options)
        return jnp.sum(losses), losses

    gradient, losses = wrap(jax.grad(total, has_aux=True))(logits)
    return np.asarray(losses, np.float64), np.asarray(gradient, np.float64)


def integer(module, **options):
    return functools.partial(module.softmax_cross_entropy_with_integer_labels, **options)


def softmax(row):
    e = np.exp(np.asarray(row, np.float64) - np.max(row))
    return e / e.sum()


def check(pair, losses, gradient):
    np.testing.assert_allclose(pair[0], losses, rtol=1e-6)
    np.testing.assert_allclose(pair[1], gradient, rtol=1e-6, atol=1e-7)


GOOD = [0.5, -1.0, 2.0]
P = softmax(GOOD)


@every_way
@pytest.mark.parametrize("dtype", [jnp.int8, jnp.int32, jnp.uint8, jnp.uint32])
def test_label_out_of_range(module, wrap, dtype):
    """NaN in its row alone, -1 included."""
    bad = [3, 127] if jnp.issubdtype(dtype, jnp.unsignedinteger) else [3, -1]
    labels = jnp.asarray([0, *bad, 2], dtype)
    expected = [P - [1, 0, 0], [NAN] * 3, [NAN] * 3, P - [0, 0, 1]]
    pair = both(wrap, integer(module), [GOOD] * 4, labels)
    check(pair, [-np.log(P[0]), NAN, NAN, -np.log(P[2])], expected)


@every_way
@pytest.mark.parametrize(
    "options",
    [
        {"label_smoothing": 0.1},
        {"z_loss": 0.1},
        {"class_weights": jnp.asarray([1.0, 2.0, 3.0])},
        {"ignore_index": -100},
    ],
    ids=lambda o: next(iter(o)),
)
def test_label_out_of_range_under_options(module, wrap, options):
    losses, gradient = both(wrap, integer(module, **options), [GOOD] * 2, jnp.array([-1, 1]))
    assert np.isnan(losses[0]) and np.all(np.isnan(gradient[0]))
    assert np.isfinite(losses[1]) and np.all(np.isfinite(gradient[1]))


@every_way
def test_label_out_of_range_in_a_weighted_mean(module, wrap):
    """It makes the mean NaN, and no gradient but that of its row."""
    loss = integer(module, class_weights=jnp.asarray([1.0, 2.0, 3.0]), reduction="mean")
    mean, gradient = both(wrap, loss, [GOOD] * 2, jnp.array([-1, 1]))
    assert np.isnan(mean) and np.all(np.isnan(gradient[0])) and np.all(np.isfinite(gradient[1]))


@pytest.mark.parametrize("outer", [jax.jacfwd, jax.jacrev])
@pytest.mark.parametrize("gamma", [0.3, 1.0, 2.0])
def test_focal_hessian_where_the_loss_is_zero(gamma, outer):
    """The derivative of u^gamma is infinite at u = 0 for gamma < 1, that of u there 0."""

    def loss(z):
        return xent_jax.softmax_focal_loss(z, jnp.array(0), gamma=gamma)

    z = jnp.array([200.0, 0.0, -1.0])
    assert loss(z) == 0
    np.testing.assert_array_equal(outer(jax.grad(loss))(z), np.zeros((3, 3)))


@every_way
def test_focal_label_out_of_range(module, wrap):
    losses, gradient = both(wrap, module.softmax_focal_loss, [GOOD] * 2, jnp.array([3, 1]))
    assert np.isnan(losses[0]) and np.all(np.isnan(gradient[0]))
    assert np.isfinite(losses[1]) and np.all(np.isfinite(gradient[1]))


@every_way
def test_label_out_of_range_poisons_the_second_derivative(module, wrap):
    def total(z):
        return integer(module)(z, jnp.array([3, 1])).sum()

    def product(z):
        return jax.jvp(jax.grad(total), (z,), (jnp.ones_like(z).at[0, 0].set(2.0),))[1]

    out = np.asarray(wrap(product)(jnp.asarray([GOOD] * 2, jnp.float32)))
    assert np.all(np.isnan(out[0])) and np.all(np.isfinite(out[1]))


@every_way
@pytest.mark.parametrize("ignored", [-100, 1])
def test_ignore_index(module, wrap, ignored):
    """0; 0; not counted in a mean, even where the logits are NaN."""
    logits = [GOOD, [NAN, INF, -INF], GOOD]
    labels = jnp.array([0, ignored, 2])
    expected = [P - [1, 0, 0], [0] * 3, P - [0, 0, 1]]
    losses = [-np.log(P[0]), 0, -np.log(P[2])]
    check(both(wrap, integer(module, ignore_index=ignored), logits, labels), losses, expected)
    mean = integer(module, ignore_index=ignored, reduction="mean")
    check(both(wrap, mean, logits, labels), np.sum(losses) / 2, np.asarray(expected) / 2)


@every_way
def test_masked_example(module, wrap):
    """Contributes nothing, be its logits NaN and its label out of range."""
    logits, where = [GOOD, [NAN, INF, -INF]], jnp.array([True, False])
    loss = integer(module, where=where, reduction="mean")
    check(both(wrap, loss, logits, jnp.array([0, 7])), -np.log(P[0]), [P - [1, 0, 0], [0] * 3])
    soft = functools.partial(module.softmax_cross_entropy, where=where, reduction="mean")
    labels = jnp.array([[1.0, 0, 0], [NAN, 1, 0]])
    check(both(wrap, soft, logits, labels), -np.log(P[0]), [P - [1, 0, 0], [0] * 3])


@every_way
def test_masked_example_reaches_no_other_argument(module, wrap):
    """Its NaN logits and its bad label stay out of the gradients of weights and labels."""
    logits, where = jnp.asarray([GOOD, [NAN, INF, -INF]]), jnp.array([True, False])

    def weighted(w, e):
        loss = integer(module, class_weights=w, label_smoothing=e, z_loss=e, where=where)
        return loss(logits, jnp.array([0, 7]), reduction="mean")

    def soft(t):
        return module.softmax_cross_entropy(logits, t, where=where).sum()

    for function, args in ((weighted, (jnp.ones(3), 0.1)), (soft, (jnp.ones((2, 3)),))):
        argnums = tuple(range(len(args)))
        for gradient in wrap(jax.grad(function, argnums))(*args):
            assert np.all(np.isfinite(gradient)), gradient


@every_way
def test_label_at_minus_infinity(module, wrap):
    """+inf; -1 there and p."""
    p = softmax([0.5, 2.0])
    for loss in (integer(module), module.softmax_focal_loss):
        pair = both(wrap, loss, [[0.5, -INF, 2.0]], jnp.array([1]))
        check(pair, [INF], [[p[0], -1, p[1]]])


@every_way
def test_another_logit_at_minus_infinity(module, wrap):
    """Finite; 0 there."""
    p = softmax([0.5, 2.0])
    expected = [-np.log(p[0])], [[p[0] - 1, 0, p[1]]]
    check(both(wrap, integer(module), [[0.5, -INF, 2.0]], jnp.array([0])), *expected)
    labels = jnp.array([[1.0, 0, 0]])  # 0 * (-inf) = 0
    soft = both(wrap, module.softmax_cross_entropy, [[0.5, -INF, 2.0]], labels)
    check(soft, *expected)


@every_way
def test_all_logits_at_minus_infinity(module, wrap):
    """NaN; 0 if the row is masked out."""
    losses, gradient = both(wrap, integer(module), [[-INF] * 3, GOOD], jnp.array([0, 0]))
    assert np.isnan(losses[0]) and np.all(np.isnan(gradient[0]))
    assert np.isfinite(losses[1]) and np.all(np.isfinite(gradient[1]))
    masked = integer(module, where=jnp.array([False, True]))
    losses, gradient = both(wrap, masked, [[-INF] * 3, GOOD], jnp.array([0, 0]))
    assert losses[0] == 0 and np.all(gradient[0] == 0)


@every_way
@pytest.mark.parametrize("bad", [INF, NAN])
@pytest.mark.parametrize("place", [0, 1])
def test_infinite_or_nan_logit(module, wrap, bad, place):
    """NaN; the row NaN; other rows untouched, whether or not the label is there."""
    row = list(GOOD)
    row[place] = bad
    for pair in (
        both(wrap, integer(module), [row, GOOD], jnp.array([0, 0])),
        both(wrap, module.softmax_cross_entropy, [row, GOOD], jnp.array([[1.0, 0, 0]] * 2)),
        both(wrap, module.softmax_focal_loss, [row, GOOD], jnp.array([0, 0])),
        both(wrap, module.poly_loss_cross_entropy, [row, GOOD], jnp.array([[1.0, 0, 0]] * 2)),
        both(wrap, module.logsumexp, [row, GOOD]),
    ):
        assert np.isnan(pair[0][0]) and np.all(np.isnan(pair[1][0]))
        assert np.isfinite(pair[0][1]) and np.all(np.isfinite(pair[1][1]))


@every_way
def test_one_class(module, wrap):
    check(both(wrap, integer(module), [[3.0]], jnp.array([0])), [0], [[0]])
    check(both(wrap, module.softmax_focal_loss, [[3.0]], jnp.array([0])), [0], [[0]])
    check(both(wrap, module.softmax_cross_entropy, [[3.0]], jnp.array([[1.0]])), [0], [[0]])


@every_way
def test_soft_label_over_minus_infinity(module, wrap):
    """+inf; T p - t, smoothing included."""
    z, p = [[0.0, -INF, 0.0]], np.array([0.5, 0, 0.5])
    t = np.array([0.5, 0.25, 0.5])
    pair = both(wrap, module.softmax_cross_entropy, z, jnp.asarray(t[None], jnp.float32))
    check(pair, [INF], [1.25 * p - t])
    smoothed = integer(module, label_smoothing=0.3)
    check(both(wrap, smoothed, z, jnp.array([0])), [INF], [p - [0.8, 0.1, 0.1]])


@every_way
def test_labels_that_do_not_sum_to_one(module, wrap):
    t = np.array([[0.5, 0.0, 2.0]])
    pair = both(wrap, module.softmax_cross_entropy, [GOOD], jnp.asarray(t, jnp.float32))
    check(pair, -(t * np.log(P)).sum(-1), 2.5 * P - t)


@every_way
def test_labels_below_zero(module, wrap):
    """They are not asked for, but the formula holds for them too."""
    t = np.array([0.5, -2.0, 0.3])
    expected = [-(t * np.log(P)).sum()], [t.sum() * P - t]
    check(both(wrap, module.softmax_cross_entropy, [GOOD], jnp.asarray(t[None])), *expected)


@every_way
def test_mask_excludes_the_labels_class(module, wrap):
    where = jnp.array([[True, False, True]])
    p = softmax([0.5, 2.0])
    pair = both(wrap, integer(module, where=where), [GOOD], jnp.array([1]))
    # A class that is out has no gradient: the mask is the caller's.
    check(pair, [INF], [[p[0], 0, p[1]]])


@every_way
def test_masked_class_may_hold_anything(module, wrap):
    where = jnp.array([[True, False, True]])
    p = softmax([0.5, 2.0])
    for bad in (NAN, INF, -INF, 1e30):
        row = [[0.5, bad, 2.0]]
        pair = both(wrap, integer(module, where=where), row, jnp.array([0]))
        check(pair, [-np.log(p[0])], [[p[0] - 1, 0, p[1]]])
        labels = jnp.array([[1.0, 5.0, 0.0]])
        soft = functools.partial(module.softmax_cross_entropy, where=where)
        check(both(wrap, soft, row, labels), [-np.log(p[0])], [[p[0] - 1, 0, p[1]]])


@every_way
@pytest.mark.parametrize("soft", [False, True])
def test_masked_class_reaches_no_other_argument(module, wrap, soft):
    """Options' gradients are those of the problem without the class."""
    where, left = jnp.array([[True, False, True]]), jnp.array([0, 2])

    def loss(options, z, where=None):
        e, w = options
        classes = left if where is None else jnp.arange(3)
        f = module.softmax_cross_entropy if soft else integer(module)
        labels = jnp.eye(3)[:1, classes] if soft else jnp.array([0])
        w = w[classes]
        return f(z, labels, where=where, label_smoothing=e, class_weights=w).sum()

    options = jnp.asarray(0.3), jnp.array([1.0, 2.0, 3.0])
    z = jnp.asarray([GOOD])
    got = wrap(jax.grad(lambda o: loss(o, z, where)))(options)
    want = jax.grad(lambda o: loss(o, z[:, left]))(options)
    jax.tree.map(lambda x, y: np.testing.assert_allclose(x, y, rtol=1e-5), got, want)


@every_way
def test_weight_of_a_class_at_minus_infinity_without_label(module, wrap):
    """Its gradient is t_j (lse - z_j), with 0 * inf = 0; and so is the label's."""

    def loss(w, t):
        return module.softmax_cross_entropy(jnp.array([0.5, -INF, 2.0]), t, class_weights=w)

    w, t = jnp.array([1.0, 2.0, 3.0]), jnp.array([0.4, 0.0, 0.6])
    by_weight, by_label = wrap(jax.grad(loss, (0, 1)))(w, t)
    surprise = -np.log(softmax([0.5, 2.0]))
    np.testing.assert_allclose(by_weight, [0.4 * surprise[0], 0, 0.6 * surprise[1]], rtol=1e-6)
    np.testing.assert_allclose(by_label, [surprise[0], 0, 3 * surprise[1]], rtol=1e-6)


LABELS = jnp.array([0.4, 0.0, 0.6])


@pytest.mark.parametrize("derivative", [jax.jacfwd, jax.jacrev])
@pytest.mark.parametrize("name", ["softmax_cross_entropy", "poly_loss_cross_entropy"])
@pytest.mark.parametrize("where", [None, jnp.array([True, False, True])])
def test_label_gradient_in_both_modes_beside_minus_infinity(derivative, name, where):
    loss = getattr(forward_mode, name)
    z = jnp.array([0.5, -INF if where is None else 1.0, 2.0])
    got = derivative(lambda t: loss(z, t, where=where))(LABELS)
    left = jnp.array([0, 2])
    want = jax.grad(lambda t: loss(z[left], t))(LABELS[left])
    np.testing.assert_allclose(got[left], want, rtol=1e-6)
    assert np.isfinite(got[1])


@pytest.mark.parametrize("derivative", [jax.jacfwd, jax.jacrev])
def test_divergence_to_targets_under_a_mask(derivative):
    where, q = jnp.array([True, False, True]), jnp.log(jnp.array([0.5, 0.2, 0.3]))
    got = derivative(lambda t: forward_mode.kl_divergence(q, t, where=where))(LABELS)
    want = [np.log(0.4 / 0.5) + 1, 0, np.log(0.6 / 0.3) + 1]
    np.testing.assert_allclose(got, want, rtol=1e-6)


@every_way
def test_divergence_of_logits(module, wrap):
    """Classes and examples that are out, and what a temperature of no use gives."""
    loss, w = module.softmax_kl_divergence, jnp.array([[0.0, NAN, 1.0], [NAN] * 3])
    where = jnp.array([[True, False, True], [False] * 3])
    p, q = softmax([0, 1]), softmax([0.5, 2])
    kl = (p * np.log(p / q)).sum()
    expected = [kl, 0], [[q[0] - p[0], 0, q[1] - p[1]], [0] * 3]
    check(both(wrap, loss, [[0.5, INF, 2.0], [NAN] * 3], w, where=where), *expected)
    by_w = p * (np.log(p / q) - kl)
    pair = both(wrap, lambda w, z: loss(z, w, where=where), w, jnp.array([[0.5, INF, 2.0]] * 2))
    check(pair, [kl, 0], [[by_w[0], 0, by_w[1]], [0] * 3])


@every_way
def test_divergence_where_the_target_has_a_class_that_the_logits_have_not(module, wrap):
    """+inf; q - p, and NaN to the target. The other way round the class costs what q has there."""
    z, w = jnp.array([[0.0, -INF, 0.0]]), jnp.zeros((1, 3))
    check(both(wrap, module.softmax_kl_divergence, z, w), [INF], [[1 / 6, -1 / 3, 1 / 6]])
    by_target = wrap(jax.grad(lambda w: module.softmax_kl_divergence(z, w).sum()))(w)
    assert np.all(np.isnan(by_target))
    expected = [np.log(1.5)], [[-1 / 6, 1 / 3, -1 / 6]]
    check(both(wrap, module.softmax_kl_divergence, w, z), *expected)


@every_way
def test_jensen_shannon_divergence_under_a_mask(module, wrap):
    """Classes and examples that are out, whatever their logits."""
    where = jnp.array([[True, False, True], [False] * 3])
    p, q = softmax([0, 1]), softmax([0.5, 2])
    m = 0.25 * p + 0.75 * q
    kl_p, kl_q = (p * np.log(p / m)).sum(), (q * np.log(q / m)).sum()
    by_z = 0.75 * q * (np.log(q / m) - kl_q)
    loss, w = module.softmax_jensen_shannon_divergence, jnp.array([[0.0, NAN, 1.0], [NAN] * 3])
    pair = both(wrap, loss, [[0.5, INF, 2.0], [NAN] * 3], w, where=where, beta=0.25)
    check(pair, [0.25 * kl_p + 0.75 * kl_q, 0], [[by_z[0], 0, by_z[1]], [0] * 3])


@every_way
@pytest.mark.parametrize("far", [70.0, 1e4, INF])
def test_jensen_shannon_divergence_of_rows_that_share_no_class(module, wrap, far):
    """The entropy of (beta, 1 - beta), with a gradient of 0, however far apart they are."""
    z, w = jnp.array([[0.0, -far]]), jnp.array([[-far, 0.0]])
    loss = module.softmax_jensen_shannon_divergence
    for beta in (0.5, 0.125):
        entropy = -beta * np.log(beta) - (1 - beta) * np.log(1 - beta)
        check(both(wrap, loss, z, w, beta=beta), [entropy], [[0, 0]])


@every_way
@pytest.mark.parametrize("beta", [0.0, 1.0, -0.5, 1.5, NAN])
def test_jensen_shannon_divergence_at_a_traced_beta_out_of_range(module, wrap, beta):
    def of(b):
        loss = module.softmax_jensen_shannon_divergence
        return loss(jnp.zeros(3), jnp.asarray(GOOD), beta=b)

    value, gradient = wrap(jax.value_and_grad(of))(jnp.asarray(beta))
    assert np.isnan(value) and np.isnan(gradient)


def test_jensen_shannon_divergence_goes_to_kl_divergences():
    """Over beta at 0, and over 1 - beta at 1: this is the side on which the target's weight is."""
    z, w = jnp.asarray(GOOD), jnp.array([0.25, 1.0, -0.5])
    js, kl = xent_jax.softmax_jensen_shannon_divergence, xent_jax.softmax_kl_divergence
    b = 2.0**-14  # what is left out is of this size
    np.testing.assert_allclose(js(z, w, beta=b) / b, kl(z, w), rtol=4 * b)
    np.testing.assert_allclose(js(z, w, beta=1 - b) / b, kl(w, z), rtol=4 * b)


DIVERGENCES = ["softmax_kl_divergence", "softmax_jensen_shannon_divergence"]


@every_way
@pytest.mark.parametrize("name", DIVERGENCES)
@pytest.mark.parametrize("temperature", [0.0, -1.0, NAN])
def test_divergence_at_a_traced_temperature_that_is_not_positive(module, wrap, name, temperature):
    def of(t):
        return getattr(module, name)(jnp.zeros(3), jnp.asarray(GOOD), temperature=t)

    value, gradient = wrap(jax.value_and_grad(of))(jnp.asarray(temperature))
    assert np.isnan(value) and np.isnan(gradient)


@every_way
@pytest.mark.parametrize("name", DIVERGENCES)
@pytest.mark.parametrize("bad", [INF, NAN])
def test_divergence_of_a_bad_row(module, wrap, name, bad):
    """NaN in its row alone, whichever of the two is bad."""
    good, row = jnp.asarray([GOOD] * 2), jnp.asarray([[0.5, bad, 2.0], GOOD])
    for z, w in ((row, good), (good, row)):
        losses, gradient = both(wrap, getattr(module, name), z, w)
        assert np.isnan(losses[0]) and np.all(np.isnan(gradient[0]))
        assert losses[1] == 0 and np.all(gradient[1] == 0)


@every_way
def test_positive_weight_s_gradient_at_a_label_of_zero(module, wrap):
    """d2L / dw dt = softplus(-z) also where t is 0."""

    def loss(w, t):
        return module.sigmoid_binary_cross_entropy(jnp.asarray(0.3), t, pos_weight=w)

    mixed = wrap(jax.jacrev(jax.grad(loss), 1))(jnp.asarray(2.0), jnp.asarray(0.0))
    np.testing.assert_allclose(mixed, np.log1p(np.exp(-0.3)), rtol=1e-6)


@every_way
def test_smoothing_stays_on_the_classes_left_in(module, wrap):
    where = jnp.array([[True, False, True]])
    p = softmax([0.5, 2.0])
    t = np.array([0.85, 0.15])
    expected = [-(t * np.log(p)).sum()], [[p[0] - t[0], 0, p[1] - t[1]]]
    smoothed = integer(module, where=where, label_smoothing=0.3)
    check(both(wrap, smoothed, [GOOD], jnp.array([0])), *expected)
    soft = functools.partial(module.softmax_cross_entropy, where=where, label_smoothing=0.3)
    check(both(wrap, soft, [GOOD], jnp.array([[1.0, 0, 0]])), *expected)


@every_way
def test_mean_over_no_example(module, wrap):
    for options in (
        {"where": jnp.array([False, False])},
        {"ignore_index": 0},
        {"ignore_index": 0, "class_weights": jnp.ones(3)},
    ):
        loss = integer(module, reduction="mean", **options)
        check(both(wrap, loss, [GOOD] * 2, jnp.array([0, 0])), 0, np.zeros((2, 3)))


@every_way
@pytest.mark.parametrize("loss", [
    "softmax_cross_entropy_with_integer_labels", "softmax_focal_loss",
    "linear_softmax_cross_entropy",
])  # fmt: skip
def test_mean_of_examples_whose_weights_are_all_0(module, wrap, loss):
    """NaN, as PyTorch's, for some example is there; over none it is 0 whatever the weights are."""
    kernel = (jnp.eye(3),) if loss.startswith("linear") else ()

    def mean(z, y, where=None):
        weights = jnp.array([0.0, 0.0, 1.0])
        options = {"class_weights": weights, "reduction": "mean", "where": where}
        return getattr(module, loss)(z, *kernel, y, **options)

    z = jnp.asarray([GOOD] * 2, jnp.float32)
    value, gradient = wrap(jax.value_and_grad(mean))(z, jnp.array([0, 1]))
    assert np.isnan(value) and np.all(np.isnan(gradient))
    value, gradient = wrap(jax.value_and_grad(mean))(z, jnp.array([0, 1]), jnp.zeros(2, bool))
    assert value == 0 and np.all(gradient == 0)


@every_way
def test_no_examples(module, wrap):
    loss = integer(module, reduction="mean")
    check(both(wrap, loss, jnp.zeros((0, 3)), jnp.zeros((0,), int)), 0, np.zeros((0, 3)))


@every_way
def test_float16_with_more_classes_than_it_counts(module, wrap):
    k = 70_000
    losses, gradient = both(wrap, integer(module), jnp.zeros((1, k), jnp.float16), jnp.array([1]))
    np.testing.assert_allclose(losses, [np.log(k)], rtol=1e-6)
    assert gradient[0, 1] == -1 and np.all(np.isfinite(gradient))


@every_way
def test_uint8_labels_with_more_classes_than_they_hold(module, wrap):
    logits = jax.random.normal(jax.random.key(0), (2, 300))
    labels = np.array([255, 3])
    pair = both(wrap, integer(module), logits, jnp.asarray(labels, jnp.uint8))
    check(pair, *both(wrap, integer(module), logits, jnp.asarray(labels)))
    assert np.all(np.isfinite(pair[0]))


@every_way
def test_zero_weight_at_an_infinite_loss(module, wrap):
    loss = integer(module, class_weights=jnp.array([1.0, 0.0, 1.0]))
    check(both(wrap, loss, [[0.5, -INF, 2.0]], jnp.array([1])), [0], [[0, 0, 0]])


@every_way
def test_binary_at_infinity(module, wrap):
    loss = module.sigmoid_binary_cross_entropy
    pair = both(wrap, loss, [INF, -INF, INF, -INF], jnp.array([1.0, 0.0, 0.0, 1.0]))
    check(pair, [0, 0, INF, INF], [0, 0, 1, -1])


@every_way
def test_ties(module, wrap):
    """Several classes share the largest logit: none is counted twice, none is lost."""
    z = [[1e8, 1e8, 1e8], [7.0, 7.0, -INF], [0.0, 0.0, -20.0]]
    expected = np.log([3, 2, 2 + np.exp(-20)])
    p = np.array([softmax(row) for row in z])
    check(both(wrap, module.logsumexp, z), np.array([1e8, 7, 0]) + expected, p)
    check(both(wrap, integer(module), z, jnp.array([1, 1, 1])), expected, p - [0, 1, 0])
    labels = jnp.asarray([[0.0, 1.0, 0.0]] * 3)
    check(both(wrap, module.softmax_cross_entropy, z, labels), expected, p - [0, 1, 0])


@every_way
def test_poly_on_a_confident_row(module, wrap):
    """1 - p comes from the other classes, not from a subtraction."""
    labels = jnp.asarray([[1.0, 0.0]])
    losses, _ = both(wrap, module.poly_loss_cross_entropy, [[20.0, 0.0]], labels)
    np.testing.assert_allclose(losses, [3 * np.exp(-20)], rtol=1e-6)


@every_way
def test_empty_logsumexp(module, wrap):
    losses, _ = both(wrap, module.logsumexp, [[-INF, -INF]])
    assert losses[0] == -INF
    masked = functools.partial(module.logsumexp, where=jnp.array([False]))
    check(both(wrap, masked, [GOOD]), [-INF], [[0, 0, 0]])


@every_way
def test_softmax_under_masks(module, wrap):
    where = jnp.array([[True, False, True], [False, False, False]])
    p = softmax([0.5, 2.0])
    out = wrap(functools.partial(module.softmax, where=where))(jnp.asarray([GOOD, [NAN] * 3]))
    np.testing.assert_allclose(out, [[p[0], 0, p[1]], [0, 0, 0]], rtol=1e-6)
    out = wrap(functools.partial(module.log_softmax, where=where))(jnp.asarray([GOOD] * 2))
    expected = [[np.log(p[0]), -INF, np.log(p[1])], [-INF] * 3]
    np.testing.assert_allclose(out, expected, rtol=1e-6)


@every_way
def test_zero_log_zero(module, wrap):
    p, q = jnp.array([0.5, 0.5, 0.0]), jnp.array([0.25, 0.75, 0.0])
    expected = {
        "entropy": (np.log(2), (p,)),
        "cross_entropy": (-0.5 * np.log(0.25 * 0.75), (p, q)),
        "relative_entropy": (-0.5 * np.log(0.25 * 0.75) - np.log(2), (p, q)),
        "kl_divergence": (-0.5 * np.log(0.25 * 0.75) - np.log(2), (jnp.log(q), p)),
    }
    for name, (value, args) in expected.items():
        np.testing.assert_allclose(wrap(getattr(module, name))(*args), value, rtol=1e-6)
    gradient = wrap(jax.grad(module.cross_entropy, argnums=1))(p, q)
    np.testing.assert_allclose(gradient, [-2, -2 / 3, 0], rtol=1e-6)
    gradient = wrap(jax.grad(module.kl_divergence))(jnp.log(q), p)
    np.testing.assert_allclose(gradient, [-0.5, -0.5, 0], rtol=1e-6)


def test_forward_mode_at_a_zero_label_over_minus_infinity():
    """A direction that does not move the labels meets no 0 * inf."""
    loss = xent_jax.forward_mode.softmax_cross_entropy
    t = jnp.array([1.0, 0.0, 0.0])
    z, v = jnp.array([0.5, -INF, 2.0]), jnp.array([1.0, 1.0, -1.0])
    p = softmax([0.5, 2.0])
    _, tangent = jax.jvp(lambda z: loss(z, t), (z,), (v,))
    np.testing.assert_allclose(tangent, p[0] - 1 - p[1], rtol=1e-6)


@every_way
def test_other_rows_are_untouched(module, wrap):
    """To the bit: a bad row changes nothing elsewhere."""
    good = jax.random.normal(jax.random.key(1), (4, 5))
    bad = good.at[2].set(jnp.array([NAN, INF, -INF, 1e30, 0.0]))
    labels = jnp.array([0, 1, 2, 3])
    rows = np.array([0, 1, 3])
    for clean, dirty in zip(
        both(wrap, integer(module), good, labels),
        both(wrap, integer(module), bad, labels.at[2].set(-7)),
        strict=True,
    ):
        np.testing.assert_array_equal(clean[rows], dirty[rows])
