"""The files of a report: their folder and their names."""

from __future__ import annotations

import errno
import json
import os
import re
import threading
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest

from napari_geosr import io, measure_porosity
from napari_geosr.core.errors import FileError
from napari_geosr.core.volume import Volume
from napari_geosr.io.unfinished_files import atomic
from napari_geosr.io.unfinished_files.claims import FileInUseError
from napari_geosr.io.unfinished_files.hidden import temporary_sibling
from napari_geosr.operations.measure import MeasureConfig, reference_key
from napari_geosr.operations.measure import files as report_files


@pytest.mark.parametrize("name", ["../../evil", "a/b", "c:\\d", "nul\0", "ü" * 300])
def test_no_name_leaves_the_folder(tmp_path, name):
    files = report_files.plan(tmp_path, ["input", name], stem="s")
    path = files[f"csv {name}"]
    assert path.parent == tmp_path
    path.write_text("x")
    assert [p.name for p in tmp_path.iterdir()] == [path.name]


def test_names_that_become_alike_keep_files_of_their_own(tmp_path):
    names = ["input", "a/b", "a b", "A_B", "a_b_"]
    files = report_files.plan(tmp_path, names)
    assert len({path.name.lower() for path in files.values()}) == len(files)


def test_what_is_in_the_way_is_named(tmp_path):
    files = report_files.plan(tmp_path, ["input"])
    files["json"].write_text("x")
    with pytest.raises(FileError, match=r"report\.json.*allow overwriting"):
        report_files.check(files, overwrite=False)
    report_files.check(files, overwrite=True)


def test_the_second_of_two_measurements_into_one_folder_fails(tmp_path, monkeypatch):
    data = np.full((6, 8, 8), 200, np.uint8)
    data[2:4, 2:5, 2:5] = 50
    volumes = {"input": Volume(data, "ZYX")}
    reports = {"input": measure_porosity(volumes["input"])}
    files = report_files.plan(tmp_path / "out", ["input"])

    def write(**more):
        report_files.write(files, volumes, reports, MeasureConfig(), {}, **more)

    write(overwrite=False)
    before = {path: path.read_bytes() for path in files.values()}
    with pytest.raises(
        FileError, match=r"already contains.*created.*written to"
    ) as said:
        write(overwrite=False)
    kept = tmp_path / "out_2"
    assert str(said.value).endswith(f"{kept}.")
    assert {path.name: path.read_bytes() for path in kept.iterdir()} == {
        path.name: content for path, content in before.items()
    }
    monkeypatch.setattr(report_files, "check", lambda *_, **__: None)
    monkeypatch.setattr(report_files, "existing_files", lambda _: [])
    # At the same moment: the checks before the rename find nothing yet.
    late: list[bool] = []
    look, link = atomic.refuse_existing, os.link

    def linked(old, new):
        late.append(new == files["json"])
        link(old, new)

    monkeypatch.setattr(os, "link", linked)
    monkeypatch.setattr(
        atomic, "refuse_existing", lambda *a: look(*a) if any(late) else None
    )
    with pytest.raises(FileError, match=r"report\.json exists"):
        write(overwrite=False)
    assert before == {path: path.read_bytes() for path in files.values()}
    assert len(list((tmp_path / "out").iterdir())) == len(before)
    monkeypatch.undo()
    write()


def test_a_report_is_claimed_by_one_run(tmp_path):
    files = report_files.plan(tmp_path / "a" / "b", ["input"])
    refused = []

    def measure_too():
        try:
            with report_files.claimed(files):
                pass
        except FileInUseError as error:
            refused.append(str(error))

    with report_files.claimed(files):
        thread = threading.Thread(target=measure_too)
        thread.start()
        thread.join()
    assert len(refused) == 1
    assert "still writing to report.json" in refused[0]
    assert not list(tmp_path.iterdir())  # the folders were not needed
    with report_files.claimed(files):
        files["csv"].write_text("x")
    assert [p.name for p in files["csv"].parent.iterdir()] == ["pores.csv"]


@pytest.fixture
def measured():
    """A small volume, and its report."""
    data = np.full((6, 8, 8), 200, np.uint8)
    data[2:4, 2:5, 2:5] = 50
    volumes = {"input": Volume(data, "ZYX")}
    return volumes, {"input": measure_porosity(volumes["input"])}


@pytest.mark.parametrize("fails_at", ["pores.csv", "histogram.png", "report.html"])
@pytest.mark.parametrize("there_before", [False, True])
def test_on_a_full_disk_there_are_all_files_or_none(
    measured, tmp_path, monkeypatch, fails_at, there_before
):
    volumes, reports = measured
    files = report_files.plan(tmp_path, ["input"], labels=True)
    before = {}
    if there_before:
        report_files.write(files, volumes, reports, MeasureConfig(), {"old": 1})
        before = {path.name: path.read_bytes() for path in tmp_path.iterdir()}
    write = Path.write_bytes

    def full(path, content):
        if all(f".{part}." in path.name for part in fails_at.split(".")):
            raise OSError(errno.ENOSPC, "No space left on device", str(path))
        return write(path, content)

    with monkeypatch.context() as disk:
        disk.setattr(Path, "write_bytes", full)
        with pytest.raises(FileError, match=r"could not be written: the disk"):
            report_files.write(files, volumes, reports, MeasureConfig(), {"new": 1})
    assert {p.name: p.read_bytes() for p in tmp_path.iterdir()} == before


def test_what_a_killed_measurement_left_goes(measured, tmp_path):
    volumes, reports = measured
    files = report_files.plan(tmp_path, ["input"], labels=True)
    for path in files.values():
        suffix = ".ome.tif" if path == files["labels"] else path.suffix
        left = temporary_sibling(path, suffix)
        left.write_bytes(b"half")
        os.utime(left, (1e9, 1e9))
    report_files.write(files, volumes, reports, MeasureConfig(), {})
    assert sorted(tmp_path.iterdir()) == sorted(files.values())


def test_room_for_labels_is_checked_before_the_work(tmp_path, monkeypatch):
    usage = SimpleNamespace(free=16 * 1024**2 + 50_000, total=1024**3)
    monkeypatch.setattr("shutil.disk_usage", lambda _: usage)
    volume = Volume(np.zeros((10, 40, 40), np.uint8), "ZYX")
    files = report_files.plan(tmp_path / "new" / "report", ["input"], labels=True)
    with pytest.raises(FileError, match=r"pores\.ome\.tif needs 64 kB"):
        report_files.check_space(files, volume)
    del files["labels"]
    report_files.check_space(files, volume)


def test_a_stored_report_is_exported_as_a_new_one(tmp_path, rng):
    """The pictures, curves and tables of a job's report are kept."""
    from scipy.ndimage import gaussian_filter

    from napari_geosr.core.steps import run_to_end
    from napari_geosr.operations.inputs.job_input import JobInput
    from napari_geosr.operations.measure.job import MeasureJob
    from napari_geosr.operations.measure.job import measure_job_steps as run
    from napari_geosr.operations.measure.stored import read_reports

    data = gaussian_filter(rng.normal(size=(30, 32, 34)), 2).astype(np.float32)
    scan = io.write(Volume(data, "ZYX"), tmp_path / "scan.ome.tif")
    statistics = ("profile", "network", "cortical")
    settings = MeasureConfig(statistics=statistics, group="d > 5")
    job = MeasureJob(name="scan", data=JobInput(volume=scan), settings=settings)
    page = run_to_end(run(job, tmp_path / "job"))
    assert page is not None
    reports, record = read_reports(page.parent)
    names, volumes = list(reports), {"input": job.data.open()}
    files = report_files.plan(tmp_path / "again", names, statistics=settings.statistics)
    report_files.write(files, volumes, reports, settings, record)
    again = files["html"].read_text("utf-8")
    before = page.read_text("utf-8")
    for text in (again, before):
        # Histogram, picture in 3D, profile, and up to 4 of the slices of bone.
        assert text.count("<img") == 7
    pictures = [
        re.findall(r'<figure><img alt="[^"]*" src="[^"]*"', text)
        for text in (again, before)
    ]
    assert pictures[0] == pictures[1]
    for name in ("network", "cortical"):
        table = (page.parent / f"{name}.csv").read_bytes()
        assert files[f"table {name}"].read_bytes() == table


def test_several_references_are_columns_side_by_side(tmp_path, rng, capsys):
    from napari_geosr.cli.app import run

    paths = []
    for i in range(4):
        data = rng.normal(200, 4, (16, 18, 20))
        data[4 : 8 + i, 4:8, 4:8] = 40
        size = (4.0,) * 3 if i == 1 else (2.0,) * 3
        volume = Volume(data.astype(np.float32), "ZYX", size, "µm")
        paths.append(str(io.write(volume, tmp_path / f"scan{i}.ome.tif")))
    out = tmp_path / "report"
    more = [word for path in paths[1:] for word in ("--reference", path)]
    assert run(["measure", paths[0], *more, "--out", str(out)]) == 0
    shown = capsys.readouterr().out
    names = shown.splitlines()[0]
    assert [word.split(".")[0] for word in names.split()] == [
        *("scan1", "scan2", "scan3", "scan0")
    ]
    table = shown.split("second lines")[0]
    assert max(map(len, table.splitlines())) <= 80
    assert "second lines: change relative to scan1" in shown
    values = json.loads((out / "report.json").read_text("utf-8"))
    voxels = [
        values["pore_voxels"],
        *(values[reference_key(i)]["pore_voxels"] for i in range(3)),
    ]
    assert voxels == [16 * n for n in (4, 5, 6, 7)]
    # The smallest pore has 8 of the large voxels of scan1.
    assert values["provenance"]["settings"]["min_voxels"] == values["min_voxels"] == 64
    page = (out / "report.html").read_text("utf-8")
    head = re.search(r"<thead>.*?</thead>", page).group()
    columns = re.findall(r'<th scope="col">([^<]*)</th>', head)
    assert [c.split(".")[0] for c in columns] == [
        "",
        "scan1",
        "scan2",
        "scan3",
        "scan0",
    ]
    tables = sorted(path.name for path in out.glob("pores*.csv"))
    assert len(tables) == 4


@pytest.mark.skipif(not Path("/proc/self").exists(), reason="needs /proc")
def test_the_message_names_the_folder_that_cannot_be_created() -> None:
    files = {"json": Path("/proc/x/report.json")}
    with pytest.raises(FileError, match=r"written to /proc/x: .* created in /proc\."):
        report_files.check(files, overwrite=True)
