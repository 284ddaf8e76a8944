"""Warnings of several volumes, each with the name of its volume."""

from __future__ import annotations

from collections.abc import Iterable, Mapping


def named_warnings(
    warnings: Mapping[str, Iterable[str]], names: Mapping[str, str] | None = None
) -> list[str]:
    """Return each warning once, after the titles of the volumes that it is about.

    Parameters
    ----------
    warnings : mapping of str to iterable of str
        Warnings by the title of the volume. Those of a single volume are unchanged.
    names : mapping of str, optional
        Names of the volumes by title. A warning that contains the title, or the name in
        quotation marks, is unchanged.

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
    """Return a warning after the title of its volume, unless it contains that.

    Parameters
    ----------
    title : str
        Title of the volume; empty if there is only one.
    name : str
        Name of the volume; a warning with the name in quotation marks is unchanged.
    """
    if not title or _is_named(text, title, name):
        return text
    return f"{title}: {text}"


def _is_named(text: str, title: str, name: str) -> bool:
    return title in text or (bool(name) and repr(name) in text)
