"""The sizes for which Python decides otherwise than it did at the symbolic ones.

JAX answers ``==`` of two symbolic sizes with False where it cannot tell. What is traced is then
the code of the sizes for which that is right; for the others the claim is traced and proved
again, with 1 in the place of k where the code asks ``k == 1``, with k in the place of n where it
asks ``n == k``, and with 2*k in the place of k where it asks ``k % 2 == 0``.
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
    """What a claim is proved for at once: specs of the arguments and least sizes."""

    args: Mapping[str, Spec]
    least: Mapping[str, int]
    where: tuple[str, ...] = ()  # what was asked and holds here

    @property
    def key(self) -> Any:
        """Equal where the same is to be proved."""
        return tuple(self.args.items()), tuple(sorted(self.least.items()))

    @property
    def small(self) -> bool:
        """Whether arrays of these sizes can be drawn, and differentiated entry by entry."""
        ones = dict.fromkeys((name for spec in self.args.values() for name in spec.names), 1)
        shapes = ([size_of(d, ones) for d in spec.dims] for spec in self.args.values())
        return all(math.prod(shape) <= _MAX_ENTRIES for shape in shapes)

    def low(self, name: str) -> int:
        """The least value of a named size."""
        return self.least.get(name, 1)


@dataclass
class Waiting:
    """Sizes still to be proved; new ones are put in as the code asks for them."""

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
        """The sizes among some for which the answer to a question is yes."""
        for new in solutions(question, sizes):
            self.left.append(_replaced(sizes, new, f"{question.text} ({question.place})"))

    def apart(self, sizes: Sizes, wanted: Mapping[str, int]) -> bool:
        """Puts in the sizes from the wanted least value on, and each smaller one separately.

        Returns False, and puts in nothing, if that would be too many.
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
    """For which sizes a question holds: what is to be put in the place of which names."""
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
    """``a % c == r``: for r = 0 and a size a, those that are multiples of c."""
    remainder = remainder_of(question.left)
    if remainder is None or question.right != 0:
        return None
    dividend, divisor = remainder
    match symbolic_terms(dividend):
        case [(coefficient, [(name, 1)])]:
            return [{name: f"{abs(divisor) // math.gcd(coefficient, divisor)}*{name}"}]
    return None


def _equal(question: Question, sizes: Sizes) -> list[dict[str, str]] | None:
    """``left == right`` of sums of products of sizes."""
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
        return [{x: f"{d}*{x}", y: f"{c}*{x}"}]  # c x = d y where x = d h and y = c h
    return None


def _factored(factors: Mapping[str, int], number: int, sizes: Sizes) -> list[dict[str, str]]:
    """The values of sizes whose product, with exponents, is a number."""
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
    """A dimension with others in the place of its factors."""
    factors = [g for f in dim.split("*") for g in new.get(f, f).split("*")]
    if all(f.isdigit() for f in factors):
        return str(math.prod(map(int, factors)))
    return "*".join(f for f in factors if f != "1")
