"""YAML and JSON that strangers may have written: looked over before it is built.

A few kilobytes can end a program: the C parser of YAML calls itself once for each level
of nesting, and aliases of aliases stand for gigabytes. So size, depth and aliases are
checked on the stream of parsing events, which is read without recursion and not kept.
"""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import yaml

from napari_geosr.core.errors import ConfigError
from napari_geosr.core.types import AnyMapping

#: Longest text that is parsed; the longest card has 0.04 MB.
MAX_BYTES = 10**6
#: Longest JSON that programs write beside their results: tables, provenance.
MAX_RESULT_BYTES = 32 * 10**6
#: Levels of nesting; cards have up to eight.
MAX_DEPTH = 64
#: Values in all, each alias counted as what it stands for.
MAX_VALUES = 10**5
#: Longest number: YAML's 1:30:00 notation takes quadratic time.
_MAX_DIGITS = 100
_NUMBER = re.compile(r"[-+0-9_:.]+")
#: How YAML writes a byte of a file name that is no letter.
_ODD_BYTE = re.compile(r"(?<!\\)(?:\\\\)*\\uDC[89A-F][0-9A-F]")
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


def read_document(path: Path, limit: int = MAX_BYTES) -> str:
    """Read a text file of at most `limit` bytes.

    Raises
    ------
    OSError, UnicodeDecodeError
        If it cannot be read, or is not UTF-8.
    ConfigError
        If it is longer.
    """
    with path.open("rb") as stream:
        content = stream.read(limit + 1)
    _refuse_long(len(content), limit)
    return content.decode("utf-8")


def load_yaml(text: str, *, aliases: bool = True) -> Any:
    """Parse YAML safely; with the C parser, where there is one, ten times faster.

    Parameters
    ----------
    aliases : bool
        Whether a value may stand for one above it (``*name``); cards and descriptions
        of models have no need of it.

    Raises
    ------
    ConfigError
        With the parser's reason, or if the text is too long, nested too deeply or
        stands for too many values.

    Examples
    --------
    >>> load_yaml("halo: 3")
    {'halo': 3}
    >>> load_yaml("[" * 100_000)
    Traceback (most recent call last):
    ...
    napari_geosr.core.errors.ConfigError: it is nested more than 64 levels deep.
    """
    # In UTF-8 no character is shorter than a byte.
    _refuse_long(len(text), MAX_BYTES)
    loader = getattr(yaml, "CSafeLoader", yaml.SafeLoader)
    try:
        _look_over(text, loader, aliases)
        return yaml.load(text, Loader=loader)
    except ConfigError:
        raise
    except RecursionError as error:
        raise ConfigError("it is nested too deeply.") from error
    except _YAML_ERRORS as error:
        raise ConfigError(" ".join(str(error).split()) + ".") from error


def dump_yaml(values: AnyMapping) -> str:
    """Write YAML, its keys in their order.

    Raises
    ------
    ConfigError
        If a name of a file is not text: YAML cannot hold its bytes.
    """
    text = yaml.safe_dump(dict(values), sort_keys=False, allow_unicode=True)
    if odd := _ODD_BYTE.search(text):
        line = text[: odd.end()].splitlines()[-1].strip()
        raise ConfigError(
            f"The name of a file is not in UTF-8, or not known to be ({line}…), so it "
            "cannot be noted. Rename the file or folder, or set a UTF-8 locale "
            "(LC_ALL=C.UTF-8)."
        )
    return text


def load_json(text: str | bytes, limit: int = MAX_BYTES) -> Any:
    """Parse JSON.

    Raises
    ------
    ConfigError
        If it is damaged, too long or nested too deeply.
    """
    _refuse_long(len(text), limit)
    try:
        return json.loads(text)
    except RecursionError as error:
        raise ConfigError("it is nested too deeply.") from error
    except ValueError as error:
        raise ConfigError(f"{error}.") from error


def read_json(path: Path, limit: int = MAX_RESULT_BYTES) -> Any:
    """Read a file of JSON; raises as `read_document` and `load_json` do."""
    return load_json(read_document(path, limit), limit)


def _refuse_long(n_bytes: int, limit: int) -> None:
    if n_bytes > limit:
        raise ConfigError(
            f"it has more than {limit / 10**6:g} MB, the most that is read of such a "
            "file."
        )


def _look_over(text: str, loader: Any, aliases: bool) -> None:
    """Refuse what would take too much memory, time or stack, by its events."""
    budget = _Budget()
    for event in yaml.parse(text, Loader=loader):
        if isinstance(event, yaml.AliasEvent):
            if not aliases:
                raise ConfigError(
                    f"*{event.anchor} stands for what is written above it: such "
                    "aliases are not read."
                )
            budget.repeat(str(event.anchor))
        elif isinstance(event, yaml.ScalarEvent):
            _refuse_long_number(event)
            budget.add(event.anchor)
        elif isinstance(event, yaml.CollectionStartEvent):
            budget.begin(event.anchor)
        elif isinstance(event, yaml.CollectionEndEvent):
            budget.end()


def _refuse_long_number(event: Any) -> None:
    is_quoted = event.implicit[1]
    length = len(event.value)
    if length > _MAX_DIGITS and not is_quoted and _NUMBER.fullmatch(event.value):
        raise ConfigError(f"it has a number of {length} digits.")


class _Budget:
    """How many values a document stands for, and how deep they lie."""

    def __init__(self) -> None:
        self.n_values = 0
        #: Of collections that are open: anchor, values before, levels inside.
        self._open: list[tuple[str | None, int, int]] = []
        #: Of finished anchors: values, levels.
        self._anchors: dict[str, tuple[int, int]] = {}

    def add(self, anchor: str | None) -> None:
        """Count a plain value."""
        self._count(1, 0)
        if anchor is not None:
            self._anchors[anchor] = (1, 0)

    def repeat(self, anchor: str) -> None:
        """Count what an alias stands for; the parser says which do not exist."""
        if any(anchor == name for name, _, _ in self._open):
            raise ConfigError(f"*{anchor} stands for what it is a part of.")
        self._count(*self._anchors.get(anchor, (1, 0)))

    def begin(self, anchor: str | None) -> None:
        self._open.append((anchor, self.n_values, 0))
        self._count(1, 0)

    def end(self) -> None:
        anchor, before, levels = self._open.pop()
        if anchor is not None:
            self._anchors[anchor] = (self.n_values - before, levels + 1)
        if self._open:
            self._deepen(levels + 1)

    def _count(self, n: int, levels: int) -> None:
        self.n_values += n
        if self.n_values > MAX_VALUES:
            raise ConfigError(f"it stands for more than {MAX_VALUES:,} values.")
        if len(self._open) + levels > MAX_DEPTH:
            raise ConfigError(f"it is nested more than {MAX_DEPTH} levels deep.")
        if levels and self._open:
            self._deepen(levels)

    def _deepen(self, levels: int) -> None:
        anchor, before, known = self._open[-1]
        self._open[-1] = (anchor, before, max(known, levels))
