import re

import numpy as np
import pytest

from tests.conftest import fast_compile_flags
from tests.examples import changed, fails, picture, share_of, succeeds

SUMMARY = (
    r"loss (?P<before>\d+\.\d+) -> (?P<after>\d+\.\d+); 2 x 4 devices, fully sharded or not, and "
    r"two processes differ from one device by (?P<difference>\d+e[+-]\d+)"
)
DIFFERS = r"^{} +differs from one device by: losses (\d+e[+-]\d+)"
TOKENS, WIDTH, CLASSES = 1024, 128, 2004  # those of --smoke; three of the classes are padding


def traffic(output):
    """Returns {(what, collective, axis): bytes} for each of the two tables in the output."""
    row = re.compile(r"^│ (\S.*?) *│ (\S+) *│ (\w+) *│ ([\d,]+) *│$", flags=re.MULTILINE)
    return [
        {(what, *how): int(size.replace(",", "")) for what, *how, size in row.findall(table)}
        for table in output.split("What crosses devices")[1:]
    ]


def test_sharded(tmp_path):
    path = tmp_path / "sharded.png"
    args = "sharded.py", "--smoke", "--output", path
    printed, found = succeeds(*args, summary=SUMMARY, **fast_compile_flags())
    assert float(found["after"]) < float(found["before"]) - 1
    assert float(found["difference"]) < 3e-6
    for name in ("2 x 4", "2 x 4, fully sharded", "two processes"):
        (difference,) = re.findall(DIFFERS.format(name), printed, flags=re.MULTILINE)
        assert float(difference) < 3e-6

    for name, spec in (
        ("hidden states", rf"\[{TOKENS}, {WIDTH}\], P\('data',?\)"),
        ("kernel", rf"\[{WIDTH}, {CLASSES}\], P\(None, 'model'\)"),
        ("2 x 4, fully sharded, kernel", rf"\[{WIDTH}, {CLASSES}\], P\('data', 'model'\)"),
    ):
        there = rf"^{name} {spec}; its gradient lies there too\n┌"
        assert len(re.findall(there, printed, flags=re.MULTILINE)) == 1, printed

    divided, fully_sharded = traffic(printed)
    gradient = 4 * WIDTH * CLASSES // 4
    assert divided["hidden states' gradient", "all-reduce", "model"] == 4 * WIDTH * TOKENS // 2
    assert fully_sharded["the kernel", "all-gather", "data"] == gradient
    for table in (divided, fully_sharded):
        of_kernel = [size for (what, *_), size in table.items() if "kernel's gradient" in what]
        assert len(of_kernel) == 1 and gradient <= of_kernel[0] < 1.1 * gradient
        for_tokens = [size for (what, *_), size in table.items() if "a token" in what]
        assert 0 < sum(for_tokens) <= 24 * TOKENS // 2

    pixels = picture(path, (400, 1200), (1000, 2500))
    curves, mesh = np.split(pixels, [pixels.shape[1] * 2 // 5], axis=1)
    for color in ("#0072B2", "#E69F00"):
        assert share_of(curves, color) > 0.001
        assert share_of(mesh, color) > 0.02


@pytest.mark.slow
def test_sharded_fails_when_it_learns_nothing_or_a_device_differs(tmp_path, beside):
    head = "head(*inputs, num_classes=classes)"
    one_class_less = head.replace("classes)", "classes - (mesh.size > 1))")
    rate = "optax.adamw(1e-2,", "optax.adamw(-1e-2,"
    fails(
        changed("sharded.py", tmp_path, (head, one_class_less), rate),
        "The loss did not fall",
        "Losses or parameters differ from one device's by over 3e-06",
    )
    assert (tmp_path / "sharded.png").exists()


@pytest.mark.slow
def test_sharded_fails_when_one_of_its_processes_does(tmp_path, beside):
    start = "        jax.distributed.initialize("
    wrong = changed("sharded.py", tmp_path, (start, f"        assert index == 0\n{start}"))
    fails(wrong, "assert index == 0", "The two processes ended with [None, 1]")
