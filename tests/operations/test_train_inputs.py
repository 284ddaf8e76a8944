"""Training is not resumed with data other than the original ones."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tifffile

from napari_geosr import train
from napari_geosr.core.errors import FileError
from napari_geosr.core.steps import (
    run_to_end,
)
from napari_geosr.io import read
from napari_geosr.operations.inputs.unchanged import (
    check_inputs_unchanged,
    record_inputs,
)
from napari_geosr.operations.train import TrainJob, config_class, train_steps


def write(path: Path, seed: int, shape: tuple[int, ...] = (8, 40, 40)) -> Path:
    data = np.random.default_rng(seed).normal(size=shape).astype(np.float32)
    tifffile.imwrite(path, data)
    return path


@pytest.fixture
def job(tmp_path: Path) -> TrainJob:
    training = config_class("noise2noise").create(
        source=[write(tmp_path / "a.tif", 0)],
        target=[write(tmp_path / "b.tif", 1)],
        name="m",
        steps=3,
        batch_size=2,
        patch=16,
        layers=1,
        width=2,
        device="cpu",
        threads=1,
    )
    return TrainJob(method="noise2noise", training=training)


def begin(job: TrainJob, folder: Path, steps: int) -> Any:
    asked = iter([False] * steps + [True])
    return run_to_end(train_steps(job, folder, should_stop=lambda: next(asked)))


def test_changed_content_is_said_and_the_old_goes_on(
    job: TrainJob, tmp_path: Path
) -> None:
    folder = tmp_path / "job"
    assert begin(job, folder, 2) is None
    write(tmp_path / "b.tif", 2)
    with pytest.raises(FileError, match=r"b\.tif has changed.*contents have changed"):
        run_to_end(train_steps(job, folder))
    write(tmp_path / "b.tif", 1)
    assert run_to_end(train_steps(job, folder)).name == "m"


def test_another_shape_is_said_before_anything_else(
    job: TrainJob, tmp_path: Path
) -> None:
    folder = tmp_path / "job"
    begin(job, folder, 1)
    write(tmp_path / "a.tif", 0, (8, 40, 48))  # nor does it match its target
    with pytest.raises(
        FileError,
        match="a.tif .* was 8 × 40 × 40 and is now 8 × 40 × 48.*put the",
    ):
        run_to_end(train_steps(job, folder))


def test_before_anything_was_learned_the_data_may_change(
    job: TrainJob, tmp_path: Path
) -> None:
    folder = tmp_path / "job"
    begin(job, folder, 1)
    (folder / "checkpoints" / "latest.pt").unlink()  # killed before the first one
    write(tmp_path / "a.tif", 5)
    assert run_to_end(train_steps(job, folder)) is not None


@pytest.mark.parametrize(("before", "now"), [(1, 2), (2, 1)])
def test_files_that_come_or_go_are_named(tmp_path: Path, before: int, now: int) -> None:
    volumes = [read(write(tmp_path / f"{n}.tif", n)) for n in range(2)]
    record_inputs(tmp_path, {"source": volumes[:before]})
    said = "is new" if now > before else "is missing"
    with pytest.raises(FileError, match=rf"1\.tif {said} .*source 2"):
        check_inputs_unchanged(tmp_path, {"source": volumes[:now]})


def test_jobs_of_earlier_releases_go_on(job: TrainJob, tmp_path: Path) -> None:
    folder = tmp_path / "job"
    begin(job, folder, 1)
    (folder / "inputs.json").unlink()
    assert run_to_end(train_steps(job, folder)) is not None


def test_folders_and_arrays_are_told_apart_too(tmp_path: Path) -> None:
    slices = tmp_path / "slices"
    slices.mkdir()
    rng = np.random.default_rng(0)
    for z in range(6):
        plane = rng.integers(0, 255, (64, 64)).astype(np.uint16)
        tifffile.imwrite(slices / f"{z}.tif", plane)
    given = {"source": [read(slices)]}
    record_inputs(tmp_path, given)
    check_inputs_unchanged(tmp_path, given)
    tifffile.imwrite(slices / "3.tif", plane + 1)
    with pytest.raises(FileError, match="slices has changed"):
        check_inputs_unchanged(tmp_path, {"source": [read(slices)]})
    volume = read(write(tmp_path / "a.tif", 0)).replace(source=None)
    record_inputs(tmp_path, {"source": [volume]})
    other = volume.replace(data=np.asarray(volume.data[:]) + 1)
    with pytest.raises(FileError, match="has changed"):
        check_inputs_unchanged(tmp_path, {"source": [other]})


def test_checking_and_training_open_the_files_once(
    job: TrainJob, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from napari_geosr.operations.train import job as module

    opened: list[Path] = []
    original = module._open

    def noted(path: Path, *more: Any) -> Any:
        opened.append(path)
        return original(path, *more)

    monkeypatch.setattr(module, "_open", noted)
    settings = job.training.model_dump(exclude_unset=True)
    train("noise2noise", tmp_path / "job", **settings)
    assert len(opened) == 2
