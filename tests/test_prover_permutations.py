"""Shuffles by a permutation, their gradients and round trips, each beside rules that are wrong."""

import collections
import itertools
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from xent_jax.proofs import _users, array, labels, permutation, prove_equal, prove_jvp, prove_vjp
from xent_jax.proofs._normal_form import (
    ONE,
    Refused,
    as_index,
    delta,
    entry,
    index,
    poly,
    total,
    vanishes,
)
from xent_jax.proofs._prover import prove as prove  # puts in what ``read`` can read
from xent_jax.proofs._prover.read import read
from xent_jax.proofs._prover.trace import arguments, trace
from xent_jax.proofs._refutation.samples import samples

from tests.cases import x64
from tests.rules import with_backward
from tests.second_engine.inputs import configurations
from tests.terms import Evaluation, agree

ROW = {"x": array("n"), "p": permutation("n")}
ROWS = {"x": array("n d"), "p": permutation("n")}
SQUARE = {"x": array("n n"), "p": permutation("n")}
TWO = ROW | {"q": permutation("n")}
LABELS = {"x": array("n"), "p": labels("n", classes="n")}


class Rule(NamedTuple):
    """A function, and backwards as ``(g, *args)``: those that are its derivative, and others."""

    value: Any
    args: dict
    right: tuple
    wrong: tuple


def status(rule, backward):
    def of_all(g, x, *orders):
        return backward(g, x, *orders), *[None] * len(orders)

    fun = with_backward(rule.value, of_all)
    return prove_vjp(fun, rule.args, ("x",), timeout=60, search=False)


def take(x, p):
    return x[p]


def put(x, p):
    return jnp.zeros_like(x).at[p].set(x)


def added(x, p):
    return jnp.zeros_like(x).at[p].add(x)


def put_in_columns(x, p):
    return jnp.zeros_like(x).at[:, p].set(x)


def experts(x, p):
    """Returns the rows, each put back to where it was before the shuffle, after a function."""
    return put(jnp.tanh(take(x, p)), p)


def numbered(x):
    return jnp.arange(x.shape[0])


RULES = {
    "x[p]": Rule(take, ROW, (
        lambda g, x, p: added(g, p),
        lambda g, x, p: put(g, p),
        lambda g, x, p: jnp.zeros_like(x).at[p].set(g, unique_indices=True),
        lambda g, x, p: g[jnp.argsort(p)],
        lambda g, x, p: g[put(numbered(x), p)],
    ), (
        lambda g, x, p: g,
        lambda g, x, p: g[p],
        lambda g, x, p: put(g, p[p]),
        lambda g, x, p: put(g, jnp.argsort(p)),
        lambda g, x, p: x.at[p].add(g),
        lambda g, x, p: jnp.zeros_like(x).at[p].set(g, indices_are_sorted=True),
    )),
    "x[p] of labels": Rule(take, LABELS, (
        lambda g, x, p: added(g, p),
    ), (
        lambda g, x, p: put(g, p),
        lambda g, x, p: jnp.zeros_like(x).at[p].set(g, unique_indices=True),
        lambda g, x, p: jnp.zeros_like(x).at[p].add(g, unique_indices=True),
        lambda g, x, p: g[jnp.argsort(p)],
    )),
    "take of rows": Rule(lambda x, p: jnp.take(x, p, axis=0), ROWS, (
        lambda g, x, p: added(g, p),
        lambda g, x, p: put(g, p),
    ), (
        lambda g, x, p: g[p],
        lambda g, x, p: put(g, p[::-1]),
    )),
    "take of columns": Rule(lambda x, p: jnp.take(x, p, axis=1), SQUARE, (
        lambda g, x, p: put_in_columns(g, p),
        lambda g, x, p: put(g.T, p).T,
    ), (
        lambda g, x, p: put(g, p),
        lambda g, x, p: put(g.T, p),
        lambda g, x, p: g[:, p],
    )),
    "both axes": Rule(lambda x, p: x[p[:, None], p], SQUARE, (
        lambda g, x, p: jnp.zeros_like(x).at[p[:, None], p].add(g),
        lambda g, x, p: put(put_in_columns(g, p), p),
    ), (
        lambda g, x, p: jnp.zeros_like(x).at[p, p[:, None]].add(g),
        lambda g, x, p: put(g, p),
    )),
    "rows by p, columns by q": Rule(lambda x, p, q: x[p][:, q], TWO | {"x": array("n n")}, (
        lambda g, x, p, q: put(put_in_columns(g, q), p),
    ), (
        lambda g, x, p, q: put(put_in_columns(g, p), q),
        lambda g, x, p, q: put(put_in_columns(g.T, q), p),
    )),
    "twice": Rule(lambda x, p: x[p][p], ROW, (
        lambda g, x, p: put(put(g, p), p),
        lambda g, x, p: put(g, p[p]),
    ), (
        lambda g, x, p: put(g, p),
        lambda g, x, p: g,
    )),
    "by p, then by q": Rule(lambda x, p, q: x[p][q], TWO, (
        lambda g, x, p, q: put(put(g, q), p),
        lambda g, x, p, q: put(g, p[q]),
    ), (
        lambda g, x, p, q: put(put(g, p), q),
        lambda g, x, p, q: put(g, q[p]),
    )),
    "put": Rule(put, ROW, (
        lambda g, x, p: g[p],
    ), (
        lambda g, x, p: put(g, p),
        lambda g, x, p: g[p[::-1]],
    )),
    "part of a shuffle": Rule(lambda x, p: x[p[1:]], ROW, (
        lambda g, x, p: jnp.zeros_like(x).at[p[1:]].set(g),
    ), (
        lambda g, x, p: jnp.zeros_like(x).at[p[:-1]].set(g),
        lambda g, x, p: jnp.ones_like(x).at[p[1:]].set(g),
        lambda g, x, p: jnp.zeros_like(x).at[1:].set(g)[p],
    )),
    "shuffle backwards": Rule(lambda x, p: x[p[::-1]], ROW, (
        lambda g, x, p: put(g, p[::-1]),
        lambda g, x, p: put(g[::-1], p),
    ), (
        lambda g, x, p: put(g, p),
        lambda g, x, p: put(g, p)[::-1],
    )),
    "experts": Rule(experts, ROWS, (
        lambda g, x, p: g * (1 - jnp.tanh(x) ** 2),
        lambda g, x, p: put(g[p] * (1 - jnp.tanh(x[p]) ** 2), p),
    ), (
        lambda g, x, p: g * (1 - jnp.tanh(x[p]) ** 2),
        lambda g, x, p: put(g * (1 - jnp.tanh(x[p]) ** 2), p),
    )),
    "rows in rows of rows": Rule(
        lambda x, p: x.reshape(-1)[p], {"x": array("m c"), "p": permutation("m*c")}, (
        lambda g, x, p: put(g, p).reshape(x.shape),
    ), (
        lambda g, x, p: g[p].reshape(x.shape),
        lambda g, x, p: g.reshape(x.shape),
    )),
}  # fmt: skip


@pytest.mark.parametrize("name", RULES)
def test_the_derivative_is_proved(name):
    for number, right in enumerate(RULES[name].right):
        found = status(RULES[name], right)
        assert found.proved, (number, found)


@pytest.mark.parametrize("name", RULES)
def test_what_is_no_derivative_is_not(name):
    """Wrong rules are refuted; promises that do not hold may be kept by chance, and are refused."""
    for number, wrong in enumerate(RULES[name].wrong):
        found = status(RULES[name], wrong)
        assert found.status in ("refuted", "refused"), (number, found)
        assert found.status == "refuted" or "which is not checked" in found.reason


def logsumexp(x, p):
    return jax.nn.logsumexp(x[p])


def beside_infinity(p):
    return jnp.where(p == 1, -jnp.inf, p.astype(jnp.float32))


EQUAL = {
    "a round trip": (lambda x, p: put(x[p], p), lambda x, p: x, ROW),
    "the other round trip": (lambda x, p: put(x, p)[p], lambda x, p: x, ROWS),
    "a round trip by the order": (lambda x, p: x[p][jnp.argsort(p)], lambda x, p: x, ROW),
    "an order of an order": (lambda x, p: x[jnp.argsort(jnp.argsort(p))], take, ROW),
    "sorted": (lambda x, p: x * jnp.sort(p), lambda x, p: x * numbered(x), ROW),
    "an order backwards": (lambda x, p: x[jnp.argsort(x.shape[0] - 1 - p)],
                           lambda x, p: put(x, p)[::-1], ROW),
    "experts": (experts, lambda x, p: jnp.tanh(x), ROWS),
    "labels on either side": (lambda x, p, y, z: jnp.where(p[z] == y, x, 0),
                              lambda x, p, y, z: jnp.where(z == jnp.argsort(p)[y], x, 0),
                              ROW | {"y": LABELS["p"], "z": LABELS["p"]}),
    "a sum": (lambda x, p: jnp.sum(x[p]), lambda x, p: jnp.sum(x), ROW),
    "a sum of numbers": (lambda x, p: x * jnp.sum(p), lambda x, p: x * jnp.sum(numbered(x)), ROW),
    "a maximum": (lambda x, p: jnp.max(x[p]), lambda x, p: jnp.max(x), ROW),
    "log-sum-exp": (logsumexp, lambda x, p: jax.nn.logsumexp(x), ROW),
    "softmax": (lambda x, p: jax.nn.softmax(x[p]), lambda x, p: jax.nn.softmax(x)[p], ROW),
    "a product": (lambda x, p: x[p] @ jnp.exp(x), lambda x, p: x @ put(jnp.exp(x), p), ROW),
    "a form": (lambda x, p: jnp.sum(x[p[:, None], p] * x),
               lambda x, p: jnp.sum(x * put(put_in_columns(x, p), p)), SQUARE),
}  # fmt: skip
UNEQUAL = {
    "a shuffle": (take, lambda x, p: x, ROW),
    "the inverse": (take, put, ROW),
    "a round trip of labels": (lambda x, p: put(x[p], p), lambda x, p: x, LABELS),
    "a sum of labels": (lambda x, p: jnp.sum(x[p]), lambda x, p: jnp.sum(x), LABELS),
    "sorted in part": (lambda x, p: x[1:] * jnp.sort(p[1:]),
                       lambda x, p: x[1:] * numbered(x[1:]), ROW),
    "sorted beside -inf": (lambda x, p: x[jnp.argsort(beside_infinity(p))],
                           lambda x, p: x[jnp.argsort(p)], ROW),
    "a sum of the end": (lambda x, p: jnp.sum(x[p[1:]]), lambda x, p: jnp.sum(x[1:]), ROW),
    "a sum of the start": (lambda x, p: jnp.sum(x[p[:-1]]), lambda x, p: jnp.sum(x[:-1]), ROW),
    "a maximum of the start": (lambda x, p: jnp.max(x[p[:-1]], initial=-9.0),
                               lambda x, p: jnp.max(x[:-1], initial=-9.0), ROW),
    "rows and columns": (lambda x, p: x[p], lambda x, p: x[:, p], SQUARE),
    "a trace": (lambda x, p: jnp.trace(x[p]), lambda x, p: jnp.trace(x), SQUARE),
    "a product": (lambda x, p: x[p] @ jnp.exp(x), lambda x, p: x @ jnp.exp(x)[p], ROW),
    "two orders": (lambda x, p, q: x[p][q], lambda x, p, q: x[q][p], TWO),
}  # fmt: skip


@pytest.mark.parametrize("name", EQUAL)
def test_equal_values_are_proved(name):
    f, g, args = EQUAL[name]
    found = prove_equal(f, g, args)
    assert found.proved, found


@pytest.mark.parametrize("name", UNEQUAL)
def test_other_values_are_refuted(name):
    f, g, args = UNEQUAL[name]
    assert prove_equal(f, g, args, search=False).status == "refuted"


def test_what_jax_differentiates_itself_is_proved_in_each_mode():
    for fun in (take, put, experts, logsumexp):
        assert prove_vjp(fun, ROW, ("x",)).proved
        assert prove_jvp(fun, ROW, ("x",)).proved
    assert prove_vjp(lambda x, p: logsumexp(x, p) ** 2, ROW, ("x",), second_order=True).proved


def test_the_verdict_says_that_an_argument_is_a_permutation():
    found = prove_vjp(take, ROW, ("x",))
    assert "p is a permutation: it holds each integer in [0, n) once" in found.assumptions
    assert "p^-1[a0]" in str(found.identity)


def test_an_index_that_may_be_beyond_an_axis_is_not_read():
    found = prove_vjp(take, ROW | {"x": array("m")}, ("x",))
    assert not found.proved and "it may be clamped" in found.reason
    shorter = {"x": array("2*n"), "p": permutation("n")}
    assert prove_vjp(take, shorter, ("x",)).proved


@pytest.mark.parametrize(
    ("make", "error", "words"),
    [
        (lambda: permutation("n", dtype=np.float32), ValueError, "dtype must be one of integers"),
        (lambda: permutation("n", dtype=bool), ValueError, "dtype must be one of integers"),
        (lambda: permutation("n k"), ValueError, "dims must be one dimension, like 'n', got 'n k'"),
        (lambda: permutation(""), ValueError, "dims must be one dimension"),
        (lambda: permutation("n!"), ValueError, "permutation: dims must be names"),
        (lambda: permutation("n", ignore=-1), TypeError, "unexpected keyword argument 'ignore'"),
    ],
)
def test_a_bad_spec_says_what_is_wrong(make, error, words):
    with pytest.raises(error, match=words):
        make()


def test_the_command_reads_the_spec():
    assert _users._specs('x=array("n"), p=permutation("n")') == ROW


# ---------------------------------------------------------------- what is tried


def orders(n):
    return set(itertools.permutations(range(n)))


def test_all_permutations_are_tried_of_few_rows_and_some_of_many():
    def tried(args, least=None):
        found = collections.defaultdict(set)
        for drawn in samples(args, np.random.default_rng(0), least):
            found[len(drawn["p"])].add(tuple(drawn["p"].tolist()))
            assert drawn["p"].dtype == args["p"].dtype
        return found

    for n, found in tried({"p": permutation("n", dtype=np.int8)}).items():
        assert found == orders(n)
    many = tried(ROW, {"n": 7})[7]
    assert {tuple(range(7)), tuple(range(7))[::-1]} < many < orders(7) and len(many) > 4


def test_the_second_engine_has_all_permutations():
    both = configurations({"p": permutation("n"), "y": labels("n", classes="n")}, {"n": 3})
    assert {tuple(c["p"]) for c in both} == orders(3) and len(both) == 6 * 27
    assert all(c["p"].dtype == np.int32 for c in both)


# ---------------------------------------------------------------- what is drawn

STEPS = {
    "take by p": lambda x, p, q: x[p],
    "take by q": lambda x, p, q: x[q],
    "put by p": lambda x, p, q: put(x, p),
    "put by q": lambda x, p, q: put(x, q),
    "take by the order of p": lambda x, p, q: x[jnp.argsort(p)],
    "turned round": lambda x, p, q: x[::-1],
    "a square": lambda x, p, q: x * x,
    "beside a shuffle": lambda x, p, q: x * x[p],
    "beside its sum": lambda x, p, q: x + jnp.sum(x),
    "added by q": lambda x, p, q: x.at[q].add(x),
    "a part put by p": lambda x, p, q: x.at[p[1:]].set(x[:-1]),
}
"""Steps of programs of a vector x and two permutations."""


NOTHING = (
    ("take by p", "put by p"),
    ("put by q", "take by q"),
    ("take by p", "take by the order of p"),
    ("turned round", "turned round"),
)
"""Steps that together leave everything as it is."""


def drawn_steps(rng):
    return [str(s) for s in rng.choice(list(STEPS), rng.integers(1, 4))]


def program(steps):
    def fun(x, p, q):
        for step in steps:
            x = STEPS[step](x, p, q)
        return x

    return fun


def numbers(n):
    """Yields arguments of n rows: all pairs of permutations."""
    x = np.random.default_rng(n).normal(size=n)
    for p, q in itertools.product(itertools.permutations(range(n)), repeat=2):
        yield {"x": x, "p": np.array(p, np.int32), "q": np.array(q, np.int32)}


def values(fun):
    """Returns all outputs of a program at one to three rows."""
    run = jax.jit(fun)
    with x64():
        return np.concatenate([run(**at) for n in (1, 2, 3) for at in numbers(n)])


def terms(steps):
    """Returns the output of a program as the prover reads it."""
    a = arguments(TWO)
    return read(trace(program(steps), a.shapes), a.tensors)


def test_drawn_programs_are_read_as_jax_computes_them():
    for seed in range(40):
        steps = drawn_steps(np.random.default_rng(seed))
        for at in itertools.islice(numbers(3), seed % 5, None, 5):
            agree(program(steps), TWO, terms(steps), at, {"n": 3})


def test_drawn_programs_that_are_proved_to_be_equal_have_the_same_numbers():
    rng, found = np.random.default_rng(0), collections.Counter()
    drawn = [drawn_steps(rng) for _ in range(14)]
    for steps in tuple(drawn):
        more = NOTHING[rng.integers(len(NOTHING))]
        place = rng.integers(len(steps) + 1)
        drawn.append([*steps[:place], *more, *steps[place:]])
    known = [(steps, values(program(steps)), terms(steps)[0].value) for steps in drawn]
    for (f, ours, p), (g, theirs, q) in itertools.combinations(known, 2):
        same, proved = np.allclose(ours, theirs, 1e-9, 1e-9), vanishes(p - q)
        assert same or not proved, (f, g)
        found[bool(same), proved] += 1
    assert found[True, True] >= 14 and found[True, False] == 0, found


def test_jax_s_derivatives_of_drawn_programs_are_proved():
    """A part that is put after a shuffle is not always decided: one place beside it is left."""
    drawn = [drawn_steps(np.random.default_rng(seed)) for seed in range(12)]
    unknown = [s for s in drawn if not prove_vjp(program(s), TWO, ("x",), search=False).proved]
    assert len(unknown) < 3 and all(s[-1] == "a part put by p" for s in unknown), unknown


NAMED = arguments(TWO | {"y": labels("n", classes="n")})
N, SYMBOLS = NAMED.tensors[0].shape[0], NAMED.symbols
AT = {
    "p": (lambda t: entry(SYMBOLS["p"], as_index(t)), lambda t, at: at["p"][t % len(at["p"])]),
    "q": (lambda t: entry(SYMBOLS["q"], as_index(t)), lambda t, at: at["q"][t % len(at["q"])]),
    "y": (lambda t: entry(SYMBOLS["y"], as_index(t)), lambda t, at: at["y"][t % len(at["y"])]),
    "turned round": (lambda t: N - 1 - t, lambda t, at: len(at["x"]) - 1 - t),
    "next": (lambda t: t + 1, lambda t, at: t + 1),
    "before": (lambda t: t - 1, lambda t, at: t - 1),
}
"""Places by places, as terms and as numbers; beside an array stand its entries, turned over."""
OFTEN = [0.4, 0.2, 0.1, 0.15, 0.1, 0.05]


def drawn_place(rng):
    """Returns one of three indices, the last of them free, and what is done to it."""
    return int(rng.integers(3)), [str(s) for s in rng.choice(list(AT), rng.integers(4), p=OFTEN)]


def as_term(place, indices):
    number, steps = place
    t = poly(indices[number])
    for step in steps:
        t = AT[step][0](t)
    return as_index(t)


def as_number(place, indices, at):
    number, steps = place
    t = indices[number]
    for step in steps:
        t = int(AT[step][1](t, at))
    return t


def as_sum(equal, taken, indices):
    term = ONE
    for a, b in equal:
        term = term * delta(as_term(a, indices), as_term(b, indices))
    for place in taken:
        term = term * entry(SYMBOLS["x"], as_term(place, indices))
    return total(term, *indices[:2])


def test_drawn_sums_of_deltas_are_the_numbers_that_they_mean():
    """Sums over two indices of entries of x beside deltas of drawn places."""
    met = collections.Counter()
    for seed in range(300):
        rng = np.random.default_rng(seed)
        indices = [index(name, N) for name in ("jka", "ijk")[seed % 2]]  # solved for first, or last
        equal = [(drawn_place(rng), drawn_place(rng)) for _ in range(rng.integers(1, 4))]
        taken = [drawn_place(rng) for _ in range(2)]
        try:
            term = as_sum(equal, taken, indices)
        except Refused:  # where 2 t = n - 1 says what t is
            met["refused"] += 1
            continue
        met["sum" if any(a.kind == "sum" for a in term.inside()) else "solved"] += 1
        n = int(rng.integers(1, 5))
        at = {name: rng.permutation(n) for name in "pq"}
        at |= {"x": rng.normal(size=n), "y": rng.integers(0, n, n)}
        for k in range(n):
            wanted = 0.0
            for bound in itertools.product(range(n), repeat=2):
                here = [*bound, k]
                if all(as_number(a, here, at) == as_number(b, here, at) for a, b in equal):
                    wanted += np.prod([at["x"][as_number(t, here, at) % n] for t in taken])
            got = Evaluation(at, {"n": n})(term, {indices[2]: k})
            np.testing.assert_allclose(got, wanted, rtol=1e-9, atol=1e-9, err_msg=str(seed))
    assert met["sum"] > 30 and met["solved"] > 60 and met["refused"] < 5, met
