"""Calls in one gradient that differentiate different arguments each get their own gradients.

JAX traces such calls once if their shapes and options are equal. The expected gradients are those
of plain JAX.
"""

import functools
import itertools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import xent_jax
from tests.cases import RICHEST
from tests.heads import plain
from tests.problems import close
from tests.token_statistics import of_logits

pytestmark = [pytest.mark.fast_compile, pytest.mark.usefixtures("float64")]

N, D, K = 4, 3, 5
Y = jnp.array([0, 4, 2, 1])


def statistics(library, x, w, b):
    found = library.linear_token_statistics(x, w, Y, b)
    return found.loss + found.entropy * found.logsumexp


def plain_statistics(x, w, b):
    found = of_logits(x @ w + b, Y)
    return found["loss"] + found["entropy"] * found["logsumexp"]


def closing(library, x, w, c):
    loss = library.softmax_cross_entropy_with_integer_labels
    return library.with_linear_head(lambda z, y: loss(z / c, y))(x, w, Y)


def integer(library, x, w, b, c, **options):
    return library.linear_softmax_cross_entropy(x, w, Y, b, z_loss=c, **options)


def plain_integer(x, w, b, c):
    z = x @ w + b
    return plain(z, Y) + c * jax.nn.logsumexp(z, -1) ** 2


def with_soft(library, x, w, t, **options):
    return library.with_linear_head(library.softmax_cross_entropy, **options)(x, w, t)


def plain_soft(x, w, t):
    return -jnp.sum(t * jax.nn.log_softmax(x @ w), -1)


_SHAPES = {"x": (N, D), "w": (D, K), "b": (K,), "c": (), "t": (N, K)}
HEADS = {
    "mean": (integer, plain_integer, "xwbc"),
    "none": (functools.partial(integer, reduction="none"), plain_integer, "xwbc"),
    "soft targets, mean": (with_soft, plain_soft, "xwt"),
    "soft targets, none": (functools.partial(with_soft, reduction="none"), plain_soft, "xwt"),
    "a closure": (closing, lambda x, w, c: plain(x @ w / c, Y), "xwc"),
    "statistics": (statistics, plain_statistics, "xwb"),
}


def head(name, library):
    """Returns our head and the plain one as functions of a dict of arrays, and two such dicts."""
    ours, reference, names = HEADS[name]
    rng = np.random.default_rng(0)

    def drawn():
        return {n: jnp.asarray(rng.uniform(0.5, 1.5, _SHAPES[n])) for n in names}

    sides = functools.partial(ours, library), reference
    return *(lambda a, f=f: jnp.mean(f(**a)) for f in sides), drawn(), drawn()


def logits(case, library):
    rng = np.random.default_rng(0)
    first, second = (jax.tree.map(jnp.asarray, case.inputs(rng, (2,), 3)) for _ in "ab")
    given = {k: v for k, v in first.items() if k not in case.floats(first)}

    def of(function):
        return lambda floats: jnp.sum(function({**given, **floats}) ** 2)

    ours = functools.partial(case.call, library)
    return of(ours), of(case.expected), case.floats(first), case.floats(second)


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
    """Returns the sum of the calls in a scan, which take their arguments from its carry."""

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
    ours, reference, a, b = problem

    def gradient(call):
        return jax.grad(lambda p: way(call, sets, *p))

    run = gradient(ours) if way is eager else jax.jit(gradient(ours))
    close(run((a, b)), jax.jit(gradient(reference))((a, b)), 1e-10)


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
    """The sets of differentiated arguments are each argument alone, all of them, and none."""
    problem = head(name, library) if name in HEADS else logits(RICHEST[name], library)
    sets = [*[(n,) for n in problem[2]], tuple(problem[2]), ()]
    check(way, problem, sets[::step])


PAIRS = [*itertools.permutations([("x",), ("w",), ("x", "w"), ("x", "w", "b")], 2)]
# A contrastive loss with one frozen tower has the first pair, and a probe beside a head has this.
PAIRS += [(("x", "w", "b", "c"), ("w", "b", "c"))]


@pytest.mark.parametrize("name", ["mean", "none"])
@pytest.mark.parametrize("pair", PAIRS, ids=str)
def test_each_pair_of_sets(name, pair):
    check(eager, head(name, xent_jax), pair)


@pytest.mark.parametrize("name", HEADS)
def test_two_vjps_that_are_pulled_back_later(name):
    ours, reference, a, b = head(name, xent_jax)
    for first, second in ("xw", "wx"):

        def pulls(call, given=((a, first), (b, second))):
            made = [jax.vjp(lambda v, p=p, n=n: call({**p, n: v}), p[n]) for p, n in given]
            return [pull(jnp.ones_like(value)) for value, pull in made]

        close(pulls(ours), pulls(reference), 1e-10)
