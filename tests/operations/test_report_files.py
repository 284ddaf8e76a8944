"""The files of a report: where they go and what they are called."""

from __future__ import annotations

import pytest

from napari_geosr.core.errors import FileError
from napari_geosr.operations import report_files


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
