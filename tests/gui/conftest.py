"""GUI tests run in real napari. They fail, and are never skipped, without a display."""

from __future__ import annotations

import os
import sys
from pathlib import Path

import pytest

HERE = Path(__file__).parent
# Helper modules of this folder can be imported by its tests.
sys.path.insert(0, str(HERE))


def pytest_collection_modifyitems(config, items):
    mine = [item for item in items if HERE in Path(item.path).parents]
    for item in mine:
        item.add_marker(pytest.mark.gui)
    shown = os.environ.get("DISPLAY") or os.environ.get("WAYLAND_DISPLAY")
    if mine and sys.platform.startswith("linux") and not shown:
        raise pytest.UsageError(
            "The GUI tests need a display, which Xvfb gives them: "
            "python scripts/ensure_display.py installs what is missing. "
            'Or leave them out: python -m pytest -m "not gui" --ignore tests/gui'
        )


@pytest.fixture(autouse=True)
def approving(monkeypatch):
    """Runs that are expected to do harm are approved: nobody is there to be asked."""
    from napari_geosr.gui.restore.outlook import panel

    monkeypatch.setattr(panel, "run_anyway", lambda *_: True)


@pytest.fixture(autouse=True)
def looking(request, monkeypatch):
    """Restore docks rank and look in the tests of ``outlook/`` alone: it takes long."""
    from napari_geosr.gui.restore.outlook.activity import OutlookActivity

    if "outlook" in Path(request.path).parts:
        return
    monkeypatch.setattr(OutlookActivity, "_next", lambda _: "")
    monkeypatch.setattr(OutlookActivity, "has_looked", property(lambda _: True))


@pytest.fixture(autouse=True)
def own_folders(tmp_path_factory, monkeypatch):
    """Settings and caches of a test stay in its own folder."""
    home = tmp_path_factory.mktemp("home")
    for name in ("XDG_CONFIG_HOME", "XDG_CACHE_HOME", "XDG_DATA_HOME"):
        monkeypatch.setenv(name, str(home / name.lower()))
