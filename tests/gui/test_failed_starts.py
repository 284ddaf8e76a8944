"""Jobs that docks create: nothing stays if the process cannot be started."""

from __future__ import annotations

import numpy as np
import pytest
from tomography_helpers import scan_file

from napari_geosr import io
from napari_geosr.core.errors import JobError
from napari_geosr.core.steps import never_stop, run_to_end
from napari_geosr.core.volume import Volume
from napari_geosr.gui.jobs import start as train_start
from napari_geosr.gui.layers.projections import OpenedScan
from napari_geosr.gui.reconstruct.denoise_box import denoise_steps
from napari_geosr.gui.study import start as study_start
from napari_geosr.io.projections import read_projections
from napari_geosr.jobs import index, local
from napari_geosr.jobs.folder import JobFolder
from napari_geosr.operations.reconstruct import ReconstructConfig
from napari_geosr.operations.study.config import StudyConfig

SMALL = {"layers": 3, "width": 2, "batch_size": 2, "patch": 8, "steps": 5}
ROWS = 12


@pytest.fixture(scope="module")
def opened(tmp_path_factory):
    path = scan_file(tmp_path_factory.mktemp("scan"), rows=ROWS)
    return OpenedScan(read_projections(path))


def training(opened, parent):
    noisy = Volume(np.random.default_rng(0).normal(size=(4, 32, 32)), "ZYX", name="a")
    data = {"source": (noisy,), "target": (noisy.replace(data=noisy.data + 1),)}
    settings = {**SMALL, "name": "mine", "device": "cpu"}
    plan = train_start.TrainingPlan("noise2noise", settings, data)
    return train_start.start_steps(plan, parent, "mine")


def study_plan(opened, **volumes):
    config = StudyConfig.create(counts=(10, 20), algorithms=("fbp",), centre=26.3)
    return study_start.StudyPlan(opened, config, **volumes)


def study(opened, parent):
    return study_start.start_steps(study_plan(opened), parent, None, never_stop)


def denoising(opened, parent):
    settings = {**SMALL, "name": "mine", "device": "cpu"}
    config = ReconstructConfig.create(centre=26.3)
    return denoise_steps(opened, config, None, settings, 2, parent, never_stop)


@pytest.mark.parametrize("make", [training, study, denoising])
def test_a_job_that_cannot_be_started_leaves_no_folder(
    make, opened, tmp_path, monkeypatch
):
    started = []

    def refuse(job, _command):
        started.append(job.path)
        raise JobError("No more processes.")

    monkeypatch.setattr(local, "_spawn", refuse)
    with pytest.raises(JobError, match="No more processes"):
        run_to_end(make(opened, tmp_path))
    assert len(started) == 1
    assert list(tmp_path.iterdir()) == []
    assert not index.is_listed(started[0])


def test_a_reference_of_wide_integers_keeps_its_values(opened, tmp_path, monkeypatch):
    monkeypatch.setattr(study_start.local, "start", lambda _job: 1)
    n = opened.scan.n_columns
    grey = np.random.default_rng(1).integers(0, 2**40, (ROWS, n, n))
    labels = np.zeros(grey.shape, np.int64)
    labels[:, 10:40, 10:40] = 7
    plan = study_plan(
        opened,
        reference=Volume(grey, "ZYX", name="truth"),
        mask=Volume(labels > 0, "ZYX", name="inside"),
    )
    folder = run_to_end(study_start.start_steps(plan, tmp_path, None, never_stop))
    data = JobFolder(folder).values()["data"]
    np.testing.assert_array_equal(io.read(data["reference"]).data, grey)
    np.testing.assert_array_equal(io.read(data["mask"]).data, labels > 0)
    # The files are those of the layers, so that the study can be resumed.
    assert run_to_end(study_start.start_steps(plan, tmp_path, folder, never_stop)) == (
        folder
    )
