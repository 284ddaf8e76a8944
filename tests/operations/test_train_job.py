"""A training's settings hold in the working folder of any process."""

from __future__ import annotations

from pathlib import Path

import pytest

from napari_geosr.operations.train import TrainJob, config_class


def test_a_model_given_by_its_path_is_found_from_any_folder(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "models" / "mine").mkdir(parents=True)
    (tmp_path / "foam-denoise").mkdir()

    def absolute(text: str | None) -> str | None:
        config = config_class("noise2noise").create(from_model=text)
        job = TrainJob(method="noise2noise", training=config).with_absolute_paths()
        return job.training.from_model

    assert absolute("models/mine") == str(tmp_path / "models" / "mine")
    assert absolute(None) is None
    assert absolute("not-there") == "not-there"
    assert absolute("foam-denoise") == "foam-denoise"  # a name comes first
