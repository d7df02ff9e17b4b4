"""Several calls in one gradient, in which different arguments are differentiated.

JAX traces such calls once if their shapes and options are equal. Each must still get its own
gradients, which are those of plain JAX.
"""

import functools
import itertools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import xent_jax
from tests.cases import RICHEST
from tests.problems import close

pytestmark = [pytest.mark.fast_compile, pytest.mark.usefixtures("float64")]

N, D, K = 4, 3, 5
Y = jnp.array([0, 4, 2, 1])


def held(x, w, b=0.0):
    return jax.nn.log_softmax(x @ w + b)


def picked(log_p):
    return -jnp.take_along_axis(log_p, Y[:, None], -1)[:, 0]


def statistics(library, x, w, b):
    found = library.linear_token_statistics(x, w, Y, b)
    return found.loss + found.entropy * found.logsumexp


def plain_statistics(x, w, b):
    z = x @ w + b
    log_p = jax.nn.log_softmax(z)
    entropy = -jnp.sum(jnp.exp(log_p) * log_p, -1)
    return picked(log_p) + entropy * jax.nn.logsumexp(z, -1)


def closing(library, x, w, c):
    loss = library.softmax_cross_entropy_with_integer_labels
    return library.with_linear_head(lambda z, y: loss(z / c, y))(x, w, Y)


def integer(library, x, w, b, c, **options):
    return library.linear_softmax_cross_entropy(x, w, Y, b, z_loss=c, **options)


def plain_integer(x, w, b, c):
    return picked(held(x, w, b)) + c * jax.nn.logsumexp(x @ w + b, -1) ** 2


def with_soft(library, x, w, t, **options):
    return library.with_linear_head(library.softmax_cross_entropy, **options)(x, w, t)


def plain_soft(x, w, t):
    return -jnp.sum(t * held(x, w), -1)


_SHAPES = {"x": (N, D), "w": (D, K), "b": (K,), "c": (), "t": (N, K)}
HEADS = {
    "mean": (integer, plain_integer, "xwbc"),
    "none": (functools.partial(integer, reduction="none"), plain_integer, "xwbc"),
    "soft targets, mean": (with_soft, plain_soft, "xwt"),
    "soft targets, none": (functools.partial(with_soft, reduction="none"), plain_soft, "xwt"),
    "a closure": (closing, lambda x, w, c: picked(jax.nn.log_softmax(x @ w / c)), "xwc"),
    "statistics": (statistics, plain_statistics, "xwb"),
}


def head(name, library):
    """Both sides as functions of a dictionary, and two such dictionaries."""
    ours, plain, names = HEADS[name]
    rng = np.random.default_rng(0)

    def drawn():
        return {n: jnp.asarray(rng.uniform(0.5, 1.5, _SHAPES[n])) for n in names}

    return lambda a: jnp.mean(ours(library, **a)), lambda a: jnp.mean(plain(**a)), drawn(), drawn()


def logits(case, library):
    rng = np.random.default_rng(0)
    first, second = (jax.tree.map(jnp.asarray, case.inputs(rng, (2,), 3)) for _ in "ab")
    ours, plain = functools.partial(case.call, library), case.expected
    given = {k: v for k, v in first.items() if k not in case.floats(first)}

    def of(function):
        return lambda floats: jnp.sum(function({**given, **floats}) ** 2)

    return of(ours), of(plain), case.floats(first), case.floats(second)


def frozen(arguments, differentiated):
    return {k: v if k in differentiated else jax.lax.stop_gradient(v) for k, v in arguments.items()}


# ------------------------------------------------------------- how the calls are made


def eager(call, sets, a, b):
    return sum((i + 1) * call(frozen((a, b)[i % 2], s)) for i, s in enumerate(sets))


def jitted(call, sets, a, b):
    return jax.jit(lambda a, b: eager(call, sets, a, b))(a, b)


def checkpointed(call, sets, a, b):
    return eager(jax.checkpoint(call), sets, a, b)


def scanned(call, sets, a, b):
    """Each call takes its arguments from the carry, which is differentiated or not."""

    def body(carry, i):
        return carry, i * eager(call, sets, *carry)

    return jnp.sum(jax.lax.scan(body, (a, b), jnp.arange(1.0, 3.0))[1])


def conditional(call, sets, a, b):
    halves = sets[::2], sets[1::2]
    branches = [functools.partial(eager, call, half) for half in halves]
    return sum(jax.lax.cond(jnp.array(flag), *branches, a, b) for flag in (True, False))


def mapped(call, sets, a, b):
    several = jax.tree.map(lambda x: jnp.stack([x, 2 * x]), (a, b))
    return jnp.sum(jax.vmap(functools.partial(eager, call, sets))(*several))


WAYS = [eager, jitted, checkpointed, scanned, conditional, mapped]


def check(way, problem, sets):
    ours, plain, a, b = problem

    def gradient(call):
        return jax.grad(lambda p: way(call, sets, *p))

    run = gradient(ours) if way is eager else jax.jit(gradient(ours))
    close(run((a, b)), jax.jit(gradient(plain))((a, b)), 1e-10)


def case(name, way=jitted, library=xent_jax, step=1, slow=False):
    mode = "vjp" if library is xent_jax else "jvp"
    label = f"{name}-{way.__name__}-{mode}{'-in reverse order' * (step < 0)}"
    return pytest.param(name, way, library, step, id=label, marks=[pytest.mark.slow] * slow)


INTEGER = "softmax_cross_entropy_with_integer_labels"
CASES = [case(name, way) for name in ("mean", INTEGER) for way in WAYS]
CASES += [case("none", way, slow=way is not jitted) for way in WAYS]
CASES += [case(name) for name in [*HEADS, *RICHEST] if name not in ("mean", "none", INTEGER)]
CASES += [case(name, checkpointed, slow=True) for name in HEADS if name not in ("mean", "none")]
CASES += [case(name, step=-1, slow=True) for name in HEADS]
CASES += [case(name, library=xent_jax.forward_mode, slow=True) for name in HEADS]
CASES += [
    case(name, library=xent_jax.forward_mode)
    for name in ("softmax_cross_entropy", "softmax_kl_divergence")
]


@pytest.mark.parametrize(("name", "way", "library", "step"), CASES)
def test_calls(name, way, library, step):
    """Every argument alone, all of them, and none; so that each set comes before each other one."""
    problem = head(name, library) if name in HEADS else logits(RICHEST[name], library)
    sets = [*[(n,) for n in problem[2]], tuple(problem[2]), ()]
    check(way, problem, sets[::step])


@pytest.mark.parametrize("name", ["mean", "none"])
@pytest.mark.parametrize(
    "pair", [*itertools.permutations([("x",), ("w",), ("x", "w"), ("x", "w", "b")], 2)], ids=str
)
def test_each_pair_of_sets(name, pair):
    check(eager, head(name, xent_jax), pair)


@pytest.mark.parametrize("name", HEADS)
def test_two_vjps_that_are_pulled_back_later(name):
    ours, plain, a, b = head(name, xent_jax)
    for first, second in ("xw", "wx"):

        def pulls(call, first=first, second=second):
            made = [jax.vjp(lambda v, p=p, n=n: call({**p, n: v}), p[n]) for p, n in (
                (a, first), (b, second),
            )]  # fmt: skip
            return [pull(jnp.ones_like(value)) for value, pull in made]

        close(pulls(ours), pulls(plain), 1e-10)


def test_a_contrastive_loss_with_one_tower_frozen():
    rng = np.random.default_rng(1)
    a, b = (jnp.asarray(rng.normal(size=(N, D))) for _ in "ab")
    i = jnp.arange(N)

    def ours(a):
        loss = xent_jax.linear_softmax_cross_entropy
        return loss(a, b.T, i) + loss(b, a.T, i)

    def plain(a):
        both = (jax.nn.log_softmax(a @ b.T), jax.nn.log_softmax(b @ a.T))
        return -sum(jnp.mean(jnp.diag(log_p)) for log_p in both)

    close(jax.grad(ours)(a), jax.grad(plain)(a))


def test_an_online_probe_beside_the_head():
    """The probe learns from inputs that are not differentiated, the head differentiates them."""
    ours, plain, a, b = head("mean", xent_jax)

    def both(call):
        def of(a, b):
            return call(a) + call({**b, "x": jax.lax.stop_gradient(a["x"])})

        return jax.jit(jax.grad(of, (0, 1)))(a, b)

    close(both(ours), both(plain), 1e-10)
