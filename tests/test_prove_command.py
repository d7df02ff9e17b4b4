"""The command ``python -m xent_jax.proofs`` prints, writes and returns the right results."""

import dataclasses
import json
import subprocess
import sys

import pytest

pytest.importorskip("sympy", reason="the proofs need SymPy: pip install xent-jax[proofs]")
pytest.importorskip("rich", reason="the command needs rich: pip install xent-jax[proofs]")

from xent_jax.proofs import _catalogue  # noqa: E402
from xent_jax.proofs.__main__ import main  # noqa: E402
from xent_jax.proofs._derivations.derivation import Step  # noqa: E402

pytestmark = pytest.mark.fast_compile


def test_the_module_runs_and_names_what_it_proves(tmp_path):
    command = [sys.executable, "-m", "xent_jax.proofs", "--only", "seed_gradient"]
    run = subprocess.run(command, capture_output=True, text=True, cwd=tmp_path)
    assert run.returncode == 0, run.stderr
    for part in ("seed_gradient", "labels sum to 1", "all k ≥ 1", "derivation", "all hold"):
        assert part in run.stdout


def test_list_prints_every_name_and_proves_nothing(capsys, monkeypatch):
    monkeypatch.setattr("xent_jax.proofs._derivations.derivation.Derivation.check", None)
    monkeypatch.setattr("xent_jax.proofs._prover.decision.Decision.verdict", None)
    assert main(["--list"]) == 0
    printed = {line.rsplit("  ", 1)[0] for line in capsys.readouterr().out.splitlines()}
    assert {c.name for c in _catalogue.claims()} == printed


def test_what_is_not_proved_is_in_the_table_with_its_reason(capsys):
    assert main(["--only", "linear_softmax_cross_entropy (none): forward mode"]) == 0
    out = capsys.readouterr().out
    assert "not proved: second order" in out and "not proved: logit_softcap" in out
    assert "no chunk divides" not in out  # a reason for another function
    assert main(["--only", "softcap: gradient"]) == 0
    assert "not proved" not in capsys.readouterr().out


def test_what_all_proofs_assume_is_printed_once(capsys):
    assert main(["--only", "entropy: gradient", "--only", "softcap: gradient"]) == 0
    out = capsys.readouterr().out
    assert out.count("over the real numbers") == 1
    assert "p is positive" in out and "c is positive" in out  # each for one of the claims


def test_one_wrong_step_makes_the_status_1(monkeypatch, capsys):
    (chapter, (first, *rest)), *others = _catalogue.CHAPTERS
    last = first.steps[-1]
    steps = (*first.steps[:-1], Step(last.name, last.expr + 1, last.why, "", "=", None))
    wrong = dataclasses.replace(first, steps=steps)
    monkeypatch.setattr(_catalogue, "CHAPTERS", ((chapter, (wrong, *rest)), *others))
    assert main(["--only", first.name]) == 1
    out = capsys.readouterr().out
    assert "1 do not hold" in out and f"step “{last.name}”: not decided" in out


@pytest.mark.parametrize("missing", ["sympy", "rich", "latex2mathml"])
def test_without_an_extra_the_error_is_one_line_that_names_it(missing):
    code = (
        "import sys, importlib.util as u; find = u.find_spec\n"
        f"sys.modules[{missing!r}] = None\n"
        f"u.find_spec = lambda n, *a: None if n == {missing!r} else find(n, *a)\n"
        "from xent_jax.proofs.__main__ import main; sys.exit(main([]))"
    )
    run = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert run.returncode == 2 and run.stdout == ""
    assert run.stderr == f"xent-prove needs {missing}: pip install 'xent-jax[proofs]'\n"


def test_the_console_script_is_declared():
    from importlib.metadata import entry_points

    (script,) = entry_points(group="console_scripts", name="xent-prove")
    assert script.load() is main


def test_a_narrow_table_has_two_columns_and_a_file_no_control_characters(capsys, monkeypatch):
    monkeypatch.setenv("COLUMNS", "60")
    assert main(["--only", "entropy"]) == 0
    out = capsys.readouterr().out
    lines = out.splitlines()
    assert lines[0].startswith("┏") and lines[0].count("┳") == 1
    assert all(len(line) <= 60 for line in lines) and any("all n ≥ 1, k ≥ 1" in x for x in lines)
    assert not any(c < " " for c in out if c != "\n")


def test_only_takes_patterns_and_two_processes_say_what_one_says(tmp_path, capsys):
    """The table, the results and the page do not depend on the number of processes."""
    said = []
    for jobs in ("1", "2"):
        results, page = tmp_path / f"{jobs}.json", tmp_path / f"{jobs}.html"
        files = ["--json", str(results), "--html", str(page)]
        assert main(["--only", "entropy", "--only", "softcap*", "--jobs", jobs, *files]) == 0
        rows = json.loads(results.read_text("utf-8"))
        table = [line[:38] for line in capsys.readouterr().out.splitlines()][:-2]
        said.append(([row | {"seconds": 0} for row in rows], page.read_text("utf-8"), table))
    assert said[0] == said[1]
    rows, page, _ = said[0]
    assert {row["engine"] for row in rows} == {"derivation", "all sizes"}
    assert {row["name"] for row in rows} >= {"entropy", "softcap", "softcap.cap"}
    assert all(row["holds"] and row["engine"] and row["sizes"] for row in rows)
    assert "<math" in page


@pytest.mark.parametrize("jobs", ["0", "-1", "two"])
def test_a_wrong_number_of_processes(jobs, capsys):
    with pytest.raises(SystemExit, match="2"):
        main(["--jobs", jobs])
    assert "argument --jobs" in capsys.readouterr().err


# ------------------------------------------------------------- a user's own function

OWN = """
import jax
from jax.nn import logsumexp, softmax
from xent_jax.proofs import array, scalar

def z_loss(factor):
    @jax.custom_vjp
    def loss(z, c):
        return c * logsumexp(z, axis=-1) ** 2

    def backward(kept, g):
        z, c = kept
        lse = logsumexp(z, axis=-1, keepdims=True)
        return factor * c * lse * softmax(z) * g[:, None], None

    loss.defvjp(lambda z, c: (loss(z, c), (z, c)), backward)
    loss.xent_spec = {"z": array("n k"), "c": scalar()}
    return loss

right, wrong = z_loss(2), z_loss(1)
bare = lambda z, c: wrong(z, c)
"""


@pytest.fixture
def own(tmp_path, monkeypatch):
    """Writes a module of a user's functions, ``own_losses``, to a new current directory."""
    pytest.importorskip("xent_jax.proofs._prover.prove", reason="--module needs the prover of code")
    (tmp_path / "own_losses.py").write_text(OWN)
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", list(sys.path))
    monkeypatch.delitem(sys.modules, "own_losses", raising=False)


def test_a_users_function_is_proved(own, capsys):
    assert main(["--module", "own_losses:right"]) == 0
    assert "own_losses:right by z: proved" in capsys.readouterr().out


def test_a_users_wrong_function_is_refuted_with_its_counterexample(own, capsys):
    specs = 'z=array("n k"), c=scalar(positive=True)'
    assert main(["--module", "own_losses:bare", "--args", specs, "--wrt", "z"]) == 1
    printed = capsys.readouterr().out
    assert "refuted" in printed and "\n  z = jnp.array([[" in printed and "\n  c = " in printed
    assert "# the gradient to z: [[" in printed and "#   should be: [[" in printed


@pytest.mark.parametrize(
    "arguments, message",
    [
        (["--only", "nothing_of_the_sort"], "nothing is called 'nothing_of_the_sort'"),
        (["--args", "z=array('n k')"], "give --module"),
        (["--module", "own_losses"], "pkg.mod:function"),
        (["--module", "own_losses:nothing"], "own_losses:nothing is not there"),
        (["--module", "no_such_module:f"], "no_such_module:f is not there"),
        (["--module", "own_losses:bare"], "xent_spec"),
        (["--module", "own_losses:right", "--wrt", "q"], "--wrt names 'q'"),
        (["--module", "own_losses:right", "--args", "z=open('x')"], "cannot be read"),
        (["--module", "own_losses:right", "--args", "z=array("], "cannot be read"),
    ],
)
def test_a_wrong_call_is_one_line_and_the_status_2(own, arguments, message, capsys):
    assert main(arguments) == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert line.startswith("xent-prove: ") and message in line
