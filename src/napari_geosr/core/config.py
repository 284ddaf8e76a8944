"""Configs: each operation's settings described once, for dock, command and job."""

from __future__ import annotations

import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Self

import yaml
from pydantic import BaseModel, ConfigDict, ValidationError

from napari_geosr.core.errors import ConfigError

SCHEMA_VERSION = 1
_SIZES = {"": 1, "k": 10**3, "m": 10**6, "g": 10**9, "t": 10**12}
_SIZES |= {f"{letter}i": 1024**i for i, letter in enumerate("kmgt", start=1)}

#: What PyYAML lets through from values that do not fit their tag, e.g. the date
#: 2023-99-99 or ``!!int ""``, besides its own errors.
_YAML_ERRORS = (
    yaml.YAMLError,
    ArithmeticError,
    AttributeError,
    LookupError,
    TypeError,
    ValueError,
)


class Config(BaseModel):
    """Base of every config: frozen, strict about names, readable as YAML.

    Every field has a title, a default, bounds and one line of help (`description`:
    pydantic can read docstrings of fields, but its search for their source took 0.25 s
    of the opening of every dock).
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    @classmethod
    def create(cls, /, **values: Any) -> Self:
        """Validate `values`; raise `ConfigError` with one sentence if they are bad."""
        return cls.from_mapping(values)

    @classmethod
    def from_mapping(cls, values: Mapping[Any, Any]) -> Self:
        """Validate what a file held, where even the names may be no names."""
        for key in values:
            if not isinstance(key, str):
                raise ConfigError(f"{key!r} is not the name of a setting.")
        try:
            return cls(**values)
        except ValidationError as error:
            raise ConfigError(explain(error)) from error

    def to_yaml(self) -> str:
        """The config as YAML with its schema version."""
        values = self.model_dump(mode="json")
        return yaml.safe_dump(
            {"schema_version": SCHEMA_VERSION, **values},
            sort_keys=False,
            allow_unicode=True,
        )

    @classmethod
    def from_yaml(cls, path: str | Path) -> Self:
        """Read what :meth:`to_yaml` wrote; raise `ConfigError` if it is bad."""
        try:
            values = load_yaml(Path(path).read_text(encoding="utf-8"))
        except (OSError, UnicodeDecodeError, ConfigError) as error:
            reason = str(error).rstrip(".")
            raise ConfigError(
                f"{path} is not a readable YAML config: {reason}."
            ) from error
        if not isinstance(values, dict):
            raise ConfigError(f"{path} holds no settings: a mapping was expected.")
        version = values.pop("schema_version", SCHEMA_VERSION)
        if version != SCHEMA_VERSION:
            raise ConfigError(
                f"{path} has schema version {version}; this release reads version "
                f"{SCHEMA_VERSION}. Install the release that wrote it."
            )
        return cls.from_mapping(values)


def load_yaml(text: str) -> Any:
    """Parse YAML safely; with the C parser, where there is one, ten times faster.

    Raises
    ------
    ConfigError
        With the parser's reason.
    """
    loader = getattr(yaml, "CSafeLoader", yaml.SafeLoader)
    try:
        return yaml.load(text, Loader=loader)
    except RecursionError as error:
        raise ConfigError("it is nested too deeply.") from error
    except _YAML_ERRORS as error:
        raise ConfigError(" ".join(str(error).split()) + ".") from error


def explain(error: ValidationError) -> str:
    """Turn pydantic's report into one sentence for a person."""
    parts = []
    for item in error.errors(include_url=False):
        where = ".".join(str(p) for p in item["loc"]) or "settings"
        what = str(item["msg"]).removeprefix("Value error, ").rstrip(".")
        given = item.get("input")
        shown = (
            ""
            if isinstance(given, dict | list) or given is None
            else f" (given: {given!r})"
        )
        parts.append(f"{where.replace('_', ' ')}: {what}{shown}")
    return "; ".join(parts) + "."


def parse_bytes(text: str | float) -> int:
    """Bytes in ``"4GB"``, ``"512 MiB"``, ``"1.5g"`` or a plain number.

    Raises
    ------
    ConfigError
        If `text` is no amount of memory greater than zero.
    """
    match = re.fullmatch(r"\s*([0-9]*\.?[0-9]+)\s*([kmgt]?i?)b?\s*", str(text).lower())
    if match is None or match[2] not in _SIZES or float(match[1]) <= 0:
        raise ConfigError(
            f"{text!r} is not an amount of memory. Write it like 4GB or 800MB."
        )
    return int(float(match[1]) * _SIZES[match[2]])


def format_bytes(n: float) -> str:
    """A number of bytes for people, e.g. ``"1.5 GB"``."""
    for unit in ("B", "kB", "MB", "GB"):
        if n < 1000:
            return f"{n:.0f} {unit}" if n >= 100 or unit == "B" else f"{n:.3g} {unit}"
        n /= 1000
    return f"{n:.3g} TB"
