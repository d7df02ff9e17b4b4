"""Converts the parts of docstrings that are not in Google's style for the API pages.

The last paragraph, "Gradient: ... Proof: ... Source: ...", becomes a box. A public name in double
backticks becomes a link. "a, b: text" becomes one line for each argument, and the errors of
"Raises" become one line each. The example at the end becomes a block of code, and the comment
beside a field becomes its description.
"""

import re

from griffe import Docstring, Extension
from xent_jax.proofs._catalogue import proof_of
from xent_jax.proofs._page.page import anchor

_CLOSING = re.compile(
    r"^Gradient:\s+(.+?)\s+Proof:\s+``([\w.]+)``\.\s+Source:\s+(.+?)(?=\n\s*\n|\Z)", re.M | re.S
)
_SHARED = re.compile(r"^ {4}(\w+(?:, \w+)+):((?: .*)?(?:\n {8}.*)*)", re.M)
_RAISES = re.compile(r"^Raises:\n((?: {4}.*\n?)+)", re.M)
_ERROR = re.compile(r"(?<!,) (?=(?:\w+Error, )*\w+Error: )")
_RESULT = re.compile(r"(?<=^Returns:\n    )``(\w+)``(?=: )", re.M)  # to griffe a type
_EXAMPLE = re.compile(r"^>>> .*(?:\n.+)*", re.M)
_NAME = re.compile(r"``(\w+)``")
_COMMENT = re.compile(r"^ +\w+: [^#]+#\s*(.+)")
_PROOFS = "../proofs/page.html"  # seen from docs/api


class Sections(Extension):
    """Rewrites docstrings before griffe parses them."""

    def on_package(self, *, pkg, **_):
        """Runs once a package is loaded, when its public names are known."""
        self.public = {name: f"{pkg.name}.{name}" for name in pkg.exports}
        self.visit(pkg)

    def visit(self, parent):
        """Rewrites the docstrings of all members of a module or class."""
        for member in parent.members.values():
            if member.is_alias:
                continue
            if member.docstring:
                member.docstring.value = self.rewritten(member.docstring.value)
            elif member.is_attribute and (comment := _COMMENT.match(member.lines[0])):
                member.docstring = Docstring(self.rewritten(comment[1]), parent=member)
            if member.is_function and "mode" in member.parameters:
                del member.parameters["mode"]  # the decorator passes it, not the user
            if not member.is_attribute:
                self.visit(member)

    def rewritten(self, text):
        """Returns a docstring in the form that griffe and Markdown expect."""
        text = _SHARED.sub(_each_argument, text)
        text = _RAISES.sub(_each_error, text)
        text = _RESULT.sub(r"\1", text)
        text = _EXAMPLE.sub(r"```pycon\n\g<0>\n```", text)
        text = _CLOSING.sub(_box, text)
        return _NAME.sub(self._link, text)

    def _link(self, match):
        path = self.public.get(match[1])
        return f"[`{match[1]}`][{path}]" if path else match[0]


def _each_argument(match):
    return "\n".join(f"    {name}:{match[2]}" for name in match[1].split(", "))


def _each_error(match):
    errors = _ERROR.split(" ".join(match[1].split()))
    return "Raises:\n" + "".join(f"    {error}\n" for error in errors)


def _box(match):
    gradient, proof, source = (" ".join(part.split()) for part in match.groups())
    return (
        f'!!! gradient "Gradient"\n    {gradient}\n\n'
        f"    Proof: [{proof}]({_PROOFS}#{anchor(proof_of(proof))}). Source: {source}"
    )
