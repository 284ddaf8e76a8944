"""Tests, and fixtures of whole modules, keep their jobs off the user's list."""

from __future__ import annotations

from pathlib import Path

import pytest

from napari_geosr.jobs.folder import JobFolder
from napari_geosr.jobs.index import index_folder, list_jobs, register


@pytest.fixture(scope="module")
def place_of_the_module() -> Path:
    return index_folder()


def test_the_list_lies_among_temporary_folders(
    place_of_the_module: Path, tmp_path_factory: pytest.TempPathFactory
) -> None:
    root = tmp_path_factory.getbasetemp()
    assert place_of_the_module.is_relative_to(root)
    assert index_folder().is_relative_to(root)


@pytest.mark.parametrize("time", ["first", "second"])
def test_each_test_has_a_list_of_its_own(tmp_path: Path, time: str) -> None:
    assert list_jobs() == []
    register(JobFolder.create(tmp_path / time, {"operation": "train"}, name=time))
    assert [job.name for job in list_jobs()] == [time]
