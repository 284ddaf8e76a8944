"""Write tables into documents without changing the text around them."""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any


def typeset(text: str) -> str:
    """Add the space before ``%`` and the minus signs that Python's formats omit.

    Code between backticks and in indented lines keeps its hyphens.
    """
    text = re.sub(r"(?<=\d)%", " %", text)
    return "".join(
        part
        if part.startswith(("`", "    "))
        else re.sub(r"(?<![\w.–/-])-(?=\.?\d)", "\N{MINUS SIGN}", part)
        for part in re.split(r"(`[^`]*`|^ {4}.*$)", text, flags=re.MULTILINE)
    )


def section(document: Path, name: str) -> str:
    """Return the text between the marks of `replace_section`; empty without them."""
    text = document.read_text(encoding="utf-8") if document.exists() else ""
    _, _, rest = text.partition(f"<!-- {name} -->")
    inside, mark, _ = rest.partition(f"<!-- end of {name} -->")
    return inside.strip() if mark else ""


def merged_tables(old: str, new: str, place: Callable[[Sequence[str]], Any]) -> str:
    """Add the lines of an earlier table that a new one lacks.

    Parameters
    ----------
    old, new : str
        Tables with the same columns; `old` may be empty.
    place : callable
        Returns the position of a line, given its cells. Lines are the same if their
        positions are equal.

    Raises
    ------
    ValueError
        If the numbers of columns differ.
    """

    def rows(table: str) -> dict[Any, str]:
        lines = table.splitlines()[2:]
        return {
            place([c.strip() for c in line.split("|")[1:-1]]): line for line in lines
        }

    head = new.splitlines()[:2]
    if old and old.splitlines()[1] != head[1]:
        raise ValueError("the tables have different numbers of columns")
    found = rows(old) | rows(new)
    return "\n".join([*head, *(found[key] for key in sorted(found))])


def replace_section(document: Path, name: str, text: str) -> None:
    """Put `text` between the marks ``<!-- name -->`` and ``<!-- end of name -->``.

    Missing marks are added at the end; a missing document is created.
    """
    text = typeset(text)
    begin, end = f"<!-- {name} -->", f"<!-- end of {name} -->"
    body = f"{begin}\n\n{text.strip()}\n\n{end}"
    old = document.read_text(encoding="utf-8") if document.exists() else ""
    if begin in old and end in old:
        before, after = old.split(begin)[0], old.split(end)[1]
        new = before + body + after
    else:
        new = (old.rstrip() + "\n\n" if old else "") + body + "\n"
    document.write_text(new, encoding="utf-8")
