"""Learning shapes: samples, losses, and exact resuming."""

from __future__ import annotations

import itertools
import re
from pathlib import Path

import numpy as np
import pytest
import torch

from napari_geosr import io
from napari_geosr.cli.app import run
from napari_geosr.core.errors import ConfigError
from napari_geosr.core.steps import WarningIssued, run_to_end
from napari_geosr.core.volume import Volume
from napari_geosr.learning.shapes import SHAPE_METHODS
from napari_geosr.learning.shapes.data import ShapeSet, turned
from napari_geosr.learning.shapes.filled_cells import surface_cells
from napari_geosr.learning.training.trainer import Trainer
from napari_geosr.models import bundle
from napari_geosr.networks.sparse import PRESETS
from napari_geosr.operations.shapes import ShapeTrainJob, train_shape_steps
from napari_geosr.operations.shapes.simulation import simulated_skull

SMALL = {"channels": (2, 3, 4), "patch": 16, "threads": 1, "device": "cpu"}
every = pytest.mark.parametrize("name", ["shape_completion", "shape_sr"])


def skull_file(folder: Path) -> Path:
    inside = simulated_skull(1, 40, "none").complete
    volume = Volume(inside.astype(np.uint8), "ZYX")
    return io.write(volume, folder / "skull.tif", kind="labels")


def method_of(name: str, **more):
    module = SHAPE_METHODS.load(name)
    config = module.Config.create(**{"simulated": "skulls", **SMALL, **more})
    module.Method.check(config)
    return module.Method(config), config


@every
@pytest.mark.parametrize("from_file", [False, True])
def test_samples_depend_on_the_random_numbers_only(
    name: str, from_file: bool, tmp_path
) -> None:
    more = {"simulated": None, "source": (skull_file(tmp_path),)} if from_file else {}
    method, config = method_of(name, **more)
    volumes = [io.read(path) for path in config.source]
    shapes = ShapeSet(config, volumes)
    one, two = (method.draw(shapes, np.random.default_rng(3)) for _ in range(2))
    for key in ("source", "target"):
        np.testing.assert_array_equal(one[key], two[key])
        assert one[key].dtype == np.uint8
    factor = 2 if name == "shape_sr" else 1
    assert one["target"].shape[1:] == tuple(factor * n for n in one["source"].shape[1:])
    if name == "shape_completion":
        assert not (one["source"] & ~one["target"]).any()
        assert 0 < one["source"].sum() < one["target"].sum()


@every
@pytest.mark.parametrize("given", ["4,8", ["4,8"], ["4", "8"], (4, 8)])
def test_channels_are_given_with_commas_or_one_by_one(name: str, given) -> None:
    config = SHAPE_METHODS.load(name).Config.from_mapping({"channels": given})
    assert config.channels == (4, 8)


@pytest.mark.parametrize("name", ["shape-completion", "shape-sr"])
def test_shapes_with_long_voxels_are_refused_before_the_job(
    name: str, tmp_path, capsys
) -> None:
    ball = np.zeros((24, 40, 40), np.uint8)
    ball[6:18, 10:30, 10:30] = 1
    for length, code in ((3.0, 2), (1.2, 0)):
        volume = Volume(ball, "ZYX", (length, 1.0, 1.0), "mm")
        path = io.write(volume, tmp_path / f"{length}.tif", kind="labels")
        job = ShapeTrainJob.from_values(
            {"method": name, "training": {"source": (path,), "patch": 16}}
        )
        if code == 0:
            note = next(s for s in job.check_steps() if isinstance(s, WarningIssued))
            assert "1.2 times longer along one axis" in note.message
            continue
        words = ["train", name, "--source", str(path), "--name", "m", "--patch", "16"]
        assert run([*words, "-o", str(tmp_path / "job")]) == code
        assert "Resample the volume to cubic voxels" in capsys.readouterr().err
        assert not (tmp_path / "job").exists()


def test_axes_with_unequal_voxels_are_not_exchanged() -> None:
    _, config = method_of("shape_sr")
    sizes = ((3.0, 1.0, 1.02), (1.0, 1.0, 1.0))
    volumes = [Volume(np.zeros((2, 3, 4), "u1"), "ZYX", size, "mm") for size in sizes]
    groups = ShapeSet(config, volumes).equal_axes
    assert groups == ((0,), (1, 2))
    assert ShapeSet(config).equal_axes == ((0, 1, 2),)
    array, rng = np.arange(24).reshape(2, 3, 4), np.random.default_rng(0)
    shapes = {turned(rng, [array], groups)[0].shape for _ in range(30)}
    assert shapes == {(2, 3, 4), (2, 4, 3)}
    assert len({turned(rng, [array])[0].shape for _ in range(60)}) == 6


@pytest.mark.parametrize(("depth", "margin"), [(64, 0), (64, 10), (200, 0)])
def test_the_held_out_planes_of_one_volume_are_not_trained_on(
    depth: int, margin: int
) -> None:
    """Also if blocks are as deep as the volume, or its last planes are empty."""
    method, config = method_of("shape_sr", simulated=None, patch=32, source=("a.tif",))
    rng = np.random.default_rng(0)
    inside = rng.random((depth, 20, 20)) < 0.5
    inside[depth - margin :] = False
    volume = Volume(inside.view("u1"), "ZYX")
    shapes = ShapeSet(config, [volume])
    shapes.set_filled(inside)
    shapes.cells[0] = surface_cells(inside)
    held_out = shapes.held_out()
    used = [
        {z for _ in range(40) for z in range(depth)[each.block(volume, 64, rng)[0]]}
        for each in (shapes, held_out)
    ]
    assert not used[0] & used[1]
    assert used[1] >= set(range(depth - margin - 6, depth - margin))
    assert not shapes.held_out_note
    assert method.pair(shapes, rng)[1].shape == (64, 64, 64)
    coarse, fine = method.pair(held_out, rng)
    assert fine.any()
    assert fine.shape == tuple(2 * n for n in coarse.shape)
    assert 8 <= len(fine) <= 22


def test_few_planes_are_not_held_out(tmp_path) -> None:
    inside = np.zeros((40, 24, 24), np.uint8)
    inside[8:32, 4:20, 4:20] = 1
    path = io.write(Volume(inside, "ZYX"), tmp_path / "a.tif", kind="labels")
    training = {"source": (path,), "patch": 8}
    job = ShapeTrainJob.from_values({"method": "shape_sr", "training": training})
    (note,) = [s.message for s in job.check_steps() if isinstance(s, WarningIssued)]
    assert "the shape has 24 planes (fewer than 32), so none of them is held" in note


def test_the_loss_of_a_perfect_and_of_a_wrong_surface() -> None:
    method, _ = method_of("shape_sr", channels=(2,))
    method.modules = method.build()
    network = method.modules["network"].eval()
    inside = torch.zeros(1, 1, 8, 8, 8)
    inside[..., :4] = 1
    fine = torch.nn.functional.interpolate(inside, scale_factor=2)
    batch = {"source": inside.byte(), "target": fine.byte()}
    with torch.no_grad():
        right = float(method.loss(batch)[0])
        wrong = float(method.loss({**batch, "target": 1 - batch["target"]})[0])
        network.head.bias.fill_(50.0)  # everything is inside
        half = float(method.loss(batch)[0])
    # Logits of the interpolation next to a plane: ±2 and ±6, equally often.
    expected = np.mean([np.log1p(np.exp(-2)), np.log1p(np.exp(-4))])
    assert right == pytest.approx(expected, rel=0.2)
    assert wrong > right + 1
    assert half > 20


@every
def test_the_loss_falls(name: str) -> None:
    more = {"channels": (6,)} if name == "shape_sr" else {}
    method, config = method_of(name, steps=100, learning_rate=2e-2, warm_up=1, **more)
    trainer = Trainer(method, ShapeSet(config), None)

    def error() -> float:
        samples = [
            method.draw(ShapeSet(config), np.random.default_rng([8, i]))
            for i in range(4)
        ]
        with torch.no_grad():
            return float(method.loss(trainer.batches.on_device(samples))[0])

    before = error()
    for _ in trainer.run():
        pass
    assert error() < before


@every
def test_a_stopped_run_resumes_bit_for_bit(name: str, tmp_path) -> None:
    def job() -> ShapeTrainJob:
        training = {"simulated": "skulls", "steps": 4, "name": "made", **SMALL}
        return ShapeTrainJob.from_values({"method": name, "training": training})

    whole = run_to_end(train_shape_steps(job(), tmp_path / "whole"))
    asked = itertools.count()
    stopped = train_shape_steps(
        job(), tmp_path / "two", should_stop=lambda: next(asked) >= 2
    )
    assert run_to_end(stopped) is None
    again = run_to_end(train_shape_steps(job(), tmp_path / "two"))
    assert whole is not None
    assert again is not None
    first, second = (
        bundle.load(path).network().state_dict() for path in (whole, again)
    )
    assert all(torch.equal(first[key], second[key]) for key in first)
    assert bundle.verify(whole).method == name


def grey(edge: int) -> np.ndarray:
    return np.random.default_rng(0).normal(100, 20, (edge,) * 3).astype(np.float32)


def two_labels(edge: int) -> np.ndarray:
    labels = np.zeros((edge,) * 3, np.uint8)
    labels[4:-4, 4:-4, 4:-4] = 1
    labels[8:-8, 8:-8, 8:-8] = 2
    return labels


def rods(edge: int) -> np.ndarray:
    """Rods that are one voxel thick: nothing is left at half the resolution."""
    labels = np.zeros((edge,) * 3, np.uint8)
    labels[::8, ::8] = 1
    return labels


def ball(edge: int) -> np.ndarray:
    places = np.indices((edge,) * 3) - (edge - 1) / 2
    return ((places**2).sum(0) < (0.4 * edge) ** 2).astype(np.uint8)


BAD = {
    "grey": (grey(40), "more than 64 different values"),
    "two labels": (two_labels(40), r"has 2 labels \(1, 2\). Choose the label"),
    "empty": (np.zeros((40,) * 3, np.uint8), "is empty"),
    "full": (np.ones((40,) * 3, np.uint8), "is full"),
    "rods": (rods(80), "no surface|too thin"),
    "solid": (ball(40), "bad.tif is not a closed shell around a cavity"),
}


@pytest.mark.parametrize("name", ["shape_completion", "shape_sr", "shell_completion"])
@pytest.mark.parametrize("kind", BAD)
def test_what_is_no_shape_is_not_learned(name: str, kind: str, tmp_path, capsys):
    data, message = BAD[kind]
    path = io.write(Volume(data, "ZYX"), tmp_path / "bad.tif", kind="labels")
    if name == "shell_completion":
        if kind == "rods":
            pytest.skip("shells are measured at full resolution")
        skull = str(skull_file(tmp_path))
        more = [skull, skull, "--components", "1"]
    elif kind == "solid":
        pytest.skip("only shells must enclose a cavity")
    else:
        more = ["--device", "cpu", "--patch", "16"]
    words = ["train", name.replace("_", "-"), "--source", str(path), *more]
    assert run([*words, "--name", "m", "-o", str(tmp_path / "job")]) == 2
    said = " ".join(capsys.readouterr().err.split())
    assert re.search(message, said)
    assert "bad.tif" in said
    assert "bug" not in said
    assert not (tmp_path / "job").exists()


def test_one_of_two_labels_is_learned(tmp_path) -> None:
    path = io.write(Volume(two_labels(40), "ZYX"), tmp_path / "two.tif", kind="labels")
    job = ShapeTrainJob.from_values(
        {"method": "shape_sr", "training": {"source": (path,), "label": 2}}
    )
    job.check()


@pytest.mark.parametrize("name", ["shape_sr", "sparse_segmentation"])
def test_a_block_without_a_surface_has_no_effect(name: str) -> None:
    module = SHAPE_METHODS.load(name)
    method = module.Method(module.Config.create(channels=(2, 3)))
    method.modules = method.build()
    source = torch.zeros(1, 1, 8, 8, 8)
    edge = 16 if name == "shape_sr" else 8
    target = torch.full((1, 1, edge, edge, edge), 0 if name == "shape_sr" else -1)
    loss, named = method.loss({"source": source, "target": target})
    loss.backward()
    assert float(loss.detach()) == 0
    assert not named  # so that the block does not count in the mean loss
    parameters = method.modules["network"].parameters()
    assert all(p.grad is None or not p.grad.any() for p in parameters)


def test_blocks_are_drawn_until_the_low_resolution_one_has_a_surface(tmp_path) -> None:
    """Half of the volume contains only rods that vanish at half the resolution."""
    labels = rods(96)
    labels[:, :, 56:] = 0
    labels[:, :, 70:90] = 1
    config = SHAPE_METHODS.load("shape_sr").Config.create(source=("a.tif",), patch=8)
    method = SHAPE_METHODS.load("shape_sr").Method(config)
    shapes = ShapeSet(config, [Volume(labels, "ZYX")])
    for i in range(20):
        source = method.draw(shapes, np.random.default_rng(i))["source"]
        assert 0 < source.sum() < source.size


def test_each_shape_is_read_once(tmp_path, monkeypatch) -> None:
    config = SHAPE_METHODS.load("shape_completion").Config.create(
        source=("a.tif", "b.tif"), patch=16
    )
    inside = simulated_skull(1, 40, "none").complete
    shapes = ShapeSet(config, [Volume(inside, "ZYX"), Volume(inside[::-1], "ZYX")])
    kept = SHAPE_METHODS.load("shape_completion").Method(config)
    module = SHAPE_METHODS.load("shape_completion")
    reads = []
    monkeypatch.setattr(
        module, "on_grid", lambda *a, f=module.on_grid: reads.append(1) or f(*a)
    )
    samples = [kept.draw(shapes, np.random.default_rng(i)) for i in range(5)]
    kept.draw(shapes.held_out(), np.random.default_rng(0))
    assert len(reads) == 2
    monkeypatch.setattr(module, "_KEPT_BYTES", 0)
    again = module.Method(config)
    for i, sample in enumerate(samples):
        found = again.draw(shapes, np.random.default_rng(i))
        np.testing.assert_array_equal(found["source"], sample["source"])
    assert len(reads) == 2 + 5


@pytest.mark.parametrize("number", [1, 2])
def test_a_single_shape_is_not_held_out_and_that_is_said(number: int, tmp_path) -> None:
    training = {
        "source": (skull_file(tmp_path),) * number, "steps": 1, "name": "made", **SMALL,
    }  # fmt: skip
    values = {"method": "shape_completion", "training": training}
    job = ShapeTrainJob.from_values(values)
    steps = list(train_shape_steps(job, tmp_path / "job"))
    warned = " ".join(s.message for s in steps if isinstance(s, WarningIssued))
    assert ("There is only one shape" in warned) == (number == 1)


def test_something_to_learn_from_is_needed() -> None:
    module = SHAPE_METHODS.load("shape_sr")
    with pytest.raises(ConfigError, match="--simulated"):
        module.Method.check(module.Config.create())


def test_files_are_separated_by_commas(tmp_path, monkeypatch) -> None:
    monkeypatch.chdir(tmp_path)
    for name in ("a.tif", "b.tif", "c,d.tif"):
        (tmp_path / name).touch()
    kind = SHAPE_METHODS.load("shape_sr").Config
    for given, expected in (
        (["a.tif,b.tif"], ["a.tif", "b.tif"]),
        ("a.tif,b.tif", ["a.tif", "b.tif"]),
        (["a.tif", "b.tif"], ["a.tif", "b.tif"]),
        (["c,d.tif"], ["c,d.tif"]),  # the name of a file
        (["a.tif,no.tif"], ["a.tif", "no.tif"]),  # the message is about no.tif
        (["a.tif::0,b.tif::1"], ["a.tif::0", "b.tif::1"]),
    ):
        made = kind.create(source=given, name="made")
        assert [str(path) for path in made.source] == expected


@pytest.mark.parametrize("preset", PRESETS)
def test_a_preset_names_the_channels(preset: str) -> None:
    kind = SHAPE_METHODS.load("shape_completion").Config
    config = kind.create(simulated="skulls", preset=preset)
    assert config.channels == PRESETS[preset]
    assert kind.create(**config.model_dump(mode="json")) == config
    for channels in ("2,3,4", (8, 8, 16, 16, 32)):
        with pytest.raises(ConfigError, match="either channels or a preset"):
            kind.create(simulated="skulls", preset=preset, channels=channels)


def test_an_unknown_preset_is_refused() -> None:
    kind = SHAPE_METHODS.load("shape_completion").Config
    with pytest.raises(ConfigError, match="preset"):
        kind.create(simulated="skulls", preset="huge")
