"""Read YAML and JSON from untrusted sources: check them before building objects.

A few kilobytes can crash a program: the C parser of YAML recurses once per level of
nesting, and nested aliases can expand to gigabytes. Size, depth and aliases are
therefore checked on the stream of parsing events, which needs neither recursion nor
storage.
"""

from __future__ import annotations

import codecs
import json
import math
import re
from collections.abc import Callable, Mapping
from functools import cache, partial
from pathlib import Path
from typing import Any, ClassVar

import yaml

from napari_geosr.core.errors import ConfigError
from napari_geosr.core.types import AnyMapping

#: Maximum size of a document that is parsed, in bytes; the largest card has 40 kB.
MAX_BYTES = 10**6
#: Maximum size of a JSON file that accompanies results (tables, provenance), in bytes.
MAX_RESULT_BYTES = 32 * 10**6
#: Maximum depth of nesting; cards have up to eight levels.
MAX_DEPTH = 64
_TOO_DEEP = f"it has more than {MAX_DEPTH} levels of nesting."
#: Maximum number of values, with aliases expanded.
MAX_VALUES = 10**5
#: Maximum number of characters of an unquoted number, because numbers in YAML's 1:30:00
#: notation take quadratic time to parse.
_MAX_DIGITS = 100
_NUMBER = re.compile(r"[-+0-9_:.]+")
#: YAML escape of a byte in a file name that is not valid UTF-8.
_ODD_BYTE = re.compile(r"(?<!\\)(?:\\\\)*\\uDC[89A-F][0-9A-F]")
#: PyYAML's own errors, and those that it lets through when a value does not match its
#: tag, e.g. the date 2023-99-99 or ``!!int ""``.
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
        If the file cannot be read, or is not UTF-8.
    ConfigError
        If the file is longer than `limit`, or encoded as UTF-16.
    """
    with path.open("rb") as stream:
        content = stream.read(limit + 1)
    _refuse_long(len(content), limit)
    if content.startswith((codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE)):
        raise ConfigError("its encoding is UTF-16: save it as UTF-8.")
    return content.decode("utf-8")


def load_yaml(text: str, *, aliases: bool = True) -> Any:
    """Parse YAML safely; the C parser, which is ten times faster, is used if available.

    Parameters
    ----------
    aliases : bool
        Whether aliases (``*name``) are allowed; cards and descriptions of models do not
        need them.

    Raises
    ------
    ConfigError
        If the text is invalid (the message contains the parser's reason), too long or
        nested too deeply, or expands to too many values.

    Examples
    --------
    >>> load_yaml("halo: 3")
    {'halo': 3}
    >>> load_yaml("[" * 100_000)
    Traceback (most recent call last):
    ...
    napari_geosr.core.errors.ConfigError: it has more than 64 levels of nesting.
    """
    # The number of characters is a lower limit of the number of bytes in UTF-8.
    _refuse_long(len(text), MAX_BYTES)
    loader = _loader()
    try:
        _check_events(text, loader, aliases)
        return yaml.load(text, Loader=loader)
    except ConfigError:
        raise
    except RecursionError as error:
        raise ConfigError("it has too many levels of nesting.") from error
    except _YAML_ERRORS as error:
        reason = " ".join(str(error).split())
        # The scanner of PyYAML 6.0.4 reads ahead and may reach its own limit first.
        if "maximum nesting depth" in reason:
            raise ConfigError(_TOO_DEEP) from error
        raise ConfigError(f"{reason}.") from error


@cache
def _loader() -> type[yaml.SafeLoader]:
    """Return PyYAML's loader, adapted to YAML 1.2 scalars and unique keys.

    In YAML 1.1, ``1:30`` is 90, ``010`` is 8 and ``yes`` is true.
    """
    base: Any = getattr(yaml, "CSafeLoader", yaml.SafeLoader)

    class Loader(base):  # type: ignore[misc]
        """Recognises the implicit types of YAML 1.2."""

        yaml_implicit_resolvers: ClassVar[dict[str, list[tuple[str, object]]]] = {
            first: [(tag, known) for tag, known in pairs if tag not in _CORE_TYPES]
            for first, pairs in base.yaml_implicit_resolvers.items()
        }

        def flatten_mapping(self, node: yaml.MappingNode) -> None:
            """Replace ``<<`` with the merged mappings, and reject duplicate keys.

            A key of the mapping itself takes precedence over merged ones, and the
            first of several merged mappings over the others. PyYAML 6.0.4 violates the
            second rule, and the first rule for keys of one character.
            """
            # PyYAML calls this method again when it constructs the merged mapping,
            # which is complete by then.
            known = self.__dict__.setdefault("flat_nodes", set())
            if id(node) in known:
                return
            known.add(id(node))
            _refuse_repeated_keys(node)
            merged = [
                other
                for key, value in node.value
                if key.tag == _MERGE
                for other in _merged_mappings(value)
            ]
            if not merged:
                super().flatten_mapping(node)
                return
            pairs: dict[object, tuple[yaml.Node, yaml.Node]] = {}
            for other in reversed(merged):
                self.flatten_mapping(other)
                pairs |= _pairs_by_key(other)
            node.value = [pair for pair in node.value if pair[0].tag != _MERGE]
            node.value = list((pairs | _pairs_by_key(node)).values())
            super().flatten_mapping(node)

    for tag, (pattern, first, make) in _CORE_TYPES.items():
        Loader.add_implicit_resolver(tag, re.compile(pattern), list(first))
        Loader.add_constructor(tag, partial(_plain_value, make))
    return Loader


def _refuse_repeated_keys(node: yaml.MappingNode) -> None:
    seen = set()
    for key, _ in node.value:
        if isinstance(key, yaml.ScalarNode) and key.tag != _MERGE:
            if (key.tag, key.value) in seen:
                line = key.start_mark.line + 1
                raise ConfigError(f"{key.value!r} is given twice (line {line}).")
            seen.add((key.tag, key.value))


def _merged_mappings(value: yaml.Node) -> list[yaml.MappingNode]:
    """Return the mappings that ``<<: value`` merges."""
    nodes = value.value if isinstance(value, yaml.SequenceNode) else [value]
    for node in nodes:
        if not isinstance(node, yaml.MappingNode):
            line = node.start_mark.line + 1
            raise ConfigError(
                f"'<<' can merge only mappings, not {node.value!r} (line {line})."
            )
    return list(nodes)


def _pairs_by_key(
    node: yaml.MappingNode,
) -> dict[object, tuple[yaml.Node, yaml.Node]]:
    """Return the key and value nodes by key; keys that are not scalars all differ."""
    return {
        (key.tag, key.value) if isinstance(key, yaml.ScalarNode) else id(key): (
            key,
            value,
        )
        for key, value in node.value
    }


@cache
def _dumper() -> type[yaml.SafeDumper]:
    """Return a dumper that quotes text that is a number in YAML 1.2, e.g. ``1e5``."""

    class Dumper(yaml.SafeDumper):
        """Recognises the implicit types of YAML 1.1 and 1.2."""

    for tag, (pattern, first, _) in _CORE_TYPES.items():
        Dumper.add_implicit_resolver(tag, re.compile(pattern), list(first))
    return Dumper


def _plain_value(
    make: Callable[[str], object], loader: yaml.SafeLoader, node: yaml.ScalarNode
) -> object:
    return make(loader.construct_scalar(node))


def _integer(text: str) -> int:
    return int(text, 0) if text[:2] in ("0x", "0o") else int(text)


def _word(text: str) -> bool:
    if text.lower() not in ("true", "false"):
        raise ValueError(f"{text!r} is neither true nor false")
    return text.lower() == "true"


def _number(text: str) -> float:
    return float(text.lower().replace(".inf", "inf").replace(".nan", "nan"))


_MERGE = "tag:yaml.org,2002:merge"
#: Types of the core schema of YAML 1.2: pattern, first characters, conversion.
_CORE_TYPES: dict[str, tuple[str, str, Callable[[str], object]]] = {
    "tag:yaml.org,2002:bool": (
        "(?:true|True|TRUE|false|False|FALSE)$",
        "tTfF",
        _word,
    ),
    "tag:yaml.org,2002:int": (
        "(?:[-+]?[0-9]+|0o[0-7]+|0x[0-9a-fA-F]+)$",
        "-+0123456789",
        _integer,
    ),
    "tag:yaml.org,2002:float": (
        r"(?:[-+]?(?:\.[0-9]+|[0-9]+(?:\.[0-9]*)?)(?:[eE][-+]?[0-9]+)?"
        r"|[-+]?\.(?:inf|Inf|INF)|\.(?:nan|NaN|NAN))$",
        "-+.0123456789",
        _number,
    ),
}


def dump_yaml(values: AnyMapping, *, flow: bool | None = False, width: int = 80) -> str:
    """Return values as YAML, keeping the order of the keys.

    Parameters
    ----------
    values : mapping
    flow : bool or None
        Whether to use flow style (``{a: 1}``) throughout; None uses it only for the
        innermost lists and mappings.
    width : int
        Preferred maximum length of a line.

    Raises
    ------
    ConfigError
        If a file name contains bytes that are not valid text; YAML cannot represent
        them.
    """
    text: str = yaml.dump(
        dict(values),
        Dumper=_dumper(),
        sort_keys=False,
        allow_unicode=True,
        default_flow_style=flow,
        width=width,
    )
    if odd := _ODD_BYTE.search(text):
        line = text[: odd.end()].splitlines()[-1].strip()
        raise ConfigError(
            f"A file name is not valid UTF-8, or the locale is not UTF-8 ({line}…), "
            "so it cannot be recorded. Rename the file or folder, or set a UTF-8 "
            "locale (LC_ALL=C.UTF-8)."
        )
    return text


def load_json(text: str | bytes, limit: int = MAX_BYTES) -> Any:
    """Parse JSON.

    Raises
    ------
    ConfigError
        If the text is not valid JSON, too long or nested too deeply.
    """
    _refuse_long(len(text), limit)
    try:
        return json.loads(text)
    except RecursionError as error:
        raise ConfigError("it has too many levels of nesting.") from error
    except ValueError as error:
        raise ConfigError(f"{error}.") from error


def json_values(value: object) -> object:
    """Replace NaN and infinity in nested mappings and lists with None.

    JSON supports neither: Python would write ``NaN`` and ``Infinity``, which are not
    valid JSON.

    Examples
    --------
    >>> json_values({"gain": float("inf"), "n": [1, float("nan")]})
    {'gain': None, 'n': [1, None]}
    """
    if isinstance(value, Mapping):
        return {key: json_values(entry) for key, entry in value.items()}
    if isinstance(value, list | tuple):
        return [json_values(entry) for entry in value]
    if isinstance(value, float) and not math.isfinite(value):
        return None
    return value


def read_json(path: Path, limit: int = MAX_RESULT_BYTES) -> Any:
    """Read a JSON file; raise the same errors as `read_document` and `load_json`."""
    return load_json(read_document(path, limit), limit)


def _refuse_long(n_bytes: int, limit: int) -> None:
    if n_bytes > limit:
        raise ConfigError(
            f"it is larger than {limit / 10**6:g} MB, the limit for such a file."
        )


def _check_events(text: str, loader: type[yaml.SafeLoader], aliases: bool) -> None:
    """Reject a document if its events show that it needs too much memory or stack."""
    budget = _Budget()
    for event in yaml.parse(text, Loader=loader):
        if isinstance(event, yaml.AliasEvent):
            if not aliases:
                raise ConfigError(
                    f"*{event.anchor} is an alias of an earlier value; aliases are not "
                    "allowed here."
                )
            budget.repeat(str(event.anchor))
        elif isinstance(event, yaml.ScalarEvent):
            _refuse_long_number(event)
            budget.add(event.anchor)
        elif isinstance(event, yaml.CollectionStartEvent):
            budget.begin(event.anchor)
        elif isinstance(event, yaml.CollectionEndEvent):
            budget.end()


def _refuse_long_number(event: yaml.ScalarEvent) -> None:
    is_quoted = event.implicit[1]
    length = len(event.value)
    if length > _MAX_DIGITS and not is_quoted and _NUMBER.fullmatch(event.value):
        raise ConfigError(f"it contains a number with {length} digits.")


class _Budget:
    """Counts the values of a document with aliases expanded, and measures its depth."""

    def __init__(self) -> None:
        self.n_values = 0
        #: For each open collection: its anchor, the number of values before it, and
        #: the number of levels inside it.
        self._open: list[tuple[str | None, int, int]] = []
        #: For each complete value with an anchor: the number of values that it contains
        #: and the number of levels.
        self._anchors: dict[str, tuple[int, int]] = {}

    def add(self, anchor: str | None) -> None:
        """Count a scalar."""
        self._count(1, 0)
        if anchor is not None:
            self._anchors[anchor] = (1, 0)

    def repeat(self, anchor: str) -> None:
        """Count the values of an alias; the parser reports undefined aliases."""
        if any(anchor == name for name, _, _ in self._open):
            raise ConfigError(f"*{anchor} refers to a value that contains it.")
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
            raise ConfigError(f"it expands to more than {MAX_VALUES:,} values.")
        if len(self._open) + levels > MAX_DEPTH:
            raise ConfigError(_TOO_DEEP)
        if levels and self._open:
            self._deepen(levels)

    def _deepen(self, levels: int) -> None:
        anchor, before, known = self._open[-1]
        self._open[-1] = (anchor, before, max(known, levels))
