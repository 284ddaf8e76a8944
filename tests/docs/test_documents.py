"""Links, commands and tutorials in the documents work, and pages are short."""

from __future__ import annotations

import importlib.util
import re
import subprocess
import sys
from pathlib import Path
from types import ModuleType

import pytest
import yaml
from cyclopts import CycloptsError

from napari_geosr.cli.app import build_app

ROOT = Path(__file__).resolve().parents[2]
DOCS = ROOT / "docs"
GUIDES = [ROOT / "README.md", ROOT / "CONTRIBUTING.md", *sorted(DOCS.rglob("*.md"))]
# The notebook is tested as a doctest.
TUTORIALS = sorted(
    page.stem
    for page in (DOCS / "tutorials").glob("*.md")
    if page.stem not in ("index", "notebook")
)
LONGEST = 1500


def load_script(name: str) -> ModuleType:
    spec = importlib.util.spec_from_file_location(name, ROOT / "scripts" / f"{name}.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


TUTORIAL_RUNNER = load_script("run_tutorials")


def page_name(page: Path) -> str:
    return str(page.relative_to(ROOT))


def commands_of(page: Path) -> list[list[str]]:
    """Every napari-geosr command on a separate line of a code block."""
    found = []
    for language, text in TUTORIAL_RUNNER.blocks(page):
        if language != "python":
            lines = text.replace("\\\n", " ").splitlines()
            ours = [line for line in lines if line.startswith("napari-geosr ")]
            found += TUTORIAL_RUNNER.commands("\n".join(ours))
    return found


def test_every_command_of_the_documents_is_understood():
    """Renamed and mistyped options are found without running anything."""
    app = build_app()
    said = {" ".join(words) for page in GUIDES for words in commands_of(page)}
    assert len(said) > 60
    wrong = {}
    for words in sorted(said):
        try:
            app.parse_args(words.split()[1:], print_error=False, exit_on_error=False)
        except CycloptsError as error:
            wrong[words] = str(error)
    assert not wrong


@pytest.mark.parametrize("page", GUIDES, ids=page_name)
def test_pages_are_short(page):
    """Words in tables and in code are not counted, because they are for reference.

    Comments, such as the marks around generated tables, are not shown.
    """
    prose = re.sub(r"(?ms)^ *```.*?^ *```$", "", page.read_text(encoding="utf-8"))
    prose = re.sub(r"<!--.*?-->", "", prose, flags=re.DOTALL)
    lines = [line for line in prose.splitlines() if not line.lstrip().startswith("|")]
    words = " ".join(lines).split()
    # The changelog and the guide for contributors are lists.
    if page.name != "CONTRIBUTING.md":
        assert len(words) <= LONGEST


@pytest.mark.parametrize("page", GUIDES, ids=page_name)
def test_warnings_are_no_code(page):
    """Eight spaces after the title would show the first sentence as code."""
    text = page.read_text(encoding="utf-8")
    assert not re.search(r"(?m)^!!! [^\n]*\n {8}", text)


def test_every_page_is_in_the_navigation():
    text = (ROOT / "mkdocs.yml").read_text(encoding="utf-8")
    named = set(re.findall(r"[\w/.-]+\.md", str(yaml.safe_load(text)["nav"])))
    there = {str(page.relative_to(DOCS)) for page in DOCS.rglob("*.md")}
    assert named == there


def test_blocks_in_tabs_are_found(tmp_path):
    page = tmp_path / "page.md"
    page.write_text('=== "In Python"\n\n    ```python\n    print(1)\n    ```\n')
    assert TUTORIAL_RUNNER.blocks(page) == [("python", "print(1)")]


def test_a_failing_command_stops_a_tutorial(tmp_path):
    with pytest.raises(SystemExit, match="nowhere"):
        TUTORIAL_RUNNER.run_words(["napari-geosr", "info", "nowhere.tif"], tmp_path)


def test_figures_that_no_command_printed_are_found(tmp_path):
    page = tmp_path / "page.md"
    page.write_text(
        "The error is 2 to 3 % ([why](a.md#1.5)); 281 of 284 pores are found: 23.8 dB."
        "\n\n```bash\nmeasure --precision 7.25\n```\n\n| truth | 154 | 0.089 |\n"
    )
    wanted = TUTORIAL_RUNNER.figures(page)
    assert wanted == ["3", "281", "284", "23.8", "154", "0.089"]
    printed = "Pores 281 284\nPSNR 23.75 dB, 1\u202f154 voxels, error +3.4 %, 0.0888\n"
    printed += "  Restoring: 50 %\n"
    assert TUTORIAL_RUNNER.unprinted(wanted, printed) == ["154"]
    assert TUTORIAL_RUNNER.unprinted(["23.7", "23.8", "23.9", "50"], printed) == [
        "23.9",
        "50",
    ]


@pytest.mark.slow
@pytest.mark.timeout(1800)
@pytest.mark.parametrize("name", TUTORIALS)
def test_tutorials_run_as_they_are_written(name, tmp_path):
    script = ROOT / "scripts" / "run_tutorials.py"
    done = subprocess.run(
        [sys.executable, str(script), "--work", str(tmp_path), name],
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr[-3000:]
    assert (tmp_path / name / "log.txt").read_text(encoding="utf-8")


def test_the_architecture_page_names_every_package():
    """The source folders, and those that cover a separate subject."""
    page = (DOCS / "architecture.md").read_text("utf-8")
    source = ROOT / "src" / "napari_geosr"
    folders = [p for p in source.glob("*/") if p.name != "__pycache__"]
    for package in ("gui", "operations", "inference", "learning", "measure", "io"):
        folders += [p.parent for p in (source / package).glob("*/__init__.py")]
    missing = [p.name for p in folders if f"`{p.name}`" not in page]
    assert missing == []
