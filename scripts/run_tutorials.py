"""Run the commands of the tutorials like a reader, and record their output.

Usage: ``python scripts/run_tutorials.py --work FOLDER [NAME…]``. Each tutorial runs in
its own folder, ``FOLDER/NAME``; ``log.txt`` in this folder contains every command with
its output. Only blocks marked ``bash`` and ``python`` are run.
"""

from __future__ import annotations

import argparse
import os
import shlex
import subprocess
import sys
from pathlib import Path
from textwrap import dedent

PAGES = Path(__file__).resolve().parents[1] / "docs" / "tutorials"


def blocks(page: Path) -> list[tuple[str, str]]:
    """Language and text of every fenced block of a page."""
    found: list[tuple[str, str]] = []
    language, lines = "", [""]
    for line in page.read_text(encoding="utf-8").splitlines():
        # Blocks in tabs are indented.
        if line.lstrip().startswith("```"):
            if language:
                found.append((language, dedent("\n".join(lines))))
            language = "" if language else line.strip()[3:] or "text"
            lines = []
        else:
            lines.append(line)
    return found


def commands(text: str) -> list[list[str]]:
    """The commands of a block, each as words."""
    joined = text.replace("\\\n", " ")
    return [shlex.split(line, comments=True) for line in joined.splitlines() if line]


def run_words(words: list[str], folder: Path) -> str:
    """Run one command in a folder; return its output, or stop with its error."""
    if words[0] == "napari-geosr":
        words = [sys.executable, "-m", "napari_geosr", *words[1:]]
    # Without the user's own models and jobs.
    own = {
        "COLUMNS": "88",
        "XDG_DATA_HOME": str(folder / "data"),
        "XDG_STATE_HOME": str(folder / "state"),
    }
    environment = {**os.environ, **own}
    done = subprocess.run(
        words, cwd=folder, env=environment, capture_output=True, text=True, check=False
    )
    if done.returncode:
        raise SystemExit(
            f"{' '.join(words)} failed in {folder}:\n{done.stderr[-2000:]}"
        )
    return done.stdout


def run_page(page: Path, work: Path) -> None:
    """Run all blocks of a page and write its log."""
    folder = work / page.stem
    folder.mkdir(parents=True, exist_ok=True)
    log: list[str] = []
    for language, text in blocks(page):
        if language == "python":
            log.append(f"$ python\n{run_words([sys.executable, '-c', text], folder)}")
        elif language == "bash":
            log += [
                f"$ {shlex.join(words)}\n{run_words(words, folder)}"
                for words in commands(text)
            ]
    (folder / "log.txt").write_text("\n".join(log), encoding="utf-8")


def main() -> None:
    """Run the command."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--work", type=Path, required=True)
    parser.add_argument("names", nargs="*")
    choice = parser.parse_args()
    for page in sorted(PAGES.glob("*.md")):
        # The notebook is a doctest, which pytest runs.
        named = page.stem in choice.names if choice.names else page.stem != "notebook"
        if named:
            print(page.stem, flush=True)
            run_page(page, choice.work)


if __name__ == "__main__":
    main()
