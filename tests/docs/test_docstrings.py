"""Names in the sections *Parameters* and *Attributes* of docstrings exist."""

from __future__ import annotations

import ast
import inspect
import re
from collections.abc import Iterable, Iterator
from pathlib import Path

import pytest

import napari_geosr
from source_trees import statements

ROOT = Path(napari_geosr.__file__).parent
_Function = ast.FunctionDef | ast.AsyncFunctionDef


def section_names(docstring: str, title: str) -> list[str]:
    """Names in a numpydoc section; a line of prose is returned unchanged."""
    lines = inspect.cleandoc(docstring).splitlines()
    for at, line in enumerate(lines[:-1]):
        if line == title and set(lines[at + 1]) == {"-"}:
            return list(_entries(lines[at + 2 :]))
    return []


def _entries(lines: list[str]) -> Iterator[str]:
    for line, below in zip(lines, [*lines[1:], ""], strict=True):
        if below and set(below) == {"-"}:
            return
        if line and not line.startswith((" ", "..")):
            yield from re.split(r",\s+", line.split(" : ")[0])


def parameters(function: _Function) -> set[str]:
    """Parameters of a signature; variable ones with their stars."""
    found = function.args
    plain = [*found.posonlyargs, *found.args, *found.kwonlyargs]
    stars = {f"*{found.vararg.arg}"} if found.vararg else set()
    stars |= {f"**{found.kwarg.arg}"} if found.kwarg else set()
    return {each.arg for each in plain} | stars


def targets(node: ast.AST) -> list[ast.expr]:
    """Expressions that a statement assigns to."""
    if isinstance(node, ast.Assign):
        whole = node.targets
    elif isinstance(node, ast.AnnAssign):
        whole = [node.target]
    else:
        return []
    nested = [t.elts if isinstance(t, ast.Tuple) else [t] for t in whole]
    return [target for group in nested for target in group]


def attributes(node: ast.ClassDef) -> set[str]:
    """Names that a class defines: in its body, and of `self`."""
    found = {f.name for f in node.body if isinstance(f, _Function)}
    for statement in node.body:
        found |= {t.id for t in targets(statement) if isinstance(t, ast.Name)}
    for statement in statements(node):
        for target in targets(statement):
            if isinstance(target, ast.Attribute):
                owner = target.value
                if isinstance(owner, ast.Name) and owner.id == "self":
                    found.add(target.attr)
    return found


def init_parameters(node: ast.ClassDef) -> set[str]:
    """Parameters of ``__init__``; those of a dataclass are its annotations."""
    found = {
        each.target.id
        for each in node.body
        if isinstance(each, ast.AnnAssign) and isinstance(each.target, ast.Name)
    }
    for each in node.body:
        if isinstance(each, _Function) and each.name in ("__init__", "__new__"):
            found |= parameters(each)
    return found


class Classes:
    """The classes of some modules, with the attributes they inherit from each other."""

    def __init__(self, trees: Iterable[ast.Module]) -> None:
        self._nodes: dict[str, list[ast.ClassDef]] = {}
        for tree in trees:
            for node in statements(tree):
                if isinstance(node, ast.ClassDef):
                    self._nodes.setdefault(node.name, []).append(node)

    def family(self, node: ast.ClassDef) -> list[ast.ClassDef]:
        """A class and its bases, as far as the names are known."""
        found = [node]
        for each in found:
            for base in each.bases:
                base = base.value if isinstance(base, ast.Subscript) else base
                name = base.attr if isinstance(base, ast.Attribute) else ""
                name = base.id if isinstance(base, ast.Name) else name
                found += [n for n in self._nodes.get(name, ()) if n not in found]
        return found


def unknown_names(node: ast.AST, classes: Classes) -> list[str]:
    """Documented names of a function or class that do not exist."""
    if not isinstance(node, _Function | ast.ClassDef):
        return []
    text = ast.get_docstring(node) or ""
    if not any(title in text for title in ("Parameters", "Attributes")):
        return []
    if isinstance(node, _Function):
        known = {"Parameters": parameters(node)}
    else:
        family = classes.family(node)
        known = {
            "Parameters": set().union(*map(init_parameters, family)),
            "Attributes": set().union(*map(attributes, family)),
        }
    return [
        f"{node.lineno} {node.name}: {name!r} in {title}"
        for title, names in known.items()
        for name in section_names(text, title)
        if name.replace("\\", "") not in names
    ]


def test_documented_names_exist() -> None:
    trees = {
        path: ast.parse(path.read_text(encoding="utf-8"))
        for path in sorted(ROOT.rglob("*.py"))
    }
    classes = Classes(trees.values())
    wrong = [
        f"{path.relative_to(ROOT)}:{found}"
        for path, tree in trees.items()
        for node in statements(tree)
        for found in unknown_names(node, classes)
    ]
    assert not wrong, "\n".join(wrong)


@pytest.mark.parametrize(
    ("source", "expected"),
    [
        ('def f(a, *b):\n """T.\n\n Parameters\n ---\n a, *b : int\n """', 0),
        ('def f(a):\n """T.\n\n Parameters\n ---\n b : int\n """', 1),
        ('def f(a):\n """T.\n\n Parameters\n ---\n a : int\n\n Prose.\n """', 1),
        ('def f():\n """T.\n\n Raises\n ---\n b\n """', 0),
        ('class C:\n """T.\n\n Attributes\n ---\n a : int\n """\n a: int', 0),
        ('class C:\n """T.\n\n Attributes\n ---\n b : int\n """\n a: int', 1),
        (
            "class B:\n def g(self):\n  self.a = 1\n\n"
            'class C(B):\n """T.\n\n Attributes\n ---\n a : int\n """',
            0,
        ),
    ],
)
def test_a_wrong_name_is_found(source: str, expected: int) -> None:
    tree = ast.parse(source)
    classes = Classes([tree])
    found = [name for node in ast.walk(tree) for name in unknown_names(node, classes)]
    assert len(found) == expected
