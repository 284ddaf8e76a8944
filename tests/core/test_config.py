"""Configs are strict, explain errors in a sentence, and can be read from YAML."""

from __future__ import annotations

from typing import Literal

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import Field, create_model

from napari_geosr.core.config import Config, format_bytes, parse_bytes
from napari_geosr.core.errors import ConfigError


class Example(Config):
    depth: int = Field(3, ge=1, title="Depth", description="How deep.")
    name: str = Field("x", title="Name", description="What it is called.")


def test_a_bad_value_is_one_sentence_with_the_value():
    with pytest.raises(ConfigError, match=r"^depth: a number of at least 1 .*0"):
        Example.create(depth=0)


@pytest.mark.parametrize("value", ["nan", "inf", "-inf", "1e308", "1e-320"])
def test_numbers_without_meaning_are_refused_in_every_config(value):
    from napari_geosr.measure.config import PorosityConfig

    with pytest.raises(ConfigError, match="outside the usable range"):
        PorosityConfig.create(threshold=float(value))


def test_integers_that_do_not_fit_are_refused():
    from napari_geosr.learning.config import TrainingConfig

    with pytest.raises(ConfigError, match="too large"):
        TrainingConfig.create(seed=10**20)


def test_an_unknown_setting_is_refused_with_those_there_are(tmp_path):
    with pytest.raises(ConfigError, match="no setting 'dept'.*'depth'.*depth, name"):
        Example.create(dept=2)
    path = tmp_path / "config.yaml"
    path.write_text("dept: 2\n", encoding="utf-8")
    with pytest.raises(ConfigError, match=r"config\.yaml: There is no setting 'dept'"):
        Example.from_yaml(path)


@pytest.mark.parametrize(
    ("kind", "value", "says"),
    [
        (Literal["otsu", "li"] | float, "foo", "'otsu', 'li' or a number is needed"),
        (int, "foo", "^value: a whole number is needed \\(given: 'foo'\\)"),
        (str, [1], "^value: text is needed.$"),
        (int | None, "x", "^value: a whole number is needed"),
        (tuple[int, ...], ("x",), "^value.0: a whole number is needed"),
    ],
)
def test_complaints_are_in_words(kind, value, says):
    model = create_model("Model", __base__=Config, value=(kind, ...))
    with pytest.raises(ConfigError, match=says):
        model.create(value=value)


@pytest.mark.parametrize("text", ["", "# nothing yet\n", "---\n"])
def test_an_empty_file_means_the_defaults(tmp_path, text):
    path = tmp_path / "config.yaml"
    path.write_text(text, encoding="utf-8")
    assert Example.from_yaml(path) == Example()


def test_yaml_round_trip(tmp_path):
    path = tmp_path / "config.yaml"
    path.write_text(Example(depth=7).to_yaml(), encoding="utf-8")
    assert Example.from_yaml(path) == Example(depth=7)


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("- 1\n- 2\n", "no settings"),
        ("a: [1\n", "not a readable YAML"),
        ("schema_version: 99\n", "schema version 99"),
        ("1: x\n", "1 is not the name"),
        ("depth: 1\ndepth: 2\n", "'depth' is given twice"),
        ("depth: true\n", "depth: .*true is not a number"),
        ("name: 2023-99-99\n", "not a readable YAML"),
        ("!!python/object/apply:os.system ['true']\n", "not a readable YAML"),
    ],
)
def test_a_bad_file_is_refused_in_words(tmp_path, text, says):
    path = tmp_path / "config.yaml"
    path.write_text(text, encoding="utf-8")
    with pytest.raises(ConfigError, match=says):
        Example.from_yaml(path)


def test_a_missing_file_is_refused_in_words(tmp_path):
    with pytest.raises(ConfigError, match=r"none\.yaml"):
        Example.from_yaml(tmp_path / "none.yaml")


@pytest.mark.parametrize(
    ("text", "n"),
    [
        ("4GB", 4 * 10**9),
        ("512 MiB", 512 * 2**20),
        ("1.5g", 1_500_000_000),
        (1000, 1000),
        ("800mb", 800_000_000),
    ],
)
def test_amounts_of_memory(text, n):
    assert parse_bytes(text) == n


@pytest.mark.parametrize("text", ["", "GB", "0", "-1GB", "4 XB", "four"])
def test_what_is_no_amount_of_memory(text):
    with pytest.raises(ConfigError, match="4GB"):
        parse_bytes(text)


@given(st.integers(1, 10**14))
def test_formatted_bytes_read_back_within_a_percent(n):
    assert parse_bytes(format_bytes(n)) == pytest.approx(n, rel=0.01)


def test_choices_of_numbers_may_be_text() -> None:
    """Flags are text, because the command line has no numbers."""

    class Choices(Config):
        factor: Literal[1, 2, 4] | None = None
        word: Literal["2", 2, "auto"] = "auto"
        edges: tuple[Literal[3, 5], ...] = ()

    assert Choices.create(factor="2").factor == 2
    assert Choices.create(factor=" 4 ").factor == 4
    assert Choices.create(factor=None).factor is None
    assert Choices.create(word="2").word == "2"
    with pytest.raises(ConfigError, match="factor: one of 1, 2, 4 is needed"):
        Choices.create(factor="3")
    with pytest.raises(ConfigError, match="edges"):
        Choices.create(edges="3")
