"""Configs: settings of an operation, defined once for dock, command and job."""

from __future__ import annotations

import math
import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, ClassVar, Literal, Self, get_args, get_origin

from pydantic import (
    BaseModel,
    ConfigDict,
    ValidationError,
    ValidationInfo,
    field_validator,
)

from napari_geosr.core.documents import dump_yaml, load_yaml, read_document
from napari_geosr.core.errors import ConfigError
from napari_geosr.core.text.spelling import did_you_mean
from napari_geosr.core.types import AnyMapping

SCHEMA_VERSION = 1
_SIZES = {"": 1, "k": 10**3, "m": 10**6, "g": 10**9, "t": 10**12}
_SIZES |= {f"{letter}i": 1024**i for i, letter in enumerate("kmgt", start=1)}

#: Plain words for pydantic's type names, used in messages.
_KINDS = {
    "int": "a whole number",
    "float": "a number",
    "bool": "a yes/no value",
    "str": "text",
    "string": "text",
    "dict": "a value with a name (NAME: VALUE; on the command line, --….NAME VALUE)",
}

#: Key under which errors that concern several settings are listed.
_SEVERAL = "settings"

#: Plain words for pydantic's bounds, by the name of the bound.
_BOUNDS = {
    "ge": "a number of at least",
    "gt": "a number greater than",
    "le": "a number of at most",
    "lt": "a number less than",
}

#: Smallest absolute value of a setting other than 0; its square is above 0 in float64.
_MIN_NUMBER = 1e-100
#: Largest absolute value of a setting: its square is finite in float64.
_MAX_NUMBER = 1e100
#: Largest signed 64-bit integer.
_MAX_INTEGER = 2**63 - 1


def _is_usable(number: float) -> bool:
    return number == 0 or _MIN_NUMBER <= abs(number) <= _MAX_NUMBER


class Config(BaseModel):
    """Base class of configs, which are immutable and reject unknown names.

    Every field has a title, a default, bounds and one line of help in `description`.
    Pydantic could read the help from the docstrings of fields, but parsing the source
    code took 0.25 s whenever a dock was opened.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    #: Current names of renamed settings, keyed by the earlier names that files may use.
    EARLIER_NAMES: ClassVar[Mapping[str, str]] = {}

    @field_validator("*", mode="before")
    @classmethod
    def _refuse_yes_for_numbers(cls, value: object, info: ValidationInfo) -> object:
        """Reject True and False, which Python would accept as numbers."""
        entries = value if isinstance(value, list | tuple) else [value]
        words = [entry for entry in entries if isinstance(entry, bool)]
        if words and info.field_name is not None:
            kinds = _kinds_of(cls.model_fields[info.field_name].annotation)
            if bool not in kinds and kinds & {int, float}:
                raise ValueError(f"{str(words[0]).lower()} is not a number")
        return value

    @field_validator("*", mode="before")
    @classmethod
    def _take_choices_of_numbers(cls, value: Any, info: ValidationInfo) -> Any:
        """Convert text from the command line: ``"2"`` to 2 if that is a choice."""
        if not isinstance(value, str) or info.field_name is None:
            return value
        choices = _choices(cls.model_fields[info.field_name].annotation)
        alike = [choice for choice in choices if str(choice) == value.strip()]
        return alike[0] if alike and value not in choices else value

    @field_validator("*", mode="after")
    @classmethod
    def _refuse_extreme_numbers(cls, value: object) -> object:
        """Reject NaN, infinity, and numbers that may cause over- or underflow."""
        for number in value if isinstance(value, tuple | list) else (value,):
            if isinstance(number, int) and abs(number) > _MAX_INTEGER:
                raise ValueError(f"{number} is too large")
            if isinstance(number, float) and not _is_usable(number):
                raise ValueError(
                    f"{number:g} is outside the usable range: choose 0, or a number "
                    f"from {_MIN_NUMBER:g} to {_MAX_NUMBER:g}"
                )
        return value

    @classmethod
    def create(cls, /, **values: Any) -> Self:
        """Validate `values`; raise `ConfigError` with one sentence if invalid."""
        return cls.from_mapping(values)

    @classmethod
    def from_mapping(cls, values: Mapping[Any, Any]) -> Self:
        """Validate values from a file, including keys, which might not be strings."""
        values = cls._with_current_names(values)
        for key in values:
            if not isinstance(key, str):
                raise ConfigError(f"{key!r} is not the name of a setting.")
            if key not in cls.model_fields:
                raise ConfigError(cls._unknown(key))
        try:
            return cls(**values)
        except ValidationError as error:
            raise ConfigError(explain(error)) from error

    @classmethod
    def _with_current_names(cls, values: Mapping[Any, Any]) -> Mapping[Any, Any]:
        """Return the values with the current names of their settings."""
        for earlier in values.keys() & cls.EARLIER_NAMES.keys():
            if (name := cls.EARLIER_NAMES[earlier]) in values:
                raise ConfigError(
                    f"{earlier!r} is the earlier name of {name!r}: give only one of "
                    "the two."
                )
        return {cls.EARLIER_NAMES.get(key, key): v for key, v in values.items()}

    @classmethod
    def _unknown(cls, key: str) -> str:
        names = list(cls.model_fields)
        hint = did_you_mean(key, names)
        return f"There is no setting {key!r}.{hint} Settings: {', '.join(names)}."

    def to_yaml(self) -> str:
        """Return the config as YAML with its schema version."""
        values = self.model_dump(mode="json")
        return dump_yaml({"schema_version": SCHEMA_VERSION, **values})

    @classmethod
    def from_yaml(cls, path: str | Path) -> Self:
        """Read a file written by `to_yaml`; raise `ConfigError` if invalid."""
        try:
            values = load_yaml(read_document(Path(path)))
        except (OSError, UnicodeDecodeError, ConfigError) as error:
            reason = str(error).rstrip(".")
            raise ConfigError(
                f"{path} is not a readable YAML config: {reason}."
            ) from error
        if values is None:  # empty, or only comments: use the defaults
            values = {}
        if not isinstance(values, dict):
            raise ConfigError(
                f"{path} contains no settings: expected lines such as 'name: value'."
            )
        version = values.pop("schema_version", SCHEMA_VERSION)
        if version != SCHEMA_VERSION:
            raise ConfigError(
                f"{path} has schema version {version}; this release reads version "
                f"{SCHEMA_VERSION}. Install the release that wrote it."
            )
        try:
            return cls.from_mapping(values)
        except ConfigError as error:
            raise ConfigError(f"{path}: {error}") from error


def _kinds_of(annotation: object) -> set[object]:
    """Return the types allowed for a value, including the members of unions."""
    parts = get_args(annotation)
    if get_origin(annotation) is Literal:
        return {type(choice) for choice in parts}
    if not parts:
        return {annotation}
    return {kind for part in parts for kind in _kinds_of(part)}


def _choices(annotation: object) -> tuple[Any, ...]:
    """Return the values that a ``Literal`` allows, including those in a union."""
    if get_origin(annotation) is Literal:
        return get_args(annotation)
    return tuple(c for part in get_args(annotation) for c in _choices(part))


def explain(error: ValidationError) -> str:
    """Turn pydantic's report into one sentence for the user."""
    return "; ".join(explain_fields(error).values()) + "."


def explain_fields(error: ValidationError) -> dict[str, str]:
    """Explain what is wrong with each setting, by name, without a full stop.

    An error that concerns several settings is listed under ``"settings"``; its text
    does not begin with a name.
    """
    parts: dict[str, list[AnyMapping]] = {}
    for item in error.errors(include_url=False):
        # The name may be followed by an index in a list or by pydantic's name for a
        # union member.
        path = [str(p) for p in item["loc"] if not str(p).startswith("literal[")]
        union = len(path) > 1 and path[-1] in _KINDS
        name = ".".join(path[:-1] if union else path)
        parts.setdefault(name or _SEVERAL, []).append(item)
    return {name: _describe_errors(name, items) for name, items in parts.items()}


def _describe_errors(name: str, items: Sequence[AnyMapping]) -> str:
    """Describe what is wrong with one setting; a union has one reason per member."""
    reasons, is_noun = [], False
    for item in items:
        kind = str(item["type"]).partition("_")[0]
        if kind == "literal":
            reasons.append(f"one of {item['ctx']['expected'].replace(' or ', ', ')}")
            is_noun = True
        elif kind in _KINDS and str(item["type"]).endswith(("_type", "_parsing")):
            reasons.append(_KINDS[kind])
            is_noun = True
        elif bounds := _BOUNDS.keys() & item.get("ctx", {}).keys():
            reasons += (f"{_BOUNDS[name]} {item['ctx'][name]:.12g}" for name in bounds)
            is_noun = True
        else:
            reasons.append(str(item["msg"]).removeprefix("Value error, ").rstrip("."))
    text = " or ".join(dict.fromkeys(reasons))
    if is_noun:
        text += " is needed"
    given = items[0].get("input")
    known = given is None or isinstance(given, dict | list) or repr(given) in text
    shown = "" if known else f" (given: {given!r})"
    if shown and isinstance(given, str):
        expected = " ".join(str(item.get("ctx", {}).get("expected")) for item in items)
        quoted = re.findall(r"'([^']*)'(?! is not )", f"{expected} {text}")
        guess = did_you_mean(given, quoted).strip()
        shown = f" (given: {given!r}{f'; d{guess[1:]}' if guess else ''})"
    prefix = "" if name == _SEVERAL else f"{name.replace('_', ' ')}: "
    return f"{prefix}{text}{shown}"


def parse_bytes(text: str | float) -> int:
    """Return the number of bytes in ``"4GB"``, ``"512 MiB"``, ``"1.5g"`` or a number.

    Raises
    ------
    ConfigError
        If `text` is not an amount of memory greater than zero.
    """
    match = re.fullmatch(r"\s*([0-9]*\.?[0-9]+)\s*([kmgt]?i?)b?\s*", str(text).lower())
    if match is None or match[2] not in _SIZES or float(match[1]) <= 0:
        raise ConfigError(
            f"{text!r} is not an amount of memory. Use a form such as 4GB or 800MB."
        )
    return int(float(match[1]) * _SIZES[match[2]])


def format_bytes(n: float) -> str:
    """Format a number of bytes for the user, e.g. ``"1.5 GB"``."""
    for unit in ("B", "kB", "MB", "GB"):
        if n < 1000:
            return f"{n:.0f} {unit}" if n >= 100 or unit == "B" else f"{n:.3g} {unit}"
        n /= 1000
    return f"{n:.3g} TB"


def format_enough(n: float) -> str:
    """Format a memory requirement, rounded up so that the stated amount suffices.

    Examples
    --------
    >>> format_enough(169_050_000)
    '170 MB'
    """
    return format_bytes(math.ceil(n / (step := _step(n))) * step)


def format_available(n: float) -> str:
    """Format an available amount of memory, rounded down.

    The text always differs from that of a larger requirement written by
    `format_enough`.

    Examples
    --------
    >>> format_available(118_900), format_enough(118_901)
    ('118 kB', '119 kB')
    """
    return format_bytes(math.floor(n / (step := _step(n))) * step)


def _step(n: float) -> float:
    """Return the step, in bytes, between amounts with three digits near `n`."""
    return 10.0 ** max(0, math.floor(math.log10(max(n, 1))) - 2)
