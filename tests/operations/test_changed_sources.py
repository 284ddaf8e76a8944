"""Source files that change during a run are reported, and no checksum is invented."""

from __future__ import annotations

import importlib
import json
import mmap
import os
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pytest
import tifffile
import zarr

from napari_geosr import io
from napari_geosr.core import provenance
from napari_geosr.core.machine.file_state import FileWatch, file_state
from napari_geosr.core.steps import (
    BlockDone,
    Step,
    TileDone,
    WarningIssued,
    run_to_end,
)
from napari_geosr.operations.inputs.scan import reader_warnings
from napari_geosr.operations.measure import (
    MeasureConfig,
    measure_record,
    measure_several_steps,
)
from napari_geosr.operations.restore import RestoreConfig, prepare_steps, run_steps

SHAPE = (24, 64, 64)
MIXTURE = "may be a mixture of old and new data"


@pytest.fixture
def lazily(monkeypatch: pytest.MonkeyPatch) -> None:
    """Read small files like large ones, in several tiles."""
    run_module = importlib.import_module("napari_geosr.operations.restore.run")
    original = run_module.restore_tiles
    monkeypatch.setattr(
        run_module,
        "restore_tiles",
        lambda *args, **kwargs: original(*args, **kwargs, tile=(4, 64, 64)),
    )
    for module in ("formats.tiff.reading", "arrangement"):
        monkeypatch.setattr(f"napari_geosr.io.{module}.EAGER_BYTES", 0)


@pytest.fixture
def voxels(rng: np.random.Generator) -> np.ndarray:
    return rng.normal(2000, 300, SHAPE).astype(np.uint16)


def between_samples(path: Path) -> None:
    """Overwrite a few bytes that no sample contains."""
    step = (path.stat().st_size - 4096) // 32
    assert step > 4200, "the samples cover the file"
    write_at(path, 3 * step + 4096 + 50)


def write_at(path: Path, place: int) -> None:
    with path.open("r+b") as stream:
        stream.seek(place)
        stream.write(bytes(32))


def make_tiff(path: Path, voxels: np.ndarray) -> Callable[[], None]:
    tifffile.imwrite(path, voxels, photometric="minisblack", metadata={"axes": "ZYX"})
    return lambda: between_samples(path)


def make_deflated(path: Path, voxels: np.ndarray) -> Callable[[], None]:
    tifffile.imwrite(path, voxels, photometric="minisblack", compression="zlib")
    # Its voxels can still be decoded at any time.
    software = path.read_bytes().index(b"tifffile.py")
    return lambda: write_at(path, software)


def make_hdf5(path: Path, voxels: np.ndarray) -> Callable[[], None]:
    with h5py.File(path, "w") as file:
        file.create_dataset("data", data=voxels, chunks=(2, 64, 64))
    return lambda: write_at(path, path.stat().st_size - 400)


def make_zarr(path: Path, voxels: np.ndarray) -> Callable[[], None]:
    array = zarr.create_array(path, shape=SHAPE, chunks=(4, 64, 64), dtype="u2")
    array[:] = voxels
    last = path / "c" / "5" / "0" / "0"
    assert last.exists()
    return last.unlink


def make_slices(path: Path, voxels: np.ndarray) -> Callable[[], None]:
    path.mkdir()
    for i, plane in enumerate(voxels):
        tifffile.imwrite(path / f"s{i:02}.tif", plane)
    return lambda: write_at(path / "s20.tif", 600)


@pytest.mark.usefixtures("lazily")
@pytest.mark.parametrize(
    ("name", "make"),
    [
        ("scan.tif", make_tiff),
        ("deflated.tif", make_deflated),
        ("scan.h5", make_hdf5),
        ("scan.zarr", make_zarr),
        ("slices", make_slices),
    ],
)
def test_a_source_that_is_changed_in_place_gives_one_warning(
    name: str,
    make: Callable[[Path, np.ndarray], Callable[[], None]],
    tmp_path: Path,
    rng: np.random.Generator,
) -> None:
    path = tmp_path / name
    # So large that some bytes lie between the samples.
    shape = (24, 160, 160) if name == "scan.tif" else SHAPE
    change = make(path, rng.normal(2000, 300, shape).astype(np.uint16))
    volume = io.read(path)
    assert volume.is_lazy
    prepared = run_to_end(prepare_steps(volume, RestoreConfig()))
    said: list[str] = []
    done = 0

    def on_step(step: Step) -> None:
        nonlocal done
        if isinstance(step, WarningIssued):
            said.append(step.message)
        if isinstance(step, TileDone):
            done += 1
            if done == 1:
                time.sleep(0.02)  # modification times have a resolution of milliseconds
                change()

    out = tmp_path / "out.tif"
    result = run_to_end(run_steps(prepared, out=out), on_step)
    (warning,) = [each for each in said if "changed" in each]
    assert warning.startswith(name)
    assert MIXTURE in warning
    stored = io.read(out)
    assert stored.provenance[-1]["source_change"] == warning
    assert result.volume.provenance[-1]["source_change"] == warning
    # Users of the result are warned as well.
    assert any(warning in each for each in reader_warnings(stored))


@pytest.mark.usefixtures("lazily")
def test_an_unchanged_source_gives_no_warning(
    voxels: np.ndarray, tmp_path: Path
) -> None:
    path = tmp_path / "scan.tif"
    make_tiff(path, voxels)
    prepared = run_to_end(prepare_steps(io.read(path), RestoreConfig()))
    said: list[Step] = []
    result = run_to_end(run_steps(prepared), said.append)
    assert not [
        s for s in said if isinstance(s, WarningIssued) and "chang" in s.message
    ]
    assert "source_change" not in result.volume.provenance[-1]
    assert "changed" not in result.volume.provenance[-1]["inputs"]["input"]


def test_a_write_whose_time_is_set_back_is_noticed(tmp_path: Path) -> None:
    path = tmp_path / "scan.raw"
    path.write_bytes(bytes(10**6))
    os.utime(path, ns=(10**18, 10**18))
    before = file_state(path)
    time.sleep(0.02)
    write_at(path, 500)
    os.utime(path, ns=(10**18, 10**18))
    assert before is not None
    assert not before.matches(file_state(path))


def test_a_write_through_a_mapping_is_noticed_without_its_time(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, voxels: np.ndarray
) -> None:
    path = tmp_path / "scan.tif"
    make_tiff(path, voxels)
    monkeypatch.setattr("napari_geosr.io.formats.tiff.reading.EAGER_BYTES", 0)
    volume = io.read(path)
    state = file_state(path)
    monkeypatch.setattr(
        "napari_geosr.core.machine.file_state.file_state", lambda _: state
    )
    watch = FileWatch([volume])
    with path.open("r+b") as stream, mmap.mmap(stream.fileno(), 0) as mapped:
        mapped[-100:] = bytes(100)
        assert MIXTURE in watch.check(now=True)


def test_new_slices_are_no_change_but_new_chunks_are(
    tmp_path: Path, voxels: np.ndarray
) -> None:
    make_slices(tmp_path / "slices", voxels)
    before = file_state(tmp_path / "slices")
    (tmp_path / "slices" / "notes.txt").write_text("x")
    assert before is not None
    assert before.matches(file_state(tmp_path / "slices"))
    make_zarr(tmp_path / "scan.zarr", voxels)()
    before = file_state(tmp_path / "scan.zarr")
    (tmp_path / "scan.zarr" / "c" / "5" / "0" / "0").write_bytes(b"chunk")
    assert before is not None
    assert not before.matches(file_state(tmp_path / "scan.zarr"))


@pytest.mark.usefixtures("lazily")
def test_a_deleted_file_that_is_still_open_is_no_change(
    tmp_path: Path, voxels: np.ndarray
) -> None:
    path = tmp_path / "scan.tif"
    make_tiff(path, voxels)
    watch = FileWatch([io.read(path)])
    path.unlink()
    assert not watch.check(now=True)


def test_the_checksum_of_a_file_that_was_not_used_is_not_claimed(
    voxels: np.ndarray, tmp_path: Path
) -> None:
    path = tmp_path / "scan.tif"
    make_tiff(path, voxels)
    volume = io.read(path)
    assert not volume.is_lazy
    prepared = run_to_end(prepare_steps(volume, RestoreConfig()))
    time.sleep(0.02)
    write_at(path, 50_000)
    said: list[Step] = []
    result = run_to_end(run_steps(prepared), said.append)
    (warning,) = [
        step.message
        for step in said
        if isinstance(step, WarningIssued) and "changed" in step.message
    ]
    assert "based on its earlier contents" in warning
    entry = result.volume.provenance[-1]["inputs"]["input"]
    assert entry["checksum"] == provenance.array_checksum(voxels)
    assert entry["changed"] == "after it was opened"


@pytest.mark.parametrize(
    ("make", "is_lazy"), [(make_tiff, True), (make_tiff, False), (make_zarr, True)]
)
def test_a_deleted_source_is_not_reported_as_changed(
    make: Callable[[Path, np.ndarray], Callable[[], None]],
    is_lazy: bool,
    voxels: np.ndarray,
    tmp_path: Path,
    request: pytest.FixtureRequest,
) -> None:
    if is_lazy:
        request.getfixturevalue("lazily")
    path = tmp_path / "scan"
    path = path.with_suffix(".tif" if make is make_tiff else ".zarr")
    make(path, voxels)
    volume = io.read(path)
    assert volume.is_lazy == is_lazy
    watch = FileWatch([volume])
    path.rename(tmp_path / "elsewhere")
    said: list[Step] = []
    facts = run_to_end(provenance.describe_steps(volume), said.append)
    assert facts["changed"] == "deleted or moved after it was opened"
    (warning,) = [step.message for step in said if isinstance(step, WarningIssued)]
    assert warning.startswith(f"{path.name} was deleted or moved after it was opened")
    is_complete = not (is_lazy and make is make_zarr)
    assert ("the result is complete" in warning) == is_complete
    assert facts["checksum"] == (
        provenance.array_checksum(voxels) if is_complete else None
    )
    message = watch.check(now=True)
    assert ("parts of the result may be missing" in message) != is_complete


def test_a_file_that_changes_while_it_is_hashed_has_no_checksum(
    voxels: np.ndarray, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "scan.tif"
    make_tiff(path, voxels)
    original = provenance.checksum

    def checksum(*args: Any) -> str:
        time.sleep(0.02)
        write_at(path, 50_000)
        return original(*args)

    monkeypatch.setattr(provenance, "checksum", checksum)
    monkeypatch.setattr("napari_geosr.io.formats.tiff.reading.EAGER_BYTES", 0)
    entry = provenance.record("x", inputs={"input": io.read(path)}, settings={})
    assert entry["inputs"]["input"]["checksum"] is None
    json.dumps(entry)


@pytest.mark.parametrize("lazy", [True, False])
def test_a_measurement_says_that_its_source_was_changed(
    voxels: np.ndarray, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, lazy: bool
) -> None:
    path = tmp_path / "scan.tif"
    change = make_tiff(path, np.repeat(np.repeat(voxels, 3, 1), 3, 2))
    if lazy:
        monkeypatch.setattr("napari_geosr.io.formats.tiff.reading.EAGER_BYTES", 0)
    volume = io.read(path)
    assert volume.is_lazy == lazy
    said: list[str] = []

    def on_step(step: Step) -> None:
        nonlocal change
        if isinstance(step, WarningIssued):
            said.append(step.message)
        if isinstance(step, BlockDone):
            time.sleep(0.02)
            change()
            change = lambda: None  # noqa: E731

    steps = measure_several_steps({"input": volume}, MeasureConfig())
    reports = run_to_end(steps, on_step)
    expected = MIXTURE if lazy else "based on its earlier contents"
    (warning,) = [each for each in said if "changed" in each]
    assert expected in warning
    assert warning in reports["input"].warnings


def touch(path: Path) -> None:
    later = time.time_ns() + 10**9
    for file in [path, *path.rglob("*")]:
        os.utime(file, ns=(later, later))


def rewrite(path: Path) -> None:
    content = path.read_bytes()
    path.write_bytes(content)


def replace_by_copy(path: Path) -> None:
    copy = path.with_name("copy")
    copy.write_bytes(path.read_bytes())
    os.replace(copy, path)


@pytest.mark.parametrize("lazy", [True, pytest.param(False, marks=pytest.mark.slow)])
@pytest.mark.parametrize("disturb", [touch, rewrite, replace_by_copy])
@pytest.mark.parametrize("operation", ["restore", "measure"])
def test_a_file_with_a_new_time_and_the_same_bytes_is_unchanged(
    voxels: np.ndarray,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    operation: str,
    disturb: Callable[[Path], None],
    lazy: bool,
) -> None:
    path = tmp_path / "scan.tif"
    make_tiff(path, np.repeat(np.repeat(voxels, 3, 1), 3, 2))
    if lazy:
        monkeypatch.setattr("napari_geosr.io.formats.tiff.reading.EAGER_BYTES", 0)
    volume = io.read(path)
    assert volume.is_lazy == lazy
    opened = file_state(path)
    said: list[str] = []
    n = 0

    def on_step(step: Step) -> None:
        nonlocal n
        if isinstance(step, WarningIssued):
            said.append(step.message)
        if isinstance(step, BlockDone | TileDone) and n < 2:
            n += 1
            time.sleep(0.02)
            disturb(path)

    if operation == "measure":
        run_to_end(measure_several_steps({"input": volume}, MeasureConfig()), on_step)
        record = measure_record({"input": volume}, MeasureConfig())
    else:
        prepared = run_to_end(prepare_steps(volume, RestoreConfig()))
        result = run_to_end(run_steps(prepared), on_step)
        record = result.volume.provenance[-1]
    assert n > 0
    assert opened is not None
    assert not opened.matches(file_state(path))
    assert not [each for each in said if "chang" in each or "touch" in each]
    assert "source_change" not in record
    entry = record["inputs"]["input"]
    assert "changed" not in entry
    assert entry["checksum"] == provenance.checksum(path)


@pytest.mark.parametrize("disturb", [touch, rewrite, replace_by_copy])
def test_a_file_in_memory_may_be_touched_before_its_checksum_is_known(
    voxels: np.ndarray, tmp_path: Path, disturb: Callable[[Path], None]
) -> None:
    path = tmp_path / "scan.tif"
    change = make_tiff(path, voxels)
    volume = io.read(path)
    assert not volume.is_lazy
    time.sleep(0.02)
    disturb(path)
    said: list[Step] = []
    entry = run_to_end(provenance.describe_steps(volume), said.append)
    assert not said
    assert "changed" not in entry
    assert entry["checksum"] == provenance.checksum(path)
    time.sleep(0.02)
    change()
    assert "changed" in run_to_end(provenance.describe_steps(volume), said.append)


def test_a_change_after_a_touch_is_still_noticed(
    tmp_path: Path, voxels: np.ndarray
) -> None:
    path = tmp_path / "scan.tif"
    change = make_tiff(path, np.repeat(np.repeat(voxels, 3, 1), 3, 2))
    watch = FileWatch([io.read(path)])
    touch(path)
    assert watch.check(now=True) == ""
    touch(path)
    assert watch.check(now=True) == ""
    time.sleep(0.02)
    change()
    assert "was changed after it was read" in watch.check(now=True)


def test_of_what_is_too_large_samples_are_compared_and_said(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, voxels: np.ndarray
) -> None:
    path = tmp_path / "scan.tif"
    make_tiff(path, voxels)
    monkeypatch.setattr("napari_geosr.io.formats.tiff.reading.EAGER_BYTES", 0)
    monkeypatch.setattr("napari_geosr.core.machine.file_state._SMALL_BYTES", 0)
    watch = FileWatch([io.read(path)])
    touch(path)
    message = watch.check(now=True)
    assert "scan.tif was touched or rewritten" in message
    assert "Samples of its contents are unchanged" in message


@pytest.mark.usefixtures("lazily")
@pytest.mark.parametrize(("name", "make"), [("a.zarr", make_zarr), ("s", make_slices)])
def test_of_a_folder_samples_are_compared_and_said(
    tmp_path: Path, voxels: np.ndarray, name: str, make: Callable[..., Any]
) -> None:
    make(tmp_path / name, voxels)
    volume = io.read(tmp_path / name)
    provenance.record("x", inputs={"input": volume}, settings={})
    watch = FileWatch([volume])
    touch(tmp_path / name)
    assert "Samples of its contents are unchanged" in watch.check(now=True)
