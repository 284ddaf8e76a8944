"""The heads of shape super-resolution: phase of the voxels, or signed distance."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from torch.nn import functional as F  # noqa: N812

from napari_geosr import io
from napari_geosr.cli.app import run
from napari_geosr.core.errors import GeoSRError
from napari_geosr.core.steps import run_to_end
from napari_geosr.core.volume import Volume
from napari_geosr.learning.shapes import SHAPE_METHODS
from napari_geosr.learning.shapes.data import ShapeSet
from napari_geosr.learning.shapes.shape_sr import TRUNCATION, signed_distance
from napari_geosr.learning.training.trainer import Trainer
from napari_geosr.models import bundle
from napari_geosr.operations.shapes import ShapeTrainJob, train_shape_steps

MODULE = SHAPE_METHODS.load("shape_sr")
SMALL = {
    "simulated": "skulls",
    "channels": (2, 3),
    "patch": 16,
    "threads": 1,
    "device": "cpu",
}


def method_of(head: str | None = None, **more):
    values = {**SMALL, **more}
    config = MODULE.Config.create(
        **(values if head is None else {**values, "head": head})
    )
    return MODULE.Method(config), config


def sphere(edge: int) -> np.ndarray:
    """Signed distance from a sphere that is not centred on a voxel."""
    z, y, x = np.indices((edge,) * 3) - np.reshape([15.3, 14.8, 16.1], (3, 1, 1, 1))
    return np.sqrt(z**2 + y**2 + x**2) - 9.4


def plane(normal: tuple[float, ...], edge: int) -> np.ndarray:
    places = np.indices((edge,) * 3) - (edge - 1) / 2
    return np.tensordot(np.asarray(normal) / np.linalg.norm(normal), places, 1)


EXACT = {
    "sphere": sphere(32),
    "plane": plane((1, 0, 0), 32),
    "oblique plane": plane((1, 2, -1.5), 32),
    "diagonal plane": plane((1, 1, 1), 32) + 0.2,
}


@pytest.mark.parametrize("name", EXACT)
def test_distances_are_those_of_the_exact_surface(name: str) -> None:
    exact = EXACT[name]
    found = signed_distance(exact < 0)
    known = np.isfinite(found)
    assert known[4:-4, 4:-4, 4:-4].all()
    truncated = np.clip(exact, -TRUNCATION, TRUNCATION)
    assert np.abs(found - truncated)[known].max() <= 0.5
    assert ((found < 0) == (exact < 0))[known].all()


def test_known_distances_do_not_depend_on_the_surroundings() -> None:
    inside = np.random.default_rng(0).random((24, 24, 24)) < 0.04
    whole = signed_distance(inside)
    part = (slice(5, 17), slice(3, 20), slice(8, 19))
    found = signed_distance(inside[part])
    known = np.isfinite(found)
    assert 0.3 < known.mean() < 1
    np.testing.assert_array_equal(found[known], whole[part][known])


@pytest.mark.parametrize("value", [False, True])
def test_a_block_without_a_surface_is_far_from_it(value: bool) -> None:
    found = signed_distance(np.full((12, 12, 12), value))
    assert found[5, 5, 5] == (-TRUNCATION if value else TRUNCATION)
    assert np.isnan(found[0]).all()


def test_the_interpolated_distance_from_a_plane_is_exact_next_to_it() -> None:
    inside = torch.zeros(1, 1, 12, 12, 12)
    inside[..., :6] = 1
    method, _ = method_of("distance")
    network = method.build()["network"].eval()
    with torch.no_grad():
        found = network.surface_distances(inside)
    x = found.coords[:, 3]
    for place, distance in ((10, -1.0), (11, -0.5), (12, 0.5), (13, 1.0)):
        at = found.features[x == place]
        assert len(at)
        torch.testing.assert_close(at, torch.full_like(at, distance))


def test_the_loss_of_distances_is_their_error_and_not_that_of_unknown_ones() -> None:
    method, _ = method_of("distance")
    method.modules = method.build()
    network = method.modules["network"].eval()
    inside = torch.zeros(1, 1, 8, 8, 8)
    inside[..., :4] = 1
    with torch.no_grad():
        found = network.surface_distances(inside)
        n, z, y, x = found.coords.long().unbind(1)
        target = torch.full((1, 1, 16, 16, 16), math.nan)
        batch = {"source": inside.byte(), "distance": target}
        assert float(method.loss(batch)[0]) == 0
        target[n, 0, z, y, x] = found.features[:, 0] + 2
        target[..., :3, :, :] = math.nan
        assert float(method.loss(batch)[0]) == pytest.approx(2 - 0.5 / 2)


def test_the_loss_of_distances_falls() -> None:
    method, config = method_of(
        "distance", channels=(6,), steps=60, learning_rate=2e-2, warm_up=1
    )
    trainer = Trainer(method, ShapeSet(config), None)
    samples = [
        method.draw(ShapeSet(config), np.random.default_rng([8, i])) for i in range(4)
    ]

    def error() -> float:
        with torch.no_grad():
            return float(method.loss(trainer.batches.on_device(samples))[0])

    before = error()
    for _ in trainer.run():
        pass
    assert error() < 0.8 * before


def test_distances_belong_to_the_target_after_it_was_turned() -> None:
    method, config = method_of("distance")
    drawn = method.draw(ShapeSet(config), np.random.default_rng(4))
    np.testing.assert_array_equal(
        drawn["distance"][0], signed_distance(drawn["target"][0] > 0)
    )
    assert (drawn["target"].astype(bool) == (drawn["distance"] < 0))[
        np.isfinite(drawn["distance"])
    ].all()


def test_refined_voxels_are_those_with_a_negative_distance() -> None:
    method, config = method_of("distance", steps=3)
    trainer = Trainer(method, ShapeSet(config), None)
    for _ in trainer.run():
        pass
    network = method.modules["network"].eval()
    coarse = method.draw(ShapeSet(config), np.random.default_rng(1))["source"]
    occupied = torch.from_numpy(coarse)[None].float()
    with torch.no_grad():
        fine = network.refined(occupied)[0, 0]
        found = network.surface_distances(occupied)
    _, z, y, x = found.coords.long().unbind(1)
    assert torch.equal(fine[z, y, x], found.features[:, 0] < 0)
    assert 0 < fine[z, y, x].sum() < len(z)


def test_occupancy_is_the_default_and_learns_as_before() -> None:
    """The loss is exactly the cross-entropy of the phase; no distances are computed."""
    method, config = method_of()
    assert config.head == "occupancy"
    method.modules = method.build()
    samples = method.draw(ShapeSet(config), np.random.default_rng(2))
    assert set(samples) == {"source", "target"}
    batch = {key: torch.from_numpy(value)[None] for key, value in samples.items()}
    with torch.no_grad():
        error = method.loss(batch)[0]
        logits = method.modules["network"].surface_logits(batch["source"].float())
    n, z, y, x = logits.coords.long().unbind(1)
    target = batch["target"][n, 0, z, y, x].float()
    wanted = F.binary_cross_entropy_with_logits(logits.features[:, 0], target)
    assert torch.equal(error, wanted)


def test_jobs_without_a_head_are_readable() -> None:
    values = ShapeTrainJob.from_values(
        {"method": "shape_sr", "training": SMALL}
    ).to_values()
    assert values["training"].pop("head") == "occupancy"
    assert ShapeTrainJob.from_values(values).training.head == "occupancy"
    with pytest.raises(GeoSRError, match="head"):
        ShapeTrainJob.from_values(
            {"method": "shape_sr", "training": {**SMALL, "head": "angle"}}
        )


@pytest.mark.parametrize("head", ["occupancy", "distance"])
def test_the_card_and_the_record_state_the_head(head: str, tmp_path) -> None:
    training = {**SMALL, "head": head, "steps": 1, "name": "made"}
    job = ShapeTrainJob.from_values({"method": "shape_sr", "training": training})
    path = run_to_end(train_shape_steps(job, tmp_path / "job"))
    assert path is not None
    card = bundle.verify(path)
    assert f"Head: {head}" in card.description
    assert card.provenance["settings"]["training"]["head"] == head


def test_a_model_of_distances_is_trained_and_used_on_the_command_line(
    tmp_path, monkeypatch
) -> None:
    monkeypatch.chdir(tmp_path)
    words = "train shape-sr --simulated mixed --head distance --steps 1 --patch 16"
    assert run([*words.split(), "--device", "cpu", "--name", "m", "-o", "job"]) == 0
    ball = (sphere(32) < 0).astype(np.uint8)
    io.write(Volume(ball, "ZYX"), tmp_path / "ball.tif", kind="labels")
    words = "shapes refine ball.tif --model job --upscale-factor 4 --out fine.tif"
    assert run([*words.split(), "--device", "cpu"]) == 0
    fine = np.asarray(io.read(tmp_path / "fine.tif").data)
    assert fine.shape == (128,) * 3
    assert fine.sum() == pytest.approx(64 * ball.sum(), rel=0.05)
