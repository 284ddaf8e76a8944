"""A model is adapted to a scan, and kept unchanged if nothing is gained."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tifffile
import torch

import napari_geosr as geosr
from napari_geosr.cli.app import run
from napari_geosr.core.errors import GeoSRWarning, ModelError
from napari_geosr.inference.risk.stein import CellMeans
from napari_geosr.jobs.folder import JobFolder
from napari_geosr.jobs.index import is_listed
from napari_geosr.models import bundle
from napari_geosr.models.card import ModelCard, TrainingData
from napari_geosr.networks import build_network
from napari_geosr.operations.train import TrainJob
from napari_geosr.operations.train.adapt import adaptation_job
from napari_geosr.operations.train.adapt import run as adapt_run
from napari_geosr.operations.train.adapt.risk import Gain, gain_over
from napari_geosr.physics.specimens.phantoms import sphere_foam

FAST: dict[str, Any] = {
    "batch_size": 4,
    "patch": 32,
    "threads": 1,
    "device": "cpu",
    "averaging": 0.5,
    "warm_up": 0,
    "learning_rate": 5e-3,
}
TINY: dict[str, dict[str, Any]] = {
    "noise_bounded": {"ndim": 2, "adjacent_slices": 3, "features": 8, "blocks": 1},
    "msdnet": {"ndim": 2, "depth": 3, "width": 2},
}


@pytest.fixture(autouse=True)
def _one_thread() -> Iterator[None]:
    before = torch.get_num_threads()
    yield
    torch.set_num_threads(before)


@pytest.fixture(scope="module")
def scans(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """``a.tif`` and ``b.tif``: two scans of a foam of contrast 1 with noise of 0.3."""
    folder = tmp_path_factory.mktemp("scans")
    foam = sphere_foam((12, 64, 64), porosity=0.3, radius=(5, 10), gap=1.0, seed=3)
    rng = np.random.default_rng(5)
    for name in ("a", "b"):
        scan = 1 - foam.fraction + rng.normal(0, 0.3, foam.fraction.shape)
        what = {"axes": "ZYX", "spacing": 2.0, "unit": "um"}
        tifffile.imwrite(
            folder / f"{name}.tif",
            scan.astype(np.float32),
            imagej=True,
            metadata=what,
            resolution=(0.5, 0.5),
        )
    return folder


def model(folder: Path, network: str = "noise_bounded", bound: float = 4.0) -> Path:
    """A bundle of an untrained network; the bounded one returns its input."""
    torch.manual_seed(0)
    made: Any = build_network(network, **TINY[network])
    card = ModelCard(
        name="fresh",
        title="Fresh",
        task="denoise",
        network=network,
        network_kwargs=made.config.model_dump(mode="json"),
        axes="YX",
        adjacent_slices=made.spec.adjacent_slices,
        halo=max(made.spec.halo),
        training=TrainingData(description="nothing"),
        description="untrained",
        intended_use="tests",
        not_for="scans",
        licence="none",
        noise_bound=bound,
        weights_sha256="0" * 64,
        n_parameters=1,
    )
    bundle.save(folder / "fresh", card, made)
    return folder / "fresh"


@pytest.mark.every(2)
@pytest.mark.parametrize("second", [False, True])
def test_a_model_learns_from_the_scan_and_keeps_its_bound(
    scans: Path, tmp_path: Path, second: bool
) -> None:
    more = {"target": [scans / "b.tif"]} if second else {}
    better = "is expected to gain more: .* over the unchanged scan; adapt-a: "
    with pytest.warns(GeoSRWarning, match=better):
        adapted = geosr.train(
            "adapt",
            tmp_path / "job",
            source=[scans / "a.tif"],
            from_model=str(model(tmp_path)),
            steps=40,
            **more,
            **FAST,
        )
    card = adapted.card
    assert card.noise_bound == 4.0
    assert card.normalisation.kind == "standardise"
    assert card.network_kwargs["features"] == 8
    assert card.training.noise is not None
    assert card.training.noise[0] < 0.3 < card.training.noise[1]
    facts = card.provenance["training"]["adapted"]
    assert facts["learned_by"] == ("noise2noise" if second else "recorrupted")
    assert facts["interval_db"][0] > 0
    found = {row.method: row.psnr for row in card.figures}
    gain = found["model"] - found["model before"]
    # the gain on the whole scan counts if it is smaller than on the held-out blocks
    assert 0.5 * gain < facts["expected_gain_db"] < gain + 0.05
    assert 0 < facts["steps_kept"] <= 40
    assert found["model before"] == pytest.approx(found["input"], abs=0.4)
    bundle.verify(adapted.path)


def test_a_network_without_a_bound_of_its_own_stays_within_that_of_the_card(
    scans: Path, tmp_path: Path
) -> None:
    adapted = geosr.train(
        "adapt",
        tmp_path / "job",
        source=[scans / "a.tif"],
        from_model=str(model(tmp_path, "msdnet", 2.0)),
        steps=3,
        always_write=True,
        **FAST,
    )
    assert adapted.card.noise_bound == 2.0
    assert adapted.card.network == "msdnet"
    bundle.verify(adapted.path)


def test_where_nothing_is_gained_the_model_is_kept(
    scans: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: Any
) -> None:
    """Exit code 0, the initial model, a sentence, and no bundle in the job."""
    monkeypatch.setattr(adapt_run, "_MIN_GAIN", 99.0)
    start = model(tmp_path)
    words = ["train", "adapt", "--model", str(start), "--source", str(scans / "a.tif")]
    words += ["--out", str(tmp_path / "job"), "--steps", "3", "--threads", "1"]
    assert run([*words, "--batch-size", "2", "--patch", "32", "--json"]) == 0
    said = json.loads(capsys.readouterr().out)
    assert said["model"] == str(start)
    assert said["state"] == "done"
    assert any("No gain is expected" in warning for warning in said["warnings"])
    assert not list((tmp_path / "job").glob("result/*"))
    status = JobFolder(tmp_path / "job").status()
    assert status.result == start
    words[words.index("--out") + 1] = str(tmp_path / "again")
    assert run([*words, "--batch-size", "2", "--patch", "32"]) == 0
    told = capsys.readouterr()
    for sentence in said["warnings"]:
        lead = sentence[:30]
        assert (told.out + told.err).count(lead) == 1, lead


def test_a_gain_on_the_held_out_part_alone_is_not_enough(
    scans: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The ranking of models looks at the whole scan, and must agree."""
    gains = iter([Gain(0.5, (0.1, 0.9)), Gain(-0.9, (-1.2, -0.6))])
    monkeypatch.setattr(adapt_run, "gain_over", lambda *_: next(gains))
    start = model(tmp_path)
    with pytest.warns(GeoSRWarning, match=r"No gain is expected .*−0\.90 dB"):
        kept = geosr.train(
            "adapt",
            tmp_path / "job",
            source=[scans / "a.tif"],
            from_model=str(start),
            steps=3,
            **FAST,
        )
    assert kept.path == start


def test_a_refused_scan_leaves_no_job_behind(tmp_path: Path, capsys: Any) -> None:
    """Neither a folder nor an entry in the list: the command can be repeated."""
    rng = np.random.default_rng(0)
    scan = rng.normal(0, 1, (2, 5, 5)).astype(np.float32)
    tifffile.imwrite(tmp_path / "small.tif", scan, metadata={"axes": "ZYX"})
    words = ["train", "adapt", "--model", str(model(tmp_path))]
    words += ["--source", str(tmp_path / "small.tif"), "-o", str(tmp_path / "job")]
    assert run(words) == 2
    assert "too small to train on" in capsys.readouterr().err
    assert not (tmp_path / "job").exists()
    assert not is_listed(tmp_path / "job")


def test_the_settings_of_a_job_are_those_of_the_model(
    scans: Path, tmp_path: Path
) -> None:
    start = model(tmp_path)
    job = adaptation_job(start, [scans / "a.tif"], [scans / "b.tif"], minutes=1.0)
    assert job.training.name == "adapt-a"
    assert job.training.network == "noise_bounded"
    assert job.training.planes == 3
    again = TrainJob.from_values(
        {k: v for k, v in job.to_values().items() if k != "operation"}
    )
    assert again == job
    assert set(job.check()) == {"source", "target"}
    with pytest.raises(ModelError):
        adaptation_job(tmp_path / "none", [scans / "a.tif"])


def cells(removed: list[float], kept: list[float]) -> CellMeans:
    n = len(removed)
    values = {"removed": removed, "kept": kept, "noise": [1.0] * n, "voxels": [9.0] * n}
    values["passed"] = [0.0] * n
    return CellMeans(**{k: np.array(v) for k, v in values.items()})


def test_a_gain_is_that_of_the_expected_errors() -> None:
    """Risk = removed − noise + 2 kept: 1 if unchanged, 0.5 and 0.1 for two networks."""
    before = cells([0.5, 0.5, 0.5], [0.5, 0.5, 0.5])
    after = cells([0.9, 0.9, 0.9], [0.1, 0.1, 0.1])
    gain = gain_over(before, after)
    assert gain.decibels == pytest.approx(10 * np.log10(0.5 / 0.1))
    assert gain.is_significant
    assert gain.interval[0] == pytest.approx(gain.interval[1])
    assert not gain_over(after, before).is_significant
    uneven = cells([0.9, 0.1, 0.9], [0.1, 0.9, 0.1])
    assert not gain_over(before, uneven).is_significant


def test_without_noise_the_model_is_kept(tmp_path: Path, capsys: Any) -> None:
    """No time is spent on training; the exit code is that of an adaptation in vain."""
    foam = sphere_foam((12, 64, 64), porosity=0.3, radius=(5, 10), gap=1.0, seed=3)
    clean = np.asarray(100 + 50 * foam.fraction, np.float32)
    tifffile.imwrite(tmp_path / "clean.tif", clean, imagej=True)
    start = model(tmp_path)
    words = ["train", "adapt", "--model", str(start), "--steps", "2", "--threads", "1"]
    words += ["--source", str(tmp_path / "clean.tif"), "--patch", "32"]
    assert run([*words, "--out", str(tmp_path / "job")]) == 0
    said = capsys.readouterr()
    shown = " ".join(f"{said.out} {said.err}".split())
    assert shown.count("hardly any noise, so there is nothing to adapt") == 1
    assert shown.count("No new model was written.") == 1
    assert JobFolder(tmp_path / "job").status().result == start
    assert not list((tmp_path / "job").glob("result/*"))
    assert run([*words, "--out", str(tmp_path / "other"), "--always-write"]) == 2
    assert "Omit --always-write" in " ".join(capsys.readouterr().err.split())


def test_a_model_that_increases_the_resolution_is_no_denoiser(
    scans: Path, tmp_path: Path, capsys: Any
) -> None:
    words = ["train", "adapt", "--model", "foam-sr-x2", "-o", str(tmp_path / "job")]
    assert run([*words, "--source", str(scans / "a.tif")]) == 2
    error = " ".join(capsys.readouterr().err.split())
    assert "foam-sr-x2 increases the resolution" in error
    assert "choose a denoiser" in error
