"""Print a random sample of the texts that users read, to find odd sentences.

Run ``python scripts/sample_sentences.py AREA [--n 100] [--seed 0]``. The areas are
``docs`` (README and pages), ``evidence`` (pages of measurements), ``cards`` (of the
bundled models), ``changelog``, ``docks`` (strings in ``gui``), ``messages`` (all other
strings), ``help`` (of the command line), ``docstrings``, ``api`` (docstrings of public
functions) and ``comments``. If a sentence is odd, look for others of the same pattern
and correct them as well.
"""

from __future__ import annotations

import argparse
import ast
import random
import re
from collections.abc import Callable, Iterator
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
SOURCE = ROOT / "src" / "napari_geosr"
#: Minimum number of words of a sentence.
_MIN_WORDS = 4
_END = re.compile(r"(?<=[.!?:])\s+(?=[A-Z“*`\[])")
#: Abbreviations that do not end a sentence.
_ABBREVIATIONS = re.compile(r"\b(e\.g|i\.e|cf|et al|Fig|vs|No)\.$")


def sentences(text: str) -> list[str]:
    """Split a paragraph into sentences of at least a few words."""
    parts: list[str] = []
    for part in _END.split(" ".join(text.split())):
        if parts and _ABBREVIATIONS.search(parts[-1]):
            parts[-1] += f" {part}"
        else:
            parts.append(part)
    return [
        part for part in parts if len(re.findall(r"[A-Za-z]{2,}", part)) >= _MIN_WORDS
    ]


def from_docs() -> Iterator[tuple[str, str]]:
    """Sentences of README and pages, without code and records of measurements."""
    pages = [ROOT / "README.md", *sorted((ROOT / "docs").rglob("*.md"))]
    others = ("evidence", "adr", "models")
    return _from_pages([page for page in pages if page.parent.name not in others])


def from_evidence() -> Iterator[tuple[str, str]]:
    """Return the sentences of the pages of measurements."""
    return _from_pages(sorted((ROOT / "docs" / "evidence").glob("*.md")))


def from_cards() -> Iterator[tuple[str, str]]:
    """Return the sentences of the pages of the bundled models."""
    return _from_pages(sorted((ROOT / "docs" / "models").glob("*.md")))


def from_changelog() -> Iterator[tuple[str, str]]:
    """Return the sentences of the changelog."""
    return _from_pages([ROOT / "CHANGELOG.md"])


def _from_pages(pages: list[Path]) -> Iterator[tuple[str, str]]:
    for page in pages:
        text = re.sub(r"```.*?```", "", page.read_text(), flags=re.DOTALL)
        # Tags, but not `<` in code.
        text = re.sub(r"(`[^`]+`)|</?[a-z!][^<>]*>", lambda m: m[1] or " ", text)
        for paragraph in re.split(r"\n\s*\n|\n(?=[|#*-] ?)", text):
            for sentence in sentences(paragraph.strip("|#- ")):
                yield str(page.relative_to(ROOT)), sentence


def from_help() -> Iterator[tuple[str, str]]:
    """Yield the sentences of the help of all commands."""
    stored = (ROOT / "tests" / "golden" / "help.txt").read_text()
    parts = re.split(r"^=+\n", stored, flags=re.MULTILINE)[1:]
    for command, page in zip(parts[::2], parts[1::2], strict=True):
        page = re.sub(r"\n {8,}(?=\S)", " ", page)  # join descriptions of several lines
        for line in re.split(r"\n(?=\S*[-*•]|[A-Z*] {2}|[a-z])|\n\s*\n", page):
            text = re.sub(r"^\S+(?: [A-Z(].*?)?  +", "", line)
            text = re.sub(r"\[(choices|default):[^]]*\]", "", text)
            for sentence in sentences(text.partition("Usage:")[0]):
                yield command.strip(), sentence


def from_docstrings() -> Iterator[tuple[str, str]]:
    """Yield the sentences of the docstrings of the package."""
    kinds = ast.Module | ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef
    for path, tree in _modules():
        for node in ast.walk(tree):
            text = ast.get_docstring(node) if isinstance(node, kinds) else None
            for paragraph in re.split(r"\n\s*\n", text or ""):
                for sentence in sentences(re.sub(r"-{3,}", "", paragraph)):
                    yield f"{path}:{getattr(node, 'lineno', 1)}", sentence


def from_api() -> Iterator[tuple[str, str]]:
    """Return the sentences of the docstrings of public functions."""
    return (found for found in from_docstrings() if found[0].startswith("api/"))


def from_docks() -> Iterator[tuple[str, str]]:
    """Return the sentences in the strings of the docks."""
    return _from_strings(in_docks=True)


def from_messages() -> Iterator[tuple[str, str]]:
    """Return the sentences in the strings of the engine and the command line."""
    return _from_strings(in_docks=False)


def from_comments() -> Iterator[tuple[str, str]]:
    """Yield the sentences of the comments of the package."""
    for path, _ in _modules():
        lines: list[str] = []
        for number, line in enumerate((SOURCE / path).read_text().splitlines(), 1):
            text = line.strip()
            if text.startswith("#"):
                lines.append(text.lstrip("#: "))
                continue
            for sentence in sentences(" ".join(lines)):
                yield f"{path}:{number - 1}", sentence
            lines = []
            for sentence in sentences(line.partition("  # ")[2]):
                yield f"{path}:{number}", sentence


def _from_strings(*, in_docks: bool) -> Iterator[tuple[str, str]]:
    for path, tree in _modules():
        if (path.parts[0] == "gui") != in_docks:
            continue
        skipped: set[int] = set()
        for node in ast.walk(tree):
            if isinstance(node, ast.Expr) and isinstance(node.value, ast.Constant):
                skipped.add(id(node.value))
            if id(node) in skipped or not isinstance(
                node, ast.Constant | ast.JoinedStr
            ):
                continue
            if isinstance(node, ast.JoinedStr):
                skipped.update(id(part) for part in ast.walk(node))
                text = "".join(
                    str(part.value) if isinstance(part, ast.Constant) else "…"
                    for part in node.values
                )
            else:
                text = node.value if isinstance(node.value, str) else ""
            for sentence in sentences(text):
                yield f"{path}:{node.lineno}", sentence


def _modules() -> Iterator[tuple[Path, ast.Module]]:
    for path in sorted(SOURCE.rglob("*.py")):
        yield path.relative_to(SOURCE), ast.parse(path.read_text())


AREAS: dict[str, Callable[[], Iterator[tuple[str, str]]]] = {
    "docs": from_docs,
    "evidence": from_evidence,
    "cards": from_cards,
    "changelog": from_changelog,
    "docks": from_docks,
    "messages": from_messages,
    "help": from_help,
    "docstrings": from_docstrings,
    "api": from_api,
    "comments": from_comments,
}


def main() -> None:
    """Print the sample of one area."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("area", choices=AREAS)
    parser.add_argument("--n", type=int, default=100)
    parser.add_argument("--seed", type=int, default=0)
    arguments = parser.parse_args()
    known = list({text: place for place, text in AREAS[arguments.area]()}.items())
    drawn = random.Random(arguments.seed).sample(known, min(arguments.n, len(known)))
    for i, (sentence, place) in enumerate(drawn, 1):
        print(f"{i:3} {place}: {sentence}")


if __name__ == "__main__":
    main()
