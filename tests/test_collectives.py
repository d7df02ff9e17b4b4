"""benchmarks/_collectives.py finds the collectives of a program in its HLO text.

The texts are made here by hand; test_sharded_traffic.py reads those of compiled programs.
"""

import pytest

from benchmarks._collectives import collectives, grouped
from tests.hlo import computation, loop, program, run

MESH = {"data": 2, "model": 4}


def one(line: str, mesh=MESH):
    """Returns the only collective of a program of one line."""
    (found,) = collectives(program(line), mesh)
    return found


# ------------------------------------------------------------------------------ the groups

MODEL, DATA, ALL = ("model", 4), ("data", 2), ("data, model", 8)


@pytest.mark.parametrize(
    "groups, expected",
    [
        ("{{0,1,2,3},{4,5,6,7}}", MODEL),
        ("{{4,5,6,7},{0,1,2,3}}", MODEL),
        ("{{0,4},{1,5},{2,6},{3,7}}", DATA),
        ("{{0},{1},{2},{3},{4},{5},{6},{7}}", ("", 1)),
        ("{}", ALL),
        ("{{0,1},{2,3},{4,5},{6,7}}", ("part of model", 2)),
        ("{{0,5},{1,4},{2,7},{3,6}}", ("part of data, model", 2)),
        ("[2,4]<=[8]", MODEL),
        ("[4,2]<=[2,4]T(1,0)", DATA),
        ("[1,8]<=[8]", ALL),
        ("[8,1]<=[8]", ("", 1)),
        ("[4,2]<=[2,2,2]T(2,0,1)", ("part of model", 2)),
        ("mesh['data'=2,'model'=4] {'model'}", MODEL),
        ("mesh['axis_0'=2,'axis_1'=4] {'axis_0'}", DATA),
        ("mesh['axis_0'=2,'axis_1'=4] {'axis_0','axis_1'}", ALL),
        ("mesh['axis_0'=2,'axis_1'=4] {'axis_1':(1)2}", ("part of model", 2)),
        ("mesh['axis_0'=2,'axis_1'=4] {'axis_1':(2)2}", ("part of model", 2)),
        ("mesh['a'=1,'b'=4,'c'=2], device_ids=([2,4]T(1,0)) {'b'}", MODEL),
        ("mesh['a'=1,'b'=4,'c'=2], device_ids=([2,4]T(1,0)) {'c'}", DATA),
        ("mesh['a'=1,'b'=4,'c'=2], device_ids=([2,4]T(1,0)) {'a'}", ("", 1)),
        ("mesh['a'=4,'b'=2], device_ids=(0,4,1,5,2,6,3,7) {'a'}", MODEL),
        # A permutation reaches the devices that its pairs join.
        ("pairs {{0,1},{1,2},{2,3},{3,0},{4,5},{5,6},{6,7},{7,4}}", MODEL),
        ("pairs {{0,4},{4,0},{1,5},{5,1}}", DATA),
        ("pairs {{0,0},{1,1}}", ("", 1)),
        ("pairs {{0,0},{1,5},{5,1}}", DATA),
    ],
)
def test_groups(groups, expected):
    line = f"%r = f32[16,8] all-reduce(%p), replica_groups={groups}, to_apply=%add"
    if groups.startswith("pairs "):
        line = f"%r = f32[16,8] collective-permute(%p), source_target_{groups.replace(' ', '=', 1)}"
    found = one(line)
    assert (found.axes, found.size) == expected
    assert found.moved == (0 if found.size == 1 else 16 * 8 * 4)


@pytest.mark.parametrize("part, axes", [("(1)2", "rows"), ("(2)2", "columns")])
def test_part_of_an_axis_is_named_by_what_comes_before_it(part, axes):
    groups = f"mesh['data'=2,'model'=4] {{'model':{part}}}"
    line = f"%r = f32[16] all-reduce(%p), replica_groups={groups}, to_apply=%add"
    found = one(line, {"data": 2, "rows": 2, "columns": 2})
    assert (found.axes, found.size) == (axes, 2)


# ------------------------------------------------------------------------------ the bytes

GROUPS = "channel_id=1, replica_groups={{0,1,2,3},{4,5,6,7}}"
PAIRS = "source_target_pairs={{0,1},{1,0}}"


@pytest.mark.parametrize(
    "line, kind, payload",
    [
        ("f32[16,8]{1,0:T(8,128)(2,1)S(1)} all-reduce(%p)", "all-reduce", 512),
        ("(f32[16,8]{1,0}, /*index=1*/bf16[3]{0}) all-reduce(%p, %q)", "all-reduce", 512 + 6),
        ("f32[64,8]{1,0} all-gather(%p), dimensions={0}", "all-gather", 2048),
        ("f32[4,8]{1,0} reduce-scatter(%p), dimensions={0}", "reduce-scatter", 512),
        ("f32[16,8]{1,0} all-to-all(%p), dimensions={0}", "all-to-all", 512),
        ("(f32[4]{0}, f32[4]{0}, f32[4]{0}) all-to-all(%a, %b, %c)", "all-to-all", 48),
        ("f32[] all-reduce(%p)", "all-reduce", 4),
        ("pred[16] all-reduce(%p)", "all-reduce", 16),
        ("s4[15] all-reduce(%p)", "all-reduce", 8),
        ("f8e4m3fn[16] all-reduce(%p)", "all-reduce", 16),
        ("c64[16] all-reduce(%p)", "all-reduce", 128),
        ("f32[0,8] all-reduce(%p)", "all-reduce", 0),
        ("f32[16] all-reduce-start(%p)", "all-reduce", 64),
        ("(f32[16], f32[8]) all-reduce-start(%p, %q)", "all-reduce", 96),
        ("(f32[16], f32[64]) all-gather-start(%p), dimensions={0}", "all-gather", 256),
        ("((f32[2], s32[1]), (f32[8], s32[4])) all-gather-start(%p, %q)", "all-gather", 48),
        ("((f32[16]), f32[4]) reduce-scatter-start(%p)", "reduce-scatter", 64),
        ("((f32[16]), f32[16]) all-to-all-start(%p)", "all-to-all", 64),
        # The start of a permutation holds the operand, the result and two counters.
        (f"(f32[16], f32[16], u32[], u32[]) collective-permute-start(%p), {PAIRS}",
         "collective-permute", 64),
    ],
)  # fmt: skip
def test_bytes(line, kind, payload):
    found = one(f"%r = {line}, {GROUPS}")
    assert (found.kind, found.bytes, found.times) == (kind, payload, 1)


@pytest.mark.parametrize(
    "lines, before, kind",
    [
        (
            [f"%s = f32[16] all-reduce-start(%p), {GROUPS}, to_apply=%add",
             "%d = f32[16] all-reduce-done(%s)"],
            "", "all-reduce",
        ),
        (
            ["%s = ((f32[16]), f32[4], s32[]) async-start(%p), calls=%wrapped",
             "%u = ((f32[16]), f32[4], s32[]) async-update(%s), calls=%wrapped",
             "%d = f32[4] async-done(%u), calls=%wrapped"],
            computation("wrapped", f"f32[4]{{0}} reduce-scatter(%a), {GROUPS}, dimensions={{0}}"),
            "reduce-scatter",
        ),
        (
            ["%f = f32[4] fusion(%p), kind=kCustom, calls=%all-reduce-scatter.1"],
            computation(
                "all-reduce-scatter.1", f"f32[16]{{0}} all-reduce(%a), {GROUPS}, to_apply=%add",
                "f32[4] dynamic-slice(%s, %a), dynamic_slice_sizes={4}",
            ),
            "reduce-scatter",
        ),
    ],
    ids=["asynchronous", "wrapped", "the sum and slice of a TPU"],
)  # fmt: skip
def test_a_collective_of_several_lines_counts_once(lines, before, kind):
    (found,) = collectives(program(*lines, before=before), MESH)
    assert (found.kind, found.moved) == (kind, 64)


# ------------------------------------------------------------------------------ how often

REDUCE = f"all-reduce(%x), {GROUPS}, to_apply=%add"


@pytest.mark.parametrize("stated, times", [(5, 5), (None, 3)], ids=["stated", "read"])
def test_a_loop_counts_once_per_trip(stated, times):
    text = program(*run("a", stated), before=loop("a", f"%r = f32[16] {REDUCE}"))
    (found,) = collectives(text, MESH)
    assert (found.times, found.moved) == (times, times * 64)


@pytest.mark.parametrize(
    "less, step",
    [
        ("NE", "add(%c, %two)"),
        ("LT", "multiply(%c, %two)"),
        ("LT", "add(%two, %two)"),
        ("LT", "add(%x, %two)"),
    ],
)
def test_a_collective_in_a_loop_of_unknown_length_is_refused(less, step):
    body = loop("a", f"%r = f32[16] {REDUCE}", less, step)
    with pytest.raises(ValueError, match="loop of unknown length.*all-reduce"):
        collectives(program(*run("a", None), before=body))


@pytest.mark.parametrize("then, times", [("copy(%x)", 3), ("add(%x, %two)", None)])
def test_a_bound_in_the_state_of_a_loop_must_stay_the_same(then, times):
    inner = f"%y = f32[16] {REDUCE}\n  %r = s32[] {then}"
    body = loop("a", inner, limit="get-tuple-element(%s), index=1")
    text = program("%x = s32[] constant(9)", *run("a", None), before=body)
    if times:
        assert [found.times for found in collectives(text, MESH)] == [times]
    else:
        with pytest.raises(ValueError, match="loop of unknown length"):
            collectives(text, MESH)


def test_what_has_no_collective():
    """A loop of unknown length is accepted, and names and metadata are not read as collectives."""
    looped = program(*run("a", None), before=loop("a", "%r = f32[16] negate(%x)", "NE"))
    note = 'metadata={op_name="calls=%nothing, x = f32[2] all-reduce(y)"}'
    for text in (looped, program(f"%all-reduce.1 = f32[16,8] copy(%p), {note}")):
        assert collectives(text) == []


def test_a_branch_is_counted():
    branches = "".join(
        f"%{name} (x: f32[16]) -> f32[16] {{\n  %x = f32[16] parameter(0)\n  ROOT %r = {line}\n}}\n"
        for name, line in {"yes": f"f32[16] {REDUCE}", "no": "f32[16] copy(%x)"}.items()
    )
    for called in (
        "branch_computations={%yes, %no}",
        "true_computation=%yes, false_computation=%no",
    ):
        line = f"%c = f32[16] conditional(%i, %p, %p), {called}"
        (found,) = collectives(program(line, before=branches))
        assert found.moved == 64


# ------------------------------------------------------------------------------ what is refused


@pytest.mark.parametrize(
    "line, message",
    [
        ("f32[16] all-reduce(%p), to_apply=%add", "groups that are not understood"),
        ("f32[16] all-reduce(%p), replica_groups=[8]", "groups that are not understood"),
        ("f32[16] all-reduce(%p), replica_groups={{0,1},{2}}", "groups of several sizes"),
        ("f32[16] collective-permute(%p)", "groups that are not understood"),
        (f"token[] all-reduce(%p), {GROUPS}", "no size known for the dtype"),
        (f"f32[16] all-gather-start(%p), {GROUPS}", "expected .operands, results."),
        (f"f32[16] collective-broadcast(%p), {GROUPS}", "collective that is not understood"),
        ("(f32[16], u32[], token[]) send(%p, %q)", "collective that is not understood"),
    ],
)
def test_what_cannot_be_read_is_refused(line, message):
    with pytest.raises(ValueError, match=message):
        collectives(program(f"%r = {line}"), MESH)


def test_a_text_without_an_entry_is_refused():
    with pytest.raises(ValueError, match="no ENTRY"):
        collectives("module @jit_f {}")


def test_groups_of_collectives():
    lines = [f"%r{i} = f32[16] all-reduce(%p), {GROUPS}" for i in range(3)]
    lines += [f"%g = f32[64] all-gather(%p), {GROUPS}"]
    found = collectives(program(*lines), MESH)
    assert grouped(found) == [
        ("all-gather", "model", 4, 1, 256),
        ("all-reduce", "model", 4, 3, 192),
    ]
