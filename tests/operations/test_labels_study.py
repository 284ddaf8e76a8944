"""Studies of labelled slices: which data a stored study belongs to, and stopping."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from napari_geosr.core.errors import Cancelled, ConfigError
from napari_geosr.core.steps import run_to_end
from napari_geosr.core.volume import Volume
from napari_geosr.operations.study.config import LabelsStudyConfig
from napari_geosr.operations.study.labels import _LabelsStudy, study_labels_steps

_CONFIG = LabelsStudyConfig.create(counts=(1,), draws=2, steps=1, patch=16)


@pytest.fixture
def scan(rng: np.random.Generator) -> Volume:
    return Volume(rng.normal(size=(6, 16, 16)).astype(np.float32), "ZYX", name="scan")


@pytest.fixture
def labels(scan: Volume) -> Volume:
    return scan.replace(data=(np.asarray(scan.data) > 0).astype(np.uint8))


def _begin(scan: Volume, labels: Volume, folder: Path) -> _LabelsStudy:
    study = _LabelsStudy(scan, labels, folder, _CONFIG)
    run_to_end(study.begin_steps(overwrite=False, should_stop=lambda: False))
    return study


def test_a_study_of_other_voxels_is_not_resumed(
    tmp_path: Path, scan: Volume, labels: Volume
) -> None:
    _begin(scan, labels, tmp_path)._write()
    _begin(scan, labels, tmp_path)
    other_scan = scan.replace(data=np.asarray(scan.data) + 1)
    other_labels = labels.replace(data=1 - np.asarray(labels.data))
    for data in ((other_scan, labels), (scan, other_labels)):
        with pytest.raises(ConfigError, match="different data or settings"):
            _begin(*data, tmp_path)


def test_a_stop_ends_training(tmp_path: Path, scan: Volume, labels: Volume) -> None:
    steps = study_labels_steps(
        scan, labels, tmp_path, _CONFIG, should_stop=lambda: True
    )
    with pytest.raises(Cancelled, match="Training was stopped"):
        run_to_end(steps)
    assert not (tmp_path / "labels.json").exists()
