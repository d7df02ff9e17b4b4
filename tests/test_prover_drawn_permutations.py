"""The prover reads drawn programs and sums with permutations as JAX and NumPy compute them."""

import collections
import itertools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from xent_jax.proofs import array, labels, permutation, prove_vjp
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
from xent_jax.proofs._prover.trace import arguments

from tests.cases import x64
from tests.terms import Evaluation, agree, as_terms

TWO = {"x": array("n"), "p": permutation("n"), "q": permutation("n")}


def put(x, p):
    return jnp.zeros_like(x).at[p].set(x)


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
"""Pairs of steps that together leave every vector as it is."""


def drawn_steps(rng):
    return [str(s) for s in rng.choice(list(STEPS), rng.integers(1, 4))]


def program(steps):
    def fun(x, p, q):
        for step in steps:
            x = STEPS[step](x, p, q)
        return x

    return fun


def numbers(n):
    """Yields arguments of n rows, with every pair of permutations."""
    x = np.random.default_rng(n).normal(size=n)
    for p, q in itertools.product(itertools.permutations(range(n)), repeat=2):
        yield {"x": x, "p": np.array(p, np.int32), "q": np.array(q, np.int32)}


def values(fun):
    """Returns all outputs of a program at one to three rows."""
    run = jax.jit(fun)
    with x64():
        return np.concatenate([run(**at) for n in (1, 2, 3) for at in numbers(n)])


def test_drawn_programs_are_read_as_jax_computes_them():
    for seed in range(40):
        fun = program(drawn_steps(np.random.default_rng(seed)))
        terms = as_terms(fun, TWO)
        for at in itertools.islice(numbers(3), seed % 5, None, 5):
            agree(fun, TWO, terms, at, {"n": 3})


@pytest.mark.slow
def test_drawn_programs_that_are_proved_to_be_equal_have_the_same_numbers():
    rng, found = np.random.default_rng(0), collections.Counter()
    drawn = [drawn_steps(rng) for _ in range(14)]
    for steps in tuple(drawn):
        more = NOTHING[rng.integers(len(NOTHING))]
        place = rng.integers(len(steps) + 1)
        drawn.append([*steps[:place], *more, *steps[place:]])
    known = [(f, values(program(f)), as_terms(program(f), TWO)[0].value) for f in drawn]
    for (f, ours, p), (g, theirs, q) in itertools.combinations(known, 2):
        same, proved = np.allclose(ours, theirs, 1e-9, 1e-9), vanishes(p - q)
        assert same or not proved, (f, g)
        found[bool(same), proved] += 1
    assert found[True, True] >= 14 and found[True, False] == 0, found


def test_jax_s_derivatives_of_drawn_programs_are_proved():
    """A part put by p leaves one place as it was, and such a program may stay undecided."""
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
"""Steps from one index to another, on terms and on numbers; arrays wrap around at their ends."""
OFTEN = [0.4, 0.2, 0.1, 0.15, 0.1, 0.05]


def drawn_place(rng):
    """Returns the number of one of three indices, and the names of the steps taken from it."""
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


@pytest.mark.slow
def test_drawn_sums_of_deltas_are_the_numbers_that_they_mean():
    """The sums are over two indices, of products of deltas and entries of x at drawn places."""
    met = collections.Counter()
    for seed in range(300):
        rng = np.random.default_rng(seed)
        indices = [index(name, N) for name in ("jka", "ijk")[seed % 2]]  # free index first, or last
        equal = [(drawn_place(rng), drawn_place(rng)) for _ in range(rng.integers(1, 4))]
        taken = [drawn_place(rng) for _ in range(2)]
        try:
            term = as_sum(equal, taken, indices)
        except Refused:  # 2 t = n - 1 would have to be solved for t
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
