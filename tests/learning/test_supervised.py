"""Supervised learning: settings, and ×2 from files to a restored volume."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tifffile
import torch

from napari_geosr import io, restore
from napari_geosr.core.errors import ConfigError, VolumeError
from napari_geosr.core.steps import Step, run_to_end
from napari_geosr.core.volume import Volume
from napari_geosr.learning.methods.supervised import Config, Method
from napari_geosr.learning.sampling.pairs import check_pair
from napari_geosr.operations.train import TrainJob, train_steps
from napari_geosr.physics.sampling import area_downsample
from napari_geosr.physics.specimens.phantoms import sphere_foam

PAIR: dict[str, Any] = {"source": ["a.tif"], "target": ["b.tif"]}
SMALL: dict[str, Any] = {
    "steps": 4,
    "batch_size": 2,
    "patch": 16,
    "device": "cpu",
    "threads": 1,
    "checkpoint_seconds": 60.0,
}


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"target": []}, "needs a target for each source"),
        ({"target": ["b.tif", "c.tif"]}, "1 sources and 2 targets"),
        (
            {"network": "light_sr", "dimensions": "3D", "upscale_factor": 1},
            "to 2, 4 or 8",
        ),
        ({"upscale_factor": 2}, "light_sr"),
        ({"network": "light_sr", "dimensions": "3D", "dilations": 4}, "msdnet"),
        ({"dilations": 4, "network_options": {"dilations": [1]}}, "twice"),
    ],
)
def test_what_is_missing_is_said(values: dict[str, Any], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        Method.check(Config.create(**(PAIR | values)))


def test_the_options_of_tomography_labs() -> None:
    """100 layers of width 1, ten dilations, five slices: the usual MSD-net."""
    config = Config.create(**PAIR, dilations=10, layers=100, width=1, adjacent_slices=5)
    Method.check(config)
    network = Method(config).build()["network"]
    assert network.dilations == tuple(range(1, 11)) * 10
    assert sum(p.numel() for p in network.parameters()) == 49_256


@pytest.mark.parametrize(
    ("values", "factor"),
    [
        ({}, 1),
        ({"network": "light_sr", "dimensions": "3D"}, 2),
        ({"network": "light-sr", "upscale_factor": 8}, 8),
        ({"network": "unet", "upscale_factor": 2}, 2),
        ({"network": "light_sr", "dimensions": "2D", "upscale_factor": 4}, 4),
        (
            {
                "network": "light_sr",
                "dimensions": "3D",
                "network_options": {"upscale_factor": 4},
            },
            4,
        ),
    ],
)
def test_the_factor_is_the_networks(values: dict[str, Any], factor: int) -> None:
    config = Config.create(**PAIR, **values)
    Method.check(config)
    method = Method(config)
    assert method.upscale_factor == factor
    assert method.build()["network"].spec.upscale_factor[-1] == factor


def test_the_chosen_loss_is_used() -> None:
    batch = {"source": torch.randn(2, 1, 16, 16), "target": torch.randn(2, 1, 16, 16)}
    values = {}
    for name in ("l1", "l2", "ssim"):
        method = Method(Config.create(**PAIR, loss=name, dimensions="2D", layers=2))
        torch.manual_seed(0)
        method.modules = method.build()  # a new network returns its input
        values[name] = float(method.loss(batch)[0].detach())
    error = batch["source"] - batch["target"]
    assert values["l1"] == pytest.approx(float(error.abs().mean()), rel=1e-5)
    assert values["l2"] == pytest.approx(float(error.square().mean()), rel=1e-5)
    assert values["ssim"] not in (values["l1"], values["l2"])


def _files(folder: Path, planes_stay: bool) -> tuple[Path, Path, np.ndarray]:
    foam = sphere_foam((32, 48, 64), porosity=0.3, radius=(4, 8), gap=1.0, seed=1)
    fine = (100 * (1 - foam.fraction) + 20).astype(np.float32)
    coarse = area_downsample(fine, 2)
    if planes_stay:
        fine = fine.reshape(16, 2, 48, 64).mean(1)
    z = 1.0 if not planes_stay else 2.0
    for name, data, size in (("coarse", coarse, 2.0), ("fine", fine, 1.0)):
        tifffile.imwrite(
            folder / f"{name}.tif",
            data.astype(np.float32),
            imagej=True,
            metadata={
                "axes": "ZYX",
                "spacing": z if name == "fine" else 2.0,
                "unit": "um",
            },
            resolution=(1 / size, 1 / size),
        )
    return folder / "coarse.tif", folder / "fine.tif", fine


@pytest.mark.parametrize("dimensions", ["3D", "2D"])
def test_twice_finer_from_files_to_a_restored_volume(
    tmp_path: Path, dimensions: str
) -> None:
    flat = dimensions == "2D"
    coarse, fine, truth = _files(tmp_path, planes_stay=flat)
    training = Config.create(
        source=[coarse],
        target=[fine],
        dimensions=dimensions,
        network="light_sr",
        layers=1,
        width=4,
        **SMALL,
    )
    job = TrainJob(method="supervised", training=training)
    steps: list[Step] = []
    path = run_to_end(train_steps(job, tmp_path / "job"), steps.append)
    assert not [s for s in steps if type(s).__name__ == "WarningIssued"]
    volume = io.read(coarse)
    restored = restore(volume, model=str(path), device="cpu")
    assert restored.shape == truth.shape
    expected = (2.0, 1.0, 1.0) if flat else (1.0, 1.0, 1.0)
    assert restored.voxel_size == pytest.approx(expected)
    # After four steps it is close to cubic interpolation, in the target's grey values.
    error = np.sqrt(np.mean((np.asarray(restored.data) - truth) ** 2))
    assert error < 12 < truth.std()


def test_grey_values_of_the_target_come_out(tmp_path: Path) -> None:
    """If source and target have different units, the result has those of the target."""
    rng = np.random.default_rng(0)
    clean = rng.random((4, 40, 40)).astype(np.float32).repeat(4, 0)
    tifffile.imwrite(tmp_path / "a.tif", clean)
    tifffile.imwrite(tmp_path / "b.tif", 1000 * clean + 5000)
    training = Config.create(
        source=[tmp_path / "a.tif"],
        target=[tmp_path / "b.tif"],
        dimensions="2D",
        layers=2,
        width=2,
        **SMALL,
    )
    job = TrainJob(method="supervised", training=training)
    path = run_to_end(train_steps(job, tmp_path / "job"))
    restored = restore(io.read(tmp_path / "a.tif"), model=str(path), device="cpu")
    assert np.abs(np.asarray(restored.data) - (1000 * clean + 5000)).max() < 150


def test_a_target_of_the_wrong_size_is_refused() -> None:
    source = Volume(np.zeros((8, 16, 16), np.float32), "ZYX", name="coarse")
    target = Volume(np.zeros((16, 32, 32), np.float32), "ZYX", name="fine")
    check_pair(source, target, 2)
    with pytest.raises(VolumeError, match="needs 8 × 32 × 32"):
        check_pair(source, target, 2, ndim=2)
