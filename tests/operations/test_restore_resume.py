"""A stopped restoration is resumed where it ended, with the same voxels."""

from __future__ import annotations

import json
import math
import shutil
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from napari_geosr import io
from napari_geosr.cli.app import run as command
from napari_geosr.core.errors import ConfigError, FileError
from napari_geosr.core.noise import KnownNoise, Noise
from napari_geosr.core.steps import TileDone, WarningIssued, run_to_end
from napari_geosr.core.volume import Volume
from napari_geosr.io.unfinished_files import journal
from napari_geosr.io.unfinished_files.unfinished import find_unfinished
from napari_geosr.operations.inputs.noise_source import with_known_noise
from napari_geosr.operations.restore import (
    PreparedRestoration,
    RestoreConfig,
    deviation_path,
    prepare_steps,
    restore_steps,
    run_steps,
)
from napari_geosr.operations.restore.resume import FinishedPart
from napari_geosr.operations.restore.run import RestorationResult

SHAPE = (60, 48, 50)


@pytest.fixture(scope="module")
def volume() -> Volume:
    rng = np.random.default_rng(0)
    data = np.full(SHAPE, 0.8, np.float32)
    data[10:15, 10:20, 12:25] = 0.2
    data += rng.normal(0, 0.1, data.shape).astype(np.float32)
    return Volume(data, "ZYX", (2.0,) * 3, "µm", name="block")


def prepare(volume: Volume, **settings):
    config = RestoreConfig.create(memory="120MB", threads=1, **settings)
    return run_to_end(prepare_steps(volume, config))


@pytest.fixture(scope="module")
def ready(volume: Volume) -> PreparedRestoration:
    return prepare(volume)


@pytest.fixture(scope="module")
def whole(ready: PreparedRestoration) -> np.ndarray:
    """The result of an undisturbed run."""
    return np.asarray(restore(ready)[0].volume.data)


def restore(
    prepared, stop_after: int | None = None, **more
) -> tuple[RestorationResult, int]:
    """The result, and the number of voxels that were computed and reported."""
    tiles: list[TileDone] = []
    steps = run_steps(
        prepared,
        should_stop=lambda: stop_after is not None and len(tiles) >= stop_after,
        **more,
    )
    result = run_to_end(
        steps, lambda s: tiles.append(s) if isinstance(s, TileDone) else None
    )
    return result, sum(n_voxels(tile.slices) for tile in tiles)


def n_voxels(box: tuple[slice, ...]) -> int:
    return math.prod(part.stop - part.start for part in box)


def finished_in(volume: Volume) -> list[tuple[slice, ...]]:
    boxes = volume.provenance[-1]["finished"]
    return [tuple(slice(*ends) for ends in box) for box in boxes]


@pytest.mark.every(3)
@pytest.mark.parametrize("output_dtype", ["float32", "input"])
@pytest.mark.parametrize("suffix", ["", ".tif", ".ome.zarr"])
def test_it_goes_on_to_the_same_voxels(volume, tmp_path, suffix, output_dtype):
    if output_dtype == "input":
        data = np.clip(volume.data * 30000, 0, 65535).astype(np.uint16)
        volume = volume.replace(data=data)
    prepared = prepare(volume, output_dtype=output_dtype)
    out = {"out": tmp_path / f"result{suffix}"} if suffix else {}
    whole, n = restore(prepared)
    part, before = restore(prepared, stop_after=1, **out)
    assert not part.complete
    assert 0 < before < n
    if suffix:
        assert part.path == tmp_path / f"result.incomplete{suffix}"
    result, after = restore(prepared, unfinished=part.volume, **out)
    assert result.complete
    assert after == n - sum(map(n_voxels, finished_in(part.volume)))
    np.testing.assert_array_equal(result.volume.data[:], whole.volume.data[:])
    assert result.volume.provenance[-1]["complete"] is True
    assert "finished" not in result.volume.provenance[-1]
    if suffix:
        assert [path.name for path in tmp_path.iterdir()] == [f"result{suffix}"]
    else:
        assert result.volume.data is part.volume.data


def test_without_a_record_of_what_is_finished_all_is_computed(ready, whole, tmp_path):
    """Such a file remains if the disk was full when the run ended."""
    part, _ = restore(ready, stop_after=1, out=tmp_path / "a.ome.zarr")
    record = {k: v for k, v in part.volume.provenance[-1].items() if k != "finished"}
    unfinished = part.volume.replace(provenance=(record,))
    result, n = restore(ready, unfinished=unfinished, out=tmp_path / "a.ome.zarr")
    assert result.complete
    assert n == math.prod(result.volume.shape)
    np.testing.assert_array_equal(result.volume.data[:], whole)


def test_it_can_be_stopped_again_and_again(ready, whole, tmp_path):
    out = tmp_path / "result.tif"
    part, computed = restore(ready, stop_after=1, out=out)
    while not part.complete:
        left = io.read(part.path)
        part, more = restore(ready, stop_after=1, out=out, unfinished=left)
        assert more > 0
        computed += more
    assert computed <= whole.size
    np.testing.assert_array_equal(part.volume.data[:], whole)


def test_finished_voxels_are_not_computed_again(ready):
    part, _ = restore(ready, stop_after=1)
    box = finished_in(part.volume)[0]
    part.volume.data[box] = 7.0
    result, _ = restore(ready, unfinished=part.volume)
    assert (result.volume.data[box] == 7.0).all()


def test_other_tiles_give_the_same_voxels(ready, whole):
    """Parts of a run with another budget that do not match the tiles are repeated."""
    part, _ = restore(ready, stop_after=1)
    record = dict(part.volume.provenance[-1])
    record["run"] = record["run"] | {"tile": (7, 48, 50)}
    other = part.volume.replace(provenance=(record,))
    result, _ = restore(ready, unfinished=other)
    np.testing.assert_allclose(result.volume.data, whole, atol=1e-5)


def test_another_input_model_or_setting_is_refused(volume, ready):
    part, _ = restore(ready, stop_after=1)
    changed = volume.replace(data=volume.data * np.float32(1.01))
    for prepared, what in (
        (prepare(changed), "a different input"),
        (prepare(volume, nonfinite="zero"), "different settings"),
        (prepare(volume, model="foam-sr-x2"), "a different model"),
    ):
        with pytest.raises(ConfigError, match=what):
            restore(prepared, unfinished=part.volume)
    same = replace(part.volume, provenance=())
    with pytest.raises(ConfigError, match="not an unfinished restoration"):
        restore(ready, unfinished=same)
    complete, _ = restore(ready, unfinished=part.volume)
    with pytest.raises(ConfigError, match="not an unfinished restoration"):
        restore(ready, unfinished=complete.volume)


def test_noise_measured_elsewhere_must_be_the_same(volume):
    one, other = (
        prepare(
            with_known_noise(
                volume, KnownNoise(Noise(level, contrast=1.0, source="uniform"))
            ),
            model="ct-denoise",
        )
        for level in (0.1, 0.2)
    )
    part, _ = restore(one, stop_after=1)
    with pytest.raises(ConfigError, match="a different noise level"):
        restore(other, unfinished=part.volume)
    result, _ = restore(one, unfinished=part.volume)
    assert result.complete


@pytest.mark.parametrize(("off", "fits"), [(1e-12, True), (1e-4, False)])
def test_statistics_may_differ_by_rounding(ready, whole, off, fits):
    """As on another processor, which adds in a different order."""
    part, _ = restore(ready, stop_after=1)
    record = dict(part.volume.provenance[-1])
    grey = dict(record["intensities"])
    grey["mean"] += off * grey["std"]
    record["intensities"] = grey
    other = part.volume.replace(provenance=(record,))
    if fits:
        result, _ = restore(ready, unfinished=other)
        np.testing.assert_array_equal(result.volume.data, whole)
    else:
        with pytest.raises(ConfigError, match="a different part of the input"):
            restore(ready, unfinished=other)


def test_the_command_goes_on(volume, whole, tmp_path, capsys):
    scan = io.write(volume, tmp_path / "scan.tif")
    out = tmp_path / "result.tif"
    opened = io.read(scan)
    part, _ = restore(prepare(opened), stop_after=1, out=out)
    assert part.path is not None
    words = ["restore", str(scan), "--out", str(out), "--memory", "120MB"]
    assert command([*words, "--continue"]) == 0
    assert not Path(part.path).exists()
    np.testing.assert_array_equal(io.read(out).data[:], whole)
    out.unlink()
    capsys.readouterr()
    assert command([*words, "--continue"]) == 2
    assert "no unfinished run of result.tif" in capsys.readouterr().err


@pytest.fixture
def killed(tmp_path, monkeypatch):
    """A function that runs and leaves the files of a run killed after some tiles.

    The folder is copied at that moment, and its journals name another process.
    """
    monkeypatch.setattr(journal, "_MIN_INTERVAL", 0.0)
    monkeypatch.setattr(journal, "_INTERVAL_FACTOR", 0.0)

    def kill(prepared, out: Path, n_tiles: int, of=None) -> None:
        there = tmp_path / "running"
        there.mkdir()
        begin = of or (lambda path: run_steps(prepared, out=path))
        steps = begin(there / out.name)
        for _ in range(n_tiles):
            next(step for step in steps if isinstance(step, TileDone))
        shutil.copytree(there, out.parent)
        steps.close()
        shutil.rmtree(there)
        for file in out.parent.glob(".*.journal.json"):
            entry = json.loads(file.read_text())
            entry["pid"] = 2**22 + 1
            file.write_text(json.dumps(entry))

    return kill


@pytest.mark.parametrize(
    ("suffix", "uncertainty"),
    [
        pytest.param(".tif", "tta", marks=pytest.mark.slow),
        (".ome.zarr", "none"),
        pytest.param(".tif", "none", marks=pytest.mark.slow),
        pytest.param(".ome.zarr", "tta", marks=pytest.mark.slow),
    ],
)
def test_a_killed_run_goes_on_in_its_file(
    volume, tmp_path, killed, suffix, uncertainty, monkeypatch
):
    prepared = prepare(volume, uncertainty=uncertainty)
    out = tmp_path / "out" / f"result{suffix}"
    whole, n = restore(prepared)
    killed(prepared, out, 2)
    left = find_unfinished(out)
    finished = sum(map(n_voxels, finished_in(left)))
    assert 0 < finished < n
    more = {}
    if uncertainty != "none":
        more["unfinished_deviation"] = find_unfinished(deviation_path(out))
    monkeypatch.setattr(FinishedPart, "copy_into", lambda *_: pytest.fail("copied"))
    result, after = restore(prepared, out=out, unfinished=left, **more)
    assert result.complete
    assert after == n - finished
    np.testing.assert_array_equal(result.volume.data[:], whole.volume.data[:])
    record = result.volume.provenance[-1]
    assert record["complete"] is True
    assert record["run"]["tile"] == left.provenance[-1]["run"]["tile"]
    names = [out.name]
    if uncertainty != "none":
        names.append(deviation_path(out).name)
        np.testing.assert_array_equal(result.deviation.data[:], whole.deviation.data[:])
    assert sorted(path.name for path in out.parent.iterdir()) == sorted(names)


def test_a_killed_run_that_goes_on_and_is_stopped_goes_on(
    ready, whole, tmp_path, killed
):
    out = tmp_path / "out" / "result.tif"
    killed(ready, out, 1)
    _, computed = restore(ready, stop_after=1, out=out, unfinished=find_unfinished(out))
    assert [path.name for path in out.parent.iterdir()] == ["result.incomplete.tif"]
    result, rest = restore(ready, out=out, unfinished=find_unfinished(out))
    assert computed + rest < whole.size
    np.testing.assert_array_equal(result.volume.data[:], whole)
    assert [path.name for path in out.parent.iterdir()] == ["result.tif"]


def test_a_series_that_was_killed_goes_on(rng, tmp_path, killed):
    data = rng.normal(100, 10, (3, 8, 40, 40)).astype(np.uint16)
    series = Volume(data, "TZYX", (1.0,) * 3, "µm", name="series")
    config = RestoreConfig.create(memory="120MB", threads=1)

    def run(**more):
        tiles = []
        steps = restore_steps(series, config, **more)
        result = run_to_end(
            steps, lambda s: tiles.append(s) if isinstance(s, TileDone) else None
        )
        return result, len(tiles)

    whole, n = run()
    out = tmp_path / "out" / "series.ome.zarr"
    killed(None, out, 2, of=lambda path: restore_steps(series, config, out=path))
    result, after = run(out=out, unfinished=find_unfinished(out))
    assert after == n - 2
    np.testing.assert_array_equal(result.volume.data[:], whole.volume.data[:])


def test_other_settings_do_not_go_on_with_a_killed_run(volume, ready, tmp_path, killed):
    out = tmp_path / "out" / "result.tif"
    killed(ready, out, 1)
    before = sorted(path.name for path in out.parent.iterdir())
    with pytest.raises(
        ConfigError, match=r"^result\.tif was made with different settings"
    ):
        restore(
            prepare(volume, nonfinite="zero"), out=out, unfinished=find_unfinished(out)
        )
    assert sorted(path.name for path in out.parent.iterdir()) == before


def test_the_command_says_that_there_is_a_killed_run(
    volume, whole, tmp_path, killed, capsys
):
    scan = io.write(volume, tmp_path / "scan.tif")
    out = tmp_path / "out" / "result.tif"
    opened = io.read(scan)
    killed(prepare(opened), out, 1)
    before = sorted(path.name for path in out.parent.iterdir())
    words = ["restore", str(scan), "--out", str(out), "--memory", "120MB"]
    assert command([*words, "--threads", "1"]) == 2
    said = capsys.readouterr().err
    assert "killed run had finished" in said
    assert "--continue" in said
    assert "--overwrite" in said
    assert sorted(path.name for path in out.parent.iterdir()) == before
    assert command([*words, "--threads", "1", "--continue"]) == 0
    np.testing.assert_array_equal(io.read(out).data[:], whole)
    assert [path.name for path in out.parent.iterdir()] == ["result.tif"]


def test_the_command_says_that_there_is_a_stopped_run(volume, tmp_path, capsys):
    scan = io.write(volume, tmp_path / "scan.tif")
    out = tmp_path / "out" / "result.tif"
    out.parent.mkdir()
    part, _ = restore(prepare(io.read(scan)), stop_after=1, out=out)
    assert not part.complete
    words = ["restore", str(scan), "--out", str(out), "--memory", "120MB"]
    assert command([*words, "--threads", "1"]) == 2
    said = capsys.readouterr().err
    assert "stopped run had finished" in said
    assert "% of result.tif (result.incomplete.tif)" in said
    assert "--continue" in said
    assert "--overwrite" in said
    assert [path.name for path in out.parent.iterdir()] == ["result.incomplete.tif"]
    assert command([*words, "--threads", "1", "--overwrite"]) == 0
    assert [path.name for path in out.parent.iterdir()] == ["result.tif"]


def test_a_volume_can_be_saved_beside_a_stopped_run(ready, tmp_path):
    out = tmp_path / "result.tif"
    part, _ = restore(ready, stop_after=1, out=out)
    kept = io.write(io.read(part.path), out)
    assert {path.name for path in tmp_path.iterdir()} == {kept.name, part.path.name}


def test_a_journal_that_cannot_be_written_does_not_stop_the_run(
    ready, tmp_path, monkeypatch
):
    monkeypatch.setattr(journal, "_MIN_INTERVAL", 0.0)
    monkeypatch.setattr(journal, "_INTERVAL_FACTOR", 0.0)
    real, calls = journal.write_text, []

    def full(path, *args, **more):
        calls.append(path)
        if len(calls) == 2:
            raise FileError("The disk is full.")
        return real(path, *args, **more)

    monkeypatch.setattr(journal, "write_text", full)
    said = []
    steps = run_steps(ready, out=tmp_path / "result.tif")
    result = run_to_end(
        steps,
        lambda s: said.append(s.message) if isinstance(s, WarningIssued) else None,
    )
    assert result.complete
    assert [m for m in said if "disk is full" in m and "If this run is killed" in m]
    assert [path.name for path in tmp_path.iterdir()] == ["result.tif"]
