"""What people see of commands and menus is what the release before showed them."""

from __future__ import annotations

import sys
from importlib.metadata import version
from pathlib import Path

import pytest
import yaml

sys.path.insert(0, str(Path(__file__).parent))

from help_texts import STORED, WIDTH, commands, help_of, read, words_alone

HERE = Path(__file__).parent
ROOT = HERE.parents[1]
WRITTEN_WITH, TEXTS = read(STORED.read_text(encoding="utf-8"))


@pytest.fixture(autouse=True)
def terminal(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("COLUMNS", str(WIDTH))
    monkeypatch.setenv("NO_COLOR", "1")
    monkeypatch.setenv("TERM", "dumb")
    monkeypatch.delenv("FORCE_COLOR", raising=False)


def test_no_command_came_or_went() -> None:
    assert commands() == list(TEXTS)


@pytest.mark.parametrize("words", TEXTS, ids=" ".join)
def test_the_help_of_a_command_stays(words: tuple[str, ...]) -> None:
    """``python tests/golden/help_texts.py`` takes over what was meant to change."""
    said, stored = help_of(words), TEXTS[words]
    if version("cyclopts") == WRITTEN_WITH:
        assert said == stored
    elif words_alone(said) != words_alone(stored):
        pytest.skip(
            f"cyclopts {version('cyclopts')} words it otherwise than {WRITTEN_WITH}"
        )


def test_menus_readers_writers_and_samples_stay() -> None:
    """Ids and the names in code that napari and saved settings know them by."""
    stored = yaml.safe_load((HERE / "manifest.yaml").read_text(encoding="utf-8"))
    now = yaml.safe_load((ROOT / "napari.yaml").read_text(encoding="utf-8"))
    assert now["name"] == stored["name"]
    assert now["display_name"] == stored["display_name"]
    ours, theirs = now["contributions"], stored["contributions"]
    assert ours.keys() == theirs.keys()
    for kind, expected in theirs.items():
        assert ours[kind] == expected, kind
