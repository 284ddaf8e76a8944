"""Users see the same commands and menus as in the previous release."""

from __future__ import annotations

import subprocess
import sys
from importlib.metadata import version
from pathlib import Path

import pytest
import yaml

sys.path.insert(0, str(Path(__file__).parent))

from help_texts import STORED, WIDTH, read, words_alone

HERE = Path(__file__).parent
ROOT = HERE.parents[1]
WRITTEN_WITH, TEXTS = read(STORED.read_text(encoding="utf-8"))


@pytest.fixture(scope="module")
def printed() -> dict[tuple[str, ...], str]:
    """From a separate process, because commands in this one use another terminal."""
    command = [sys.executable, str(HERE / "help_texts.py"), "--print"]
    done = subprocess.run(command, capture_output=True, check=True)
    return read(done.stdout.decode())[1]


def test_no_command_came_or_went(printed: dict[tuple[str, ...], str]) -> None:
    assert list(printed) == list(TEXTS)


def test_every_page_fits_the_terminal_and_shows_its_own_examples(
    printed: dict[tuple[str, ...], str],
) -> None:
    assert len(printed) > 60
    for words, text in printed.items():
        assert max(map(len, text.splitlines())) <= WIDTH == 80, words
        assert "documented in its declaration" not in text, words
        _, found, examples = text.partition("Examples:")
        assert found, words
        other = "jobs stop" if words == ("jobs", "cancel") else " ".join(words)
        shown = examples.partition("Exit codes")[0].count(f"napari-geosr {other}")
        assert shown >= 2, words


@pytest.mark.parametrize("words", TEXTS, ids=" ".join)
def test_the_help_of_a_command_stays(
    words: tuple[str, ...], printed: dict[tuple[str, ...], str]
) -> None:
    """After an intended change, run ``python tests/golden/help_texts.py``."""
    said, stored = printed[words], TEXTS[words]
    if version("cyclopts") == WRITTEN_WITH:
        assert said == stored
    elif words_alone(said) != words_alone(stored):
        pytest.skip(
            f"cyclopts {version('cyclopts')} words it otherwise than {WRITTEN_WITH}"
        )


def test_menus_readers_writers_and_samples_stay() -> None:
    """Ids and code names by which napari and saved settings identify them."""
    stored = yaml.safe_load((HERE / "manifest.yaml").read_text(encoding="utf-8"))
    now = yaml.safe_load((ROOT / "napari.yaml").read_text(encoding="utf-8"))
    assert now["name"] == stored["name"]
    assert now["display_name"] == stored["display_name"]
    ours, theirs = now["contributions"], stored["contributions"]
    assert ours.keys() == theirs.keys()
    for kind, expected in theirs.items():
        assert ours[kind] == expected, kind
