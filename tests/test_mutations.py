"""``scripts/mutate.py`` on a tree of two files: its output, and the files it leaves."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "scripts"))

import mutate
from mutations import Mutation

CODE = "def half(n):\n    return n // 2\n\n\ndef more(n):\n    return n + 1\n"
TEST = """from napari_geosr.sums import half

def test_half():
    assert half(4) == 2
"""


@pytest.fixture
def tree(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A package with one module, in which one function is tested."""
    package = tmp_path / "src" / "napari_geosr"
    package.mkdir(parents=True)
    (package / "__init__.py").touch()
    (package / "sums.py").write_text(CODE)
    (tmp_path / "tests").mkdir()
    (tmp_path / "tests" / "test_sums.py").write_text(TEST)
    monkeypatch.setattr(mutate, "ROOT", tmp_path)
    return tmp_path


def change(name: str, old: str, new: str, file: str = "sums.py") -> Mutation:
    return Mutation(name, file, old, new, "a wrong sum", ("tests/test_sums.py",))


@pytest.mark.slow
def test_it_tells_killed_from_survived(
    tree: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    halves = change("halves", "n // 2", "n // 3", "moved/elsewhere.py")
    ones = change("ones", "n + 1", "n + 2")
    monkeypatch.setattr(mutate, "MUTATIONS", (halves, ones))
    assert mutate.main(["--least", "0.5"]) == 0
    said = capsys.readouterr().out
    assert "test_half" in next(x for x in said.splitlines() if x.startswith("halves"))
    assert "1 of 2 killed: 50%" in said
    assert "survived: ones: a wrong sum" in said
    assert mutate.main(["--without-baseline", "--only", "ones"]) == 1
    assert (tree / "src" / "napari_geosr" / "sums.py").read_text() == CODE


@pytest.mark.parametrize(
    ("old", "file", "said"),
    [
        ("n - 1", "sums.py", "is 0 times"),
        ("return n", "sums.py", "is 2 times"),
        ("n - 1", "gone.py", "in 0 files"),
    ],
)
def test_a_text_that_is_gone_is_loud(
    tree: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    old: str,
    file: str,
    said: str,
) -> None:
    monkeypatch.setattr(mutate, "MUTATIONS", (change("gone", old, "0", file),))
    assert mutate.main(["--check"]) == 2
    assert said in capsys.readouterr().err
    monkeypatch.setattr(mutate, "MUTATIONS", (change("halves", "n // 2", "0"),))
    (tree / "tests" / "test_sums.py").unlink()
    assert mutate.main(["--check"]) == 2
    assert "there is no tests/test_sums.py" in capsys.readouterr().err
