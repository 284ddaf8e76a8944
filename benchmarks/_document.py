"""Write tables into documents without changing the text around them."""

from __future__ import annotations

import re
from pathlib import Path


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
