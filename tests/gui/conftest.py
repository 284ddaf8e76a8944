"""GUI tests run in real napari. They fail, and are never skipped, without a display."""

from __future__ import annotations

import copy
import faulthandler
import functools
import gc
import os
import sys
import tempfile
import warnings
from importlib import import_module
from pathlib import Path

import pytest

HERE = Path(__file__).parent
# Helper modules of this folder can be imported by its tests.
sys.path.insert(0, str(HERE))


def pytest_collection_modifyitems(config, items):
    mine = [item for item in items if HERE in Path(item.path).parents]
    for item in mine:
        item.add_marker(pytest.mark.gui)
        if "GEOSR_RERUN" in os.environ:
            # A window can miss a deadline on a busy machine. Reruns are listed in the
            # summary, as they point to an open issue.
            item.add_marker(pytest.mark.flaky(reruns=1))
    shown = os.environ.get("DISPLAY") or os.environ.get("WAYLAND_DISPLAY")
    if mine and sys.platform.startswith("linux") and not shown:
        raise pytest.UsageError(
            "The GUI tests need a display, which Xvfb gives them: "
            "python scripts/ensure_display.py installs what is missing. "
            'Or leave them out: python -m pytest -m "not gui" --ignore tests/gui'
        )


#: Modules that docks import sooner or later, in order of dependence.
HEAVY = ("torch", "numba", "skimage", "zarr", "dask.array", "pandas", "napari")


@pytest.fixture(scope="session", autouse=True)
def heavy_modules_stay():
    """Exclude permanent objects from the garbage collection that checks for leaked
    viewers.
    """
    with warnings.catch_warnings(action="ignore"):
        for name in HEAVY:
            import_module(name)
    gc.collect()
    gc.freeze()


@pytest.fixture(scope="session", autouse=True)
def manifests_are_parsed_once():
    """Cache the manifests of all plugins, which take a quarter of a viewer's start."""
    from npe2.manifest import _bases

    if not hasattr(_bases, "_load_yaml_no_duplicates"):  # private, so it may disappear
        yield
        return
    parse = functools.lru_cache(_bases._load_yaml_no_duplicates)

    def parsed(stream):
        text = stream if isinstance(stream, (str, bytes)) else stream.read()
        return copy.deepcopy(parse(text))

    with pytest.MonkeyPatch.context() as patched:
        patched.setattr(_bases, "_load_yaml_no_duplicates", parsed)
        yield


@pytest.fixture(autouse=True)
def approving(monkeypatch):
    """Approve runs that are expected to do harm, because nobody can answer."""
    from napari_geosr.gui.restore.verdict import panel

    monkeypatch.setattr(panel, "confirm_harmful_run", lambda *_: True)


@pytest.fixture
def with_verdict():
    """A test in another folder that needs these fixtures."""


@pytest.fixture(autouse=True)
def looking(request, monkeypatch):
    """Restore docks rank and examine only in tests of this, because it is slow."""
    from napari_geosr.gui.restore.verdict.activity import VerdictActivity

    is_tested = "verdict" in Path(request.path).parts
    if is_tested or "with_verdict" in request.fixturenames:
        return
    monkeypatch.setattr(VerdictActivity, "_next", lambda _: "")
    monkeypatch.setattr(VerdictActivity, "has_verdict", property(lambda _: True))


@pytest.fixture(autouse=True)
def own_folders(new_folder, monkeypatch):
    """Keep settings and caches of a test in a separate folder."""
    home = new_folder()
    for name in ("XDG_CONFIG_HOME", "XDG_CACHE_HOME", "XDG_DATA_HOME"):
        monkeypatch.setenv(name, str(home / name.lower()))


@pytest.fixture(scope="session")
def shared_viewer(qapp, manifests_are_parsed_once):
    """Use the fixture `viewer`, which empties it after each test."""
    from shared_viewer import SharedViewer

    shared = SharedViewer()
    yield shared
    shared.close()


@pytest.fixture
def viewer(shared_viewer, qtbot):
    """The window that tests share; `make_napari_viewer` makes a separate one."""
    with shared_viewer.lent() as viewer:
        yield viewer


@pytest.hookimpl(hookwrapper=True)
def pytest_runtest_makereport(item, call):
    """Add the stacks of all threads to a test that waited in vain."""
    outcome = yield
    if call.excinfo is not None and call.excinfo.typename == "TimeoutError":
        with tempfile.TemporaryFile("w+") as file:
            faulthandler.dump_traceback(file)
            file.seek(0)
            outcome.get_result().sections.append(("Threads", file.read()))
