"""Several scans of one object: the mean of the restored scans."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from napari_geosr import io, restore
from napari_geosr.cli.app import run
from napari_geosr.core.errors import Cancelled, ConfigError, VolumeError
from napari_geosr.core.steps import TileDone, WarningIssued, run_to_end
from napari_geosr.core.volume import Volume
from napari_geosr.learning.methods.noise2inverse import Config, inputs
from napari_geosr.models import bundle, zoo
from napari_geosr.operations.restore import (
    RestoreConfig,
    restore_average_steps,
    restore_steps,
)
from napari_geosr.operations.train import TrainJob, train_steps
from napari_geosr.physics.specimens.phantoms import sphere_foam

PARTS = 3


def foam(seed: int) -> np.ndarray[Any, Any]:
    made = sphere_foam((12, 48, 48), porosity=0.3, radius=(4, 9), gap=1.0, seed=seed)
    return (1 - made.fraction).astype(np.float32)


def scans(clean: np.ndarray[Any, Any], seed: int) -> list[Volume]:
    rng = np.random.default_rng(seed)
    return [
        Volume(
            (clean + rng.normal(0, 0.5, clean.shape)).astype(np.float32),
            "ZYX",
            (2.0, 2.0, 2.0),
            "µm",
            name=f"part{i}",
        )
        for i in range(PARTS)
    ]


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> str:
    """Noise2Inverse of a noisy foam, from three reconstructions."""
    folder = tmp_path_factory.mktemp("average")
    given = scans(foam(3), 1)
    paths = [io.write(v, folder / f"{v.name}.tif") for v in given]
    training = Config.create(
        source=paths,
        steps=60,
        batch_size=4,
        patch=32,
        layers=4,
        width=4,
        dimensions="2D",
        learning_rate=1e-2,
        averaging=0.9,
        warm_up=5,
        device="cpu",
        threads=1,
    )
    job = TrainJob(method="noise2inverse", training=training)
    return str(run_to_end(train_steps(job, folder / "job")))


@pytest.fixture(scope="module")
def parts() -> list[Volume]:
    """Another foam that the model has not seen."""
    return scans(foam(4), 2)


def error(volume: Volume) -> float:
    return float(np.sqrt(np.mean((np.asarray(volume.data) - foam(4)) ** 2)))


def test_the_card_says_what_the_result_is_the_mean_of(model: str) -> None:
    card = bundle.read_card(Path(model))
    assert (card.inputs, card.run_on) == (PARTS, "others")
    assert zoo.find("foam-denoise").card.inputs == 1


def test_the_mean_over_all_is_better_than_one(model: str, parts: list[Volume]) -> None:
    given = inputs(parts)
    alone = [restore(volume, model) for volume in given]
    together = restore(parts, model)
    expected = np.mean([np.asarray(v.data) for v in alone], axis=0)
    np.testing.assert_allclose(together.data, expected, atol=1e-5)
    assert error(together) < 0.97 * min(error(volume) for volume in alone)
    assert error(together) < 0.97 * error(restore(parts[0], model))
    assert together.voxel_size == parts[0].voxel_size
    record = together.provenance[-1]
    assert [v["name"] for v in record["inputs"].values()] == ["part0", "part1", "part2"]
    assert record["mean_over"] == {"outputs": PARTS, "run_on": "others"}


def test_what_is_alone_or_too_few_is_said(model: str, parts: list[Volume]) -> None:
    config = RestoreConfig.create(model=model)
    said = [
        step.message
        for step in restore_average_steps(parts[:2], config)
        if isinstance(step, WarningIssued)
    ]
    assert any("with 3 inputs of one object, but 2 are given" in s for s in said)
    assert len(said) == len(set(said))
    noise = np.random.default_rng(5)
    others = [
        v.replace(data=noise.normal(0, 1, v.shape).astype(np.float32), name=f"x{i}")
        for i, v in enumerate(parts)
    ]
    said = [
        step.message
        for step in restore_average_steps(others, config)
        if isinstance(step, WarningIssued)
    ]
    assert sum("unlike any training data" in s for s in said) == 1
    said = [
        s.message
        for s in restore_steps(parts[0], config)
        if isinstance(s, WarningIssued)
    ]
    assert any("--average" in s for s in said)
    with pytest.raises(ConfigError, match="two inputs"):
        restore(parts[:1], model)


def test_other_models_are_run_on_each(parts: list[Volume]) -> None:
    together = restore(parts[:2])
    alone = [np.asarray(restore(volume).data) for volume in parts[:2]]
    np.testing.assert_allclose(together.data, np.mean(alone, axis=0), atol=1e-5)
    narrow = parts[1].replace(data=parts[1].data[:, :, :-1], name="narrow")
    with pytest.raises(VolumeError, match="'narrow' has shape"):
        restore([parts[0], narrow])


def test_integers_are_rounded_once(model: str, parts: list[Volume]) -> None:
    whole = [v.replace(data=(v.data * 40 + 100).astype(np.uint8)) for v in parts]
    plain = restore(whole, "foam-denoise")
    stored = restore(whole, "foam-denoise", output_dtype="input")
    assert stored.dtype == np.uint8
    expected = np.clip(np.rint(np.asarray(plain.data)), 0, 255)
    assert np.abs(stored.data - expected).max() <= 1  # ± half a grey value
    assert np.mean(stored.data != expected) < 1e-3


def test_a_stop_leaves_nothing(model: str, parts: list[Volume], tmp_path: Path) -> None:
    out = tmp_path / "mean.ome.tif"
    done: list[Any] = []
    steps = restore_average_steps(
        parts,
        RestoreConfig.create(model=model),
        out=out,
        should_stop=lambda: len(done) > 1,
    )
    with pytest.raises(Cancelled):
        run_to_end(steps, lambda s: done.append(s) if isinstance(s, TileDone) else None)
    assert list(tmp_path.iterdir()) == []


def test_from_the_command_line(
    model: str,
    parts: list[Volume],
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    given = [str(io.write(v, tmp_path / f"{v.name}.tif")) for v in parts]
    out = tmp_path / "mean.ome.tif"
    arguments = ["restore", *given, "--model", model, "--out", str(out)]
    assert run(arguments) == 2
    assert "--average" in capsys.readouterr().err
    assert run([*arguments, "--average", "--json"]) == 0
    expected = restore(parts, model)
    np.testing.assert_allclose(io.read(out).data[:], expected.data, atol=1e-5)
    assert io.read(out).provenance[-1]["mean_over"]["outputs"] == PARTS
    capsys.readouterr()
    over = ["restore", *given, "--out", given[2], "--average", "--overwrite"]
    assert run(over) == 2
    assert "is the input" in capsys.readouterr().err
