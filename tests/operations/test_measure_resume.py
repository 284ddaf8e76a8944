"""A stopped measurement is resumed where it ended, with the same figures."""

from __future__ import annotations

import errno
import os
import signal
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from napari_geosr import io
from napari_geosr.cli.app import run
from napari_geosr.core.errors import Cancelled, FileError
from napari_geosr.core.steps import BlockDone, StageStarted, StepIterator, run_to_end
from napari_geosr.core.volume import Volume
from napari_geosr.io.unfinished_files import hidden
from napari_geosr.io.unfinished_files.journal import written_by_job
from napari_geosr.measure import blocks
from napari_geosr.operations.measure import MeasureConfig, measure_several_steps
from napari_geosr.operations.measure import journal as journals
from napari_geosr.operations.measure.journal import MeasureJournal

SHAPE = (40, 36, 38)


@pytest.fixture(autouse=True)
def small_slabs(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(blocks, "SLAB_VOXELS", 3 * 36 * 38)
    monkeypatch.setattr(blocks, "_MIN_COMPACTION_LABELS", 50)
    monkeypatch.setattr(journals, "_MIN_VOXELS", 1)
    monkeypatch.setattr(journals, "_MIN_INTERVAL", 0.0)
    monkeypatch.setattr(journals, "_WRITE_TIME_FACTOR", 0.0)
    # Files left by this process count as those of a dead one.
    monkeypatch.setattr(journals, "is_abandoned", lambda _: True)


@pytest.fixture
def scan(tmp_path: Path, rng: np.random.Generator) -> Path:
    from scipy import ndimage

    smooth = ndimage.gaussian_filter(rng.standard_normal(SHAPE), 1.2)
    data = (smooth / smooth.std() * 20 + 100 + rng.normal(0, 4, SHAPE)).clip(0, 255)
    volume = Volume(data.astype(np.uint8), "ZYX", (2.0, 1.0, 1.5), "µm")
    return io.write(volume, tmp_path / "scan.tif")


def measured(
    scan: Path,
    folder: Path,
    stop_after: int | None = None,
    *,
    kill: bool = False,
    mask: Volume | None = None,
    **settings: Any,
) -> tuple[Any, int]:
    """The report, or None if stopped after some labelled slabs, and slabs labelled."""
    volumes = {"input": io.read(scan)}
    config = MeasureConfig.create(**settings)
    companions = {} if mask is None else {"mask": mask}
    journal = MeasureJournal(folder, volumes, companions, config)
    stopped, n, labelling = False, 0, False
    steps = measure_several_steps(
        volumes, config, mask, journal=journal.of, should_stop=lambda: stopped
    )
    with StepIterator(steps) as iterator:
        try:
            for step in iterator:
                if isinstance(step, StageStarted):
                    labelling = step.message == "Labelling the pores"
                elif labelling and isinstance(step, BlockDone):
                    n += 1
                    if n == stop_after:
                        if kill:
                            return None, n
                        stopped = True
        except Cancelled:
            return None, n
    journal.remove()
    return iterator.result["input"], n


def same(one: Any, other: Any) -> None:
    assert one.to_json_dict() == other.to_json_dict()
    for name, values in one.table.items():
        np.testing.assert_array_equal(values, other.table[name], err_msg=name)
    np.testing.assert_array_equal(np.asarray(one.labels), np.asarray(other.labels))


@pytest.mark.every(3)  # all values, not with each other
@pytest.mark.parametrize("connectivity", [6, 26])
@pytest.mark.parametrize("kill", [False, True])
@pytest.mark.parametrize("sample", ["whole", "auto", "given"])
def test_a_stopped_measurement_goes_on(
    scan: Path, tmp_path: Path, connectivity: int, kill: bool, sample: str
) -> None:
    options: dict[str, Any] = {"connectivity": connectivity, "min_voxels": 3}
    if sample == "auto":
        options["sample_mask"] = "auto"
    if sample == "given":
        where = np.ones(SHAPE, np.uint8)
        where[:, :9] = 0
        options["mask"] = Volume(where, "ZYX", (2.0, 1.0, 1.5), "µm", name="mask")
    whole, n_slabs = measured(scan, tmp_path / "whole", **options)
    out = tmp_path / "out"
    assert measured(scan, out, 4, kill=kill, **options) == (None, 4)
    assert measured(scan, out, 5, kill=kill, **options) == (None, 5)
    assert len(list(out.iterdir())) == 1  # not one for each run
    report, n = measured(scan, out, **options)
    assert n == n_slabs - 9
    same(report, whole)
    assert list(out.iterdir()) == []


@pytest.mark.parametrize("is_inside", [True, False])
def test_a_measurement_goes_on_on_another_node(
    scan: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, is_inside: bool
) -> None:
    monkeypatch.setattr(journals, "is_abandoned", hidden.is_abandoned)
    folder = tmp_path / "job"
    out = folder / "result" if is_inside else tmp_path / "report"
    with written_by_job(folder), monkeypatch.context() as there:
        there.setattr(hidden, "_computer", lambda: "0000")
        assert measured(scan, out, 6, kill=True) == (None, 6)
    with written_by_job(tmp_path / "other"):  # may run at the same time
        _, n_slabs = measured(scan, out)
    assert len(list(out.iterdir())) == 1
    with written_by_job(folder):
        assert measured(scan, out)[1] == n_slabs - 6
    assert list(out.iterdir()) == []


def test_other_settings_start_again_and_keep_what_is_stored(
    scan: Path, tmp_path: Path
) -> None:
    out = tmp_path / "out"
    assert measured(scan, out, 6, kill=True)[1] == 6
    (first,) = out.iterdir()
    stored = first.read_bytes()
    # Other settings, killed, and a third run, complete: each has a separate state.
    assert measured(scan, out, 5, kill=True, min_voxels=2)[1] == 5
    assert measured(scan, out, min_voxels=4)[1] == 14
    assert len(list(out.iterdir())) == 2
    assert first.read_bytes() == stored
    report, n = measured(scan, out)
    assert n == 14 - 6
    same(report, measured(scan, tmp_path / "again")[0])
    assert measured(scan, out, min_voxels=2)[1] == 14 - 5
    assert list(out.iterdir()) == []


def test_a_state_with_fewer_counts_is_measured_again(
    scan: Path, tmp_path: Path
) -> None:
    """As written by an earlier version, without counts below the surface."""
    out = tmp_path / "out"
    assert measured(scan, out, 6, kill=True)[1] == 6
    (kept,) = out.iterdir()
    with np.load(kept) as stored:
        state = dict(stored)
    with kept.open("wb") as stream:
        np.savez(stream, **(state | {"counts": state["counts"][:4]}))
    report, n = measured(scan, out)
    assert n == 14
    same(report, measured(scan, tmp_path / "again")[0])


def test_a_stopped_command_says_how_to_resume(
    scan: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: Any
) -> None:
    """A scheduler stops a command with SIGTERM."""
    out, save = tmp_path / "out", journals._Part.save
    stops: list[Any] = []

    def stop(part: Any, state: Any) -> None:
        save(part, state)
        if not stops:  # the state is saved once more when the run stops
            stops.append(part)
            signal.raise_signal(signal.SIGTERM)

    words = ["measure", str(scan), "-o", str(out)]
    with monkeypatch.context() as stopped:
        stopped.setattr(journals._Part, "save", stop)
        assert run(words) == 130
    (kept,) = out.iterdir()
    said = " ".join(capsys.readouterr().err.split())
    assert "To resume it, run the same command again." in said
    assert f"delete {kept}." in said
    assert run(words) == 0
    assert not kept.exists()


def test_kept_states_of_other_settings_are_named(scan: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    measured(scan, out, 6, kill=True)
    (kept,) = out.iterdir()
    volumes = {"input": io.read(scan)}
    for settings, named in ({"min_voxels": 2}, True), ({}, False):
        config = MeasureConfig.create(**settings)
        journal = MeasureJournal(out, volumes, {}, config)
        run_to_end(measure_several_steps(volumes, config, journal=journal.of))
        assert (str(kept) in journal.note()) is named
        assert bool(journal.note()) is named
        journal.remove()
    assert list(out.iterdir()) == []


def test_the_command_names_the_kept_state(
    scan: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "out"
    measured(scan, out, 6, kill=True)
    (kept,) = out.iterdir()
    assert run(["measure", str(scan), "--out", str(out), "--min-voxels", "2"]) == 0
    assert str(kept) in capsys.readouterr().err
    assert kept.exists()


def test_other_voxels_start_again(scan: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    measured(scan, out, 6)
    volume = io.read(scan)
    data = np.asarray(volume.data).copy()
    data[0, 0, 0] ^= 1
    io.write(volume.replace(data=data), scan, overwrite=True)
    report, n = measured(scan, out)
    assert n == 14
    same(report, measured(scan, tmp_path / "again")[0])
    # the state belonged to voxels that no longer exist
    assert list(out.iterdir()) == []


def test_a_read_error_of_the_system_keeps_the_state(
    scan: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    out = tmp_path / "out"
    measured(scan, out, 6, kill=True)
    (kept,) = out.iterdir()

    def fail(*_: object, **__: object) -> None:
        raise OSError(errno.EIO, os.strerror(errno.EIO))

    with monkeypatch.context() as broken:
        broken.setattr(np, "load", fail)
        with pytest.raises(
            FileError, match=r"cannot be read at the moment, .*Input/output error"
        ):
            measured(scan, out)
    assert list(out.iterdir()) == [kept]
    assert measured(scan, out)[1] == 14 - 6


def test_a_removed_state_is_named(scan: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    measured(scan, out, 6, kill=True)
    (left,) = out.iterdir()
    left.write_bytes(left.read_bytes()[:-3000])
    volumes, config = {"input": io.read(scan)}, MeasureConfig.create()
    journal = MeasureJournal(out, volumes, {}, config)
    run_to_end(measure_several_steps(volumes, config, journal=journal.of))
    assert f"damaged and has been removed: {left.name}" in journal.note()


@pytest.mark.parametrize("damage", ["cut", "text", "indices", "pickle"])
def test_a_damaged_state_is_not_used(scan: Path, tmp_path: Path, damage: str) -> None:
    out = tmp_path / "out"
    whole, _ = measured(scan, tmp_path / "whole")
    measured(scan, out, 6)
    (path,) = out.iterdir()
    if damage == "cut":
        path.write_bytes(path.read_bytes()[:-3000])
    elif damage == "text":
        path.write_text("no archive")
    else:
        with np.load(path) as found:
            state: dict[str, Any] = dict(found)
        if damage == "indices":
            state["last_labels"] = state["last_labels"] + 10**6
        else:
            state["parent"] = np.array([{"any": "object"}], object)
        with path.open("wb") as stream:
            np.savez(stream, **state)
    report, n = measured(scan, out)
    assert n == 14
    same(report, whole)


def test_small_volumes_write_nothing(
    scan: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(journals, "_MIN_VOXELS", 1 << 26)
    volumes = {"input": io.read(scan)}
    journal = MeasureJournal(tmp_path / "out", volumes, {}, MeasureConfig())
    assert journal.of("input") is None
    run_to_end(measure_several_steps(volumes, MeasureConfig(), journal=journal.of))
    assert not (tmp_path / "out").exists()
