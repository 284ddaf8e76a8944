"""Write tables into documents without changing the text around them."""

from __future__ import annotations

import re
from pathlib import Path


def typeset(text: str) -> str:
    """Add the space before ``%`` that Python omits, and true minus signs to tables."""
    text = re.sub(r"(?<=\d)%", " %", text)
    return "\n".join(
        re.sub(r"(?<![\w.–/-])-(?=\.?\d)", "\N{MINUS SIGN}", line)
        if line.startswith("|") and "`" not in line
        else line
        for line in text.split("\n")
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
