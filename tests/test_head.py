"""The linear head against the same loss of logits that are held, in float64 to 12 digits."""

import contextlib
import functools
import itertools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import xent_jax
from tests.chunks import chunks_of
from tests.heads import CLASSES, REDUCTIONS, WIDTH, drawn, held, plain, reduced, same, scalar
from xent_jax import forward_mode, linear_softmax_cross_entropy, with_linear_head

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
# Each option in chunks that divide the tokens or do not; all at once in every way.
CASES = [(name, (13,), "none") for name in OPTIONS] + [(name, (2, 6), "mean") for name in OPTIONS]
CASES += [("all", batch, r) for batch in [(13,), (1,), (0,), ()] for r in ("mean", "sum")]


def options(name, batch):
    """Returns the arguments that have a gradient, and the others."""
    rng, given = np.random.default_rng(1), dict(OPTIONS[name])
    left = np.asarray(rng.random(batch) < 0.6)
    if left.size:
        left.flat[0] = True  # a token that ignore_index alone leaves out
        if "ignore_index" in given:
            given["ignore_index"] = int(drawn(batch)[3].reshape(-1)[0])
    by_token = np.where(rng.random(batch) < 0.3, 0, rng.random(batch))
    arrays = {"where": left, "class_weights": rng.random(CLASSES) + 0.1, "weights": by_token}
    given |= {name: jnp.asarray(a) for name, a in arrays.items() if name in given}
    fixed = {k: given.pop(k) for k in ("where", "ignore_index") if k in given}
    return given, fixed


@pytest.mark.parametrize(("name", "batch", "reduction"), CASES, ids=str)
def test_value_and_gradients_are_those_of_held_logits(name, batch, reduction):
    x, w, b, y = drawn(batch)
    floats, fixed = options(name, batch)

    def of(loss):
        run = scalar(functools.partial(loss, reduction=reduction, **fixed))
        return jax.jit(jax.value_and_grad(lambda p: run(p[0], p[1], y, p[2], **p[3])))

    wanted = of(held)((x, w, b, floats))
    with chunks_of(4) if len(y.reshape(-1)) > 4 else contextlib.nullcontext():
        got = of(linear_softmax_cross_entropy)((x, w, b, floats))
    same(got, wanted)


def test_without_a_bias_and_without_jit():
    x, w, _, y = drawn((9,))
    given = {"label_smoothing": 0.3, "z_loss": 0.1, "logit_softcap": 3.0, "temperature": 0.8}

    def of(loss):
        return jax.value_and_grad(lambda x, w, given: loss(x, w, y, **given), (0, 1, 2))

    with chunks_of(4):
        got = of(linear_softmax_cross_entropy)(x, w, given)
    same(got, of(held)(x, w, given))


# ---------------------------------------------------------------- any loss


def two_targets(z, t):
    return jnp.sum(t["weights"] * jnp.sin(z), -1) + t["shift"]


def of_teacher(z, teacher):
    return xent_jax.kl_divergence(xent_jax.log_softmax(z), xent_jax.softmax(teacher))


def of_likeliest(z, top):
    p, ids = top
    rows = jnp.arange(len(ids))[:, None]
    return xent_jax.softmax_cross_entropy(z, jnp.zeros_like(z).at[rows, ids].add(p))


def losses_of_logits(batch):
    """For each name the loss of logits, targets and what it closes over, and those two."""
    rng, (_, teacher, _, y) = np.random.default_rng(2), drawn(batch, seed=1)
    hidden = jnp.asarray(rng.normal(size=(*batch, WIDTH)))
    t, shift = jnp.asarray(rng.random((*batch, CLASSES))), jnp.asarray(rng.normal(size=batch))
    z = 3 * (hidden @ teacher)
    kl, js = (
        functools.partial(loss, temperature=2.0)
        for loss in (xent_jax.softmax_kl_divergence, xent_jax.softmax_jensen_shannon_divergence)
    )
    soft = functools.partial(xent_jax.softmax_cross_entropy, label_smoothing=0.1)
    closed = {"temperature": jnp.asarray(0.7), "scale": jnp.array([2.0, 1.0])}
    plainly = {
        "soft": (soft, t),
        "focal": (xent_jax.softmax_focal_loss, y),
        "plain": (plain, y),
        "two targets": (two_targets, {"weights": t, "shift": shift}),
        "a teacher": (of_teacher, z),
        "its likeliest": (of_likeliest, jax.lax.top_k(xent_jax.softmax(z), 3)),
        "divergence": (kl, z),
        "Jensen-Shannon": (js, z),
    }
    found = {
        name: (lambda z, t, _, loss=loss: loss(z, t), target, ())
        for name, (loss, target) in plainly.items()
    }
    return found | {
        "closing": (lambda z, y, c: c["scale"][0] * plain(z / c["temperature"], y), y, closed),
        "a linear teacher": (lambda z, hidden, kernel: kl(z, hidden @ kernel), hidden, teacher),
        "a linear mixture": (lambda z, hidden, kernel: js(z, hidden @ kernel), hidden, teacher),
    }


NAMES = list(losses_of_logits(()))
IN_ALL_REDUCTIONS = ["soft", "focal", "plain", "two targets", "closing"]


@pytest.mark.parametrize(
    ("name", "reduction", "jit"),
    [(name, "mean", True) for name in NAMES]
    + [(name, reduction, True) for name in IN_ALL_REDUCTIONS for reduction in ("sum", "none")]
    + [("closing", reduction, False) for reduction in REDUCTIONS],
)
def test_a_loss_of_any_kind_has_gradients_to_targets_and_what_it_closes_over(name, reduction, jit):
    batch = (2, 6)
    x, w, b, _ = drawn(batch)
    loss, targets, closed = losses_of_logits(batch)[name]
    floats = {a.dtype == x.dtype for a in jax.tree.leaves(targets)} == {True}

    def of_head(x, w, b, closed, t):
        head = with_linear_head(
            lambda z, t: loss(z, t, closed), reduction=reduction, logit_transform=jnp.tanh
        )
        return head(x, w, t, bias=b)

    def of_held(x, w, b, closed, t):
        z, t = jnp.tanh(x @ w + b).reshape(12, -1), jax.tree.map(flat, t)
        return reduced(loss(z, t, closed).reshape(batch), reduction)

    def flat(a):
        return a.reshape(12, *a.shape[2:])

    def run(loss):
        of = jax.value_and_grad(scalar(loss), range(5 if floats else 4))
        return (jax.jit(of) if jit else of)(x, w, b, closed, targets)

    with chunks_of(5):
        got = run(of_head)
    same(got, run(of_held))


# ---------------------------------------------------------------- every transformation


def transformed(loss, w, names):
    """What JAX's transformations make of the loss, by their names, in one program."""
    x, _, b, y = drawn((9,), classes=12)
    point, two = (x, w, b), (jnp.stack([x, 2 * x]), jnp.stack([y, y[::-1]]))
    direction = jax.tree.map(lambda a: jnp.cos(jnp.arange(a.size)).reshape(a.shape), point)

    def of(x, w, b, y=y):
        return scalar(loss)(x, w, y, b)

    gradient = jax.grad(of, (0, 1, 2))

    def along(*point):
        return sum(map(jnp.vdot, gradient(*point), direction))

    def microbatch(total, rows):
        return total + jax.grad(of, 1)(rows[0], w, b, rows[1]), None

    made = {
        "gradient": lambda: jax.value_and_grad(of, (0, 1, 2))(*point),
        "forward over reverse": lambda: jax.jvp(gradient, point, direction),
        "reverse over reverse": lambda: jax.grad(along, (0, 1, 2))(*point),
        "vmap": lambda: jax.vmap(gradient, (0, None, None, 0))(two[0], w, b, two[1]),
        "checkpoint": lambda: jax.grad(jax.checkpoint(of), (0, 1, 2))(*point),
        "scan": lambda: jax.lax.scan(microbatch, jnp.zeros_like(w), two)[0],
        "tangents": lambda: jax.jvp(lambda x, w, b: loss(x, w, y, b), point, direction),
    }
    return jax.jit(lambda: {name: made[name]() for name in names})()


FORWARD = ("gradient", "tangents")
SECOND = ("gradient", "forward over reverse", "reverse over reverse")
MAPPED = (*SECOND, "vmap")
EVERY = (*MAPPED, "checkpoint", "scan")
SMOOTH = {"z_loss": 0.1, "logit_softcap": 4.0}


@functools.cache
def transformed_held(reduction):
    loss = functools.partial(held, reduction=reduction, **SMOOTH)
    return transformed(loss, drawn((9,), classes=12)[1], {*FORWARD, *EVERY})


@pytest.mark.parametrize(
    ("names", "reduction", "size", "pieces", "axes"),
    [
        (EVERY, "mean", 4, 1, "DV"), (SECOND, "none", 4, 1, "DV"), (EVERY, "mean", 3, 1, "VD"),
        (MAPPED, "mean", 4, 4, "DV"), (MAPPED, "none", 4, 4, "DV"),
        (MAPPED, "mean", 4, 4, "VD"), (MAPPED, "none", 4, 4, "VD"),
        (FORWARD, "mean", 4, 1, "DV"), (FORWARD, "none", 4, 1, "DV"), (FORWARD, "mean", 3, 1, "DV"),
    ],
    ids=lambda x: x[-1] if isinstance(x, tuple) else str(x),
)  # fmt: skip
def test_every_transformation(names, reduction, size, pieces, axes):
    """The kernel's gradient is summed in as many pieces of the classes."""
    library = forward_mode if names is FORWARD else xent_jax

    def loss(x, w, y, b):
        w = w if axes == "DV" else w.T
        given = {"reduction": reduction, "kernel_axes": axes, **SMOOTH}
        return library.linear_softmax_cross_entropy(x, w, y, b, **given)

    x, w, b, y = drawn((9,), classes=12)
    with chunks_of(size, pieces):
        program = jax.make_jaxpr(jax.grad(lambda w: jnp.sum(loss(x, w, y, b))))(w)
        assert ("length=4" in str(program)) == (pieces == 4)
        got = transformed(loss, w, names)
    wanted = transformed_held(reduction)
    for name in names:
        same(got[name], wanted[name], digits=10 if "over" in name else 12)


@pytest.mark.parametrize(("reduction", "size"), [("mean", 4), ("none", 4), ("mean", 3)])
def test_forward_mode_of_any_loss(size, reduction):
    x, w, _, y = drawn((9,))
    loss = forward_mode.softmax_focal_loss

    def tangent(loss):
        return jax.jit(lambda: jax.jvp(lambda x: loss(x, w, y), (x,), (jnp.ones_like(x),)))()

    with chunks_of(size):
        got = tangent(forward_mode.with_linear_head(loss, reduction=reduction))
    same(got, tangent(lambda x, w, y: reduced(loss(x @ w, y), reduction)))


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
        np.testing.assert_array_equal(a, b)
        np.testing.assert_array_equal(a[40], c[40])


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
