"""Samples of a diffusion model depend on the seed, and are marked as generated."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from scipy.ndimage import gaussian_filter

import napari_geosr as geosr
from napari_geosr.cli.app import run
from napari_geosr.core.errors import Cancelled, ConfigError, FileError, ModelError
from napari_geosr.core.steps import run_to_end
from napari_geosr.core.volume import Volume
from napari_geosr.learning.diffusion.copies import training_planes_steps
from napari_geosr.operations.generate import GenerateConfig, generate_steps
from napari_geosr.operations.generate import run as run_module

SMALL: dict[str, Any] = {"batch_size": 2, "patch": 16, "steps": 2, "device": "cpu"}


@pytest.fixture(scope="module")
def prior(tmp_path_factory: pytest.TempPathFactory) -> str:
    scan = np.random.default_rng(0).normal(1000, 50, (12, 32, 32)).astype("f4")
    folder = tmp_path_factory.mktemp("prior") / "job"
    geosr.train("ddpm", folder, scan, name="rock", width=8, layers=1, **SMALL)
    return str(folder)


def drawn(
    model: str, out: Path, images: Sequence[Volume] = (), **values: Any
) -> list[Path]:
    config = GenerateConfig.create(**{"sampling_steps": 3, "shape": "24,40"} | values)
    made = run_to_end(generate_steps(model, out, config, training_images=images))
    return list(made.files)


def blobs(n: int, seed: int) -> np.ndarray:
    """Independent images of smooth random structure with a little noise."""
    rng = np.random.default_rng(seed)
    smooth = gaussian_filter(rng.standard_normal((n, 48, 48)), (0, 3, 3))
    noise = 0.1 * rng.standard_normal(smooth.shape)
    return (1000 + 100 * (smooth / smooth.std() + noise)).astype("f4")


class Prior:
    """Stands for a network: what it draws is given."""

    def __init__(self, samples: np.ndarray) -> None:
        self.samples = samples

    def __call__(self, *arguments: Any) -> np.ndarray:
        return self.samples[arguments[3]]


def test_a_sample_is_a_function_of_the_seed(prior: str, tmp_path: Path) -> None:
    first = [geosr.read(p) for p in drawn(prior, tmp_path / "a", number=2)]
    again = [geosr.read(p) for p in drawn(prior, tmp_path / "b", number=1)]
    other = [geosr.read(p) for p in drawn(prior, tmp_path / "c", number=1, seed=1)]
    np.testing.assert_array_equal(first[0].data, again[0].data)
    for volume in (first[1], other[0]):
        assert np.abs(np.asarray(volume.data) - first[0].data).max() > 1
    assert first[0].shape == (24, 40)
    # in grey values of the training data
    assert 500 < float(np.mean(first[0].data)) < 1500


def test_a_sample_is_marked_as_generated(prior: str, tmp_path: Path) -> None:
    (path,) = drawn(prior, tmp_path, number=1)
    assert path.name == "generated_rock_0000.ome.tif"
    record = geosr.read(path).provenance[-1]
    assert (record["operation"], record["generated"]) == ("generate", True)
    assert "not a measurement" in record["note"]
    assert record["model"]["name"] == "rock"
    with pytest.raises(FileError, match="exists"):
        drawn(prior, tmp_path, number=1)


def test_what_cannot_be_drawn(prior: str, tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="2 numbers"):
        drawn(prior, tmp_path, shape="8,8,8")
    with pytest.raises(ConfigError, match="at least 8"):
        drawn(prior, tmp_path, shape="4,40")
    with pytest.raises(ModelError, match="its task is denoise"):
        drawn("ct-denoise", tmp_path)
    assert not list(tmp_path.iterdir())


def test_copies_of_training_images_are_refused(
    prior: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    known, new = blobs(12, 1), blobs(4, 2)
    turned = np.rot90(np.roll(known[7], (6, -5), (0, 1)))[:, ::-1]
    noise = 5 * np.random.default_rng(3).standard_normal(turned.shape)
    made = np.stack([*new[:2], turned + noise, new[2]])
    monkeypatch.setattr(run_module, "_drawn", Prior(made))
    images = [Volume(known[:5], "ZYX"), Volume(known[5:], "ZYX")]
    with pytest.raises(ModelError, match=r"1 of the first 3 samples is a copy of a"):
        drawn(prior, tmp_path, images, number=4, shape="48,48")
    assert not list(tmp_path.iterdir())
    # One of a hundred may exceed the limit by chance.
    monkeypatch.setattr(run_module, "_MAX_COPIES", 0.25)
    assert len(drawn(prior, tmp_path, images, number=4, shape="48,48")) == 4


def test_new_images_are_no_copies(
    prior: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(run_module, "_drawn", Prior(blobs(6, 2)))
    images = [Volume(blobs(8, 1), "ZYX")]
    files = drawn(prior, tmp_path, images, number=6, shape="48,48")
    for file in files:
        record = geosr.read(file).provenance[-1]
        similarity = record["similarity_to_training"]
        assert 0.2 < similarity < record["similarity_limit"] < 1
    few = [Volume(blobs(3, 1), "ZYX")]
    with pytest.raises(ConfigError, match="only 3 training images"):
        drawn(prior, tmp_path / "few", few, number=1, shape="48,48")
    with pytest.raises(ConfigError, match="at least 16 voxels"):
        drawn(prior, tmp_path / "small", images, number=1, shape="48,12")
    assert not (tmp_path / "few").exists()


def test_a_sample_without_structure_resembles_nothing() -> None:
    steps = training_planes_steps([Volume(blobs(6, 1), "ZYX")], (48, 48), lambda: False)
    known = run_to_end(steps)
    assert known.similarity(np.ones((48, 48), "f4")) == 0
    assert known.similarity(blobs(6, 1)[:3]) > known.limit  # the central plane
    assert known.limit > known.usual > 0
    with pytest.raises(Cancelled):
        known.similarity(blobs(1, 2)[0], lambda: True)


def test_command(
    prior: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "made"
    line = f"generate {prior} --number 2 --shape 16,16 --sampling-steps 2 --threads 1"
    line += f" -o {out}"
    assert run(line.split()) == 0
    said = capsys.readouterr()
    assert "2 generated samples" in said.out
    assert "(--training-images)" in said.err
    assert len(list(out.iterdir())) == 2
    geosr.write(Volume(blobs(8, 1), "ZYX"), tmp_path / "known.tif")
    line += f" --overwrite --training-images {tmp_path / 'known.tif'}"
    assert run(line.split()) == 0
    said = capsys.readouterr()
    assert "Similarity to the training images: at most" in said.out
    assert "(--training-images)" not in said.err
    assert run([*line.split(), "--json"]) == 0
    found = json.loads(capsys.readouterr().out)["similarity"]
    assert len(found["samples"]) == 2
    assert max(found["samples"]) < found["limit"]
