"""Sets up eight CPU devices for the tests of sharding (others use the first), and the fixtures."""

import os
import subprocess
import sys
import zlib
from pathlib import Path

import jax
import numpy as np
import pytest

jax.config.update("jax_num_cpu_devices", 8)
os.environ.pop("COLUMNS", None)  # as wide as tables are in a file


@pytest.fixture
def rng(request):
    return np.random.default_rng(zlib.crc32(request.node.name.encode()))


@pytest.fixture(autouse=True, scope="module")
def _compiled_programs_are_dropped():
    """Else a process holds gigabytes of them by the end."""
    yield
    jax.clear_caches()


@pytest.fixture
def unoptimized():
    """Programs compiled in less time, where derivatives are compared and not their compilation."""
    jax.config.update("jax_disable_most_optimizations", True)
    yield
    jax.config.update("jax_disable_most_optimizations", False)


@pytest.fixture
def spoil(monkeypatch):
    """``monkeypatch.setattr`` for a part of the library, beside whose traces none may be kept."""
    jax.clear_caches()
    yield monkeypatch.setattr
    monkeypatch.undo()
    jax.clear_caches()


# ------------------------------------------------------------------------- what people look at


@pytest.fixture(scope="session")
def proved():
    """All derivations, and the gradient's theorem of most functions without its options."""
    from xent_jax.proofs._catalogue import claims

    def plain(name):
        return name.endswith(": gradient") and "(" not in name

    return [(c, c.run()) for c in claims() if c.engine == "derivation" or plain(c.name)]


@pytest.fixture(scope="session")
def proofs_page(proved, tmp_path_factory):
    """The file of the page of proofs, as xent-prove writes it."""
    from xent_jax.proofs._page.page import page

    path = tmp_path_factory.mktemp("page") / "proofs.html"
    path.write_text(page(proved), "utf-8")
    return path


@pytest.fixture(scope="session")
def site(tmp_path_factory):
    """The folder of the site, and what its build printed."""
    folder = tmp_path_factory.mktemp("site")
    command = [sys.executable, "-m", "mkdocs", "build", "--strict", "--site-dir", folder]
    environment = {k: v for k, v in os.environ.items() if k != "PROOFS_HTML"}
    environment["NO_MKDOCS_2_WARNING"] = "1"  # which is about another program
    root = Path(__file__).parents[1]
    run = subprocess.run(command, env=environment, cwd=root, capture_output=True, text=True)
    assert run.returncode == 0, run.stderr
    return folder, run.stderr
