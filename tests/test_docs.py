"""The code of the pages of documentation runs."""

import re
import subprocess
import sys
from pathlib import Path

import pytest

DOCS = Path(__file__).parents[1] / "docs"
GUIDES = sorted(path.stem for path in (DOCS / "guides").glob("*.md"))


def code_of(page):
    blocks = re.findall(r"```python\n(.*?)```", (DOCS / page).read_text("utf-8"), re.S)
    assert blocks
    return "\n".join(blocks)


@pytest.mark.parametrize("guide", [name for name in GUIDES if name != "sharded"])
def test_the_code_of_a_guide_runs(guide):
    code = code_of(f"guides/{guide}.md")
    assert "\nassert " in code  # what the guide says of it
    exec(compile(code, guide, "exec"), {})


def test_the_code_of_the_sharded_guide_is_a_program(tmp_path):
    """Which makes its own eight devices."""
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
