"""The folder of a new job is unique, and removed if the job cannot be created."""

from __future__ import annotations

from collections.abc import Generator
from pathlib import Path

import numpy as np
import pytest

from napari_geosr import io
from napari_geosr.core.errors import ConfigError, FileError
from napari_geosr.core.volume import Volume
from napari_geosr.jobs.cluster import queue_record
from napari_geosr.jobs.cluster.queue_record import QueueRecord
from napari_geosr.jobs.data import new_folder, removed_on_failure, write_into_job


def test_a_job_that_cannot_be_made_leaves_no_folder(tmp_path: Path) -> None:
    def make() -> None:
        with removed_on_failure(new_folder(tmp_path, "job")) as folder:
            (folder / "data").mkdir()
            raise ConfigError("no such method")

    with pytest.raises(ConfigError, match="no such method"):
        make()
    assert not any(tmp_path.iterdir())


def test_a_job_that_is_made_keeps_its_folder(tmp_path: Path) -> None:
    with removed_on_failure(new_folder(tmp_path, "job")) as folder:
        (folder / "data").mkdir()
    assert (tmp_path / "job" / "data").is_dir()


def test_a_job_that_a_queue_has_accepted_keeps_its_folder(tmp_path: Path) -> None:
    def submit() -> None:
        with removed_on_failure(new_folder(tmp_path, "job")) as folder:
            queue_record.write_record(folder, QueueRecord("slurm", "SLURM", "12"))
            raise KeyboardInterrupt  # just after the queue's answer

    with pytest.raises(KeyboardInterrupt):
        submit()
    assert (tmp_path / "job").is_dir()


def test_making_a_job_that_is_cancelled_between_steps_leaves_no_folder(
    tmp_path: Path,
) -> None:
    def steps() -> Generator[Path, None, None]:
        with removed_on_failure(new_folder(tmp_path, "job")) as folder:
            yield folder

    making = steps()
    folder = next(making)
    assert folder.exists()
    making.close()
    assert not folder.exists()


def test_a_volume_is_written_into_a_folder_of_the_job(tmp_path: Path) -> None:
    values = np.arange(24, dtype=np.uint8).reshape(2, 3, 4)
    path = tmp_path / "job" / "data" / "mask.ome.zarr"
    assert write_into_job(Volume(values, "ZYX"), path) == path
    assert np.array_equal(np.asarray(io.read(path).data), values)


def test_a_folder_that_cannot_be_made_is_told(tmp_path: Path) -> None:
    (tmp_path / "job").write_text("a file")
    volume = Volume(np.zeros((2, 3, 4), np.uint8), "ZYX")
    with pytest.raises(FileError, match="cannot be created"):
        write_into_job(volume, tmp_path / "job" / "data" / "mask.ome.zarr")
