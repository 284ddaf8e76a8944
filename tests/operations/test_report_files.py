"""The files of a report: where they go and what they are called."""

from __future__ import annotations

import numpy as np
import pytest

from napari_geosr import measure_porosity
from napari_geosr.core.errors import FileError
from napari_geosr.core.volume import Volume
from napari_geosr.io import atomic
from napari_geosr.operations.measure import MeasureConfig
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
    with pytest.raises(FileError, match="already holds"):
        write(overwrite=False)
    monkeypatch.setattr(report_files, "check", lambda *_, **__: None)
    # At the very same moment: the looks before the rename find nothing yet.
    looks = iter([True, True])
    look = atomic.refuse_existing
    monkeypatch.setattr(
        atomic, "refuse_existing", lambda *a: next(looks, None) or look(*a)
    )
    with pytest.raises(FileError, match=r"report\.json exists"):
        write(overwrite=False)
    assert before == {path: path.read_bytes() for path in files.values()}
    assert len(list((tmp_path / "out").iterdir())) == len(before)
    monkeypatch.undo()
    write()
