"""Run the commands of the tutorials as a reader would, and record their output.

Usage: ``python scripts/run_tutorials.py --work FOLDER [NAME…]``. Each tutorial runs in
its own folder, ``FOLDER/NAME``; ``log.txt`` in this folder contains every command with
its output, and ``messages.txt`` contains what was written to standard error. Only
blocks marked ``bash`` and ``python`` are run. Numbers on the page that no command has
printed are listed, and the exit code is then 1.
"""

from __future__ import annotations

import argparse
import os
import re
import shlex
import subprocess
import sys
from pathlib import Path
from textwrap import dedent

PAGES = Path(__file__).resolve().parents[1] / "docs" / "tutorials"


def blocks(page: Path) -> list[tuple[str, str]]:
    """Return the language and text of every fenced block of a page."""
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
    """Split a block into commands, each as a list of words."""
    joined = text.replace("\\\n", " ")
    return [shlex.split(line, comments=True) for line in joined.splitlines() if line]


#: Numbers that follow from the commands: with a decimal point, in per cent or dB, as
#: ``7 of 9``, or alone in a cell of a table.
_FIGURE = re.compile(
    r"\d+\.\d+|\d+(?= %| dB)|\d+(?= of \d+ )|(?<=\d of )\d+|(?<=\| )\d+(?= \|)"
)
#: Progress lines in the output.
_PROGRESS = re.compile(r"^  .*: \d+ %$", re.MULTILINE)
#: Numbers in the output; their digits may be grouped.
_PRINTED = re.compile(r"\d+(?:[,\u202f\u00a0]\d{3})*(?:\.\d+)?")


def figures(page: Path) -> list[str]:
    """The numbers in the text of a page, without its blocks, pictures and links."""
    text = re.sub(r"```.*?```", "", page.read_text(encoding="utf-8"), flags=re.DOTALL)
    return _FIGURE.findall(re.sub(r"\]\([^)]*\)", "]", text))


def unprinted(wanted: list[str], printed: str) -> list[str]:
    """Return the numbers that are not the rounded value of any printed number."""
    found = _PRINTED.findall(_PROGRESS.sub("", printed))
    numbers = [float(re.sub(r"[^\d.]", "", number)) for number in found]

    def is_printed(figure: str) -> bool:
        decimals = len(figure.partition(".")[2])
        # Numbers that end in 5 may be rounded in both directions.
        tolerance = 0.5000001 * 10.0**-decimals
        return any(abs(number - float(figure)) <= tolerance for number in numbers)

    return [figure for figure in wanted if not is_printed(figure)]


def run_words(words: list[str], folder: Path) -> str:
    """Run one command in a folder; return its output, or stop with its error."""
    if words[0] == "napari-geosr":
        words = [sys.executable, "-m", "napari_geosr", *words[1:]]
    # Hide the user's own models and jobs.
    own = {
        "COLUMNS": "88",
        "XDG_DATA_HOME": str(folder / "data"),
        "XDG_STATE_HOME": str(folder / "state"),
    }
    environment = {**os.environ, **own}
    # Readers do not set the number of threads, on which training depends slightly.
    environment.pop("OMP_NUM_THREADS", None)
    done = subprocess.run(
        words, cwd=folder, env=environment, capture_output=True, text=True, check=False
    )
    if done.returncode:
        raise SystemExit(
            f"{' '.join(words)} failed in {folder}:\n{done.stderr[-2000:]}"
        )
    with (folder / "messages.txt").open("a", encoding="utf-8") as file:
        file.write(done.stderr)
    return done.stdout


def run_page(page: Path, work: Path) -> list[str]:
    """Run all blocks of a page and write its log; return numbers not in its output."""
    folder = work / page.stem
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "messages.txt").unlink(missing_ok=True)
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
    messages = (folder / "messages.txt").read_text(encoding="utf-8")
    return unprinted(figures(page), "\n".join([*log, messages]))


def main() -> int:
    """Run the chosen tutorials, and list numbers that were not printed."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--work", type=Path, required=True)
    parser.add_argument("names", nargs="*")
    choice = parser.parse_args()
    wrong = 0
    for page in sorted(PAGES.glob("*.md")):
        # The notebook is a doctest, which pytest runs.
        named = page.stem in choice.names if choice.names else page.stem != "notebook"
        if named:
            print(page.stem, flush=True)
            if missing := run_page(page, choice.work):
                wrong += 1
                print(f"  not in the output: {', '.join(missing)}", file=sys.stderr)
    return min(wrong, 1)


if __name__ == "__main__":
    sys.exit(main())
