"""Reject fractional values of whole-number options; cyclopts would round them."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from itertools import zip_longest
from typing import get_args

from cyclopts import App

from napari_geosr.core.errors import ConfigError

_FRACTION = re.compile(r"[-+]?[0-9]*\.[0-9]*")


def refuse_fractions(app: App, words: Sequence[str]) -> None:
    """Raise `ConfigError` if a whole-number option has a value such as 2.5."""
    given = [(name, text) for name, text in _options(words) if _has_fraction(text)]
    if not given:
        return
    arguments = app.parse_commands(words)[1][-1].assemble_argument_collection()
    whole = {name for a in arguments if _is_whole(a.hint) for name in a.names}
    for name, text in given:
        if name in whole:
            raise ConfigError(f"{name} needs a whole number, but {text} was given.")


def _options(words: Sequence[str]) -> Iterator[tuple[str, str]]:
    """Yield options and their values, from ``--name value`` and ``--name=value``."""
    for word, after in zip_longest(words, words[1:], fillvalue=""):
        name, separator, value = word.partition("=")
        if name.startswith("-"):
            yield name, value if separator else after


def _has_fraction(text: str) -> bool:
    return any(
        _FRACTION.fullmatch(part) is not None and len(part) > 1 and float(part) % 1 != 0
        for part in text.split(",")
    )


def _is_whole(hint: object) -> bool:
    """Return whether a type is int, or a union or tuple of only int and None."""
    kinds = {kind for kind in get_args(hint) if kind not in (type(None), ...)}
    if not kinds:
        return hint is int
    return all(_is_whole(kind) for kind in kinds)
