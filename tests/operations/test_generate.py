"""Samples of a diffusion model: a function of the seed, and marked as generated."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tifffile
from scipy.ndimage import gaussian_filter

import napari_geosr as geosr
from napari_geosr.cli.app import run
from napari_geosr.core.errors import ConfigError, FileError, ModelError
from napari_geosr.core.steps import run_to_end
from napari_geosr.operations.generate import GenerateConfig, generate_steps
from napari_geosr.operations.generate import run as run_module

SMALL: dict[str, Any] = {"batch_size": 2, "patch": 16, "steps": 2, "device": "cpu"}


@pytest.fixture(scope="module")
def prior(tmp_path_factory: pytest.TempPathFactory) -> str:
    scan = np.random.default_rng(0).normal(1000, 50, (12, 32, 32)).astype("f4")
    folder = tmp_path_factory.mktemp("prior") / "job"
    geosr.train("ddpm", folder, scan, name="rock", width=8, layers=1, **SMALL)
    return str(folder)


def drawn(model: str, out: Path, **values: Any) -> list[Path]:
    config = GenerateConfig.create(**{"sampling_steps": 3, "shape": "24,40"} | values)
    return run_to_end(generate_steps(model, out, config))


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
    with pytest.raises(ConfigError, match="8 or more"):
        drawn(prior, tmp_path, shape="4,40")
    with pytest.raises(ModelError, match="its task is denoise"):
        drawn("ct-denoise", tmp_path)
    assert not list(tmp_path.iterdir())


def test_command(
    prior: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "made"
    line = f"generate {prior} --number 2 --shape 16,16 --sampling-steps 2 -o {out}"
    assert run(line.split()) == 0
    assert "2 generated samples" in capsys.readouterr().out
    assert len(list(out.iterdir())) == 2


@pytest.fixture(scope="module")
def told(tmp_path_factory: pytest.TempPathFactory) -> str:
    """A model that was told the porosity of half-and-half images of two greys."""
    rng = np.random.default_rng(0)
    shares = np.repeat(np.linspace(0.1, 0.6, 40), 2)
    dark = rng.random((80, 16, 16)) < shares[:, None, None]
    scan = np.where(dark, 50, 150).astype("f4")
    folder = tmp_path_factory.mktemp("told") / "job"
    settings = {"width": 8, "layers": 1, "condition": "porosity", "steps": 250}
    more = {"batch_size": 8, "learning_rate": 5e-3, "averaging": 0.9}
    geosr.train("ddpm", folder, scan, name="told", **SMALL | settings | more)
    return str(folder)


def test_more_porosity_gives_more_pores(told: str, tmp_path: Path) -> None:
    made = {}
    for wish in (0.15, 0.5):
        out = tmp_path / str(wish)
        paths = drawn(
            told, out, number=6, shape="16,16", porosity=wish, sampling_steps=12
        )
        records = [geosr.read(p).provenance[-1] for p in paths]
        made[wish] = float(np.mean([record["porosity"] for record in records]))
        dark = [np.asarray(geosr.read(p).data) < records[0]["threshold"] for p in paths]
        assert made[wish] == pytest.approx(np.mean(dark), abs=1e-3)
    # After a minute of training, it follows the wish without reaching it.
    assert made[0.5] > 1.5 * made[0.15] > 0


def test_porosities_outside_the_training_data(told: str, prior: str, tmp_path: Path):
    card = geosr.load_model(told).card
    low, high = card.network_kwargs["porosity_range"]
    assert 0 < low < 0.2
    assert 0.5 < high < 0.8
    with pytest.raises(ConfigError, match="too far from the training data"):
        drawn(told, tmp_path, porosity=min(1.3 * high, 0.99))
    with pytest.raises(ModelError, match="--condition porosity"):
        drawn(prior, tmp_path, porosity=0.2)
    config = GenerateConfig.create(
        number=1, shape="16,16", sampling_steps=2, porosity=1.1 * high
    )
    steps = list(generate_steps(told, tmp_path, config))
    assert any("outside the range" in str(step) for step in steps)


def test_a_model_that_copies_is_refused(
    prior: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The network is replaced by one that gives its training images again."""
    rng = np.random.default_rng(4)
    images = [gaussian_filter(rng.normal(size=(32, 32)), 2) for _ in range(40)]
    training, others = np.array(images[:8], "f4"), np.array(images[8:24], "f4")
    for name, values in (("training", training), ("others", others)):
        tifffile.imwrite(tmp_path / f"{name}.tif", values, imagej=True)
    given = {
        "number": 8,
        "shape": "32,32",
        "training": str(tmp_path / "training.tif"),
        "held_out": str(tmp_path / "others.tif"),
    }

    def made(source: Sequence[np.ndarray]) -> None:
        monkeypatch.setattr(
            run_module,
            "_drawn",
            lambda model, config, shape, i, *_: np.asarray(source[i], "f4"),
        )

    made([image + 0.01 * rng.normal(size=(32, 32)) for image in training])
    with pytest.raises(ModelError, match="8 of 8 samples are nearer .* copies its"):
        drawn(prior, tmp_path / "copies", **given)
    assert not list((tmp_path / "copies").glob("*.tif"))
    made(images[24:32])
    (path, *_) = drawn(prior, tmp_path / "new", **given)
    record = geosr.read(path).provenance[-1]["copy_check"]
    assert record["resemblance"] < 1
    with pytest.raises(ConfigError, match="give both"):
        drawn(prior, tmp_path / "one", training=given["training"])


def test_a_report_says_generated(prior: str, tmp_path: Path) -> None:
    (path,) = drawn(prior, tmp_path, number=1)
    renamed = path.rename(tmp_path / "rock.ome.tif")
    report = geosr.measure_porosity(geosr.read(renamed))
    assert report.name.startswith("generated")
    assert any("not a measurement" in text for text in report.warnings)
