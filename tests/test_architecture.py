"""No import circle in the package, lazy and `TYPE_CHECKING` imports counted."""

from __future__ import annotations

import ast
from pathlib import Path

import networkx as nx
import pytest

import napari_geosr

ROOT = Path(napari_geosr.__file__).parent


def import_graph(root: Path) -> nx.DiGraph:
    """Which module of a package imports which, wherever the import statement stands.

    An import of a name counts as one of the module with that name where there is one,
    else as one of the package that has it.
    """
    files = {}
    for path in root.rglob("*.py"):
        parts = path.relative_to(root.parent).with_suffix("").parts
        files[".".join(parts).removesuffix(".__init__")] = path
    graph = nx.DiGraph()
    graph.add_nodes_from(files)
    for name, path in files.items():
        package = name if path.stem == "__init__" else name.rpartition(".")[0]
        for node in ast.walk(ast.parse(path.read_text("utf-8"))):
            for found in imported(node, package):
                module = found if found in files else found.rpartition(".")[0]
                if module in files and module != name:
                    graph.add_edge(name, module)
    return graph


def imported(node: ast.AST, package: str) -> list[str]:
    """Dotted names that a statement imports."""
    if isinstance(node, ast.Import):
        return [alias.name for alias in node.names]
    if not isinstance(node, ast.ImportFrom):
        return []
    base = node.module or ""
    if node.level:
        above = package.split(".")[: len(package.split(".")) - node.level + 1]
        base = ".".join([*above, *([base] if base else [])])
    return [f"{base}.{alias.name}" for alias in node.names]


def circles(graph: nx.DiGraph) -> list[list[str]]:
    """Groups of modules that import each other, directly or by others."""
    groups = nx.strongly_connected_components(graph)
    return sorted(sorted(group) for group in groups if len(group) > 1)


@pytest.fixture(scope="module")
def whole() -> nx.DiGraph:
    return import_graph(ROOT)


def test_no_module_imports_itself_by_way_of_others(whole: nx.DiGraph) -> None:
    assert circles(whole) == []


@pytest.mark.parametrize(
    "back",
    [
        "from package.a import f",
        "from package import a",
        "import package.a",
        "from .a import f",
        "from . import a",
        "def late():\n    from package.a import f",
        "if TYPE_CHECKING:\n    from package.a import f",
    ],
)
def test_every_way_to_import_is_seen(back: str, tmp_path: Path) -> None:
    root = tmp_path / "package"
    root.mkdir()
    (root / "__init__.py").write_text("")
    (root / "a.py").write_text("from package.b import g\n")
    (root / "b.py").write_text("import os\n")
    assert circles(import_graph(root)) == []
    (root / "b.py").write_text(f"{back}\n")
    assert circles(import_graph(root)) == [["package.a", "package.b"]]


def test_a_package_and_its_own_module_can_be_a_circle(tmp_path: Path) -> None:
    root = tmp_path / "package"
    root.mkdir()
    (root / "__init__.py").write_text("from package.a import f\nVERSION = 1\n")
    (root / "a.py").write_text("from package import VERSION\n")
    assert circles(import_graph(root)) == [["package", "package.a"]]
