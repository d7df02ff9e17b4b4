"""optax's own tests of the losses that both libraries have, run on this library's functions.

optax ships its tests in its wheel. Each of their methods is one test here, and runs twice with our
functions in place of optax's: once with those of ``xent_jax.forward_mode``, unchanged, and once
with the default functions and ``check_grads`` limited to reverse mode, because JAX does not
differentiate these in forward mode.
"""

import collections
import functools
import importlib
import inspect
import os
import re
import types
import unittest

import numpy as np
import optax
import pytest
from optax.losses import _classification

import xent_jax

pytestmark = pytest.mark.fast_compile


def _import_optax_tests() -> types.ModuleType:
    try:
        return importlib.import_module("optax.losses._classification_test")
    except ImportError as error:
        reason = f"optax {optax.__version__} lacks its own tests or what they need: {error}"
        if os.environ.get("CI") == "true":
            raise RuntimeError(reason) from error
        pytest.skip(reason, allow_module_level=True)


optax_tests = _import_optax_tests()

SHARED = [
    name
    for name in xent_jax.__all__
    if inspect.isfunction(getattr(_classification, name, None)) and hasattr(optax.losses, name)
]


@functools.cache
def _uses(case: type) -> set[str]:
    """Returns the names of the optax functions that a test class uses."""
    return set(re.findall(r"\b_classification\.(\w+)", inspect.getsource(case)))


# optax's deprecated name of generalized_kl_divergence, which warns and calls that one.
DEPRECATED = {"convex_kl_divergence"}
# A class that also tests a loss that only optax has would not be a test of this library.
CLASSES = [
    case
    for _, case in inspect.getmembers(optax_tests, inspect.isclass)
    if issubclass(case, unittest.TestCase) and _uses(case) and _uses(case) <= {*SHARED, *DEPRECATED}
]
TESTS = [
    case(method) for case in CLASSES for method in unittest.defaultTestLoader.getTestCaseNames(case)
]

each = pytest.mark.parametrize(
    "test", TESTS, ids=lambda test: f"{type(test).__name__}.{test._testMethodName}"
)
modes = pytest.mark.parametrize(
    "module",
    [pytest.param(xent_jax.forward_mode, marks=pytest.mark.slow), xent_jax],
    ids=["forward_mode", "default"],
)


def _counted(name: str, function, calls: collections.Counter):
    @functools.wraps(function)
    def wrapper(*args, **kwargs):
        calls[name] += 1
        return function(*args, **kwargs)

    return wrapper


def _randint(draw):
    """Wraps np.random.randint; a mask that it draws must leave something in and something out."""

    @functools.wraps(draw)
    def wrapper(*args, **kwargs):
        drawn = draw(*args, **kwargs)
        if np.result_type(drawn) == np.bool_:
            assert drawn.any() and not drawn.all(), f"choose another seed: it draws {drawn}"
        return drawn

    return wrapper


CALLS: dict[tuple[unittest.TestCase, types.ModuleType], collections.Counter] = {}


@pytest.fixture
def run(monkeypatch):
    """Returns a function that runs a test of optax on a module, once, and counts its calls."""

    def run(test: unittest.TestCase, module: types.ModuleType) -> collections.Counter:
        if (test, module) in CALLS:
            return CALLS[test, module]
        calls: collections.Counter = collections.Counter()
        with monkeypatch.context() as patch:
            for name in SHARED:
                function = _counted(name, getattr(module, name), calls)
                patch.setattr(_classification, name, function)
            if module is xent_jax:
                reverse = functools.partial(optax_tests.jaxtest.check_grads, modes=("rev",))
                patch.setattr(optax_tests, "jaxtest", types.SimpleNamespace(check_grads=reverse))
            patch.setattr(np.random, "randint", _randint(np.random.randint))
            np.random.seed(1)
            try:
                test.debug()
            except unittest.SkipTest as skipped:
                pytest.fail(f"optax skips it: {skipped}")
        CALLS[test, module] = calls
        return calls

    return run


@modes
@each
def test_ours_pass_the_tests_of_optax(test, module, run):
    assert run(test, module).total() > 0


@modes
@pytest.mark.parametrize("name", SHARED)
def test_every_shared_name_is_called_by_tests_of_optax(name, module, run):
    named = [test for test in TESTS if name in _uses(type(test))]
    assert named
    assert any(run(test, module)[name] for test in named)


def test_the_losses_known_to_be_shared_are_found():
    assert {
        "generalized_kl_divergence",
        "kl_divergence",
        "kl_divergence_with_log_targets",
        "poly_loss_cross_entropy",
        "safe_softmax_cross_entropy",
        "sigmoid_binary_cross_entropy",
        "sigmoid_focal_loss",
        "softmax_cross_entropy",
        "softmax_cross_entropy_with_integer_labels",
    } <= set(SHARED)


def test_every_test_of_a_shared_name_is_run():
    cases = [
        case
        for _, case in inspect.getmembers(optax_tests, inspect.isclass)
        if issubclass(case, unittest.TestCase) and _uses(case) & set(SHARED)
    ]
    assert cases == CLASSES
