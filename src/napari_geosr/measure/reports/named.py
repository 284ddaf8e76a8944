"""Warnings of several volumes, each with the name of its volume."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping

#: A title that is not an ordinary word: a file name, or a name in quotation marks.
_DISTINCT = re.compile(r"""^['"]|\.[^\W\d]\w+$""")


def named_warnings(
    warnings: Mapping[str, Iterable[str]], names: Mapping[str, str] | None = None
) -> list[str]:
    """Return each warning once, after the titles of the volumes that it is about.

    Parameters
    ----------
    warnings : mapping of str to iterable of str
        Warnings by the title of the volume. If there is only one volume, they are
        unchanged.
    names : mapping of str, optional
        Names of the volumes by title. A warning that names the volume is unchanged.

    Examples
    --------
    >>> named_warnings({"scan": ["Noisy.", "'scan' is dark."], "restored": ["Noisy."]})
    ['scan, restored: Noisy.', "'scan' is dark."]
    """
    titles: dict[str, list[str]] = {}
    for title, texts in warnings.items():
        for text in dict.fromkeys(texts):
            titles.setdefault(text, []).append(title)
    if len(warnings) < 2:
        return list(titles)
    names = names or {}
    return [
        named_warning(text, of[0], names.get(of[0], ""))
        if len(of) == 1
        else text
        if all(_is_named(text, one, names.get(one, "")) for one in of)
        else f"{', '.join(of)}: {text}"
        for text, of in titles.items()
    ]


def named_warning(text: str, title: str, name: str = "") -> str:
    """Return a warning after the title of its volume, unless it names the volume.

    A warning names the volume if it begins with the title, contains the title or the
    name in quotation marks, or contains a title that is a file name. Other titles can
    be ordinary words of the text.

    Parameters
    ----------
    title : str
        Title of the volume; empty if there is only one.
    name : str
        Name of the volume.

    Examples
    --------
    >>> named_warning("The scan is noisy.", "scan")
    'scan: The scan is noisy.'
    """
    if not title or _is_named(text, title, name):
        return text
    return f"{title}: {text}"


def _is_named(text: str, title: str, name: str) -> bool:
    if any(repr(each) in text for each in (title, name) if each):
        return True
    found = re.search(rf"(?<![\w.-]){re.escape(title)}(?![\w-])", text)
    if found is None:
        return False
    # A capital may only mark the start of the sentence: "Voxels are not cubic".
    begins = found.start() == 0 and not title.istitle()
    return begins or _DISTINCT.search(title) is not None
