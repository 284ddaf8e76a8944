"""Files, modules and classes named in documents for contributors exist."""

from __future__ import annotations

import importlib
import re
import tomllib
from functools import cache
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
PACKAGE = ROOT / "src" / "napari_geosr"
DOCS = ROOT / "docs"
GUIDE = ROOT / "CONTRIBUTING.md"
DECISIONS = sorted((ROOT / "docs" / "adr").glob("*.md"))
PAGES = [ROOT / "README.md", GUIDE, *sorted((ROOT / "docs").rglob("*.md"))]
SEARCHED = ("src", "tests", "scripts", "benchmarks", "docs", ".github")
#: Paths created by a run, which are not in the tree.
MADE = {"card.yaml", "data/part.zarr"}
SUFFIXES = r"\.(?:py|pyi|md|toml|ya?ml|ini|txt)"


def spans(page: Path) -> list[str]:
    """Text in backticks, without code blocks."""
    text = re.sub(r"(?ms)^ *```.*?^ *```$", "", page.read_text("utf-8"))
    return re.findall(r"`([^`\n]+)`", text)


def paths_in(page: Path) -> set[str]:
    """Spans that are a path without spaces; for ``NAME.py``, its folder."""
    found = set()
    for word in (word for span in spans(page) for word in span.split()):
        plain = re.fullmatch(rf"[\w./-]+(?:/|{SUFFIXES})|[\w.-]+(?:/[\w.-]+)+", word)
        if plain and word not in MADE and not word.startswith((".", "/")):
            found.add(re.sub(r"[^/]*NAME.*", "", word))
    return found


@cache
def tree() -> frozenset[str]:
    """Every file and folder of the tree, as ``/PATH/`` from the root."""
    there = [path for name in SEARCHED for path in (ROOT / name).rglob("*")]
    return frozenset(
        f"/{path.relative_to(ROOT).as_posix()}/" for path in [*ROOT.iterdir(), *there]
    )


def is_there(path: str) -> bool:
    """Whether the tree contains such a file; leading folders may be omitted."""
    ending = f"/{path.strip('/')}/"
    return any(entry.endswith(ending) for entry in tree())


def found_by_import(name: str) -> bool:
    """Whether a dotted name is a module or an object in one."""
    parts = name.split(".")
    for n in range(len(parts), 0, -1):
        try:
            value = importlib.import_module(".".join(parts[:n]))
        except ModuleNotFoundError:
            continue
        for part in parts[n:]:
            if not hasattr(value, part):
                return False
            value = getattr(value, part)
        return True
    return False


@pytest.mark.parametrize("page", [GUIDE, *DECISIONS], ids=lambda page: page.name)
def test_every_path_for_contributors_exists(page: Path) -> None:
    assert [path for path in sorted(paths_in(page)) if not is_there(path)] == []


def test_every_path_from_the_top_exists() -> None:
    """On any page, paths that begin with a top-level folder such as ``benchmarks/``."""
    tops = tuple(f"{name}/" for name in SEARCHED)
    named = {path for page in PAGES for path in paths_in(page) if path.startswith(tops)}
    assert len(named) > 20
    assert [path for path in sorted(named) if not (ROOT / path).exists()] == []


def test_paths_are_looked_for(tmp_path: Path) -> None:
    page = tmp_path / "page.md"
    page.write_text(
        "`gui/` and `core/steps.py`, `pytest tests/gui`, `networks/NAME.py`,\n"
        "`gone/file.py`, `gone.py`, but not `4,2,2`, `a.b` or `result/x y`.\n"
        "```\nsrc/code.py\n```\n"
    )
    found = paths_in(page)
    assert found >= {"gui/", "core/steps.py", "tests/gui", "networks/", "gone.py"}
    assert not found & {"a.b", "4,2,2", "src/code.py"}
    assert sorted(path for path in found if not is_there(path)) == [
        "gone.py",
        "gone/file.py",
        "result/x",
    ]


def test_the_layers_of_the_guide_are_the_folders_of_the_package() -> None:
    text = (DOCS / "architecture.md").read_text("utf-8").split("## Layers")[1]
    block = text.split("```")[1]
    lines = [line.strip().split("  ")[0] for line in block.splitlines()]
    named = {word for line in lines for word in re.findall(r"\w+", line)}
    folders = {path.parent.name for path in PACKAGE.glob("*/__init__.py")}
    assert named == folders


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_every_dotted_name_exists(page: Path) -> None:
    """``napari_geosr.core.steps``, and ``core.steps`` in short; entry-point groups."""
    folders = {path.parent.name for path in PACKAGE.glob("*/__init__.py")}
    names = set()
    for word in (word for span in spans(page) for word in span.split()):
        if not re.fullmatch(r"\w+(\.\w+)+", word) or re.search(SUFFIXES + "$", word):
            continue
        first = word.split(".")[0]
        if first == "napari_geosr" and f'"{word}"' not in groups():
            names.add(word)
        elif first in folders:
            names.add(f"napari_geosr.{word}")
    assert [name for name in sorted(names) if not found_by_import(name)] == []


@cache
def groups() -> frozenset[str]:
    """Entry-point groups that are quoted in the code."""
    found: set[str] = set()
    for path in PACKAGE.rglob("*.py"):
        found.update(re.findall(r'"napari_geosr\.\w+"', path.read_text("utf-8")))
    return frozenset(found)


def test_every_class_that_the_guide_names_exists() -> None:
    code = "\n".join(path.read_text("utf-8") for path in PACKAGE.rglob("*.py"))
    defined = set(re.findall(r"^class (\w+)", code, re.MULTILINE))
    named = {
        word
        for span in spans(GUIDE)
        for word in re.findall(r"\b[A-Z][a-z]+(?:[A-Z][a-z]+)+\b", span)
    }
    assert len(named) > 8
    assert named <= defined | {"GeoSRError", "RuntimeError"}


def test_every_example_in_a_docstring_is_run() -> None:
    """``testpaths`` lists the files with examples, or a folder that contains them."""
    settings = tomllib.loads((ROOT / "pyproject.toml").read_text("utf-8"))
    paths = settings["tool"]["pytest"]["ini_options"]["testpaths"]
    named = [ROOT / path for path in paths]
    for path in sorted((ROOT / "src").rglob("*.py")):
        if ">>> " in path.read_text("utf-8"):
            assert any(path.is_relative_to(each) for each in named), path
