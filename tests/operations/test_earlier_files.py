"""Files of an earlier result do not stay in the folder of a new one."""

from __future__ import annotations

import os
from pathlib import Path

import numpy as np
import pytest

from napari_geosr import io
from napari_geosr.cli.app import run
from napari_geosr.core.steps import run_to_end
from napari_geosr.core.volume import Volume
from napari_geosr.operations.earlier_files import EarlierFiles
from napari_geosr.operations.explain import ExplainConfig, explain_steps, write_steps

#: Files that every measurement writes.
ALWAYS = {"report.json", "report.html", "histogram.png", "pores.csv", "values.csv"}


def saved(folder: Path, name: str, seed: int = 0) -> str:
    """Write a scan with two pores that touch, and return its path."""
    data = np.random.default_rng(seed).normal(200, 4, (20, 24, 24))
    data[4:12, 4:12, 4:12] = data[8:16, 10:18, 8:16] = 40
    volume = Volume(data.astype(np.float32), "ZYX", (2.0,) * 3, "µm")
    return str(io.write(volume, folder / name))


def names(folder: Path) -> set[str]:
    return {path.name for path in folder.iterdir()}


def test_a_measurement_leaves_no_files_of_the_last_one(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    scan, out = saved(tmp_path, "scan.ome.tif"), tmp_path / "out"
    again = ["measure", scan, "--out", str(out), "--overwrite"]
    others = [saved(tmp_path, f"other{i}.ome.tif", i) for i in (1, 2)]
    references = [word for path in others for word in ("--reference", path)]
    assert run([*again, "--labels", "--statistics", "network", *references]) == 0
    optional = {
        *("network.csv", "network_reference.csv", "network_reference_2.csv"),
        "pores.ome.tif",
        *("pores_reference.csv", "pores_reference_2.csv"),
    }
    assert names(out) == ALWAYS | optional
    mine = {"notes.txt", "pores_mine.csv", "old_network.csv"}
    for name in mine:
        (out / name).write_text("x")
    assert run([*again, "--labels", "--quiet"]) == 0
    assert names(out) == ALWAYS | mine | {"pores.ome.tif"}
    said = capsys.readouterr().err
    (line,) = (line for line in said.splitlines() if "Removed from" in line)
    removed = ("network", "network_reference", "network_reference_2")
    removed += ("pores_reference", "pores_reference_2")
    assert line.endswith(f"{', '.join(f'{name}.csv' for name in removed)}.")
    assert run([*again, "--quiet"]) == 0
    assert names(out) == ALWAYS | mine
    assert run([*again, "--quiet"]) == 0
    assert capsys.readouterr().err.count("Removed from") == 1  # of the run before


def test_a_failed_measurement_leaves_the_last_result(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    scan, out = saved(tmp_path, "scan.ome.tif"), tmp_path / "out"
    again = ["measure", scan, "--out", str(out), "--overwrite"]
    assert run([*again, "--labels", "--statistics", "network"]) == 0
    before = {path.name: path.read_bytes() for path in out.iterdir()}
    write = Path.write_bytes

    def full(path: Path, content: bytes) -> int:
        if ".report." in path.name:
            raise OSError(28, "No space left on device", str(path))
        return write(path, content)

    monkeypatch.setattr(Path, "write_bytes", full)
    assert run(again) != 0
    assert {path.name: path.read_bytes() for path in out.iterdir()} == before


def test_a_table_without_a_new_value_is_removed(tmp_path: Path) -> None:
    """A scan without pores has no pore network."""
    scan, out = saved(tmp_path, "scan.ome.tif"), tmp_path / "out"
    more = ["--statistics", "network", "--out", str(out), "--overwrite", "--quiet"]
    assert run(["measure", scan, *more]) == 0
    assert "network.csv" in names(out)
    assert run(["measure", scan, "--threshold", "-500", *more]) == 0
    assert names(out) == ALWAYS


def test_an_input_in_the_folder_is_kept(tmp_path: Path) -> None:
    """The sample mask of the new measurement is the label volume of the last one."""
    scan, out = saved(tmp_path, "scan.ome.tif"), tmp_path / "out"
    again = ["measure", scan, "--out", str(out), "--overwrite", "--quiet"]
    assert run([*again, "--labels"]) == 0
    mask = out / "pores.ome.tif"
    assert run([*again, "--mask", str(mask), "--threshold", "500"]) == 0
    assert mask.exists()


def test_files_without_an_earlier_result_are_kept(tmp_path: Path) -> None:
    scan, out = saved(tmp_path, "scan.ome.tif"), tmp_path / "out"
    out.mkdir()
    (out / "network.csv").write_text("x")
    assert run(["measure", scan, "--out", str(out), "--overwrite", "--quiet"]) == 0
    assert names(out) == ALWAYS | {"network.csv"}


def test_a_comparison_leaves_no_files_of_the_last_one(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    scans = [saved(tmp_path, f"scan{i}.ome.tif", i) for i in range(3)]
    out = tmp_path / "out"
    more = ["--out", str(out), "--overwrite", "--quiet"]
    assert run(["compare", *scans, "--difference", "--pores", *more]) == 0
    before = names(out)
    assert {"pores_C.csv", "difference_C.ome.tif"} <= before
    (out / "pores_mine.csv").write_text("x")
    assert run(["compare", *scans[:2], *more]) == 0
    left = names(out)
    assert left == (before - {"pores_C.csv", "difference_C.ome.tif"}) | {
        "pores_mine.csv"
    }
    assert "Removed from" in capsys.readouterr().err


def test_a_file_that_cannot_be_removed_is_named(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("report.json", "a.csv", "b.csv"):
        (tmp_path / name).write_text("x")
    earlier = EarlierFiles(tmp_path / "report.json", r"[ab]\.csv")
    unlink = Path.unlink

    def locked(path: Path, missing_ok: bool = False) -> None:
        if path.name == "b.csv":
            raise PermissionError(13, "in use", str(path))
        unlink(path, missing_ok)

    monkeypatch.setattr(Path, "unlink", locked)
    removed, left = earlier.remove([tmp_path / "report.json"])
    assert removed.endswith(": a.csv.")
    assert "could not be removed: b.csv." in left


def test_an_edited_file_is_kept_and_named(tmp_path: Path) -> None:
    for name in ("report.json", "a.csv", "b.csv"):
        (tmp_path / name).write_text("x")
    written = (tmp_path / "report.json").stat().st_mtime
    os.utime(tmp_path / "a.csv", (written + 120, written + 120))
    earlier = EarlierFiles(tmp_path / "report.json", r"[ab]\.csv")
    removed, kept = earlier.remove([tmp_path / "report.json"])
    assert names(tmp_path) == {"report.json", "a.csv"}
    assert removed.endswith(": b.csv.")
    assert "because they have been modified: a.csv." in kept


@pytest.mark.filterwarnings("ignore::napari_geosr.core.errors.GeoSRWarning")
def test_an_explanation_leaves_no_attributions_of_the_last_one(tmp_path: Path) -> None:
    """A pore table may be one that `measure` wrote, so it is kept."""
    data = np.random.default_rng(0).normal(200, 10, (12, 32, 32)).astype(np.float32)
    data[4:8, 12:18, 12:18] -= 100
    volume = Volume(data, "ZYX", (2.0,) * 3, "µm", name="scan")
    config = ExplainConfig.create(
        model="ct-denoise", threads=1, at=(6, 14, 14), method=("filter",)
    )
    result = run_to_end(explain_steps(volume, config))
    run_to_end(write_steps(result, tmp_path))
    for name in ("evidence.ome.tif", "pores.csv", "mine.ome.tif"):
        (tmp_path / name).write_text("x")
    run_to_end(write_steps(result, tmp_path, overwrite=True))
    assert names(tmp_path) == {
        *("explanation.json", "filter.ome.tif", "pores.csv", "mine.ome.tif"),
    }
