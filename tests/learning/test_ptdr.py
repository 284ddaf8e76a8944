"""Segmentation with few labels: painted voxels only, and a pre-trained network."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
import tifffile
import torch

import napari_geosr as geosr
from napari_geosr.cli.app import run
from napari_geosr.core.errors import ConfigError, ModelError, VolumeError
from napari_geosr.core.steps import run_to_end
from napari_geosr.core.volume import Volume
from napari_geosr.io import read
from napari_geosr.learning import losses
from napari_geosr.learning.methods.ptdr import UNPAINTED, Config, Method
from napari_geosr.learning.sampling.patches import Patches
from napari_geosr.models import zoo
from napari_geosr.operations.train import TrainJob, train_steps
from napari_geosr.operations.train.fine_tune import fine_tune_settings

SMALL: dict[str, Any] = {
    "patch": 32,
    "batch_size": 4,
    "width": 8,
    "layers": 1,
    "device": "cpu",
    "checkpoint_seconds": 60.0,
}


@pytest.fixture
def painted(noisy_pair: Any, tmp_path: Path) -> Path:
    """Labels of one slice of the foam, part of it painted: 1 is pore."""
    labels = np.full(noisy_pair.clean.shape, UNPAINTED, np.uint8)
    labels[7, :, :40] = noisy_pair.clean[7, :, :40] <= 0.5
    return write(tmp_path / "painted.tif", labels)


def write(path: Path, labels: npt.NDArray[Any]) -> Path:
    tifffile.imwrite(path, labels, imagej=True, metadata={"axes": "ZYX"})
    return path


def train(folder: Path, **values: Any) -> Path:
    job = TrainJob(method="ptdr", training=Config.create(**values))
    job.check()
    path = run_to_end(train_steps(job, folder))
    assert path is not None
    return path


def test_losses_of_painted_voxels_by_hand() -> None:
    """Two painted voxels of classes 0 and 1, each with a probability of 3/4 for class
    0.
    """
    scores = torch.tensor([np.log(3.0), 0.0]).reshape(1, 2, 1, 1).expand(1, 2, 1, 3)
    target = torch.tensor([0, 1, UNPAINTED]).reshape(1, 1, 1, 3)
    entropy = losses.labels.cross_entropy(scores, target, UNPAINTED)
    assert float(entropy) == pytest.approx(-(np.log(0.75) + np.log(0.25)) / 2)
    # class 0: 2 · .75 / (1.5 + 1); class 1: 2 · .25 / (.5 + 1)
    dice = losses.labels.dice_loss(scores, target, UNPAINTED)
    assert float(dice) == pytest.approx(1 - (0.6 + 1 / 3) / 2)
    nothing = torch.full_like(target, UNPAINTED)
    for loss in (losses.labels.cross_entropy, losses.labels.dice_loss):
        assert float(loss(scores, nothing, UNPAINTED)) == 0


@pytest.mark.parametrize("dimensions", ["2D", "2.5D"])
def test_painted_slices_become_images(dimensions: str) -> None:
    scan = np.arange(6 * 20 * 24, dtype=np.float32).reshape(6, 20, 24)
    labels = np.full(scan.shape, UNPAINTED, np.uint8)
    labels[0, :4], labels[1, :4], labels[4, 0, :2] = 0, 1, (0, 1)
    config = Config.create(
        source=["a"], target=["b"], dimensions=dimensions, adjacent_slices=3
    )
    given = {
        "source": [Volume(scan, "ZYX", (2.0, 1.0, 1.0), "µm")],
        "target": [Volume(labels, "ZYX", (2.0, 1.0, 1.0), "µm")],
    }
    made = Method(config).scenes(given)
    if dimensions == "2D":
        assert [v.axes for v in made["source"]] == ["YX"] * 3
        for z, source in zip((0, 1, 4), made["source"], strict=True):
            np.testing.assert_array_equal(source.data, scan[z])
        return
    assert [v.shape[0] for v in made["source"]] == [2, 3, 3]
    assert [v.origin[0] for v in made["source"]] == [0, 0, 6]
    for source, target in zip(made["source"], made["target"], strict=True):
        z = int(np.flatnonzero((target.data != UNPAINTED).any((1, 2)))[0])
        assert (target.data != UNPAINTED).any((1, 2)).sum() == 1
        first = int(source.origin[0] / 2)
        np.testing.assert_array_equal(target.data[z], labels[first + z])


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda x: x[:, :50], "shape"),
        (lambda x: x.astype(np.float32) / 2, "not a whole number"),
        (lambda x: np.where(x == 1, 0, x), "Only class 0"),
        (lambda x: np.full_like(x, UNPAINTED), "Nothing is painted"),
        (lambda x: np.where(x == 1, 7, x), "the value 7"),
    ],
)
def test_unusable_labels(
    noisy_pair: Any, painted: Path, change: Any, message: str
) -> None:
    write(painted, change(tifffile.imread(painted)))
    values = {"source": [noisy_pair.first], "target": [painted]}
    job = TrainJob(method="ptdr", training=Config.create(**values))
    with pytest.raises(VolumeError, match=message):
        job.check()


def test_strokes_of_the_segment_dock_can_be_learned(
    noisy_pair: Any, painted: Path, tmp_path: Path
) -> None:
    """There 0 means unpainted, and the classes are 1 and 2."""
    values = {"source": [noisy_pair.first], "target": [painted], **SMALL}
    values |= {"steps": 40, "name": "strokes"}
    labels = tifffile.imread(painted)
    write(painted, np.where(labels == UNPAINTED, 0, labels + 1))
    with pytest.raises(VolumeError, match="set unpainted to 0"):
        train(tmp_path / "job", **values)
    model = train(tmp_path / "job", **values, unpainted=0)
    card = zoo.find(model).card
    assert card.labels == 3
    assert "classes 1 … 2" in card.intended_use
    methods = [row.method for row in card.figures]
    assert (methods[0], methods[-1]) == ("Otsu", "model")
    assert "the 2 labels" in card.figures[0].test_set
    found = geosr.restore(read(noisy_pair.first), model)
    assert set(np.unique(found)) == {1, 2}


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"dimensions": "3D"}, "slice by slice"),
        ({"network": "msdnet"}, "choose diffusion_unet or unet"),
        ({"normalisation": "volume"}, "stored"),
    ],
)
def test_unusable_settings(values: dict[str, Any], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        Method.check(Config.create(source=["a"], target=["b"], **values))


def test_from_a_prior_to_a_porosity(
    noisy_pair: Any,
    painted: Path,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    """Pre-train, learn half a slice, restore the scan to labels, and measure them."""
    prior = geosr.train("ddpm", tmp_path / "prior", noisy_pair.first, steps=40, **SMALL)
    path = Path(str(prior.path))
    values = fine_tune_settings(path, "ptdr") | {
        "source": [noisy_pair.first],
        "target": [painted],
        "steps": 80,
        "learning_rate": 2e-3,
        "head_rate": 10,
        "averaging": 0.9,
        **{k: v for k, v in SMALL.items() if k not in ("width", "layers")},
    }
    method = Method(Config.create(**values))
    torch.manual_seed(1)
    method.modules = method.build()
    old, new = prior.network().state_dict(), method.starting_weights(prior)
    head = {k for k in new if k.startswith("head.")}
    kept = new.keys() - head
    assert kept == {k for k in old if not k.startswith("head.")}
    assert all(torch.equal(new[k], old[k]) for k in kept)
    assert all(
        torch.equal(new[k], method.modules["network"].state_dict()[k]) for k in head
    )
    assert len(new["head.last.bias"]) == 2
    rates = [
        g["lr"]
        for g in method.optimiser(
            "network", list(method.modules["network"].parameters())
        ).param_groups
    ]
    assert rates == pytest.approx([2e-3, 2e-2])

    segmenter = train(tmp_path / "job", **values)
    card = zoo.find(str(segmenter)).card
    assert (card.task, card.labels, card.method) == ("segment", 2, "ptdr")
    assert card.normalisation.mean == prior.card.normalisation.mean
    dice = {row.method: row.dice for row in card.figures}
    assert dice["model"] is not None

    out = tmp_path / "labels.ome.tif"
    line = f"restore {noisy_pair.first} -m {segmenter} -o {out}"
    assert run(line.split()) == 0
    labels = np.asarray(read(out).data)
    truth = noisy_pair.clean <= 0.5
    assert set(np.unique(labels)) == {0, 1}
    # a threshold fails because of the noise
    scan = tifffile.imread(noisy_pair.first) <= 0.5
    assert (labels == truth).mean() > (scan == truth).mean()
    capsys.readouterr()
    line = f"measure {out} --json -o {tmp_path / 'report'}"
    assert run(line.split()) == 0
    porosity = json.loads(capsys.readouterr().out)["porosity"]
    assert porosity == pytest.approx(float(truth.mean()), abs=0.1)


def test_scans_of_another_grey_scale_are_refused(
    noisy_pair: Any, painted: Path, tmp_path: Path
) -> None:
    """When a model is fine-tuned, and when the result is used."""
    scan = np.asarray(read(noisy_pair.first).data)
    prior = geosr.train("ddpm", tmp_path / "prior", scan, steps=2, name="p", **SMALL)
    other = write(tmp_path / "other.tif", (0.5 + scan / 1000).astype(np.float32))
    values = fine_tune_settings(str(prior.path), "ptdr") | {
        "target": [painted],
        "steps": 2,
        **{k: v for k, v in SMALL.items() if k not in ("width", "layers")},
    }
    with pytest.raises(ModelError, match=r"other.* has a different.*data of p \("):
        train(tmp_path / "refused", source=[other], **values)
    model = train(tmp_path / "job", source=[noisy_pair.first], **values)
    geosr.restore(scan, model)
    with pytest.raises(ModelError, match="a different grey scale"):
        geosr.restore(read(other), model)


@pytest.mark.parametrize(
    ("unpainted", "painted_in", "message"),
    [
        (255, {0: 15, 1: 20}, "Class 2 is not painted in the part"),
        (255, {1: 15, 2: 20, 0: 25}, ""),
        (0, {1: 15, 2: 20}, "Class 3 is not painted in the part"),
        (0, {2: 20}, "Classes 1 and 3 are not painted in the part"),
        # A strip at one end is held out: the last class is painted only there.
        (255, {0: 15, 1: 20, 2: None}, "Class 2 is not painted in the part"),
    ],
)
def test_classes_that_are_not_painted(
    unpainted: int, painted_in: dict[int, int | None], message: str
) -> None:
    config = Config.create(
        source=["a"], target=["b"], classes=3, unpainted=unpainted, patch=16
    )
    scan = np.random.default_rng(0).normal(size=(40, 30)).astype(np.float32)
    labels = np.full(scan.shape, unpainted, np.uint8)
    method = Method(config)
    split = patches_of(method, scan, labels).scenes[0].split
    for number, row in painted_in.items():
        low, high = split.validation
        labels[slice(low, high) if row is None else row] = number
    found = method.remarks(patches_of(method, scan, labels))
    assert len(found) == bool(message)
    assert not message or found[0].startswith(message)


def patches_of(
    method: Method, scan: npt.NDArray[Any], labels: npt.NDArray[Any]
) -> Patches:
    volumes = {"source": [Volume(scan, "YX")], "target": [Volume(labels, "YX")]}
    return Patches(volumes, method.config, labels=method.label_roles)


def test_a_class_that_is_not_painted_is_reported(
    noisy_pair: Any, painted: Path, tmp_path: Path
) -> None:
    labels = np.asarray(read(painted).data)
    with pytest.warns(UserWarning, match=r"Class 2 is not painted.*--classes 3"):
        geosr.train(
            "ptdr",
            tmp_path / "job",
            read(noisy_pair.first),
            labels,
            classes=3,
            steps=1,
            **SMALL,
        )


def test_from_scratch_with_a_plain_unet(
    noisy_pair: Any, painted: Path, tmp_path: Path
) -> None:
    path = train(
        tmp_path / "job",
        source=[noisy_pair.first],
        target=[painted],
        network="unet",
        **SMALL | {"steps": 3, "width": 4},
    )
    assert zoo.find(str(path)).card.network == "unet"
