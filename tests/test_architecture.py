"""Dependencies between modules, including lazy and `TYPE_CHECKING` imports.

There are no import cycles, and few modules are imported by only one other module,
because such a pair usually covers one subject. Files and folders are small enough to be
browsed.
"""

from __future__ import annotations

import ast
import functools
import re
from collections import Counter
from pathlib import Path

import networkx as nx
import pytest

import napari_geosr
from napari_geosr.attribution import METHODS as EXPLANATIONS
from napari_geosr.inference.members import KINDS as KINDS_OF_MEMBERS
from napari_geosr.io.formats import FORMATS as FILE_FORMATS
from napari_geosr.jobs.queues import QUEUES
from napari_geosr.learning.losses.terms import TERMS
from napari_geosr.learning.methods import METHODS
from napari_geosr.learning.shapes import SHAPE_METHODS
from napari_geosr.measure.morphometry import MORPHOMETRY
from napari_geosr.measure.statistics import STATISTICS
from napari_geosr.models.exports import EXPORTS
from napari_geosr.models.foreign import FORMATS as FOREIGN_MODELS
from napari_geosr.networks import NETWORKS
from napari_geosr.networks.classical import FILTERS
from napari_geosr.networks.foreign_formats import FORMATS as FOREIGN_NETWORKS
from napari_geosr.networks.sparse import SPARSE_NETWORKS
from napari_geosr.physics.degradations import DEGRADATIONS
from napari_geosr.tomography.algorithms import ALGORITHMS
from source_trees import statements

ROOT = Path(napari_geosr.__file__).parent
FILES = sorted(ROOT.rglob("*.py"))

#: Maximum fraction of modules that are imported by only one other module.
MOST_SINGLE_USES = 0.12
#: Maximum number of lines of a file, and of a function without its signature and
#: docstring.
MOST_LINES, MOST_LINES_OF_A_FUNCTION = 500, 70
#: Lower maxima of the number of lines of a file, by folder.
MOST_LINES_IN = {"networks/sparse": 300}
#: Maximum number of uses of `Any` per module.
MOST_ANYS = 1.25
#: Maximum number of imports of own modules inside functions.
MOST_LATE_IMPORTS = 80
#: Maximum number of modules in a folder: of a dock or a verb, and of an engine.
MOST_FILES = {"gui": 20, "operations": 20}
MOST_FILES_ELSEWHERE = 24
#: Not counted as modules with one user: files that a registry finds by name, which may
#: also be imported explicitly,
REGISTRIES = (
    EXPLANATIONS,
    KINDS_OF_MEMBERS,
    FILE_FORMATS,
    TERMS,
    METHODS,
    SHAPE_METHODS,
    STATISTICS,
    MORPHOMETRY,
    EXPORTS,
    FOREIGN_MODELS,
    NETWORKS,
    SPARSE_NETWORKS,
    FILTERS,
    FOREIGN_NETWORKS,
    DEGRADATIONS,
    ALGORITHMS,
    QUEUES,
)
#: modules named in napari's manifest, the table of commands and scripts on nodes, and
#: numba's kernels, which are separate so that numba is loaded late.
APART = re.compile(
    r"\.gui\.(readers|writers)$|\.cli\.(measure|reconstruct|restore|study|train)$"
    r"|\.jobs\.cluster\.probe$|\.measure\.kernels\.|_compiled$"
)


#: Cache of the syntax trees of hundreds of files.
parse = functools.cache(ast.parse)


def parsed(path: Path) -> ast.Module:
    """The syntax tree of a file."""
    return parse(path.read_text("utf-8"))


def import_graph(root: Path) -> nx.DiGraph:
    """Graph of imports within a package, wherever the import statements are.

    Importing a name counts as importing the module of that name if there is one, and
    otherwise as importing the package that contains it.
    """
    files = {}
    for path in root.rglob("*.py"):
        parts = path.relative_to(root.parent).with_suffix("").parts
        files[".".join(parts).removesuffix(".__init__")] = path
    graph = nx.DiGraph()
    graph.add_nodes_from(files)
    for name, path in files.items():
        package = name if path.stem == "__init__" else name.rpartition(".")[0]
        for node in statements(parsed(path)):
            for found in imported(node, package):
                module = found if found in files else found.rpartition(".")[0]
                if module in files and module != name:
                    graph.add_edge(name, module)
    return graph


def imported(node: ast.AST, package: str) -> list[str]:
    """Dotted names imported by a statement."""
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
    """Groups of modules that import each other, directly or indirectly."""
    groups = nx.strongly_connected_components(graph)
    return sorted(sorted(group) for group in groups if len(group) > 1)


def with_packages(graph: nx.DiGraph) -> nx.DiGraph:
    """The graph including what an import runs first: the packages of a module.

    A package does not count for its own modules, which it runs before it is complete.
    """
    found = graph.copy()
    for user, module in graph.edges:
        parents = module.split(".")[:-1]
        for depth in range(2, len(parents) + 1):
            package = ".".join(parents[:depth])
            if not f"{user}.".startswith(f"{package}."):
                found.add_edge(user, package)
    return found


def single_uses(graph: nx.DiGraph) -> list[tuple[str, str]]:
    """Modules imported by exactly one other module, and that module.

    The interface of a folder, its ``__init__``, may be the only one that imports a
    module in it.
    """
    found = []
    for module in sorted(graph):
        users = list(graph.predecessors(module))
        if len(users) == 1 and users[0] != module.rpartition(".")[0]:
            found.append((module, users[0]))
    return found


def is_apart(module: str) -> bool:
    """Whether a module is a separate file regardless of its users."""
    entries = (registry.modules().values() for registry in REGISTRIES)
    return bool(APART.search(module)) or any(module in found for found in entries)


@pytest.fixture(scope="module")
def whole() -> nx.DiGraph:
    return import_graph(ROOT)


def test_no_module_imports_itself_by_way_of_others(whole: nx.DiGraph) -> None:
    assert circles(whole) == []


def test_nor_by_way_of_the_packages_that_an_import_runs(whole: nx.DiGraph) -> None:
    assert circles(with_packages(whole)) == []


def test_few_imports_stand_inside_functions() -> None:
    """They are meant for modules that load a heavy library such as torch."""
    late = [
        f"{path.relative_to(ROOT)}:{statement.lineno}"
        for path in FILES
        for function in statements(parsed(path))
        if isinstance(function, ast.FunctionDef)
        for statement in statements(function)
        if any(name.startswith("napari_geosr.") for name in imported(statement, ""))
    ]
    assert len(set(late)) <= MOST_LATE_IMPORTS, "\n".join(late)


def test_types_are_named() -> None:
    found = [re.findall(r"\bAny\b", path.read_text("utf-8")) for path in FILES]
    most = MOST_ANYS * len(FILES)
    assert sum(map(len, found)) <= most, "Name the type, or use object."


def test_few_modules_are_imported_by_one_other_alone(whole: nx.DiGraph) -> None:
    pairs = [pair for pair in single_uses(whole) if not is_apart(pair[0])]
    listed = "\n".join(f"{module} by {user}" for module, user in pairs)
    most = MOST_SINGLE_USES * len(FILES)
    assert len(pairs) <= most, f"Fold some of them:\n{listed}"


def test_files_are_short() -> None:
    sizes = {path: len(path.read_text("utf-8").splitlines()) for path in FILES}
    long = {
        str(path): n
        for path, n in sizes.items()
        if n > MOST_LINES_IN.get(path.parent.relative_to(ROOT).as_posix(), MOST_LINES)
    }
    assert not long, "Split them along their subjects."


def test_functions_are_short() -> None:
    lengths = {
        f"{path}:{node.lineno} {node.name}": body_length(node)
        for path in FILES
        for node in statements(parsed(path))
        if isinstance(node, ast.FunctionDef)
    }
    long = {name: n for name, n in lengths.items() if n > MOST_LINES_OF_A_FUNCTION}
    assert not long, "Split them."


def test_folders_are_small() -> None:
    counts = Counter(path.parent for path in FILES)
    large = {
        str(folder): n
        for folder, n in counts.items()
        if n > MOST_FILES.get(top_of(folder), MOST_FILES_ELSEWHERE)
    }
    assert not large, "Make a folder of what belongs together."


def top_of(folder: Path) -> str:
    """The top-level folder of the package that contains `folder`, or ""."""
    return (*folder.relative_to(ROOT).parts, "")[0]


def body_length(function: ast.FunctionDef) -> int:
    """Number of lines from the first statement after the docstring to the end."""
    has_docstring = ast.get_docstring(function) is not None
    body = function.body[1:] if has_docstring else function.body
    if not body:
        return 0
    assert function.end_lineno is not None
    return function.end_lineno - body[0].lineno + 1


def test_only_what_a_function_does_counts() -> None:
    long = (
        'def f(\n    a,\n):\n    """Text.\n\n    More.\n    """\n    b = a\n    g(b)\n'
    )
    for n, source in ((2, long), (0, 'def f():\n    """Text."""\n')):
        (found,) = ast.parse(source).body
        assert isinstance(found, ast.FunctionDef)
        assert body_length(found) == n


def test_a_folder_in_a_dock_counts_as_one_of_docks() -> None:
    assert top_of(ROOT / "gui" / "restore" / "verdict") == "gui"
    assert top_of(ROOT) == ""


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


def test_a_circle_by_way_of_a_package_is_seen(tmp_path: Path) -> None:
    folder = tmp_path / "top" / "room"
    folder.mkdir(parents=True)
    (tmp_path / "top/__init__.py").touch()
    (folder / "__init__.py").write_text("from top.user import B")
    (folder / "one.py").touch()
    (tmp_path / "top/user.py").write_text("from top.room.one import A")
    graph = import_graph(tmp_path / "top")
    assert circles(graph) == []
    assert circles(with_packages(graph)) == [["top.room", "top.user"]]


def test_a_package_and_its_own_module_can_be_a_circle(tmp_path: Path) -> None:
    root = tmp_path / "package"
    root.mkdir()
    (root / "__init__.py").write_text("from package.a import f\nVERSION = 1\n")
    (root / "a.py").write_text("from package import VERSION\n")
    assert circles(import_graph(root)) == [["package", "package.a"]]


def test_a_module_of_one_user_is_found(tmp_path: Path) -> None:
    root = tmp_path / "package"
    (root / "folder").mkdir(parents=True)
    (root / "__init__.py").write_text("")
    (root / "folder" / "__init__.py").write_text("from package.folder.part import f\n")
    (root / "folder" / "part.py").write_text("f = 1\n")
    (root / "shared.py").write_text("from package.alone import h\n")
    (root / "alone.py").write_text("h = 1\n")
    for name in "ab":
        text = "def late():\n    from package.shared import g\n"
        (root / f"{name}.py").write_text(text)
    graph = import_graph(root)
    assert single_uses(graph) == [("package.alone", "package.shared")]
    (root / "b.py").write_text("from package.alone import h\n")
    assert single_uses(import_graph(root)) == [("package.shared", "package.a")]


@pytest.mark.parametrize(
    ("module", "expected"),
    [
        ("networks.light_sr", True),
        ("networks.layers.dense", False),
        ("models.foreign.spandrel", True),
        ("models.foreign.tensors", False),
        ("physics.projection.cone_compiled", True),
        ("physics.projection.compiled", False),
    ],
)
def test_only_entries_of_registries_and_kernels_are_apart(
    module: str, expected: bool, whole: nx.DiGraph
) -> None:
    assert f"napari_geosr.{module}" in whole
    assert is_apart(f"napari_geosr.{module}") is expected


#: Classes that every entry of a registry defines under the same name.
_OF_REGISTRIES = {"Config", "Method", "NetworkConfig"}


def test_no_class_name_stands_twice() -> None:
    """An underscore does not make a name different."""
    files: dict[str, list[str]] = {}
    for path in FILES:
        for node in statements(parsed(path)):
            if isinstance(node, ast.ClassDef) and node.name not in _OF_REGISTRIES:
                name = node.name.lstrip("_")
                files.setdefault(name, []).append(f"{path.relative_to(ROOT)}")
    twice = {name: found for name, found in files.items() if len(found) > 1}
    assert not twice, "Give each class a name of its own."


def numbers_in_tuples(tree: ast.Module) -> list[int]:
    """Lines on which a module assigns several constants that are not all strings."""
    return [
        node.lineno
        for node in tree.body
        if isinstance(node, ast.Assign) and isinstance(node.targets[0], ast.Tuple)
        if all(isinstance(t, ast.Name) and t.id.isupper() for t in node.targets[0].elts)
        if not isinstance(node.value, ast.Tuple)
        or not all(is_text(value) for value in node.value.elts)
    ]


def is_text(node: ast.expr) -> bool:
    """Whether an expression is a string."""
    return isinstance(node, ast.Constant) and isinstance(node.value, str)


def test_each_number_has_a_line_and_a_name_of_its_own() -> None:
    found = [
        f"{path.relative_to(ROOT)}:{line}"
        for path in FILES
        for line in numbers_in_tuples(parsed(path))
    ]
    assert not found, "One constant a line, with its unit and reason in a comment."


@pytest.mark.parametrize(
    ("source", "expected"),
    [
        ("_A, B = 1, 2.0", [1]),
        ("A, B = 1 << 4, {2: 1}", [1]),
        ("A, B = range(2)", [1]),
        ('A, B = "a", "b"', []),
        ("A = (1, 2)", []),
        ("def f():\n    A, B = 1, 2", []),
    ],
)
def test_numbers_in_tuples_are_found(source: str, expected: list[int]) -> None:
    assert numbers_in_tuples(ast.parse(source)) == expected
