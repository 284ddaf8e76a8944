"""Registries: keys are file names, duplicates are errors."""

from __future__ import annotations

import dataclasses
import sys
from importlib.metadata import EntryPoint

import pytest

from napari_geosr.core import registry
from napari_geosr.core.errors import ConfigError


@pytest.fixture
def package(tmp_path, monkeypatch):
    folder = tmp_path / "parts"
    folder.mkdir()
    for name in ("__init__", "wheel", "axle", "_private", "spec"):
        (folder / f"{name}.py").write_text(f"NAME = {name!r}\n")
    monkeypatch.syspath_prepend(tmp_path)
    yield registry.Registry("parts", "test.parts", "part", frozenset({"spec"}))
    for name in [m for m in sys.modules if m.split(".")[0] == "parts"]:
        del sys.modules[name]


def test_listing_imports_nothing(package):
    assert package.names() == ["axle", "wheel"]
    assert "parts.wheel" not in sys.modules


def test_loading_imports_one_module(package):
    assert package.load("wheel").NAME == "wheel"
    assert "parts.axle" not in sys.modules


def test_an_unknown_name_lists_the_known(package):
    with pytest.raises(ConfigError, match="no part 'tyre'.*axle, wheel"):
        package.load("tyre")


def test_third_parties_add_entries_and_duplicates_are_refused(package, monkeypatch):
    brought = [EntryPoint("brake", "json", "test.parts")]
    monkeypatch.setattr(registry, "entry_points", lambda group: brought)
    assert package.load("brake").__name__ == "json"
    more = [*brought, EntryPoint("wheel", "json", "test.parts")]
    monkeypatch.setattr(registry, "entry_points", lambda group: more)
    with pytest.raises(ConfigError, match="Two parts are called 'wheel'"):
        package.names()


def test_a_module_that_cannot_be_imported_is_named(package, tmp_path):
    (tmp_path / "parts" / "lamp.py").write_text("import electricity_of_nobody\n")
    with pytest.raises(ConfigError, match=r"'lamp'.*parts\.lamp.*electricity"):
        package.load("lamp")


def test_hyphens_may_stand_for_underscores(package, tmp_path):
    (tmp_path / "parts" / "two_wheels.py").write_text("NAME = 'two'\n")
    assert package.key("two-wheels") == package.key("two_wheels") == "two_wheels"
    assert package.load("two-wheels").NAME == "two"
    assert package.key("two wheels") == "two wheels"
    with pytest.raises(ConfigError, match="no part 'two wheels'"):
        package.load("two wheels")


def test_broken_modules_of_others_are_left_out_and_named_once(
    package, tmp_path, monkeypatch, caplog
):
    sources = {
        "raises": "1 / 0",
        "nameless": "",
        "odd": "NAME = 3",
        "brake": "NAME = ''",
    }
    for name, source in sources.items():
        (tmp_path / f"their_{name}.py").write_text(source)
    points = [EntryPoint(name, f"their_{name}", "test.parts") for name in sources]
    monkeypatch.setattr(registry, "entry_points", lambda group: points)
    for _ in range(2):
        found = [module.__name__ for module in package.load_all(NAME=str)]
        assert found == ["parts.axle", "their_brake", "parts.wheel"]
    nameless, odd, raises = sorted(caplog.messages)
    assert "'nameless'" in nameless
    assert "has no NAME" in nameless
    assert "has an invalid NAME" in odd
    assert "division by zero" in raises


@pytest.mark.parametrize("source", ["1 / 0", "import electricity_of_nobody", ""])
def test_a_broken_module_of_ours_is_an_error(package, tmp_path, source):
    (tmp_path / "parts" / "lamp.py").write_text(source)
    with pytest.raises((ConfigError, ZeroDivisionError)):
        package.load_all(NAME=str)


@pytest.mark.parametrize(
    ("noun", "plural"),
    [
        ("network", "networks"),
        ("loss", "losses"),
        ("kind of degradation", "kinds of degradation"),
        ("format of exported models", "formats of exported models"),
        ("third-party model format", "third-party model formats"),
    ],
)
def test_a_name_used_twice_is_reported_with_a_correct_plural(
    package, monkeypatch, noun, plural
):
    named = dataclasses.replace(package, noun=noun)
    points = [EntryPoint("wheel", "json", "test.parts")]
    monkeypatch.setattr(registry, "entry_points", lambda group: points)
    with pytest.raises(ConfigError, match=f"Two {plural} are called 'wheel'"):
        named.names()
