"""Says for each study what its table in the report is called, and where its records stand."""

from collections.abc import Iterable
from typing import NamedTuple

from benchmarks._records import Record, pivot


class View(NamedTuple):
    """Templates of a record's fields: the title, the first cells of a row, and the column."""

    title: str
    rows: dict[str, str]
    columns: str = "{metric} {unit}"


PROGRAM, MODEL = {"program": "{program}"}, "The head on 256 and 4096 devices: "
_LOGITS = {"logits": "{size} {dtype}", "labels": "{case}"}, "{program} {metric} {unit}"
_STEPS = {"value and gradient": "{case}, {size}"}
_RELATIVE = "Relative error of loss / gradient at the label, {dtype}"
_MIB = "Temporary memory in MiB of "
_HEAD = View("{study} in {dtype}, {size}", PROGRAM)
_GROWTH = View("{study}", {"": "{size}"}, "{program} {metric} {unit}")
VIEWS: dict[str, View | None] = {
    "Targets": View("{study}", {"": "{program}"}, "{metric}"),
    "Relative errors": View(_RELATIVE, {"library": "{program}"}, "{case}"),
    "Errors": View("{dtype}, in units of the last place", {"case": "{case}"}, "{program}"),
    "Errors against the gap": None,  # only in a picture
    "Value and gradient": View("{study}", *_LOGITS),
    "Value alone": View("{study}", *_LOGITS),
    "Options, value and gradient": View("{study}", *_LOGITS),
    "Over optax's": View("{study}", _STEPS),
    "The linear head over optax on held logits": View("{study}", _STEPS),
    "Of each library": View("{study}", _STEPS | {"library": "{program}"}),
    "Calls outside jit": View("{study}, {size}", {"": "{case}"}, "{program} {metric} {unit}"),
    "Time": _HEAD,
    "Tokens that are left out": _HEAD,
    "A norm, a kernel with an adapter and a soft cap": _HEAD,
    "Memory against N": _GROWTH,
    "Memory against V": _GROWTH,
    "Errors of loss / dx / dW": View("{study} in {dtype}, {size}", PROGRAM, "{case}"),
    "Losses of logits": View(_MIB + "the mean loss of logits, {size}, and in % of the logits",
                             PROGRAM, "{case} {dtype}"),
    "Heads": View(_MIB + "value and gradients of the linear head, {size}",
                  PROGRAM, "{case} {dtype}"),
    "Large heads": View(_MIB + "value and gradients with large vocabularies",
                        {"program": "{program}, {size}"}, "{case} {dtype}"),
    "CPU devices": View("Eight {study}, 2 x 4, {size} {dtype}", PROGRAM),
    "Crossing": View("Times and bytes that cross eight CPU devices", PROGRAM, "{case}"),
    "accelerators": View("Eight {study}, 2 x 4, {size} {dtype}", PROGRAM, "{case} {metric} {unit}"),
    "Planned bytes": View(MODEL + "bytes", {"devices, data x model": "{program}, {case}"}),
    "Planned times": View(MODEL + "time per step by the data sheets", {"devices": "{program}"}),
}  # fmt: skip


def tables(records: Iterable[Record]) -> dict[str, tuple[list, list]]:
    """Returns the tables of a benchmark by title, in the order in which their records come."""
    groups: dict[tuple[str, str], list[Record]] = {}
    for record in records:
        if view := VIEWS[record.study]:
            groups.setdefault((record.study, record.fill(view.title)), []).append(record)
    return {title: pivot(group, *VIEWS[study][1:]) for (study, title), group in groups.items()}
