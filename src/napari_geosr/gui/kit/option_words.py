"""Adapt messages of operations to a dock: fields in place of command-line options."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from functools import partial
from typing import TYPE_CHECKING, Protocol, TypeVar

if TYPE_CHECKING:
    from qtpy.QtWidgets import QWidget


class Titles(Protocol):
    """A form with the names of settings and the titles of their fields."""

    names: list[str]

    def title(self, name: str) -> str:
        """Return the title of the field of a setting."""


AnyForm = TypeVar("AnyForm", bound=Titles)

#: Start of an option; two hyphens within a file name are not an option.
_START = r"(?<![\w./\\-])--"
#: Command-line options in brackets, as in messages of operations.
_OPTIONS = re.compile(r" ?\((--[a-z][^)]*)\)")
#: Words between two of these options.
_BETWEEN = re.compile(r"(?:,| and|, and| or|, or) (?=--)")
#: One of these options with its value; words after a comma are left out.
_OPTION = re.compile(r"--([a-z][a-z0-9-]*)(?:,.*|( .*))?")
#: Options within a sentence.
_BARE_OPTION = re.compile(rf"{_START}([a-z][a-z0-9-]*)")
#: An option and its value before another option.
_ONE_OF_SEVERAL = re.compile(rf"({_START}[a-z][a-z0-9-]* (?!and |or )[^\s-]\S*) (?=--)")
#: A unit at the end of a title.
_UNIT = re.compile(r" \([^)]*\)$")
#: Commands with options, in brackets and within a sentence.
_COMMAND_IN_BRACKETS = re.compile(r"\(napari-geosr ([a-z]+)[^)]*--[^)]*\)")
_COMMAND = re.compile(
    r"(, or )?(with )?napari-geosr ([a-z]+)((?: [^\s(),;-][^\s(),;]*)*?)"
    r"((?: --[a-z-]+(?: [^\s(),;]*[^\s(),;.])?)+)"
)
#: Commands in backticks; the first group matches if the command begins a sentence.
_QUOTED_COMMAND = re.compile(r"(^|[.!?] )?`napari-geosr ([a-z]+)[^`]*`")
#: Sections of docks that correspond to commands.
_SECTIONS = {"plan": "'How much to scan' in the Porosity dock"}
#: Docks that correspond to commands.
_DOCKS = {
    **{"restore": "Restore", "train": "Train", "reconstruct": "Reconstruct"},
    **{"measure": "Porosity", "plan": "Porosity", "compare": "Compare"},
    **{"pairs": "Pairs", "segment": "Segment", "shapes": "Shapes", "sim": "SIM"},
    **{"models": "Models", "jobs": "Jobs"},
}
#: Patterns of sentences that name options, and the sentences that replace these in
#: docks with buttons for the same answers.
_ANSWERS = (
    (
        re.compile(
            r"Give --axes \w+ if they are frames, --axes \w+ if they are slices\."
            r"|If they are slices, give --axes ZYX; if they are frames, give --axes "
            r"TYX\."
        ),
        "Choose Time series or Slices.",
    ),
)
#: Object name of the row in which a dock asks for the voxel size.
VOXEL_SIZE_ROW = "voxel_size"
#: Like `_ANSWERS`, for a dock with a row that asks for the voxel size.
_VOXEL_SIZES = (
    (
        re.compile(
            r"Give the voxel size \(--voxel-size [^)]*\), or confirm this one "
            r"\(--voxel-size [^)]*\)"
        ),
        "Enter the voxel size above, or click Set to use this one",
    ),
    (
        re.compile(r"Give the voxel size \(--voxel-size\b[^)]*\)"),
        "Enter the voxel size above",
    ),
    (
        re.compile(r"give the voxel size \(--voxel-size and --unit\)"),
        "correct the voxel size above",
    ),
    (re.compile(r"(voxel sizes?|both) \(--(?:\w+-)?voxel-size\b[^)]*\)"), r"\1 above"),
)


def fields_of_options(
    text: str,
    forms: Iterable[AnyForm],
    others: Mapping[str, str] | None = None,
    *,
    asks_voxel_size: bool = False,
) -> tuple[str, list[tuple[AnyForm, str]]]:
    """Replace command-line options in a message with fields of a dock.

    Parameters
    ----------
    text : str
        A message, such as ``"Choose numbers up to 40 (--counts)."``
    forms : iterable of ConfigForm
        Forms to search for the fields.
    others : mapping of str to str, optional
        Titles of fields that are in no form, by the name of the setting.
    asks_voxel_size : bool
        Whether the dock shows a row for the voxel size.

    Returns
    -------
    text : str
        The message, such as ``"Choose numbers up to 40 (Projections)."`` Options
        without a field are omitted.
    fields : list of (ConfigForm, str)
        The fields of the forms that the message names.
    """
    text = _QUOTED_COMMAND.sub(_dock_of_quoted, text)
    if "--" not in text:
        return text, []
    known = {name: form for form in reversed(list(forms)) for name in form.names}
    titles = {**(others or {}), **{n: form.title(n) for n, form in known.items()}}
    fields = []
    for pattern, words in (*_ANSWERS, *(_VOXEL_SIZES if asks_voxel_size else ())):
        text = pattern.sub(words, text)
    text = _COMMAND_IN_BRACKETS.sub(_dock_in_brackets, text)
    text = _COMMAND.sub(_dock_of_command, text)
    text = _ONE_OF_SEVERAL.sub(r"\1, ", text)
    for found in _OPTIONS.finditer(text):
        named = (name for name, _ in _names_and_values(found[1]) if name in known)
        fields += [(known[name], name) for name in named]
    text = _OPTIONS.sub(partial(_titles_in_brackets, titles), text)
    for option in _BARE_OPTION.findall(text):
        name = option.replace("-", "_")
        title = titles.get(name, name.replace("_", " "))
        text = re.sub(rf"{_START}{option}(?![a-z0-9-])", title, text)
    return text, fields


def _names_and_values(options: str) -> list[tuple[str, str]]:
    """Return the settings of options in brackets, with their values, if any."""
    found = map(_OPTION.fullmatch, _BETWEEN.split(options))
    return [(one[1].replace("-", "_"), one[2] or "") for one in found if one]


def _titles_in_brackets(titles: Mapping[str, str], found: re.Match[str]) -> str:
    """Return the titles of the fields for options in brackets, in brackets."""
    options = _names_and_values(found[1])
    shown = {
        f"{titles[name]}{':' + value if value else ''}": None
        for name, value in options
        if name in titles
    }
    if len(options) == 1 and shown and _is_named(titles[options[0][0]], found):
        return ""
    return f" ({', '.join(shown)})" if shown else ""


def _is_named(title: str, found: re.Match[str]) -> bool:
    """Return whether a message has the title of a field just before its option."""
    word = re.escape(_UNIT.sub("", title))
    named = rf"(\bthe (\w+ )?{word}|{word} setting)$"
    before = found.string[: found.start()]
    return re.search(named, before, re.IGNORECASE) is not None


def in_words_of_dock(text: str, widget: QWidget | None) -> str:
    """Replace options in a message with fields of the dock that shows it.

    Parameters
    ----------
    text : str
    widget : QWidget or None
        Part of the dock; if None, all options are treated as options without a field.
    """
    text = _QUOTED_COMMAND.sub(_dock_of_quoted, text)
    if "--" not in text:
        return text
    dock: QWidget | None = widget
    while dock is not None and not hasattr(dock, "settings_forms"):
        dock = dock.parentWidget()
    if dock is None:
        return fields_of_options(text, ())[0]
    # Imported here because it loads Qt, which file readers do not need.
    from qtpy.QtWidgets import QWidget

    rows = dock.findChildren(QWidget, VOXEL_SIZE_ROW)
    asks = any(not row.isHidden() for row in rows)
    others = getattr(dock, "option_titles", None)
    forms: Iterable[Titles] = dock.settings_forms()
    return fields_of_options(text, forms, others, asks_voxel_size=asks)[0]


def _dock_of_quoted(found: re.Match[str]) -> str:
    """Replace a command in backticks with its dock, or with the section of a dock."""
    before, verb = found[1], found[2]
    if (section := _SECTIONS.get(verb)) is not None:
        return f"{before or ''}{section}"
    dock = _DOCKS.get(verb)
    if dock is None:
        return found[0]
    return f"{'the' if before is None else before + 'The'} {dock} dock"


def _dock_in_brackets(found: re.Match[str]) -> str:
    dock = None if found[1] == "restore" else _DOCKS.get(found[1])
    return "(on the command line)" if dock is None else f"({dock} dock)"


def _dock_of_command(found: re.Match[str]) -> str:
    """Replace a command in a message with the name of its dock; omit it after "or"."""
    alternative, preposition, verb, arguments, options = found.groups(default="")
    dock = _DOCKS.get(verb)
    if dock is None:
        return found[0]
    if alternative:
        return ""
    details = []
    if verb == "train":
        given = [part.replace("-", " ") for part in options.split(" --")[1:]]
        details = [*arguments.split(), *(part for part in given if " " in part)]
    shown = f" ({', '.join(details)})" if details else ""
    return f"{'in ' if preposition else ''}the {dock} dock{shown}"
