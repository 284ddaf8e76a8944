"""Training on volumes and arrays in memory."""

from __future__ import annotations

import numpy as np
import pytest
from safetensors.numpy import load_file

import napari_geosr as geosr
from napari_geosr.core.errors import ConfigError, FileError
from napari_geosr.core.volume import Volume
from napari_geosr.operations.train import TrainJob, config_class, open_roles
from napari_geosr.operations.train.in_memory import entry_for

SMALL = {"steps": 3, "batch_size": 2, "patch": 16, "layers": 1, "width": 2}
SMALL |= {"device": "cpu", "threads": 1}


def weights(model) -> dict[str, np.ndarray]:
    return load_file(next(model.path.glob("*.safetensors")))


@pytest.fixture
def scans(rng) -> tuple[np.ndarray, np.ndarray]:
    clean = rng.normal(size=(8, 40, 40))
    return tuple((clean + rng.normal(size=clean.shape)).astype("f4") for _ in range(2))


def test_memory_and_files_give_the_same_model(scans, tmp_path):
    paths = [geosr.write(s, tmp_path / f"{i}.tif") for i, s in enumerate(scans)]
    of_files = geosr.train("noise2noise", tmp_path / "a", *paths, **SMALL)
    of_arrays = geosr.train("noise2noise", tmp_path / "b", *scans, **SMALL)
    of_both = geosr.train(
        "noise2noise", tmp_path / "c", str(paths[0]), [Volume(scans[1], "ZYX")], **SMALL
    )
    for model in (of_arrays, of_both):
        found, expected = weights(model), weights(of_files)
        assert found.keys() == expected.keys()
        assert all(np.array_equal(found[k], expected[k]) for k in found)


def test_the_card_tells_what_was_in_memory(scans, tmp_path):
    scan = Volume(scans[0], "ZYX", name="Cement 7")
    model = geosr.train("noise2void", tmp_path / "job", scan, **SMALL)
    assert model.card.name == "noise2void-cement-7"
    record = model.card.provenance
    assert record["settings"]["training"]["source"] == ["memory:Cement 7"]
    assert "'Cement 7'" in model.card.description


def test_other_data_do_not_go_on_with_a_training(scans, tmp_path):
    geosr.train("noise2void", tmp_path / "job", scans[0], **SMALL)
    with pytest.raises(FileError, match="changed since this training run began"):
        geosr.train("noise2void", tmp_path / "job", scans[1], **SMALL)


def test_a_job_elsewhere_has_no_volume_of_this_memory(scans):
    scan = Volume(scans[0], "ZYX", name="scan")
    training = config_class("noise2void").create(source=[entry_for(scan)])
    job = TrainJob(method="noise2void", training=training).with_absolute_paths()
    assert job.training.source == (entry_for(scan),)
    with pytest.raises(FileError, match="'scan' was given in memory"):
        job.check()
    assert job.check({entry_for(scan): scan})["source"] == [scan]


def test_entries_of_namesakes_differ():
    first = Volume(np.zeros((4, 4)), "YX", name="a/b")
    entry = entry_for(first)
    assert entry.name == "memory:a-b"
    assert entry_for(first, {entry}).name == "memory:a-b-2"


def test_a_time_series_in_memory_is_learned_from_as_one_of_a_file(rng):
    frames = Volume(rng.normal(size=(5, 24, 24)), "TYX", name="frames")
    entry = entry_for(frames)
    settings = {"source": [entry], "dimensions": "2D"}
    job = TrainJob(
        method="noise2void", training=config_class("noise2void").create(**settings)
    )
    from napari_geosr.learning.methods import METHODS

    opened = open_roles(job, METHODS.load("noise2void").Method, {entry: frames})
    assert opened["source"][0].axes == "ZYX"


def test_an_unknown_setting_is_told(scans, tmp_path):
    with pytest.raises(ConfigError, match="'stepps'.*'steps'"):
        geosr.train("noise2void", tmp_path / "job", scans[0], stepps=3)


def test_the_same_voxels_are_not_learned_from_twice(scans, tmp_path):
    with pytest.raises(ConfigError, match="'target' is given twice"):
        geosr.train("noise2noise", tmp_path / "job", scans[0], scans[0], **SMALL)
    assert not (tmp_path / "job").exists()


def test_a_training_may_start_from_a_model_itself(scans, tmp_path):
    first = geosr.train("noise2void", tmp_path / "a", scans[0], **SMALL)
    more = {"steps": 1, "batch_size": 1, "patch": 16, "device": "cpu", "threads": 1}
    model = geosr.train(
        "noise2void", tmp_path / "b", scans[0], from_model=first, name="more", **more
    )
    settings = model.card.provenance["settings"]["training"]
    assert settings["from_model"] == str(first.path)
