"""The linear head agrees to 12 digits with the same loss of logits that are held, in float64."""

import functools
import itertools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import xent_jax
from tests.chunks import chunks_of
from tests.heads import CLASSES, agree, derivatives, drawn, held, pulled, reductions, same, weighed
from xent_jax import forward_mode, linear_softmax_cross_entropy

pytestmark = [pytest.mark.fast_compile, pytest.mark.usefixtures("float64")]

EAGER = "eager, without a bias"
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
    EAGER: {"label_smoothing": 0.3, "z_loss": 0.1, "logit_softcap": 3.0, "temperature": 0.8},
}  # fmt: skip
# Each option is tested in chunks that divide the tokens and in chunks that do not; all options at
# once also with other batches and reductions.
CASES = [(name, (13,), "none") for name in OPTIONS] + [(name, (2, 6), "mean") for name in OPTIONS]
CASES += [("all", batch, r) for batch in [(13,), (1,), (0,), ()] for r in ("mean", "sum")]


def options(name, batch):
    """Returns the arguments that have a gradient, and the others."""
    rng, given = np.random.default_rng(1), dict(OPTIONS[name])
    left = np.asarray(rng.random(batch) < 0.6)
    if left.size:
        left.flat[0] = True  # so that only ignore_index leaves out this token
        if "ignore_index" in given:
            given["ignore_index"] = int(drawn(batch)[3].reshape(-1)[0])
    by_token = np.where(rng.random(batch) < 0.3, 0, rng.random(batch))
    arrays = {"where": left, "class_weights": rng.random(CLASSES) + 0.1, "weights": by_token}
    given |= {name: jnp.asarray(a) for name, a in arrays.items() if name in given}
    fixed = {k: given.pop(k) for k in ("where", "ignore_index") if k in given}
    return given, fixed


@pytest.mark.parametrize(("name", "batch", "reduction"), CASES, ids=str)
def test_value_and_gradients_are_those_of_held_logits(name, batch, reduction):
    (x, w, b, y), eager = drawn(batch), name == EAGER
    floats, fixed = options(name, batch)

    def run(loss):
        def of(x, w, b, floats):
            return loss(x, w, y, b, reduction=reduction, **fixed, **floats)

        return (pulled if eager else derivatives)(of, x, w, None if eager else b, floats)

    agree(run, linear_softmax_cross_entropy, held, min(4, max(y.size, 1)))


# ---------------------------------------------------------------- every transformation


def transformed(loss, w, names):
    """Returns {name: result} for transformations of the loss, which run in one program."""
    x, _, b, y = drawn((9,), classes=12)
    point, two = (x, w, b), (jnp.stack([x, 2 * x]), jnp.stack([y, y[::-1]]))
    direction = jax.tree.map(lambda a: jnp.cos(jnp.arange(a.size)).reshape(a.shape), point)

    def of(x, w, b, y=y):
        return weighed(loss(x, w, y, b))

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
    """``pieces`` is the number of parts of the classes in which the kernel's gradient is summed."""
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


# ---------------------------------------------------------------- to the bit


@pytest.mark.users_compile
@pytest.mark.parametrize("size", [16, 20])
def test_the_same_run_to_run_and_whatever_the_neighbours(size):
    rng = np.random.default_rng(3)
    x, w = (jnp.asarray(rng.normal(size=s), jnp.float32) for s in ((64, 32), (32, 300)))
    y = jnp.asarray(rng.integers(0, 300, 64))

    @jax.jit
    def run(x, y):
        losses, gradients = pulled(
            lambda x: linear_softmax_cross_entropy(x, w, y, reduction="none"), x
        )
        return losses, *gradients

    with chunks_of(size):
        once, again = run(x, y), run(x, y)
        others = run(x.at[:40].set(-3 * x[:40]).at[41:].set(7.0), y.at[:40].set(0))
    for a, b, c in zip(once, again, others, strict=True):
        np.testing.assert_array_equal(a, b)
        np.testing.assert_array_equal(a[40], c[40])


@reductions
def test_chunks_of_any_size_agree_to_rounding(reduction):
    x, w, b, y = drawn((24,))
    head, found = functools.partial(linear_softmax_cross_entropy, reduction=reduction), []
    for size in (1, 2, 5, 7, 24):
        with chunks_of(size):
            found.append(derivatives(head, x, w, y, b))
    for one, other in itertools.pairwise(found):
        same(one, other, digits=13)
