"""The ``--help`` text of every command, which later releases must reproduce.

Run ``python tests/golden/help_texts.py`` to update it after an intended change.
"""

from __future__ import annotations

import contextlib
import functools
import io
import os
import re
import sys
from importlib.metadata import version
from pathlib import Path
from typing import Any

import docstring_parser

STORED = Path(__file__).with_name("help.txt")
#: Width of the terminal, in columns, for which the text is made: the usual one.
WIDTH = 80
#: Modules that the help must not import.
HEAVY = {"torch", "scipy", "numba", "spandrel", "bioimageio", "onnx"}
#: Lines between the texts of two commands.
_MARK = "=" * 20


def commands() -> list[tuple[str, ...]]:
    """Words of every command and subcommand, the program itself first."""
    from napari_geosr.cli.app import build_app

    found: list[tuple[str, ...]] = []

    def walk(app: Any, words: tuple[str, ...]) -> None:
        # These pages equal those of the verbs, plus a group of options for the queue.
        if len(words) > 2 and words[0] == "submit":
            return
        found.append(words)
        for name in sorted(app):
            if not name.startswith("-"):
                walk(app[name], (*words, name))

    walk(build_app(), ())
    return found


def help_of(words: tuple[str, ...]) -> str:
    """Help text of a command in a terminal of `WIDTH` columns, without colours.

    It is the same in all versions of Python, because argparse is not used.
    """
    from napari_geosr.cli.app import run

    said = io.StringIO()
    with contextlib.redirect_stdout(said):
        assert run([*words, "--help"]) == 0, words
    # Without the frames around tables, which are more than half of the bytes.
    text = re.sub("[\u2500-\u257f]+ ?", "", said.getvalue())
    lines = [line.rstrip() for line in text.splitlines()]
    return "\n".join(lines).strip() + "\n"


def words_alone(text: str) -> list[str]:
    """The words of a help text, without the line breaks of the terminal."""
    return text.split()


def write(texts: dict[tuple[str, ...], str]) -> str:
    """All texts as one file."""
    begin = f"cyclopts {version('cyclopts')}\n"
    return begin + "".join(
        f"{_MARK}\nnapari-geosr {' '.join(words)}".rstrip() + f"\n{_MARK}\n{text}"
        for words, text in texts.items()
    )


def read(text: str) -> tuple[str, dict[tuple[str, ...], str]]:
    """The version of cyclopts that a file was written with, and its texts."""
    begin, *parts = text.split(f"{_MARK}\n")
    names = [tuple(name.split()[1:]) for name in parts[::2]]
    return begin.split()[1], dict(zip(names, parts[1::2], strict=True))


def main() -> None:
    """Write the texts of this release, or print them with ``--print``."""
    os.environ.update(COLUMNS=str(WIDTH), NO_COLOR="1", TERM="dumb")
    os.environ.pop("FORCE_COLOR", None)
    # Otherwise, each command parses the sources of its settings again.
    parse = functools.cache(docstring_parser.parse_from_object)
    docstring_parser.parse_from_object = parse
    text = write({words: help_of(words) for words in commands()})
    if "--print" in sys.argv:
        sys.stdout.buffer.write(text.encode())
        if heavy := HEAVY & sys.modules.keys():
            sys.exit(f"--help should not wait for {heavy}")
    else:
        STORED.write_text(text, encoding="utf-8")


if __name__ == "__main__":
    main()
