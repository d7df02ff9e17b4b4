"""Gives tests eight CPU devices (those without sharding use the first) and shared fixtures."""

import collections
import ctypes
import functools
import gc
import itertools
import os
import subprocess
import sys
import zlib
from pathlib import Path

import jax
import numpy as np
import psutil
import pytest
from jax._src import compiler

from tests.cases import x64

jax.config.update("jax_num_cpu_devices", 8)
jax.config.update("jax_traceback_in_locations_limit", 0)  # tracebacks take 7 % of the tests' time
os.environ.pop("COLUMNS", None)  # tables are as wide as in a file
gc.set_threshold(10_000)  # at Python's 700, garbage collection takes a fifth of the time

# ------------------------------------------------------------------------ memory and workers

ROOT = Path(__file__).parents[1]
GIB = 2**30
A_WORKER = 2 * GIB  # the most memory that a worker takes
PROGRAMS = GIB // 2  # by how much a worker may grow before it drops its compiled programs


def available_memory():
    """Returns the number of bytes of memory that new processes may take."""
    found = [psutil.virtual_memory().available]
    limit, used = (Path("/sys/fs/cgroup") / f"memory.{name}" for name in ("max", "current"))
    if limit.exists() and limit.read_text().strip() != "max":  # the limit of a container
        found.append(int(limit.read_text()) - int(used.read_text()))
    return min(found)


def pytest_xdist_auto_num_workers(config):
    """Returns the number of workers: one for each usable core, or fewer if memory is short."""
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()
    return max(1, min(cores, available_memory() // A_WORKER))


def resident():
    """Returns the number of bytes of memory that this process holds."""
    return psutil.Process().memory_info().rss


def return_freed_memory():
    """Gives the memory that this process has freed back to the system.

    glibc keeps what compilers have freed: a process that uses 0.4 GB then holds 1.2 GB.
    """
    trim = getattr(ctypes.CDLL(None), "malloc_trim", None) if os.name == "posix" else None
    if trim:
        trim(0)


def drop_programs():
    """Clears the compiled programs of JAX, and gives their memory back to the system."""
    jax.clear_caches()
    return_freed_memory()
    compiled["resident at last"] = resident()


# ------------------------------------------------------------------------- what is quick

MANY_LONG_CASES = frozenset(
    """
    accuracy accuracy_of_divergences accuracy_of_hessians accuracy_of_parts chunked_loss
    compiled_once configurations constants contract::test_eager_scan_and_checkpoint
    contract::test_export contract::test_extremes contract::test_vmap derivations docs
    errors::test_the_dtype_of_what_stands_beside_the_logits_is_free explicit_sharding head
    head_contract head_cost head_dtype head_export head_padding head_plan head_proofs head_weights
    held_memory identities injection label_dtypes masked_chunks masked_tokens
    optax::test_ours_pass_the_tests_of_optax page processes products_before_losses prover_layers
    prover_lookups prover_permutations prover_public_rules prover_refutations
    prover_rules_beside_wrong_ones prover_translation prover_trees rows second_engine
    second_engine_rules sharded_head sharded_head_of_any_loss sharded_losses sharded_proofs
    sharded_splits sharded_traffic threads token_statistics torch_definitions two_calls
    zero_times_infinity
    """.split()
)
"""The files, and tests of files, in which one case of each test is quick and the others are slow.

Each case compiles programs or proves a theorem. Values, gradients and second derivatives of each
function in the contract, and all edges, are quick.
"""


@pytest.hookimpl(tryfirst=True)  # before pytest chooses by marks
def pytest_collection_modifyitems(items):
    """Marks all but one case of each test in those files as slow, and puts the tests in order.

    The name of the test determines the quick case, so that different tests keep different functions
    and options quick. Tests of a file that are compiled in the same way follow one another, because
    a test that is compiled in another way drops all programs.
    """
    tests = collections.defaultdict(list)
    for item in items:
        file = item.path.stem.removeprefix("test_")
        many = not MANY_LONG_CASES.isdisjoint([file, f"{file}::{item.originalname}"])
        if many and item.get_closest_marker("slow") is None:
            tests[item.path, item.originalname].append(item)
    for (_, name), cases in tests.items():
        cases.pop(zlib.crc32(name.encode()) % len(cases))
        for case in cases:
            case.add_marker("slow")
    files = itertools.groupby(items, lambda item: item.path)
    items[:] = [item for _, of_file in files for item in sorted(of_file, key=how_compiled)]


# ----------------------------------------------------------------- how programs are compiled

FAST_COMPILE = {
    "xla_backend_optimization_level": 0,
    "xla_cpu_parallel_codegen_split_count": 1,
    "xla_cpu_use_fusion_emitters": False,
}
"""Options that compile in a sixth of the time. Programs run the same operations in other loops."""

compiled = {"options": {}, "resident at last": 0}


@functools.cache
def fast_compile():
    """Returns those of the options ``FAST_COMPILE`` that this jaxlib has."""

    def known(option):
        try:
            jax.jit(lambda: 0).lower().compile(compiler_options=dict([option]))
        except Exception:
            return False
        return True

    return dict(filter(known, FAST_COMPILE.items()))


def fast_compile_flags():
    """Returns environment variables that make a new process compile fast."""
    flags = (f"--{name}={str(value).lower()}" for name, value in fast_compile().items())
    return {"XLA_FLAGS": " ".join(flags)}


def _compile_options(*args, env_options_overrides=None, of=compiler.get_compile_options, **rest):
    overrides = compiled["options"] | (env_options_overrides or {})
    return of(*args, env_options_overrides=overrides or None, **rest)


def how_compiled(item):
    """Returns the mark of a test or its file that says how it is compiled, or the usual one.

    The tests of the prover are usually compiled fast, and all others as users compile them.
    """
    usual = "fast_compile" if item.path.stem.startswith("test_prover_") else "users_compile"
    return next((m.name for m in item.iter_markers() if m.name.endswith("_compile")), usual)


@pytest.fixture(autouse=True)
def _how_programs_are_compiled(request):
    """Sets how JAX compiles the programs of a test, as its marks say.

    All compiled programs are dropped when the way of compiling changes, and before they fill the
    memory.
    """
    options = fast_compile() if how_compiled(request.node) == "fast_compile" else {}
    grown = resident() - compiled["resident at last"]
    if options != compiled["options"] or grown > PROGRAMS:
        compiled["options"] = options
        drop_programs()


@pytest.fixture(autouse=True, scope="module")
def _programs_are_dropped_after_a_file():
    yield
    drop_programs()


compiler.get_compile_options = _compile_options

# -------------------------------------------------------------------------------- fixtures


@pytest.fixture
def rng(request):
    return np.random.default_rng(zlib.crc32(request.node.name.encode()))


@pytest.fixture
def float64():
    """Makes JAX compute in float64."""
    with x64():
        yield


@pytest.fixture
def beside(monkeypatch):
    """Lets a copy of an example import the modules that lie beside the original."""
    monkeypatch.setenv("PYTHONPATH", str(ROOT / "examples"), prepend=os.pathsep)


@pytest.fixture
def spoil(monkeypatch):
    """Yields ``monkeypatch.setattr`` for the library, and clears JAX's caches before and after."""
    jax.clear_caches()
    yield monkeypatch.setattr
    monkeypatch.undo()
    jax.clear_caches()


# ------------------------------------------------------------------------- what people look at


@pytest.fixture(scope="session")
def proved():
    """Returns all derivations and the gradient theorems without options, with their answers."""
    from xent_jax.proofs._catalogue import claims

    def plain(name):
        return name.endswith(": gradient") and "(" not in name

    return [(c, c.run()) for c in claims() if c.engine == "derivation" or plain(c.name)]


@pytest.fixture(scope="session")
def proofs_page(proved, tmp_path_factory):
    """Writes the page of proofs, as xent-prove does, and returns its path."""
    from xent_jax.proofs._page.page import page

    path = tmp_path_factory.mktemp("page") / "proofs.html"
    path.write_text(page(proved), "utf-8")
    return path


@pytest.fixture(scope="session")
def site(tmp_path_factory):
    """Builds the site, and returns its folder and what the build printed."""
    folder = tmp_path_factory.mktemp("site")
    command = [sys.executable, "-m", "mkdocs", "build", "--strict", "--site-dir", folder]
    environment = {k: v for k, v in os.environ.items() if k != "PROOFS_HTML"}
    environment["NO_MKDOCS_2_WARNING"] = "1"  # the warning is about another program
    root = Path(__file__).parents[1]
    run = subprocess.run(command, env=environment, cwd=root, capture_output=True, text=True)
    assert run.returncode == 0, run.stderr
    return folder, run.stderr
