"""The linear head against the same loss of logits that are held, in float64 to 12 digits."""

import contextlib
import functools
import itertools

import jax
import jax.export  # before jax 0.8 not imported by jax itself
import jax.numpy as jnp
import numpy as np
import pytest

import xent_jax
from tests.chunks import chunks_of
from tests.heads import CLASSES, WIDTH, drawn, held, same, scalar
from xent_jax import linear_softmax_cross_entropy, with_linear_head

pytestmark = [pytest.mark.fast_compile, pytest.mark.usefixtures("float64")]

OPTIONS = {
    "none": {},
    "ignore_index": {"ignore_index": 3},
    "where": {"where": True},
    "label_smoothing": {"label_smoothing": 0.1},
    "z_loss": {"z_loss": 0.01},
    "class_weights": {"class_weights": True},
    "logit_softcap": {"logit_softcap": 2.0},
    "temperature": {"temperature": 0.7},
    "weights": {"weights": True},
    "all": {"ignore_index": 3, "where": True, "label_smoothing": 0.2, "z_loss": 0.1,
            "class_weights": True, "logit_softcap": 3.0, "temperature": 1.3, "weights": True},
}  # fmt: skip
REDUCTIONS = ("mean", "sum", "none")
# Each option in chunks that divide the tokens or do not; all at once in every way.
CASES = [(name, (13,), "none") for name in OPTIONS] + [(name, (2, 6), "mean") for name in OPTIONS]
CASES += [("all", batch, r) for batch in [(13,), (1,), (0,), ()] for r in ("mean", "sum")]


def options(name, batch):
    rng, given = np.random.default_rng(1), dict(OPTIONS[name])
    left = np.asarray(rng.random(batch) < 0.6)
    if left.size:
        left.flat[0] = True  # a token that ignore_index alone leaves out
        if "ignore_index" in given:
            given["ignore_index"] = int(drawn(batch)[3].reshape(-1)[0])
    if "where" in given:
        given["where"] = jnp.asarray(left)
    if "class_weights" in given:
        given["class_weights"] = jnp.asarray(rng.random(CLASSES) + 0.1)
    if "weights" in given:
        given["weights"] = jnp.asarray(np.where(rng.random(batch) < 0.3, 0, rng.random(batch)))
    return given


@pytest.mark.parametrize(("name", "batch", "reduction"), CASES, ids=str)
def test_value_and_gradients_are_those_of_held_logits(name, batch, reduction):
    x, w, b, y = drawn(batch)
    given = options(name, batch)
    weights = {k: given.pop(k) for k in ("class_weights", "weights", "temperature") if k in given}

    def of(loss):
        run = scalar(functools.partial(loss, reduction=reduction, **given))
        return jax.value_and_grad(lambda p: run(p[0], p[1], y, p[2], **p[3]))

    wanted = jax.jit(of(held))((x, w, b, weights))
    with chunks_of(4) if len(y.reshape(-1)) > 4 else contextlib.nullcontext():
        got = jax.jit(of(linear_softmax_cross_entropy))((x, w, b, weights))
    same(got, wanted)


@pytest.mark.parametrize("reduction", ["mean", "none"])
def test_gradients_to_options(reduction):
    x, w, b, y = drawn((9,))

    def of(loss):
        return jax.grad(lambda given: scalar(loss)(x, w, y, b, reduction=reduction, **given))

    given = {"label_smoothing": 0.3, "z_loss": 0.1, "logit_softcap": 3.0, "temperature": 0.8}
    with chunks_of(4):
        got = of(linear_softmax_cross_entropy)(given)
    same(got, of(held)(given))


def test_without_a_bias_and_without_jit():
    x, w, _, y = drawn((9,))
    with chunks_of(4):
        got = jax.value_and_grad(linear_softmax_cross_entropy, (0, 1))(x, w, y)
    same(got, jax.value_and_grad(held, (0, 1))(x, w, y))


# ---------------------------------------------------------------- any loss


def soft(z, t):
    return xent_jax.softmax_cross_entropy(z, t, label_smoothing=0.1)


def focal(z, y):
    return xent_jax.softmax_focal_loss(z, y)


def plain(z, y):
    return jax.nn.logsumexp(z, -1) - jnp.take_along_axis(z, y[..., None], -1)[..., 0]


def two_targets(z, t):
    return jnp.sum(t["weights"] * jnp.sin(z), -1) + t["shift"]


def _targets(loss, batch):
    rng = np.random.default_rng(2)
    t = jnp.asarray(rng.random((*batch, CLASSES)))
    if loss is two_targets:
        return {"weights": t, "shift": jnp.asarray(rng.normal(size=batch))}
    return t if loss is soft else drawn(batch)[3]


@pytest.mark.parametrize("loss", [soft, focal, plain, two_targets])
@pytest.mark.parametrize("reduction", REDUCTIONS)
@pytest.mark.parametrize("size", [5])
def test_a_loss_of_logits_of_any_kind_with_gradients_to_its_targets(loss, reduction, size):
    batch = (2, 6)
    x, w, b, _ = drawn(batch)
    t = _targets(loss, batch)
    floats = jnp.issubdtype(jax.tree.leaves(t)[0].dtype, jnp.floating)
    wrt = (0, 1, 2, 3) if floats else (0, 1, 2)
    reduce = {"mean": jnp.mean, "sum": jnp.sum, "none": lambda x: x}[reduction]
    head = with_linear_head(loss, reduction=reduction, logit_transform=jnp.tanh)

    def run(loss):
        return jax.jit(jax.value_and_grad(scalar(loss), wrt))(x, w, b, t)

    wanted = run(lambda x, w, b, t: reduce(loss(jnp.tanh(x @ w + b), t)))
    with chunks_of(size):
        got = run(lambda x, w, b, t: head(x, w, t, bias=b))
    same(got, wanted)


@pytest.mark.parametrize("jit", [False, True])
@pytest.mark.parametrize("reduction", REDUCTIONS)
def test_what_a_loss_closes_over_gets_its_gradient(reduction, jit):
    x, w, b, y = drawn((9,))
    reduce = {"mean": jnp.mean, "sum": jnp.sum, "none": lambda x: x}[reduction]

    def through(make):
        def of(temperature, scale):
            def loss(z, y):
                return scale[0] * plain(z / temperature, y)

            return scalar(make(loss))(x, w, y, bias=b)

        of = jax.value_and_grad(of, (0, 1))
        return (jax.jit(of) if jit else of)(jnp.float64(0.7), jnp.array([2.0, 1.0]))

    with chunks_of(4):
        got = through(lambda loss: with_linear_head(loss, reduction=reduction))
    same(got, through(lambda loss: lambda x, w, y, bias: reduce(loss(x @ w + bias, y))))


def test_distillation_from_held_logits_and_from_the_likeliest():
    x, w, b, _ = drawn((2, 6))
    teacher = 3 * jnp.asarray(np.random.default_rng(5).normal(size=(2, 6, CLASSES)))

    def from_logits(z, teacher):
        return xent_jax.kl_divergence(xent_jax.log_softmax(z), xent_jax.softmax(teacher))

    def from_top(z, top):
        p, ids = top
        rows = jnp.arange(len(ids))[:, None]
        return xent_jax.softmax_cross_entropy(z, jnp.zeros_like(z).at[rows, ids].add(p))

    top = jax.lax.top_k(xent_jax.softmax(teacher), 3)
    for loss, given in ((from_logits, teacher), (from_top, top)):
        merged = jax.tree.map(lambda a: a.reshape(12, *a.shape[2:]), given)

        def wanted(x, w, b, loss=loss, merged=merged):
            return jnp.mean(loss(x.reshape(12, WIDTH) @ w + b, merged))

        def got(x, w, b, loss=loss, given=given):
            return with_linear_head(loss)(x, w, given, bias=b)

        with chunks_of(5):
            value = jax.value_and_grad(got, (0, 1, 2))(x, w, b)
        same(value, jax.value_and_grad(wanted, (0, 1, 2))(x, w, b))


# ---------------------------------------------------------------- what is out


@pytest.mark.parametrize("reduction", REDUCTIONS)
@pytest.mark.parametrize("size", [3, 4])
def test_a_label_out_of_range_poisons_its_token(reduction, size):
    x, w, b, y = drawn((10,))
    y = y.at[4].set(CLASSES)

    def of(x):
        return linear_softmax_cross_entropy(x, w, y, b, reduction=reduction)

    with chunks_of(size):
        value, pull = jax.vjp(of, x)
        (dx,) = pull(jnp.ones_like(value))
    if reduction == "none":
        assert np.flatnonzero(np.isnan(value)).tolist() == [4]
    else:
        assert np.isnan(value)
    assert np.isnan(dx[4]).all()
    assert np.isfinite(np.delete(dx, 4, 0)).all()


@pytest.mark.parametrize("reduction", REDUCTIONS)
@pytest.mark.parametrize("size", [3, 4])
@pytest.mark.parametrize("bad", [np.nan, np.inf])
def test_nothing_of_a_token_that_is_out_comes_through(bad, size, reduction):
    x, w, b, y = drawn((10,))
    left = jnp.arange(10) != 4
    poisoned, wild = x.at[4].set(bad), y.at[4].set(-7)

    @jax.jit
    def of(x, y):
        run = scalar(functools.partial(linear_softmax_cross_entropy, reduction=reduction))
        return jax.value_and_grad(lambda x, w, b: run(x, w, y, b, left), (0, 1, 2))(x, w, b)

    with chunks_of(size):
        got, wanted = of(poisoned, wild), of(x, y)
    same(got, wanted)
    assert (got[1][0][4] == 0).all()


# ---------------------------------------------------------------- every transformation


def _curvature(loss, how):
    x, w, b, y = drawn((9,))
    v = jax.tree.map(lambda a: jnp.cos(jnp.arange(a.size)).reshape(a.shape), (x, w, b))

    def of(p):
        return scalar(loss)(p[0], p[1], y, p[2])

    def slope(p):
        g = jax.grad(of)(p)
        return sum(jnp.vdot(a, c) for a, c in zip(g, v, strict=True))

    if how == "jvp of grad":
        return jax.jit(lambda *p: jax.jvp(jax.grad(of), (p,), (v,)))(x, w, b)
    return jax.jit(jax.grad(slope))((x, w, b))


@pytest.mark.parametrize("how", ["jvp of grad", "grad of grad"])
@pytest.mark.parametrize(("reduction", "size"), [("mean", 4), ("none", 4), ("mean", 3)])
def test_second_derivatives(size, reduction, how):
    given = {"reduction": reduction, "z_loss": 0.1, "logit_softcap": 4.0}
    with chunks_of(size):
        got = _curvature(functools.partial(linear_softmax_cross_entropy, **given), how)
    same(got, _curvature(functools.partial(held, **given), how), digits=10)


@pytest.mark.parametrize(("reduction", "size"), [("mean", 4), ("none", 4), ("mean", 3)])
def test_forward_mode(size, reduction):
    x, w, b, y = drawn((9,))
    v = jax.tree.map(jnp.ones_like, (x, w, b))

    def of(loss):
        return lambda x, w, b: loss(x, w, y, b, reduction=reduction, logit_softcap=4.0)

    run = of(xent_jax.forward_mode.linear_softmax_cross_entropy)
    with chunks_of(size):
        got = jax.jit(lambda *args: jax.jvp(run, args, v))(x, w, b)
        gradients = jax.jit(jax.grad(scalar(run), (0, 1, 2)))(x, w, b)
        head = xent_jax.forward_mode.with_linear_head(
            xent_jax.softmax_focal_loss, reduction=reduction
        )
        focused = jax.jit(lambda x: jax.jvp(lambda x: head(x, w, y), (x,), v[:1]))(x)
    same(gradients, jax.jit(jax.grad(scalar(of(held)), (0, 1, 2)))(x, w, b))
    loss = of(functools.partial(held))
    same(got[0], loss(x, w, b))
    _, pull = jax.vjp(loss, x, w, b)
    wanted = jax.linear_transpose(pull, got[0])  # the transpose of the transpose
    same(got[1], wanted(v)[0])
    reduce = {"mean": jnp.mean, "sum": jnp.sum, "none": lambda x: x}[reduction]
    step = 1e-6
    ahead, behind = (reduce(focal((x + s * v[0]) @ w, y)) for s in (step, -step))
    same(focused[1], (ahead - behind) / (2 * step), digits=7)


def test_vmap_checkpoint_scan_and_tied_embeddings():
    x, w, b, y = drawn((4, 6))

    def loss(x, w, y):
        return linear_softmax_cross_entropy(x, w, y, b)

    def wanted(x, w, y):
        return held(x, w, y, b)

    gradients = jax.value_and_grad(loss, (0, 1))
    with chunks_of(4):
        each = jax.jit(jax.vmap(gradients, (0, None, 0)))(x, w, y)
        again = jax.jit(jax.grad(jax.checkpoint(loss), 1))(x, w, y)

        def microbatch(total, rows):
            return total + jax.grad(loss, 1)(rows[0], w, rows[1]), None

        summed, _ = jax.jit(lambda: jax.lax.scan(microbatch, jnp.zeros_like(w), (x, y)))()
        tied = jax.jit(jax.grad(lambda e: loss(x, e.T, y)))(w.T)
        lying = jax.jit(
            jax.grad(lambda e: linear_softmax_cross_entropy(x, e, y, b, kernel_axes="VD"))
        )(w.T)
    plain_gradients = jax.value_and_grad(wanted, (0, 1))
    same(each, jax.jit(jax.vmap(plain_gradients, (0, None, 0)))(x, w, y))
    whole = jax.jit(jax.grad(wanted, 1))(x, w, y)
    same((again, summed / 4, tied.T, lying.T), 4 * (whole,))


@pytest.mark.parametrize("axes", ["DV", "VD"])
@pytest.mark.parametrize("reduction", ["mean", "none"])
def test_the_kernels_gradient_in_pieces(reduction, axes):
    x, w, b, y = drawn((9,), classes=12)
    w = w if axes == "DV" else w.T
    run = scalar(functools.partial(
        linear_softmax_cross_entropy, reduction=reduction, kernel_axes=axes, z_loss=0.1
    ))  # fmt: skip

    def gradients(pieces):
        with chunks_of(4, pieces):
            gradient = jax.grad(lambda x, w: run(x, w, y, b), (0, 1))
            assert ("length=4" in str(jax.make_jaxpr(gradient)(x, w))) == (pieces == 4)

            @jax.jit
            def every(x, w):
                curved = jax.jvp(gradient, (x, w), (x, w))[1]
                back = jax.grad(lambda w: jnp.vdot(gradient(x, w)[1], w))(w)
                mapped = jax.vmap(gradient, (0, None))(jnp.stack([x, 2 * x]), w)
                return gradient(x, w), curved, back, mapped

            return every(x, w)

    whole = gradients(1)
    same(gradients(4), whole)
    wanted = scalar(functools.partial(held, reduction=reduction, z_loss=0.1))
    kernel = w if axes == "DV" else w.T
    (dx, dw), *_ = whole
    same((dx, dw if axes == "DV" else dw.T), jax.jit(jax.grad(wanted, (0, 1)))(x, kernel, y, b))


def test_a_head_in_pieces_lowers_for_every_platform():
    x, w, b, y = drawn((9,), classes=12)
    with chunks_of(4, 3):
        run = jax.jit(jax.grad(lambda w: linear_softmax_cross_entropy(x, w, y, b)))
        exported = jax.export.export(run, platforms=["cpu", "cuda", "rocm", "tpu"])(w)
        same(exported.call(w), run(w))


# ---------------------------------------------------------------- to the bit


@pytest.mark.users_compile
@pytest.mark.parametrize("size", [16, 20])
def test_the_same_run_to_run_and_whatever_the_neighbours(size):
    rng = np.random.default_rng(3)
    x, w = (jnp.asarray(rng.normal(size=s), jnp.float32) for s in ((64, 32), (32, 300)))
    y = jnp.asarray(rng.integers(0, 300, 64))

    @jax.jit
    def run(x, y):
        losses, pull = jax.vjp(lambda x: linear_softmax_cross_entropy(x, w, y, reduction="none"), x)
        return losses, pull(jnp.ones_like(losses))[0]

    with chunks_of(size):
        once, again = run(x, y), run(x, y)
        others = run(x.at[:40].set(-3 * x[:40]).at[41:].set(7.0), y.at[:40].set(0))
    for a, b, c in zip(once, again, others, strict=True):
        assert (np.asarray(a) == np.asarray(b)).all()
        assert (np.asarray(a)[40] == np.asarray(c)[40]).all()


@pytest.mark.parametrize("reduction", REDUCTIONS)
def test_chunks_of_any_size_agree_to_rounding(reduction):
    x, w, b, y = drawn((24,))
    run = jax.value_and_grad(
        lambda x, w, b: scalar(linear_softmax_cross_entropy)(x, w, y, b, reduction=reduction),
        (0, 1, 2),
    )
    found = []
    for size in (1, 2, 5, 7, 24):
        with chunks_of(size):
            found.append(jax.jit(lambda *args: run(*args))(x, w, b))
    for one, other in itertools.pairwise(found):
        same(one, other, digits=13)


@pytest.mark.parametrize("options", [{"ignore_index": -100}, {"where": jnp.array([True, False])}])
@pytest.mark.parametrize("reduction", ["none", "mean"])
def test_a_label_that_is_out_reaches_no_gradient(reduction, options):
    """-100 is out of range too: its NaN must not reach what all tokens share."""

    def total(options_of_the_loss):
        losses = xent_jax.linear_softmax_cross_entropy(
            jnp.ones((2, 3)), jnp.ones((3, 4)), jnp.array([0, -100]),
            **options, **options_of_the_loss, reduction=reduction,
        )  # fmt: skip
        return jnp.sum(losses)

    shared = {"label_smoothing": 0.1, "z_loss": 0.1, "class_weights": jnp.ones(4)}
    gradient = jax.grad(total)(shared)
    assert all(jnp.all(jnp.isfinite(g)) for g in jax.tree.leaves(gradient))


MASKS = [(), (1,), (6,), (2, 1), (1, 6), (2, 6, 1), (1, 6, 1), (2, 1, 1)]


@pytest.mark.parametrize(
    ("shape", "reduction"),
    [*((shape, "mean") for shape in MASKS), ((2, 1), "none"), ((1, 6), "sum")],
    ids=str,
)
def test_where_broadcasts_as_that_of_the_loss_of_logits(shape, reduction):
    x, w, b, y = drawn((2, 6))
    where = jnp.asarray(np.random.default_rng(2).random(shape) < 0.6)
    calls = {
        "held": lambda x, w: held(x, w, y, b, where, reduction=reduction),
        "loss": lambda x, w: linear_softmax_cross_entropy(x, w, y, b, where, reduction=reduction),
        "any": lambda x, w: with_linear_head(
            xent_jax.softmax_cross_entropy_with_integer_labels, reduction=reduction
        )(x, w, y, bias=b, where=where),
    }

    @jax.jit
    def each(x, w):
        pairs = [jax.vjp(f, x, w) for f in calls.values()]
        return [(value, pull(jnp.ones_like(value))) for value, pull in pairs]

    with chunks_of(5):
        wanted, *found = each(x, w)
    for of_head in found:
        same(of_head, wanted)


@pytest.mark.parametrize("shape", [(3,), (6, 2), (2, 6, 11), (1, 2, 6), (2, 6, 1, 1)], ids=str)
def test_a_mask_that_does_not_broadcast_to_the_tokens_is_refused(shape):
    x, w, b, y = drawn((2, 6))
    wanted = r"where must broadcast to the shape of the tokens, \[2, 6\], got bool"
    with pytest.raises(ValueError, match="linear_softmax_cross_entropy: " + wanted):
        linear_softmax_cross_entropy(x, w, y, b, jnp.ones(shape, bool))
    with pytest.raises(ValueError, match="with_linear_head: " + wanted):
        with_linear_head(lambda z, y: z[:, 0])(x, w, y, where=jnp.ones(shape, bool))


# ---------------------------------------------------------------- weights and aux


def with_aux(z, y):
    return plain(z, y), {"correct": jnp.argmax(z, -1) == y, "parts": (z[:, :2], jnp.square(z))}


@pytest.mark.parametrize("reduction", REDUCTIONS)
@pytest.mark.parametrize("library", [xent_jax, xent_jax.forward_mode], ids=["vjp", "jvp"])
def test_aux_is_that_of_held_logits_and_has_no_gradient(library, reduction):
    x, w, b, y = drawn((2, 5))
    left = jnp.arange(10).reshape(2, 5) % 3 > 0

    def of(has_aux, loss):
        head = library.with_linear_head(loss, has_aux=has_aux, reduction=reduction)

        def run(x, w, b):
            out = head(x, w, y, bias=b, where=left)
            value, aux = out if has_aux else (out, ())
            return jnp.sum(jnp.sin(value)) + sum(jnp.sum(a) for a in jax.tree.leaves(aux)), aux

        return jax.jit(jax.grad(run, (0, 1, 2), has_aux=True))(x, w, b)

    with chunks_of(4):
        gradients, aux = of(True, with_aux)
        wanted, _ = of(False, plain)
    same(gradients, wanted)
    z = x @ w + b
    out = jnp.where(left[..., None], z, 0)
    assert (aux["correct"] == (left & (jnp.argmax(z, -1) == y))).all()
    same(aux["parts"], (out[..., :2], jnp.square(out)))


def test_aux_stays_without_gradient_in_second_derivatives():
    x, w, b, y = drawn((9,))

    def norm(has_aux, loss):
        def gradient(x):
            head = with_linear_head(loss, has_aux=has_aux)
            value, aux = jax.value_and_grad(head, has_aux=has_aux)(x, w, y, bias=b)
            return jnp.sum(jnp.square(aux)) + sum(
                jnp.sum(a) for a in jax.tree.leaves(value) if a.dtype == x.dtype
            )

        return jax.grad(gradient)(x)

    with chunks_of(4):
        same(norm(True, with_aux), norm(False, plain))


@pytest.mark.parametrize("reduction", REDUCTIONS)
def test_a_wrong_weight_reaches_its_own_row_alone(reduction):
    x, w, b, y = drawn((9,))
    weights = jnp.ones(9).at[jnp.array([2, 5])].set(jnp.array([-1.0, jnp.nan]))
    wrong = ~(weights >= 0)

    def losses(x, weights):
        return scalar(linear_softmax_cross_entropy)(
            x, w, y, b, weights=weights, reduction=reduction
        )

    with chunks_of(4):
        dx, d_weights = jax.grad(losses, (0, 1))(x, weights)
    assert (jnp.isnan(dx).all(-1) == wrong).all() and not jnp.isnan(dx).any(-1)[~wrong].any()
    if reduction != "mean":  # there the loss of each divides by the weights of all
        assert not jnp.isnan(d_weights[~wrong]).any()
    held_dx = jax.grad(lambda x: scalar(held)(x, w, y, b, weights=weights, reduction=reduction))(x)
    same(dx[~wrong], held_dx[~wrong])


def test_a_weight_of_zero_has_the_loss_for_its_gradient():
    x, w, b, y = drawn((6,))
    at_zero = jax.grad(lambda v: linear_softmax_cross_entropy(
        x, w, y, b, weights=v, reduction="sum"))(jnp.zeros(6))  # fmt: skip
    same(at_zero, held(x, w, y, b, reduction="none"))


def test_a_mean_over_weights_of_zero_is_zero():
    x, w, b, y = drawn((6,))
    value, gradients = jax.value_and_grad(linear_softmax_cross_entropy, (0, 1))(
        x, w, y, b, weights=jnp.zeros(6)
    )
    assert value == 0 and not any(g.any() for g in gradients)


@pytest.mark.parametrize("value", [0.0, -1.0, np.nan])
def test_a_traced_temperature_that_is_not_above_zero_is_nan(value):
    x, w, b, y = drawn((6,))

    def loss(x, temperature):
        return linear_softmax_cross_entropy(x, w, y, b, temperature=temperature)

    found = jax.jit(jax.value_and_grad(loss, (0, 1)))(x, value)
    assert all(jnp.isnan(a).all() for a in jax.tree.leaves(found))
    statistics = jax.jit(lambda t: xent_jax.linear_token_statistics(x, w, y, temperature=t))(value)
    assert jnp.isnan(statistics.loss).all() and (statistics.argmax == -1).all()


def test_logits_of_minus_infinity_keep_the_gradient_of_the_temperature():
    x, w, b, y = drawn((6,))
    b, y = b.at[3].set(-jnp.inf), jnp.where(y == 3, 0, y)

    def of(loss, w, b, y):
        return jax.grad(lambda t: loss(x, w, y, b, temperature=t))(0.7)

    some = np.arange(CLASSES) != 3
    wanted = of(held, w[:, some], b[some], y - (y > 3))
    same(of(linear_softmax_cross_entropy, w, b, y), wanted)


# ---------------------------------------------------------------- distillation


@pytest.mark.parametrize(
    "loss", [xent_jax.softmax_kl_divergence, xent_jax.softmax_jensen_shannon_divergence]
)
def test_distillation_from_logits_and_from_a_linear_teacher(loss):
    """The teacher's logits as targets, or its hidden states, with its kernel closed over."""
    x, w, _, _ = drawn((9,))
    hidden, teacher, _, _ = drawn((9,), seed=1)
    divergence = functools.partial(loss, temperature=2.0)

    def of_held(x, w, hidden, teacher):
        return jnp.mean(divergence(x @ w, hidden @ teacher))

    def of_logits(x, w, hidden, teacher):
        return with_linear_head(divergence)(x, w, hidden @ teacher)

    def of_states(x, w, hidden, teacher):
        head = with_linear_head(lambda z, hidden: divergence(z, hidden @ teacher))
        return head(x, w, hidden)

    wanted, *got = (
        jax.value_and_grad(loss, (0, 1, 2, 3))(x, w, hidden, teacher)
        for loss in (of_held, of_logits, of_states)
    )
    with chunks_of(4):
        got += [
            jax.value_and_grad(f, (0, 1, 2, 3))(x, w, hidden, teacher)
            for f in (of_logits, of_states)
        ]
    for found in got:
        same(found, wanted)
