"""Examples in docstrings run in an empty folder, without a person's models and jobs."""

from __future__ import annotations

from pathlib import Path

import pytest


def pytest_addoption(
    parser: pytest.Parser, pluginmanager: pytest.PytestPluginManager
) -> None:
    """Accept the setting of pytest-qt where it is switched off for want of Qt."""
    if not pluginmanager.has_plugin("pytest-qt"):
        parser.addini("qt_api", "Binding of Qt (not used without pytest-qt).")


@pytest.fixture(autouse=True)
def _folder_of_an_example(
    request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch
) -> None:
    if not isinstance(request.node, pytest.DoctestItem):
        return
    folder: Path = request.getfixturevalue("tmp_path")
    monkeypatch.chdir(folder)
    monkeypatch.setenv("XDG_DATA_HOME", str(folder / "data"))
    monkeypatch.setenv("XDG_STATE_HOME", str(folder / "state"))
