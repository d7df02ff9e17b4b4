"""Writes HLO texts of programs with a few lines, loops and computations, for tests to read."""


def program(*lines: str, before: str = "") -> str:
    """Returns the text of a program whose entry computation holds these lines."""
    inside = "\n".join(f"  {line}" for line in lines)
    return f"""HloModule jit_f, is_scheduled=true, num_partitions=8

%add (a: f32[], b: f32[]) -> f32[] {{
  %a = f32[] parameter(0)
  %b = f32[] parameter(1)
  ROOT %sum = f32[] add(%a, %b)
}}

{before}
ENTRY %main (p: f32[16,8]) -> () {{
  %p = f32[16,8]{{1,0}} parameter(0), metadata={{op_name="all-reduce(x)"}}
{inside}
  ROOT %end = () tuple()
}}
"""


def computation(name: str, line: str, root: str = "") -> str:
    """Returns a computation of one line, and of ``root``, an instruction that reads its result."""
    first, rest = ("%s", f"  ROOT %r = {root}\n") if root else ("ROOT %r", "")
    return f"%{name} (a: f32[16]) -> f32[4] {{\n  {first} = {line}\n{rest}}}\n"


def loop(
    name: str,
    inner: str,
    less: str = "LT",
    step: str = "add(%c, %two)",
    limit: str = "constant(8)",
) -> str:
    """Returns the body and the condition of a named loop over (counter, f32[16])."""
    return f"""%body_{name} (s: (s32[], f32[16])) -> (s32[], f32[16]) {{
  %s = (s32[], f32[16]{{0}}) parameter(0)
  %n = s32[] get-tuple-element(%s), index=0
  %x = f32[16]{{0}} get-tuple-element(%s), index=1
  %two = s32[] constant(2)
  %c = s32[] copy(%n)
  %m = s32[] {step}
  {inner}
  ROOT %t = (s32[], f32[16]{{0}}) tuple(%m, %r)
}}

%condition_{name} (s: (s32[], f32[16])) -> pred[] {{
  %limit = s32[] {limit}
  %s = (s32[], f32[16]{{0}}) parameter(0)
  %n = s32[] get-tuple-element(%s), index=0
  ROOT %less = pred[] compare(%n, %limit), direction={less}
}}

"""


def run(name: str, trips: int | None) -> tuple[str, str, str]:
    """Returns lines that run a loop: from 3 in steps of 2 while below 8, or ``trips`` times."""
    state = f'backend_config={{"known_trip_count":{{"n":"{trips}"}}}}' if trips else ""
    called = f"condition=%condition_{name}, body=%body_{name}, {state}"
    return (
        f"%first_{name} = s32[] constant(3)",
        f"%i_{name} = (s32[], f32[16]) tuple(/*index=0*/%first_{name}, %x)",
        f"%w_{name} = (s32[], f32[16]) while(%i_{name}), {called}",
    )
