"""Finds the sizes for which Python code takes other branches than it did at symbolic sizes.

JAX answers ``==`` of two symbolic sizes with False where it cannot tell. The code that is traced is
then right only for the sizes for which False is the true answer. For the others the claim is traced
and proved again: with 1 for k where the code asks ``k == 1``, with k for n where it asks
``n == k``, and with 2*k for k where it asks ``k % 2 == 0``.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field, replace
from typing import Any

from .._jax_internals import Question, remainder_of, symbolic_terms
from .._normal_form import Refused
from .spec import Spec, size_of

_MAX_SIZES = 64
_MAX_ENTRIES = 64
_MAX_BELOW = 8


@dataclass(frozen=True)
class Sizes:
    """The sizes of one proof: the specs of its arguments, and the least values of named sizes."""

    args: Mapping[str, Spec]
    least: Mapping[str, int]
    where: tuple[str, ...] = ()  # the conditions for which these sizes were made

    @property
    def key(self) -> Any:
        """A key that is equal for sizes that need the same proof."""
        return tuple(self.args.items()), tuple(sorted(self.least.items()))

    @property
    def small(self) -> bool:
        """Whether the arrays are small enough, at named sizes 1, to search for a counterexample."""
        ones = dict.fromkeys((name for spec in self.args.values() for name in spec.names), 1)
        shapes = ([size_of(d, ones) for d in spec.dims] for spec in self.args.values())
        return all(math.prod(shape) <= _MAX_ENTRIES for shape in shapes)

    def low(self, name: str) -> int:
        """Returns the least value of a named size."""
        return self.least.get(name, 1)


@dataclass
class Waiting:
    """A queue of sizes to be proved, to which those that the code asks about are added."""

    left: list[Sizes]
    met: set[Any] = field(default_factory=set)

    def __iter__(self) -> Iterator[Sizes]:
        while self.left:
            sizes = self.left.pop(0)
            if sizes.key not in self.met:
                self.met.add(sizes.key)
                if len(self.met) > _MAX_SIZES:
                    raise Refused(f"the code asks for more than {_MAX_SIZES} kinds of sizes")
                yield sizes

    def put(self, question: Question, sizes: Sizes) -> None:
        """Adds those of some sizes for which the answer to a question is yes."""
        for new in solutions(question, sizes):
            self.left.append(_replaced(sizes, new, f"{question.text} ({question.place})"))

    def apart(self, sizes: Sizes, wanted: Mapping[str, int]) -> bool:
        """Adds the sizes from a wanted least value on, and each smaller size separately.

        Returns False, and adds nothing, if no least value is wanted or too many sizes are smaller.
        """
        for name, low in wanted.items():
            below = range(sizes.low(name), low)
            if 0 < len(below) <= _MAX_BELOW:
                least, where = {**sizes.least, name: low}, (*sizes.where, f"{name} >= {low}")
                self.left.append(replace(sizes, least=least, where=where))
                self.left += [_replaced(sizes, {name: str(n)}, f"{name} == {n}") for n in below]
                return True
        return False


def solutions(question: Question, sizes: Sizes) -> list[dict[str, str]]:
    """Returns the sizes for which the answer is yes, each as replacements for names of sizes."""
    found = None
    if question.left is not None:
        found = _divisible(question) or _equal(question, sizes)
    if found is None:
        raise Refused(
            f"{question.place}: the code asks whether {question.text}. JAX cannot tell at sizes "
            "without numbers, and for which sizes it holds is not found out"
        )
    return found


def _divisible(question: Question) -> list[dict[str, str]] | None:
    """Solves ``a % c == 0`` where a is a number times a named size, or returns None."""
    remainder = remainder_of(question.left)
    if remainder is None or question.right != 0:
        return None
    dividend, divisor = remainder
    match symbolic_terms(dividend):
        case [(coefficient, [(name, 1)])]:
            return [{name: f"{abs(divisor) // math.gcd(coefficient, divisor)}*{name}"}]
    return None


def _equal(question: Question, sizes: Sizes) -> list[dict[str, str]] | None:
    """Solves ``left == right`` for sums of products of sizes, or returns None if it cannot."""
    terms = symbolic_terms(question.left - question.right)
    if terms is None:
        return None
    if not terms:
        return [{}]
    signs = {coefficient > 0 for coefficient, _ in terms}
    if len(signs) == 1:
        return []  # a sum of positive numbers is not 0
    if len(terms) != 2:
        return None
    (c, left), (d, right) = ((abs(c), Counter(dict(factors))) for c, factors in terms)
    left, right = left - right, right - left
    size = math.gcd(c, d)
    c, d = c // size, d // size
    if not left or not right:
        factors, number = (left, (d, c)) if left else (right, (c, d))
        return [] if number[0] % number[1] else _factored(factors, number[0] // number[1], sizes)
    for (a, name), (b, other) in (((c, left), (d, right)), ((d, right), (c, left))):
        if a == 1 and list(name.values()) == [1]:
            (name_,) = name
            return [{name_: "*".join([str(b), *other.elements()])}]
    if list(left.values()) == list(right.values()) == [1]:
        (x,), (y,) = left, right
        return [{x: f"{d}*{x}", y: f"{c}*{x}"}]  # c x = d y if x = d h and y = c h; h is named x
    return None


def _factored(factors: Mapping[str, int], number: int, sizes: Sizes) -> list[dict[str, str]]:
    """Returns the values of sizes for which the product of their powers is a number."""
    if not factors:
        return [{}] if number == 1 else []
    (name, exponent), *rest = factors.items()
    if exponent == 1 and not rest:
        return [{name: str(number)}] if number >= sizes.low(name) else []
    return [
        {name: str(value), **others}
        for value in range(sizes.low(name), number + 1)
        if number % value**exponent == 0
        for others in _factored(dict(rest), number // value**exponent, sizes)
    ]


def _replaced(sizes: Sizes, new: Mapping[str, str], where: str) -> Sizes:
    args = {
        name: replace(
            spec,
            dims=tuple(_dim(d, new) for d in spec.dims),
            classes=None if spec.classes is None else _dim(spec.classes, new),
        )
        for name, spec in sizes.args.items()
    }
    least: dict[str, int] = {}
    for name, low in sizes.least.items():
        factors = new.get(name, name).split("*")
        names = [f for f in factors if not f.isdigit()]
        number = math.prod(int(f) for f in factors if f.isdigit())
        if len(names) > 1:
            raise Refused(f"a least size of {name} where {where}")
        for other in names:
            least[other] = max(least.get(other, 1), -(-low // number))
    return Sizes(args, least, (*sizes.where, where))


def _dim(dim: str, new: Mapping[str, str]) -> str:
    """Returns a dimension with some of its factors replaced."""
    factors = [g for f in dim.split("*") for g in new.get(f, f).split("*")]
    if all(f.isdigit() for f in factors):
        return str(math.prod(map(int, factors)))
    return "*".join(f for f in factors if f != "1")
