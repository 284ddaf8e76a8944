"""Learning labels: loss by hand, rejected data, resuming, better than Otsu."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tifffile
import torch

from napari_geosr import restore, train
from napari_geosr.core.errors import ConfigError, VolumeError
from napari_geosr.core.steps import run_to_end
from napari_geosr.core.volume import Volume
from napari_geosr.io import read
from napari_geosr.learning.labels import check_labels, invalid_label
from napari_geosr.learning.losses.labels import cross_entropy, mean_dice
from napari_geosr.learning.methods.supervised import Config, Method
from napari_geosr.models import bundle
from napari_geosr.operations.train import TrainJob
from napari_geosr.operations.train.figures.labels import label_figures
from napari_geosr.operations.train.fine_tune import fine_tune_settings
from napari_geosr.operations.train.run import _starting_weights

PAIR: dict[str, Any] = {"source": ["a.tif"], "target": ["b.tif"]}
SMALL: dict[str, Any] = {"batch_size": 2, "patch": 16, "device": "cpu", "threads": 1}


@pytest.fixture
def phases(noisy_pair: Any, tmp_path: Path) -> Path:
    """The foam's pores (1) and its solid (0), as a label image."""
    path = tmp_path / "phases.tif"
    pores = (noisy_pair.clean < 0.5).astype(np.uint8)
    tifffile.imwrite(path, pores, imagej=True, metadata={"axes": "ZYX"})
    return path


def test_cross_entropy_by_hand() -> None:
    """Softmax of (0, ln 3) is (1/4, 3/4), and of (0, 0) a half each."""
    scores = torch.tensor([[[[0.0, 0.0]], [[math.log(3), 0.0]]]])  # (1, 2, 1, 2)
    target = torch.tensor([[[[1.0, 0.0]]]])
    expected = (math.log(4 / 3) + math.log(2)) / 2
    assert float(cross_entropy(scores, target)) == pytest.approx(expected)


def test_the_method_uses_it() -> None:
    """A new MSD-net has no preference, so the loss is ln n for any target."""
    method = Method(Config.create(**PAIR, labels=3, dimensions="2D", layers=2))
    method.modules = method.build()
    target = torch.randint(0, 3, (2, 1, 8, 8)).float()
    batch = {"source": torch.randn(2, 1, 8, 8), "target": target}
    error, named = method.loss(batch)
    assert float(error.detach()) == pytest.approx(math.log(3), rel=1e-5)
    assert list(named) == ["missed overlap", "loss"]
    method.modules["network"].eval()
    with torch.no_grad():
        found = method.validate(batch)["missed overlap"]
    assert found == pytest.approx(float(named["missed overlap"]))


def test_dice_without_label_0_by_hand() -> None:
    """With unpainted 0, two classes are compared, and a predicted 0 is wrong."""
    target = np.array([[0, 1, 1, 1, 2, 2]])
    found = np.array([[1, 1, 1, 0, 2, 2]])
    source = np.array([[9.0, 1, 1, 1, 5, 5]])
    rows = label_figures([source], [target], [found], 3, "here", [1.0], unpainted=0)
    figures = {row.method: row.dice for row in rows}
    # Class 1: 2 · 2 / (3 + 2); class 2: 2 · 2 / (2 + 3).
    assert figures["model"] == pytest.approx(0.8)
    assert "Otsu" in figures


def test_dice_by_hand() -> None:
    target = torch.tensor([0.0, 0.0, 0.0, 1.0, 1.0])
    found = torch.tensor([0, 0, 1, 1, 1])
    # Label 0: 2 · 2 / (3 + 2); label 1: 2 · 2 / (2 + 3); label 2 does not occur.
    assert mean_dice(found, target, 3) == pytest.approx(0.8)
    assert mean_dice(target, target, 3) == 1.0
    assert mean_dice(1 - target, target, 2) == 0.0


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"network": "light_sr", "dimensions": "2D"}, "msdnet or unet"),
        ({"network": "resnet"}, "cannot predict labels"),
        (
            {"network": "light_sr", "dimensions": "2D", "upscale_factor": 2},
            "voxel grid of the source",
        ),
        ({"network_options": {"residual": True}}, "remove residual"),
    ],
)
def test_settings_that_do_not_go_together(values: dict[str, Any], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        Method.check(Config.create(**PAIR, labels=2, **values))


def test_output_channels_are_set_by_labels_alone() -> None:
    with pytest.raises(ConfigError, match="is determined by the setting 'labels'"):
        Config.create(**PAIR, network_options={"out_channels": 2})


@pytest.mark.parametrize(
    ("values", "wrong"),
    [
        (np.array([0, 1, 2], np.uint8), ""),
        (np.array([0.0, 2.0], np.float32), ""),
        (np.array([False, True]), ""),
        (np.array([0, 1, 3], np.int16), "the value 3"),
        (np.array([0, -1], np.int8), "the value -1"),
        (np.array([0.5, 1.0]), "not a whole number"),
        (np.array([np.nan, 1.0]), "not a whole number"),
    ],
)
def test_wrong_labels_are_named(values: Any, wrong: str) -> None:
    assert wrong in invalid_label(values, 3)
    assert bool(wrong) is bool(invalid_label(values, 3))
    volume = Volume(np.tile(values, (2, 3, 1)), "ZYX", name="phases")
    if wrong:
        with pytest.raises(VolumeError, match=rf"phases.*{wrong}"):
            check_labels([volume], 3)


def test_labels_that_are_not_there_are_said() -> None:
    volume = Volume(np.eye(4, dtype=np.uint8)[None], "ZYX")
    assert check_labels([volume], 2) == []
    [said] = check_labels([volume], 4)
    assert "2, 3 (of 4)" in said


def test_a_loss_that_does_not_apply_is_said(phases: Path) -> None:
    volumes = {"target": [read(phases)]}
    plain = Method(Config.create(**PAIR, labels=2))
    other = Method(Config.create(**PAIR, labels=2, loss="ssim"))
    assert plain.inspect(volumes) == []
    assert "ssim does not apply" in other.inspect(volumes)[0]


def test_grey_values_are_refused_before_the_start(noisy_pair: Any) -> None:
    settings = {"source": [noisy_pair.first], "target": [noisy_pair.truth]}
    training = Config.create(**settings, labels=2, **SMALL)
    with pytest.raises(VolumeError, match="not a whole number"):
        TrainJob(method="supervised", training=training).check()


@pytest.mark.parametrize("dimensions", ["2D", "2.5D", "3D"])
def test_patches_hold_labels_as_they_are(
    build_trainer: Any, phases: Path, dimensions: str
) -> None:
    """Rotated with their source, but neither scaled nor interpolated."""
    trainer = build_trainer(
        "supervised", target=[phases], labels=2, dimensions=dimensions
    )
    rng = np.random.default_rng(0)
    drawn = [trainer.method.draw(trainer.patches, rng) for _ in range(8)]
    for each in drawn:
        assert set(np.unique(each["target"])) <= {0.0, 1.0}
    middle = [d["source"][len(d["source"]) // 2] for d in drawn]
    source = np.concatenate([m.ravel() for m in middle])
    target = np.concatenate([d["target"].ravel() for d in drawn])
    # Pores are dark, at exactly the same positions.
    assert np.corrcoef(source, target)[0, 1] < -0.6


def test_a_label_that_was_not_seen_before_stops_it(
    build_trainer: Any, phases: Path
) -> None:
    trainer = build_trainer("supervised", target=[phases], labels=2)
    volumes = trainer.patches.scenes[0].volumes
    volumes["target"] = Volume(np.full(volumes["source"].shape, 7), "ZYX")
    with pytest.raises(VolumeError, match="the value 7"):
        trainer.method.draw(trainer.patches, np.random.default_rng(0))


@pytest.mark.parametrize("network", ["msdnet", "unet"])
def test_a_resumed_training_gives_the_same_weights(
    build_trainer: Any, phases: Path, tmp_path: Path, network: str
) -> None:
    settings = {"target": [phases], "labels": 2, "network": network, "width": 2}
    straight = build_trainer("supervised", tmp_path / "a", **settings)
    run_to_end(straight.run())
    first = build_trainer("supervised", tmp_path / "b", **settings)
    run_to_end(first.run(lambda: first.step >= 2))
    assert first.step == 2
    second = build_trainer("supervised", tmp_path / "b", **settings)
    assert second.resume()
    run_to_end(second.run())
    resumed = second.average.state_dict()
    for key, value in straight.average.state_dict().items():
        assert torch.equal(value, resumed[key])


@pytest.fixture(scope="module")
def labelled(tmp_path_factory: pytest.TempPathFactory, noisy_pair: Any) -> Any:
    """Trained for some seconds on the left part, and tested on a block of the rest."""
    folder = tmp_path_factory.mktemp("labelled")
    path = folder / "phases.tif"
    pores = (noisy_pair.clean < 0.5).astype(np.uint8)
    tifffile.imwrite(path, pores, imagej=True, metadata={"axes": "ZYX"})
    settings = SMALL | {"patch": 32, "batch_size": 4, "layers": 6, "width": 4}
    files: dict[str, Any] = {"source": [noisy_pair.second], "target": [path]}
    return train(
        "supervised",
        folder / "job",
        **files,
        **settings,
        labels=2,
        steps=150,
        learning_rate=0.01,
        normalisation="volume",
        name="pores",
    )


@pytest.mark.slow
def test_it_beats_a_threshold(labelled: Any, noisy_pair: Any) -> None:
    rows = {row.method: row.dice for row in labelled.card.figures}
    (smooth,) = (name for name in rows if name.startswith("Gaussian"))
    assert rows["model"] > rows["Otsu"] + 0.05
    # With the best smoothing for this block, Otsu separates two phases equally well.
    assert rows["model"] > rows[smooth] - 0.02
    assert all(row.psnr is None for row in labelled.card.figures)
    found = restore(read(noisy_pair.first), str(labelled.path))
    assert found.dtype == np.uint8
    assert found.metadata["kind"] == "labels"
    assert set(np.unique(np.asarray(found.data))) == {0, 1}
    pores = torch.from_numpy(noisy_pair.clean < 0.5)
    assert mean_dice(torch.from_numpy(np.asarray(found.data)), pores, 2) > 0.95


def test_the_card_says_what_it_gives(labelled: Any) -> None:
    card = bundle.load(labelled.path).card
    assert (card.task, card.labels) == ("segment", 2)
    assert "0 … 1" in card.intended_use
    with pytest.raises(ConfigError, match="do not match"):
        type(card).from_values(card.model_dump(mode="json") | {"labels": 3})


def test_it_can_be_trained_further(labelled: Any) -> None:
    settings = fine_tune_settings(labelled.path)
    assert settings["labels"] == 2
    config = Config.create(**PAIR, **settings)
    Method.check(config)
    assert _starting_weights(config, Method(config))


def test_models_from_before_there_were_labels_can_too() -> None:
    """Their cards state no output channels."""
    settings = fine_tune_settings("foam-denoise")
    assert "labels" not in settings
    config = Config.create(**PAIR, **settings)
    assert _starting_weights(config, Method(config))


def test_figures_of_more_labels_have_no_threshold_beside_them() -> None:
    target = np.arange(3.0)[None].repeat(4, 0)
    rows = label_figures([target], [target], [target], 3, "phases", (1.0,))
    assert [(row.method, row.dice) for row in rows] == [("model", 1.0)]
