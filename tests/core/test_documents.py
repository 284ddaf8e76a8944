"""Untrusted YAML and JSON files are rejected with a message, whatever they contain."""

from __future__ import annotations

import math
from pathlib import Path

import pytest
import yaml

from napari_geosr.core import documents
from napari_geosr.core.documents import dump_yaml, load_json, load_yaml, read_document
from napari_geosr.core.errors import ConfigError

DEEP = documents.MAX_DEPTH


def doubled(levels: int) -> str:
    """Each line refers to the previous one twice."""
    lines = ["a0: &a0 [x, x]"]
    lines += [f"a{i}: &a{i} [*a{i - 1}, *a{i - 1}]" for i in range(1, levels)]
    return "\n".join(lines)


def joined(parts: int) -> str:
    """Nested lists, each at the end of the next, so that aliases make them deep."""
    inner = "[" * 10
    outer = "]" * 10
    lines = [f"a0: &a0 {inner}x{outer}"]
    lines += [f"a{i}: &a{i} {inner}*a{i - 1}{outer}" for i in range(1, parts)]
    return "\n".join(lines)


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("[" * 100_000, "levels of nesting"),
        ("{a: " * 100_000, "levels of nesting"),
        ("- " * 100_000 + "x", "levels of nesting"),
        ("? " * 100_000 + "x", "levels of nesting"),
        ("\n".join(" " * i + f"k{i}:" for i in range(DEEP + 2)), "levels of nesting"),
        ("[" * (DEEP + 1) + "]" * (DEEP + 1), "levels of nesting"),
        (joined(12), "levels of nesting"),
        (doubled(40), "values"),
        ("a: &a [*a]", "a value that contains it"),
        ("[" + "1," * documents.MAX_VALUES + "1]", "values"),
        ("x" * (documents.MAX_BYTES + 1), "larger than 1 MB"),
        ("1" + ":1" * 100_000, "a number with"),
        ("!!int '1" + ":1" * 100_000 + "'", "a number with"),
    ],
    ids=lambda value: value[:12],
)
def test_what_would_take_too_much_is_refused(text: str, reason: str) -> None:
    with pytest.raises(ConfigError, match=reason):
        load_yaml(text)


def test_aliases_of_strangers_are_not_read() -> None:
    text = "a: &a [1, 2]\nb: *a"
    assert load_yaml(text)["b"] == [1, 2]
    with pytest.raises(ConfigError, match="aliases are not allowed"):
        load_yaml(text, aliases=False)


def test_what_is_usual_is_read_as_ever() -> None:
    values = {
        "name": "*so* & [so]",
        "deep": [[[{"a": [1.5, None, True, "x: y"]}]]],
        "text": "-" * 500 + "\n" + "1" * 500,
        "rows": [[float(i) for i in range(30)] for _ in range(40)],
    }
    text = yaml.safe_dump(values, allow_unicode=True)
    assert load_yaml(text) == values
    nested: object = "x"
    for _ in range(DEEP):
        nested = [nested]
    assert load_yaml(yaml.safe_dump(nested)) == nested


def test_a_long_file_is_not_read_whole(tmp_path: Path) -> None:
    path = tmp_path / "settings.yaml"
    with path.open("wb") as stream:
        stream.truncate(10**10)  # needs no memory
    with pytest.raises(ConfigError, match="larger than 1 MB"):
        read_document(path)


@pytest.mark.parametrize(
    "text",
    ["[" * 100_000, b"\xff", "{", "9" * 5000, "[1" * 10**6],
    ids=["deep", "no text", "torn", "number", "long"],
)
def test_json_that_cannot_be_read_is_refused(text: str | bytes) -> None:
    with pytest.raises(ConfigError):
        load_json(text)


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("1:30", "1:30"),
        ("010", 10),
        ("0x10", 16),
        ("yes", "yes"),
        ("True", True),
        ("1e-5", 1e-5),
        ("-.INF", -math.inf),
        ("-.inf", -math.inf),
        ("~", None),
    ],
)
def test_numbers_and_words_are_those_of_yaml_1_2(text: str, value: object) -> None:
    assert load_yaml(f"a: {text}") == {"a": value}
    # Text that is a number in any version of YAML is quoted and remains text.
    assert load_yaml(dump_yaml({"a": text})) == {"a": text}


def test_a_key_given_twice_is_refused() -> None:
    with pytest.raises(ConfigError, match=r"'a' is given twice \(line 3\)"):
        load_yaml("a: 1\nb: 2\na: 3")
    merged = load_yaml("x: &k {a: 1, b: 2}\ny:\n  <<: *k\n  a: 3")
    assert merged["y"] == {"a": 3, "b": 2}
    again = "base:\n  a: &a {x: 1}\nb: &b\n  <<: *a\n  x: 2\nc:\n  <<: *b"
    assert load_yaml(again)["c"] == {"x": 2}
    with pytest.raises(ConfigError, match="'maybe' is neither true nor false"):
        load_yaml("a: !!bool maybe")


def test_utf_16_is_named(tmp_path: Path) -> None:
    path = tmp_path / "settings.yaml"
    path.write_text("a: 1", encoding="utf-16")
    with pytest.raises(ConfigError, match="UTF-16"):
        read_document(path)
