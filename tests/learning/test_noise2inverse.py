"""Noise2Inverse: inputs and targets, one held-out block, and the resulting bundle."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tifffile

from napari_geosr import io, restore
from napari_geosr.core.errors import ConfigError, VolumeError
from napari_geosr.core.steps import run_to_end
from napari_geosr.core.volume import Volume
from napari_geosr.learning.methods.noise2inverse import (
    Config,
    Method,
    index_sets,
    inputs,
)
from napari_geosr.learning.sampling.patches import Patches
from napari_geosr.models.bundle import load
from napari_geosr.operations.train import TrainJob, train_steps


def parts(n: int, shape: tuple[int, ...] = (12, 32, 40)) -> list[Volume]:
    """Constant reconstructions, each equal to its number, plus some noise."""
    rng = np.random.default_rng(0)
    return [
        Volume((10.0**i + 1e-4 * rng.normal(size=shape)), "ZYX", name=f"part{i}")
        for i in range(n)
    ]


def config(n: int, **values: Any) -> Config:
    return Config.create(source=["x"] * n, patch=16, **values)


def test_index_sets_of_four() -> None:
    assert set(index_sets(4, "X:1")) == {
        ((0, 1, 2), (3,)),
        ((0, 1, 3), (2,)),
        ((0, 2, 3), (1,)),
        ((1, 2, 3), (0,)),
    }
    assert set(index_sets(4, "1:X")) == {
        ((3,), (0, 1, 2)),
        ((2,), (0, 1, 3)),
        ((1,), (0, 2, 3)),
        ((0,), (1, 2, 3)),
    }
    assert set(index_sets(2, "X:1")) == set(index_sets(2, "1:X"))


@pytest.mark.parametrize("strategy", ["X:1", "1:X"])
def test_scenes_hold_means_and_all_are_targets(strategy: str) -> None:
    volumes = parts(4)
    method = Method(config(4, strategy=strategy))
    scenes = method.scenes({"source": volumes})
    found = {
        (round(float(s.data[3].mean()), 3), round(float(t.data[3].mean()), 3))
        for s, t in zip(scenes["source"], scenes["target"], strict=True)
    }
    total = 1111
    pairs = {(round((total - 10**i) / 3, 3), 10.0**i) for i in range(4)}
    expected = pairs if strategy == "X:1" else {(b, a) for a, b in pairs}
    assert found == expected
    assert all(v.shape == volumes[0].shape for v in scenes["source"])


def test_inputs_are_what_is_averaged_over() -> None:
    volumes = parts(3)
    means = [float(np.mean(v.data[2])) for v in inputs(volumes)]
    assert means == pytest.approx([55, 50.5, 5.5], abs=1e-3)
    assert inputs(volumes, "1:X") == volumes
    assert Method(config(3, strategy="1:X")).inputs(volumes) == volumes


def test_drawing_swaps_targets_and_keeps_one_block_apart() -> None:
    settings = config(4, dimensions="2D")
    method = Method(settings)
    volumes = [
        v.replace(data=v.data / 10.0**i * (i + 1)) for i, v in enumerate(parts(4))
    ]
    patches = Patches(
        method.scenes({"source": volumes}), settings, one_object=method.one_object
    )
    assert len({scene.split for scene in patches.scenes}) == 1
    seen = set()
    for seed in range(60):
        drawn = method.draw(patches, np.random.default_rng(seed))
        target = patches.grey["target"].restore(drawn["target"]).mean()
        source = patches.grey["source"].restore(drawn["source"]).mean()
        assert source == pytest.approx((10 - target) / 3, abs=1e-2)
        seen.add(round(float(target)))
    assert seen == {1, 2, 3, 4}


def test_what_does_not_fit_is_said() -> None:
    with pytest.raises(ConfigError, match="at least two sources"):
        Method.check(config(1))
    with pytest.raises(ConfigError, match="remove --target"):
        Method.check(config(2, target=["y"]))
    other = [*parts(2), Volume(np.zeros((12, 32, 39)), "ZYX", name="narrow")]
    with pytest.raises(VolumeError, match="'narrow' has shape 12 × 32 × 39"):
        Method(config(3)).scenes({"source": other})


def test_from_files_to_a_bundle_with_figures(tmp_path: Path, noisy_pair: Any) -> None:
    rng = np.random.default_rng(2)
    paths = []
    for i in range(3):
        noise = rng.normal(0, 0.4, noisy_pair.clean.shape)
        paths.append(tmp_path / f"part{i}.tif")
        tifffile.imwrite(paths[-1], (noisy_pair.clean + noise).astype(np.float32))
    training = Config.create(
        source=paths,
        steps=3,
        batch_size=2,
        patch=32,
        layers=2,
        width=2,
        device="cpu",
        threads=1,
        adjacent_slices=3,
    )
    job = TrainJob(method="noise2inverse", training=training)
    path = run_to_end(train_steps(job, tmp_path / "job"))
    card = load(path).card
    assert {row.method.split()[0] for row in card.figures} == {
        "input",
        "Gaussian",
        "model",
    }
    assert "part0.tif, part1.tif, part2.tif" in card.description
    given = card.provenance["inputs"]
    assert list(given) == ["source 1", "source 2", "source 3"]
    assert [Path(v["path"]).name for v in given.values()] == [p.name for p in paths]
    assert all(v["checksum"] for v in given.values())
    volumes = [io.read(p) for p in paths]
    outputs = [
        np.asarray(restore(v, model=str(path), device="cpu").data)
        for v in inputs(volumes)
    ]
    error = np.mean(outputs, axis=0) - noisy_pair.clean
    assert error.std() < 0.4
