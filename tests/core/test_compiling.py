"""Compiled loops work where no folder for their cache can be written."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from numba.core.caching import FunctionCache

import napari_geosr
from napari_geosr.core.machine import compiling
from napari_geosr.operations.doctor import examine

#: Modules that compile loops with each decorator.
LOOPS = (
    "napari_geosr.measure.kernels.runs",
    "napari_geosr.physics.projection.joseph_compiled",
    "napari_geosr.networks.sparse._gather",
)
PROGRAM = """
import importlib, sys
from numba.core.caching import FunctionCache
FunctionCache._impl_class._locator_classes = []
for name in sys.argv[1:]:
    importlib.import_module(name)
import numpy as np
from napari_geosr.networks.sparse._gather import _add_products
out, rows = np.zeros((2, 1)), np.array([1])
_add_products(rows, rows, np.array([[2.0], [3.0]]), np.array([[5.0]]), out)
print(out.ravel().tolist())
"""


def double(values: np.ndarray) -> None:
    for i in range(len(values)):
        values[i] *= 2


@pytest.fixture
def no_folder(monkeypatch: pytest.MonkeyPatch) -> None:
    """No folder can be written, neither of the installation nor of the user."""
    monkeypatch.setattr(FunctionCache._impl_class, "_locator_classes", [])


@pytest.mark.usefixtures("no_folder")
def test_without_a_folder_loops_are_compiled_and_doctor_says_so() -> None:
    values = np.arange(3.0)
    compiling.compile_loops(double)(values)
    np.testing.assert_array_equal(values, [0, 2, 4])
    assert not compiling.loop_cache()
    found = examine()
    assert found.sections["compiled loops"]["cached in"] == "not cached"
    assert any("NUMBA_CACHE_DIR" in text for text in found.advice)


def test_the_folder_of_the_cache_is_shown() -> None:
    folder = compiling.loop_cache()
    assert Path(folder).is_dir()
    assert examine().sections["compiled loops"]["cached in"] == folder


def test_other_errors_of_the_compiler_are_not_hidden(monkeypatch) -> None:
    def fail(**_options: object) -> None:
        raise RuntimeError("out of registers")

    monkeypatch.setattr("numba.njit", fail)
    with pytest.raises(RuntimeError, match="out of registers"):
        compiling.compile_loops(double)


def test_all_loops_can_be_imported_without_a_folder() -> None:
    done = subprocess.run(
        [sys.executable, "-c", PROGRAM, *LOOPS], capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr
    assert done.stdout.strip() == "[0.0, 15.0]"


def test_only_one_module_calls_the_compiler() -> None:
    """Loops compiled elsewhere would not be imported without a folder."""
    root = Path(napari_geosr.__file__).parent
    callers = [
        path.name
        for path in root.rglob("*.py")
        if re.search(r"\bnumba\.|from numba", path.read_text("utf-8"))
    ]
    assert callers == ["compiling.py"]


def test_doctor_names_a_cache_folder_that_cannot_be_created(
    tmp_path, monkeypatch
) -> None:
    blocked = tmp_path / "file"
    blocked.touch()
    monkeypatch.setattr("platformdirs.user_cache_path", lambda *_, **__: blocked / "a")
    found = examine()
    assert "cannot be created" in found.sections["memory"]["cache folder"]
    assert any(str(blocked / "a") in text for text in found.advice)
