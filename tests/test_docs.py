"""The code of the pages of documentation runs."""

import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

pytest.importorskip("sympy", reason="the proofs need SymPy: pip install xent-jax[proofs]")
pytest.importorskip("rich", reason="the copy's tests need rich: pip install xent-jax[proofs]")

from tests import library_mutants  # noqa: E402

pytestmark = pytest.mark.fast_compile

DOCS = Path(__file__).parents[1] / "docs"
GUIDES = sorted(path.stem for path in (DOCS / "guides").glob("*.md"))


def code_of(page):
    blocks = re.findall(r"```python\n(.*?)```", (DOCS / page).read_text("utf-8"), re.S)
    assert blocks
    return "\n".join(blocks)


@pytest.mark.parametrize("guide", [name for name in GUIDES if name != "sharded"])
def test_the_code_of_a_guide_runs(guide):
    code = code_of(f"guides/{guide}.md")
    assert "\nassert " in code  # the guide checks what it says
    exec(compile(code, guide, "exec"), {})


def test_the_code_of_the_sharded_guide_is_a_program(tmp_path):
    """The code makes eight devices, so that it needs a process of its own."""
    (tmp_path / "sharded.py").write_text(code_of("guides/sharded.md"), "utf-8")
    run = subprocess.run([sys.executable, tmp_path / "sharded.py"], capture_output=True, text=True)
    assert run.returncode == 0, run.stderr


def test_the_code_of_the_page_of_proofs_runs():
    scope = {}
    exec(compile(code_of("proofs.md"), "proofs.md", "exec"), scope)
    assert scope["verdict"].identity is not None


def test_the_code_of_the_home_page_runs():
    scope = {}
    exec(compile(code_of("index.md"), "index.md", "exec"), scope)
    assert scope["loss"] > 0 and scope["gradient"].shape == (2, 3)
    assert scope["d_kernel"].shape == (64, 5000)


# ------------------------------------------------------------------- docs/adding_a_loss.md

TITLED = re.compile(r'^```(?:python| \{\.python) title="(.+?)"\}?\n(.*?)^```', re.M | re.S)
FILES = (
    "configurations constants contract derivations docs_site explicit_sharding identities "
    "injection library_mutants modes package prover_verdicts readme sharded_losses two_calls "
    "zero_times_infinity"
)
WANTED = (  # the tests of the loss, and those that cover every loss
    "brier or test_every_loss or test_every_function or test_every_exported or test_every_module "
    "or test_every_gradient or test_the_table or test_the_number_of_theorems "
    "or test_every_public_name_is_on_a_page or test_each_gradient"
)


def with_the_loss(copy):
    """Makes the changes of the page in a copy of the repository; returns the files changed."""
    page, changed = (DOCS / "adding_a_loss.md").read_text("utf-8"), set()
    for title, code in TITLED.findall(page):
        name, _, where = title.partition(", ")
        file = copy / name.replace("proofs/", "xent_jax/proofs/")
        text = file.read_text("utf-8") if where else ""
        way, _, line = where.partition(": ")
        if way in ("above", "below"):
            (found,) = re.findall(rf"^ *{re.escape(line)}.*\n", text, re.M)
            text = text.replace(found, code + found if way == "above" else found + code)
        else:
            text += code
        file.write_text(text, "utf-8")
        changed.add(name)
    return changed


@pytest.mark.slow
def test_the_page_that_adds_a_loss(tmp_path):
    """Changes in four places are enough: the theorem and its textbook function count as one."""
    copy = library_mutants.copied(tmp_path)
    shutil.copytree(DOCS, copy / "docs")
    for name in ("README.md", "CONTRIBUTING.md", "mkdocs.yml"):
        shutil.copy(DOCS.parent / name, copy)
    (copy / "proofs").symlink_to(copy / "xent_jax" / "proofs")
    changed = with_the_loss(copy)
    theorem = {"proofs/_theorems/textbook.py", "proofs/_theorems/shipped.py"}
    assert len(changed - theorem) == 3 and theorem < changed
    status, said = library_mutants.run_in(
        copy, "-m", "pytest", "-q", "-o", "addopts=", "-p", "no:cacheprovider",
        "-k", WANTED, *(f"tests/test_{name}.py" for name in FILES.split()),
    )  # fmt: skip
    assert status == 0, said
    assert int(re.search(r"(\d+) passed", said)[1]) >= 70, said
