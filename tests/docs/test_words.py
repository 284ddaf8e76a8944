"""The documents are written in plain English: banned phrases are never used."""

from __future__ import annotations

import ast
import re
from pathlib import Path

import pytest
import yaml

ROOT = Path(__file__).resolve().parents[2]
CARDS = sorted((ROOT / "src" / "napari_geosr" / "pretrained").glob("*/card.yaml"))
PROSE = ("title", "description", "intended_use", "not_for")
PAGES = [
    *(ROOT / name for name in ("README.md", "CHANGELOG.md", "CONTRIBUTING.md")),
    ROOT / "SECURITY.md",
    *sorted((ROOT / ".github").rglob("*.yml")),
    *sorted((ROOT / ".github").rglob("*.md")),
    *sorted(
        page
        for page in (ROOT / "docs").rglob("*.md")
        # The glossary lists the phrases that are not used.
        if page.parent.name != "adr" and page.name != "glossary.md"
    ),
]


def banned_phrases() -> list[str]:
    lines = (Path(__file__).parent / "banned_phrases.txt").read_text(encoding="utf-8")
    return [line for line in lines.splitlines() if line and not line.startswith("#")]


BANNED = re.compile(
    rf"(?i)\b(?:{'|'.join(re.escape(phrase) for phrase in banned_phrases())})\b"
)


def page_name(page: Path) -> str:
    return str(page.relative_to(ROOT))


@pytest.mark.parametrize("page", PAGES, ids=page_name)
def test_documents_use_none_of_the_banned_phrases(page):
    text = " ".join(page.read_text(encoding="utf-8").split())
    assert BANNED.findall(text) == []


@pytest.mark.parametrize("card", CARDS, ids=lambda path: path.parent.name)
def test_cards_use_none_of_the_banned_phrases(card):
    fields = yaml.safe_load(card.read_text(encoding="utf-8"))
    text = " ".join(str(fields[name]) for name in PROSE)
    assert BANNED.findall(text) == []


SOURCES = sorted((ROOT / "src" / "napari_geosr").rglob("*.py"))


def texts_in(source: str) -> list[tuple[int, str]]:
    """Line and text of all string constants: messages, labels, help and docstrings."""
    return [
        (node.lineno, " ".join(node.value.split()))
        for node in ast.walk(ast.parse(source))
        if isinstance(node, ast.Constant) and isinstance(node.value, str)
    ]


def test_no_text_in_the_code_uses_a_banned_phrase():
    found = [
        f"{path.relative_to(ROOT)}:{line}: {phrase}"
        for path in SOURCES
        for line, text in texts_in(path.read_text(encoding="utf-8"))
        for phrase in BANNED.findall(text)
    ]
    assert len(SOURCES) > 500
    assert found == []


def test_texts_of_code_are_docstrings_and_parts_of_messages():
    source = '"""Go on\nwith it."""\nraise ValueError(f"{1} was said")'
    texts = [text for _, text in texts_in(source)]
    assert [BANNED.findall(text) for text in texts] == [["Go on with"], ["was said"]]


def test_the_check_finds_a_phrase_across_lines():
    assert BANNED.findall("What was stopped is gone on with.") == [
        "What was stopped",
        "gone on with",
    ]
