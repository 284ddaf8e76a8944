"""Runs whose noise is measured in a second scan, a region or a blank scan."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

import napari_geosr as geosr
from napari_geosr import io
from napari_geosr.cli.app import run
from napari_geosr.core.errors import ConfigError, VolumeError
from napari_geosr.core.noise import KNOWN_NOISE, known_noise
from napari_geosr.core.steps import run_to_end
from napari_geosr.core.volume import Volume
from napari_geosr.jobs.kinds import read_job
from napari_geosr.operations.inputs import InputConfig
from napari_geosr.operations.inputs.noise_source import (
    NoiseReference,
    NoiseSource,
    with_noise_steps,
)
from napari_geosr.operations.restore import RestoreConfig
from napari_geosr.operations.restore.job import (
    RestoreInput,
    RestoreJob,
    restore_job_steps,
)
from napari_geosr.operations.restore.reproduce import as_command

SHAPE = (24, 48, 48)
OPTIONS = {"--second": "second", "--noise-region": "region", "--blank": "blank"}


@pytest.fixture(scope="module")
def files(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """A scan with strong noise, and everything in which its noise can be measured."""
    folder = tmp_path_factory.mktemp("noise")
    rng = np.random.default_rng(0)
    clean = np.full(SHAPE, 20.0)
    clean[:, 12:36, 12:36] = 120
    mask = np.ones(SHAPE, np.uint8)
    mask[:, 10:38, 10:38] = 0
    data = {
        "scan": clean + rng.normal(0, 10, SHAPE),
        "second": clean + rng.normal(0, 10, SHAPE),
        "region": mask,
        "blank": 20 + rng.normal(0, 10, SHAPE),
    }
    return {
        name: io.write(
            Volume(
                values if values.dtype == np.uint8 else values.astype(np.float32),
                "ZYX",
                (2.0, 2.0, 2.0),
                "µm",
            ),
            folder / f"{name}.tif",
        )
        for name, values in data.items()
    }


@pytest.mark.parametrize("option", OPTIONS)
def test_all_commands_use_it(
    files: dict[str, Path],
    option: str,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    scan, place = str(files["scan"]), [option, str(files[OPTIONS[option]])]
    source = "repeat" if option == "--second" else "uniform"
    assert run(["info", scan, *place, "--json"]) == 0
    noise = json.loads(capsys.readouterr().out)["noise"]
    assert noise["source"] == source
    assert noise["level"] == pytest.approx(10, rel=0.06)
    rank = ["models", "rank", scan, *place, "--models", "gaussian", "--json"]
    assert run(rank) == 0
    assert json.loads(capsys.readouterr().out)["noise"] == noise
    out = tmp_path / "restored.tif"
    assert run(["restore", scan, "-o", str(out), *place, "--json"]) == 0
    record = io.read(out).provenance[-1]
    assert record["noise"] == noise
    other = [name for name in record["inputs"] if name != "input"]
    assert len(other) == 1
    assert record["inputs"][other[0]]["path"] == place[1]
    assert run(["restore", scan, "-o", str(out), *place, "--dry-run"]) == 2
    capsys.readouterr()
    planned = str(tmp_path / "planned.tif")
    assert run(["restore", scan, "-o", planned, *place, "--dry-run", "--json"]) == 0


def test_auto_measures_errors_against_a_second_scan(files: dict[str, Path]) -> None:
    scan, second = (geosr.read(files[name]) for name in ("scan", "second"))
    found = geosr.restore(scan, "auto", second=second)
    noise = found.provenance[-1]["noise"]
    assert noise["source"] == "repeat"
    ranked = found.provenance[-1]["ranking"]
    assert ranked["choice"] != "none"


@pytest.mark.parametrize("kind", OPTIONS.values())
def test_python(files: dict[str, Path], kind: str) -> None:
    scan, other = (np.asarray(geosr.read(files[name])) for name in ("scan", kind))
    name = "noise_region" if kind == "region" else kind
    found = geosr.restore(scan, axes="ZYX", **{name: other})
    level = found.provenance[-1]["noise"]["level"]
    assert level == pytest.approx(10, rel=0.06)
    with pytest.raises(ConfigError, match="several scans are averaged"):
        geosr.restore([scan, scan], axes="ZYX", **{name: other})
    others = {"second": other, "blank": other}
    with pytest.raises(ConfigError, match="only one"):
        geosr.restore(scan, axes="ZYX", **others)


def test_refused_combinations(
    files: dict[str, Path], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out, scan = str(tmp_path / "out.tif"), str(files["scan"])
    both = ["--second", str(files["second"]), "--blank", str(files["blank"])]
    assert run(["restore", scan, "-o", out, *both]) == 2
    assert "--second and --blank are given" in capsys.readouterr().err
    averaged = [scan, str(files["second"]), "--average", "-o", out, *both[:2]]
    assert run(["restore", *averaged]) == 2
    assert "omit --average or --second" in capsys.readouterr().err
    region = ["--noise-region", str(files["region"])]
    replaced = ["-o", str(files["region"]), "--overwrite"]
    before = files["region"].read_bytes()
    assert run(["restore", scan, *region, *replaced]) == 2
    assert "the input is never changed" in capsys.readouterr().err
    assert files["region"].read_bytes() == before


def test_channels_must_be_chosen(files: dict[str, Path]) -> None:
    channels = Volume(np.zeros((2, *SHAPE)), "CZYX", name="scan")
    source = NoiseSource(blank=files["blank"])
    with pytest.raises(ConfigError, match="2 channels"):
        source.open(channels, InputConfig())


def test_a_series_uses_its_middle_time_point(files: dict[str, Path]) -> None:
    scan = np.asarray(geosr.read(files["scan"]))
    series = Volume(np.stack([scan, scan, scan]), "TZYX", name="series")
    region = geosr.read(files["region"])
    reference = NoiseReference("region", region)
    known = known_noise(run_to_end(with_noise_steps(series, reference)).metadata)
    assert known is not None
    assert known.noise.level == pytest.approx(10, rel=0.06)
    restored = geosr.restore(series, noise_region=region)
    assert restored.axes == "TZYX"
    assert restored.provenance[-1]["noise"]["source"] == "uniform"
    short = NoiseReference("second", series.take(time=0))
    with pytest.raises(VolumeError, match="same axes and shape"):
        run_to_end(with_noise_steps(series, short))


def test_jobs(files: dict[str, Path], tmp_path: Path) -> None:
    scan = geosr.read(files["scan"])
    folder, out = tmp_path / "job", tmp_path / "out.ome.zarr"
    folder.mkdir()
    data = RestoreInput(
        volume=files["scan"], noise=NoiseSource(noise_region=files["region"])
    )
    job = RestoreJob(name="out", data=data, out=out)
    assert read_job(job.to_values(), folder)[0] == job
    count = iter(range(10**6))
    stopped = restore_job_steps(job, folder, should_stop=lambda: next(count) > 60)
    run_to_end(stopped)
    assert run_to_end(restore_job_steps(job, folder)) == out
    direct = geosr.restore(scan, noise_region=geosr.read(files["region"]))
    restored = io.read(out)
    np.testing.assert_allclose(restored.data, direct.data, rtol=1e-5, atol=1e-3)
    # Noise measured before the job was created.
    noise = restored.provenance[-1]["noise"]
    values = {"noise": noise, "kind": "region", "name": "air", "path": None}
    known = RestoreInput(volume=files["scan"], known_noise=values)
    found = known.open().metadata[KNOWN_NOISE]
    assert found.noise.to_json_dict() == noise
    assert found.to_values() == values
    named = {**values, "path": str(files["region"])}
    assert (
        RestoreInput(volume=files["scan"], known_noise=named)
        .open()
        .metadata[KNOWN_NOISE]
        .volume.shape
        == SHAPE
    )
    gone = {**values, "path": str(tmp_path / "gone.tif")}
    again = RestoreInput(volume=files["scan"], known_noise=gone).open()
    assert again.metadata[KNOWN_NOISE].volume is None
    command = as_command(again, RestoreConfig())
    assert "'air' has not been saved" in command
    assert "--noise-region NOISE-REGION.ome.tif" in command
    known_job = RestoreJob(name="known", data=known)
    assert read_job(known_job.to_values(), folder)[0] == known_job
