"""From projections to a model: reconstruction, training, denoising; resuming."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from napari_geosr import io
from napari_geosr.cli.app import run
from napari_geosr.core.errors import ConfigError, FileError, ProjectionsError
from napari_geosr.core.projections import Projections
from napari_geosr.core.steps import (
    PreviewReady,
    StageStarted,
    WarningIssued,
    never_stop,
    run_to_end,
)
from napari_geosr.io.projections import write_projections
from napari_geosr.jobs.folder import JobFolder
from napari_geosr.jobs.run import run_steps
from napari_geosr.models.bundle import load
from napari_geosr.operations.reconstruct.fewer_views import splits
from napari_geosr.operations.reconstruct.resume import scan_entry_steps
from napari_geosr.operations.train.from_projections import (
    ProjectionsTrainJob,
    ScansConfig,
    train_from_projections_steps,
)

QUICK = {
    "steps": 4,
    "batch_size": 2,
    "patch": 24,
    "layers": 4,
    "warm_up": 0,
    "device": "cpu",
    "threads": 1,
    "dimensions": "2D",
}


pytestmark = pytest.mark.usefixtures("one_thread")


@pytest.fixture(scope="module")
def noisy(foam_scan: Callable[..., Any]) -> Any:
    return foam_scan(projections=64, photons=150.0, dark=0.0, read_noise=0.0)


def make(
    noisy: Any, method: str, scans: dict[str, Any], **training: Any
) -> ProjectionsTrainJob:
    config = ScansConfig.create(projections=noisy.path, **scans)
    return ProjectionsTrainJob.create_for(method, config, QUICK | training)


def folder_of(job: ProjectionsTrainJob, path: Path) -> JobFolder:
    return JobFolder.create(path, job.to_values(), name=job.training.name)


def stop_at(folder: JobFolder, stage: str) -> None:
    """Run a job until a stage begins."""
    last = [""]
    for step in run_steps(folder, should_stop=lambda: last[0].startswith(stage)):
        if isinstance(step, StageStarted):
            last[0] = step.message
    assert folder.status().state == "paused"


@pytest.mark.slow
def test_noise2inverse_gains_5_db_in_one_go(noisy: Any, tmp_path: Path) -> None:
    out = tmp_path / "clean.ome.tif"
    job = make(
        noisy,
        "noise2inverse",
        {"splits": 4, "restore": out},
        steps=80,
        batch_size=4,
        patch=40,
        layers=8,
        learning_rate=6e-3,
        averaging=0.95,
        dimensions="2.5D",
        adjacent_slices=3,
    )
    job.check()
    folder = folder_of(job, tmp_path / "job")
    steps = []
    model = run_to_end(run_steps(folder), steps.append)
    # Nor is it reported as unlike its training data.
    assert not [s.message for s in steps if isinstance(s, WarningIssued)]
    restored = io.read(out)
    parts = [io.read(p) for p in sorted((folder.path / "inputs").glob("part-*"))]
    assert len(parts) == 4
    whole = np.mean([np.asarray(part.data) for part in parts], axis=0)
    before, after = noisy.psnr(whole), noisy.psnr(restored.data)
    assert after > before + 5
    assert restored.voxel_size == (2, 2, 2)
    assert restored.unit == "µm"
    assert restored.provenance[-1]["mean_over"] == {"outputs": 4, "run_on": "others"}
    inputs = load(model).card.provenance["inputs"]
    assert inputs["source 1"]["checksum"].startswith("sha256")
    made = parts[0].provenance[-1]
    assert made["used"]["projections"] == 16
    assert made["inputs"]["input"]["checksum"].startswith("sha256")


def test_a_stopped_job_goes_on_with_the_reconstruction_that_it_was_at(
    noisy: Any, tmp_path: Path
) -> None:
    job = make(noisy, "noise2inverse", {"splits": 2})
    folder = folder_of(job, tmp_path / "job")
    stop_at(folder, "Reconstruction 2 of 2")
    assert folder.status().done == 0
    first = folder.path / "inputs" / "part-1-of-2.ome.tif"
    changed = first.stat().st_mtime_ns
    again = [s.message for s in run_steps(folder) if isinstance(s, StageStarted)]
    assert folder.status().state == "done"
    assert first.stat().st_mtime_ns == changed
    assert not any("Reconstruction 1 of 2" in message for message in again)


@pytest.mark.parametrize(
    ("scans", "said"),
    [
        ({"counts": (16, 40)}, ["40 of 64 projections: more than half"]),
        (
            {"counts": (16,), "acquisition": "continuous"},
            ["16 of 64 projections: all"],
        ),
        ({"counts": (16, 32)}, []),
        ({"counts": (16, 40), "target_light": "left-out"}, []),
        ({"exposure": (0.9,)}, []),
    ],
)
def test_pairs_that_share_most_of_their_noise_are_said(noisy, tmp_path, scans, said):
    job = make(noisy, "supervised", {"target_light": "all"} | scans)
    steps = train_from_projections_steps(job, tmp_path)
    found = []
    for step in steps:
        if isinstance(step, WarningIssued):
            found.append(step.message)
        elif isinstance(step, StageStarted):
            break
    steps.close()
    ours = [message for message in found if "that both share" in message]
    assert [
        message[: len(begin)] for message, begin in zip(ours, said, strict=False)
    ] == said
    assert len(ours) == len(said)


def test_a_second_scan_shares_no_noise(noisy: Any, tmp_path: Path) -> None:
    job = make(noisy, "supervised", {"short": noisy.path, "target_light": "all"})
    steps = train_from_projections_steps(job, tmp_path)
    first = [step for step, _ in zip(steps, range(3), strict=False)]
    steps.close()
    assert not any("that both share" in str(step) for step in first)


def test_other_projections_under_the_same_name_are_refused(
    noisy: Any, tmp_path: Path
) -> None:
    path = tmp_path / "scan.h5"
    write_projections(noisy.scan, path)
    scans = ScansConfig.create(projections=path, splits=2)
    job = ProjectionsTrainJob.create_for("noise2inverse", scans, QUICK)
    folder = folder_of(job, tmp_path / "job")
    stop_at(folder, "Reconstruction 2 of 2")
    assert (folder.path / "inputs" / "part-1-of-2.ome.tif").exists()
    other = noisy.scan.replace(data=np.asarray(noisy.scan.data)[:, ::-1])
    write_projections(other, path, overwrite=True)
    with pytest.raises(
        FileError, match=r"scan.h5 has changed.* with a different input\."
    ):
        run_to_end(run_steps(folder))


def test_the_same_projections_read_otherwise_are_refused(
    noisy: Any, tmp_path: Path
) -> None:
    folder = folder_of(make(noisy, "noise2inverse", {"splits": 2}), tmp_path / "job")
    stop_at(folder, "Reconstruction 2 of 2")
    other = make(noisy, "noise2inverse", {"splits": 2, "angle_range": (0, 90)})
    with pytest.raises(FileError, match=r"has changed.* with different angles\."):
        run_to_end(train_from_projections_steps(other, folder.path))


@pytest.mark.parametrize(("centre", "together"), [(11.5, False), (6.0, True)])
def test_opposite_views_of_a_full_turn_stay_together_where_they_are_joined(
    tmp_path: Path, centre: float, together: bool
) -> None:
    scan = Projections(
        data=np.ones((24, 6, 24), np.float32),
        angles=np.arange(24) * 15.0,
        centre=centre,
        is_line_integrals=True,
    )
    given = write_projections(scan, tmp_path / "turn.h5")
    scans = ScansConfig.create(projections=given, splits=2)
    job = ProjectionsTrainJob.create_for("noise2inverse", scans, QUICK)
    for left in (0, 1):  # the second time, it uses the existing files
        told: list[str] = []
        steps = train_from_projections_steps(job, tmp_path, should_stop=lambda: False)
        for step in steps:
            told += [step.message] if isinstance(step, StageStarted) else []
            if isinstance(step, PreviewReady):
                steps.close()
        assert sum("part" in message for message in told) == 2 - left
        parts = sorted((tmp_path / "inputs").glob("part-*"))
        assert len(parts) == 2
        # Six directions, each from both sides, or twelve.
        for path, part in zip(parts, splits(scan, 2, joined=together), strict=True):
            made = io.read(path)
            assert made.shape[-1] == (35 if together else 24)
            shown = run_to_end(scan_entry_steps(part.scan, never_stop))
            angles = made.provenance[-1]["inputs"]["input"]["angles"]
            assert angles == shown["angles"]
            assert len(np.unique(part.scan.angles % 180)) == (6 if together else 12)
        parts[1].unlink()


@pytest.mark.parametrize(
    ("method", "light"), [("supervised", "all"), ("tomogan", "left-out")]
)
def test_pairs_of_fewer_views_feed_paired_methods(
    noisy: Any, tmp_path: Path, method: str, light: str
) -> None:
    values = {"layers": None} if method == "tomogan" else {}
    job = make(
        noisy,
        method,
        {"every": [4, 8], "acquisition": "continuous", "target_light": light},
        **values,
        dimensions="2.5D",
        adjacent_slices=5,
        steps=2,
    )
    job.check()
    folder = folder_of(job, tmp_path / "job")
    model = run_to_end(run_steps(folder))
    found = {path.name for path in (folder.path / "inputs").iterdir()}
    names = ["16-means", "8-means", "whole"]
    if light == "left-out":
        names = [f"{n}-means-{part}" for n in (16, 8) for part in ("given", "left")]
    assert {f"{name}.ome.tif" for name in names} == found
    card = load(model).card
    assert card.adjacent_slices == 5
    assert set(card.provenance["inputs"]) >= {"source 1", "source 2", "target 2"}


def test_the_command_trains_and_restores(
    noisy: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: Any
) -> None:
    monkeypatch.chdir(tmp_path)
    flags = [w for k, v in QUICK.items() for w in (f"--{k.replace('_', '-')}", str(v))]
    words = ["train", "supervised", "--projections", str(noisy.path), "--every", "4"]
    words += ["--out", "job", "--rows", "2,8", "--restore", "few.ome.tif", *flags]
    assert run([*words, "--name", "few"]) == 0
    said = capsys.readouterr().out
    assert f"Model: {tmp_path / 'job' / 'result' / 'few'}" in said
    assert "few.ome.tif" in said
    restored = io.read("few.ome.tif")
    assert restored.shape[0] == 6
    # Trained on a fraction of the photons, and restored with all of them.
    inputs = tmp_path / "job" / "inputs"
    found = {path.name.partition(".")[0] for path in inputs.iterdir()}
    assert found == {"16-views", "16-views-given", "16-views-left"}
    assert restored.provenance[-1]["inputs"]["input"]["path"].endswith("views.ome.tif")


@pytest.mark.parametrize(
    ("method", "scans", "message"),
    [
        (
            "noise2inverse",
            {"splits": 40},
            r"too few projections \(64\) to be divided",
        ),
        ("noise2inverse", {"every": [4]}, "omit --every"),
        ("supervised", {}, "choose the data to pair with"),
        ("supervised", {"counts": [65]}, "so 65 cannot be selected"),
        (
            "supervised",
            {"counts": [64], "target_light": "all"},
            "nothing can be learned",
        ),
        ("supervised", {"counts": "16,x"}, "numbers with commas"),
        (
            "supervised",
            {"counts": "16,32", "restore": "x.ome.tif"},
            "2 kinds of training",
        ),
        ("noise2void", {}, "does not learn from projections"),
        ("noise2inverse", {"rows": "3,4"}, None),
    ],
)
def test_bad_settings_are_refused_before_anything_is_reconstructed(
    noisy: Any, method: str, scans: dict[str, Any], message: str | None
) -> None:
    def checked(**training: Any) -> None:
        make(noisy, method, scans, **training).check()

    if message is None:
        checked()
        with pytest.raises(ConfigError, match="single row"):
            checked(dimensions="2.5D")
        return
    with pytest.raises((ConfigError, ProjectionsError), match=message):
        checked()


def test_volumes_beside_projections_are_refused(noisy: Any) -> None:
    with pytest.raises(ConfigError, match="Both projections and volumes"):
        make(noisy, "noise2inverse", {}, source=["a.tif"])


def test_several_processes_reconstruct_nothing(
    noisy: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    job = make(noisy, "noise2inverse", {"centre": 27.5})
    monkeypatch.setenv("WORLD_SIZE", "2")
    with pytest.raises(ConfigError, match="by a single process"):
        run_to_end(train_from_projections_steps(job, tmp_path))
