"""A network fitted to frames as a job: other stacks, stopping, resuming."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest

from napari_geosr import io
from napari_geosr.cli.app import run
from napari_geosr.core.errors import ConfigError, DeviceMemoryError
from napari_geosr.core.steps import (
    CheckpointSaved,
    PreviewReady,
    TrainingProgress,
    WarningIssued,
    run_to_end,
)
from napari_geosr.core.volume import Volume
from napari_geosr.jobs.folder import JobFolder
from napari_geosr.jobs.kinds import read_job
from napari_geosr.jobs.run import run_steps
from napari_geosr.learning.training import checkpoint
from napari_geosr.operations.pinn_sim import PinnSimConfig, PinnSimJob, pinn_sim_steps
from napari_geosr.operations.sim import SimConfig, SimulateSimConfig, simulate_sim_steps
from sim.sim_scenes import OPTICS, PIXEL, scene

QUICK = {
    "recipe": "published", "steps": 6, "features": 4, "iterations": 3, "device": "cpu",
    "refine_steps": 2, "patterns_after": 3, "threads": 1,
}  # fmt: skip


@pytest.fixture(scope="module")
def stacks(tmp_path_factory) -> list[Path]:
    """Frames of two objects under the same microscope."""
    folder = tmp_path_factory.mktemp("stacks")
    paths = []
    for structure in ("filaments", "er"):
        config = SimulateSimConfig(structure=structure, snr=30, size=64)
        made = run_to_end(simulate_sim_steps(folder / structure, config))
        paths.append(made.files["raw"])
    return paths


def job_of(frames: Path, *others: Path, **settings: object) -> PinnSimJob:
    values = {**QUICK, "frames": frames, "apply_to": others, **settings}
    return PinnSimJob(training=PinnSimConfig.create(**values))


def test_a_fitted_network_reconstructs_further_stacks(stacks, tmp_path):
    first, second = stacks
    job = job_of(first, second)
    folder = JobFolder.create(tmp_path / "job", job.to_values(), name="sim")
    seen = []
    path = run_to_end(run_steps(folder), seen.append)
    names = sorted(p.name for p in (folder.path / "result").iterdir())
    assert names == ["sim.ome.tif", "sim_raw.ome.tif"]
    assert path == folder.path / "result" / "sim.ome.tif"
    raw = io.read(first)
    for name in names:
        volume = io.read(folder.path / "result" / name)
        assert volume.shape == (128, 128)
        assert volume.voxel_size[-1] == pytest.approx(raw.voxel_size[-1] / 2)
        assert volume.unit == raw.unit
        assert np.isfinite(np.asarray(volume.data)).all()
        assert volume.provenance[-1]["operation"] == "pinn-sim"
        assert volume.provenance[-1]["run"]["steps"] == 6
    assert "patterns" in io.read(path).provenance[-1]["run"]
    kinds = {type(step) for step in seen}
    assert {TrainingProgress, PreviewReady, CheckpointSaved} <= kinds


def test_what_is_applied_starts_from_the_fitted_network(stacks, tmp_path):
    first, second = stacks
    images = []
    for steps in (1, 6):
        job = job_of(first, second, steps=steps, refine_steps=0)
        run_to_end(pinn_sim_steps(job, tmp_path / str(steps)))
        path = tmp_path / str(steps) / "result" / "sim_raw.ome.tif"
        images.append(np.asarray(io.read(path).data))
    assert not np.allclose(images[0], images[1], rtol=1e-3)


def test_a_stopped_fit_resumes_to_the_same_numbers(stacks, tmp_path):
    job = job_of(stacks[0])
    whole = run_to_end(pinn_sim_steps(job, tmp_path / "whole"))
    saved = []

    def keep(step: object) -> None:
        saved.extend([step] * isinstance(step, CheckpointSaved))

    quick = job_of(stacks[0], checkpoint_seconds=1e-9)
    steps = pinn_sim_steps(
        quick, tmp_path / "part", should_stop=lambda: len(saved) >= 3
    )
    assert run_to_end(steps, keep) is None
    assert saved[-1].done == 3
    assert not (tmp_path / "part" / "result").exists()
    resumed = run_to_end(pinn_sim_steps(job, tmp_path / "part"))
    facts = io.read(whole).provenance[-1]["run"]
    assert facts["loss"] > 0
    assert io.read(resumed).provenance[-1]["run"]["loss"] == facts["loss"]
    resumed.unlink()  # as if killed after the fit
    resumed = run_to_end(pinn_sim_steps(job, tmp_path / "part"))
    assert io.read(resumed).provenance[-1]["run"]["loss"] == facts["loss"]
    np.testing.assert_array_equal(
        np.asarray(io.read(resumed).data), np.asarray(io.read(whole).data)
    )


def test_a_fit_that_was_ended_early_stays_ended(stacks, tmp_path):
    """A job that is killed while it writes the result does not continue the fit."""
    job, seen = job_of(stacks[0]), []

    asked = []

    def stop() -> bool:
        is_shown = any(isinstance(step, PreviewReady) for step in seen)
        return is_shown and not asked

    def keep() -> bool:
        asked.append(True)
        return True

    steps = pinn_sim_steps(job, tmp_path, should_stop=stop, keep_unfinished=keep)
    path = run_to_end(steps, seen.append)
    assert path is not None
    state = checkpoint.load(tmp_path / "checkpoints")
    assert state["steps"] == state["fit"]["iteration"] < 6


@pytest.mark.slow
def test_a_killed_job_resumes_to_the_same_numbers(stacks, tmp_path):
    results = {}
    for name in ("whole", "cut"):
        job = job_of(stacks[0], checkpoint_seconds=1e-3, steps=40)
        folder = JobFolder.create(tmp_path / name, job.to_values(), name="sim")
        reached = []
        for _ in range(2 if name == "cut" else 0):
            running = start_process(folder)
            at = len(folder.events()[0])
            while running.poll() is None:
                kinds = [event["event"] for event in folder.events()[0][at:]]
                if kinds.count("checkpoint") >= 3:
                    break
                time.sleep(0.01)
            os.killpg(running.pid, signal.SIGKILL)
            running.wait(60)
            state = checkpoint.load(folder.path / "checkpoints")
            reached.append(state["fit"]["iteration"])
            assert folder.status().state == "interrupted"
        assert reached == sorted(reached)
        assert all(0 < n < 40 for n in reached)
        assert start_process(folder).wait(300) == 0
        results[name] = np.asarray(io.read(folder.path / "result/sim.ome.tif").data)
    np.testing.assert_array_equal(results["cut"], results["whole"])


def start_process(folder: JobFolder) -> subprocess.Popen[bytes]:
    return subprocess.Popen(
        [sys.executable, "-m", "napari_geosr.jobs", str(folder.path)],
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        start_new_session=True,
    )


def test_a_checkpoint_of_other_frames_is_refused(stacks, tmp_path):
    run_to_end(pinn_sim_steps(job_of(stacks[0]), tmp_path))
    with pytest.raises(ConfigError, match="started with different frames"):
        run_to_end(pinn_sim_steps(job_of(stacks[1]), tmp_path))
    other = job_of(stacks[0], na=1.1, tv=0.1, learning_rate=0.1, steps=7, threads=2)
    with pytest.raises(ConfigError, match="These differ: na, tv, steps, learning rate"):
        run_to_end(pinn_sim_steps(other, tmp_path))


@pytest.mark.parametrize("way", ["Python", "command", "YAML", "job"])
def test_the_old_name_of_the_recipe_is_read(stacks, tmp_path, way):
    """``refine`` was called ``ours``."""
    if way == "Python":
        assert SimConfig(recipe="ours") == SimConfig(recipe="refine")
        return
    if way == "job":
        values = job_of(stacks[0], recipe="refine").to_values()
        values["training"]["recipe"] = "ours"
        job, _ = read_job(values, tmp_path / "config.yaml")
        assert job.training.recipe == "refine"
        return
    words = ["sim", str(stacks[0]), "--method", "widefield", "--no-checks"]
    if way == "YAML":
        (tmp_path / "s.yaml").write_text("recipe: ours\n", "utf-8")
        words += ["--config", f"{tmp_path}/s.yaml"]
    else:
        words += ["--recipe", "ours"]
    assert run([*words, "--out", f"{tmp_path}/o.ome.tif"]) == 0
    record = io.read(tmp_path / "o.ome.tif").provenance[-1]
    assert record["settings"]["recipe"] == "refine"


def test_a_checkpoint_with_the_old_name_of_the_recipe_is_resumed(stacks, tmp_path):
    job = job_of(stacks[0], recipe="refine", iterations=3, steps=2)
    first = run_to_end(pinn_sim_steps(job, tmp_path))
    image = np.asarray(io.read(first).data)
    first.unlink()
    state = checkpoint.load(tmp_path / "checkpoints")
    assert state["of"]["recipe"] == "refine"
    checkpoint.save(
        tmp_path / "checkpoints", {**state, "of": {**state["of"], "recipe": "ours"}}
    )
    again = run_to_end(pinn_sim_steps(job, tmp_path))
    np.testing.assert_array_equal(np.asarray(io.read(again).data), image)


def test_a_network_that_exceeds_the_memory_is_refused(stacks, tmp_path):
    job = job_of(stacks[0], memory="1MB")
    with pytest.raises(DeviceMemoryError, match="The network needs .* 1 MB allowed"):
        job.check()
    with pytest.raises(DeviceMemoryError):
        run_to_end(pinn_sim_steps(job, tmp_path))
    job_of(stacks[0], memory="100MB").check()


def test_further_time_points_are_treated_as_in_a_reconstruction(tmp_path):
    """Drift is reported, and dimmer frames need another number of iterations."""
    first, second = (
        scene("filaments", snr=snr, size=64, seed=seed).frames.reshape(9, 64, 64)
        for snr, seed in ((30, 0), (10, 7))
    )
    volume = Volume(np.stack([first, second]), "TZYX", (0.2, PIXEL, PIXEL), "µm")
    io.write(volume, tmp_path / "raw.ome.tif")
    optics = {"na": 1.4, "wavelength": OPTICS.wavelengths, "offset": 100}
    settings = {"iterations": None, "steps": 1, "refine_steps": 0, "order": "apz"}
    job = job_of(tmp_path / "raw.ome.tif", **optics, **settings)
    said = []
    path = run_to_end(pinn_sim_steps(job, tmp_path / "job"), said.append)
    messages = [step.message for step in said if isinstance(step, WarningIssued)]
    assert any("The patterns drift" in message for message in messages)
    used = io.read(path).provenance[-1]["run"]["iterations"]
    assert len(used) == 2
    assert used[0] > used[1]


def test_planes_that_cannot_be_used_are_left_empty(tmp_path):
    """Of the fitted stack and of another one, of which no plane has a pattern."""
    good = scene("filaments", snr=30, size=64).frames.reshape(9, 64, 64)
    flat = np.broadcast_to(good.mean(axis=0), good.shape)
    noise = np.random.default_rng(0).poisson(flat)
    constant = np.full_like(good, 100)
    paths = []
    for name, data in {
        "first": [good, constant],
        "none": [noise, constant],
        "late": [noise, good],
    }.items():
        volume = Volume(
            np.stack(data).astype(np.float32), "TZYX", (0.2, PIXEL, PIXEL), "µm"
        )
        io.write(volume, tmp_path / f"{name}.ome.tif")
        paths.append(tmp_path / f"{name}.ome.tif")
    optics = {"na": 1.4, "wavelength": OPTICS.wavelengths, "offset": 100}
    job = job_of(*paths, **optics, steps=1, refine_steps=0, order="apz")
    said = []
    path = run_to_end(pinn_sim_steps(job, tmp_path / "job"), said.append)
    empty = {
        each.name: np.isnan(io.read(each).data).all(axis=(-2, -1)).ravel().tolist()
        for each in path.parent.glob("*.ome.tif")
    }
    assert empty == {
        "sim.ome.tif": [False, True],
        "sim_none.ome.tif": [True, True],
        "sim_late.ome.tif": [False, False],
    }
    messages = [step.message for step in said if isinstance(step, WarningIssued)]
    assert sum("This plane is left empty (NaN)." in each for each in messages) == 1
    assert sum("none" in each and "is left empty (NaN). " in each for each in messages)
    facts = io.read(path).provenance[-1]["run"]
    assert facts["empty_planes"] == [{"time_point": 2, "channel": 1, "slice": 1}]


@pytest.mark.parametrize(
    ("settings", "words"),
    [
        ({"size": 64, "na": 1.2}, "numerical aperture"),
        ({"size": 64, "angles": 5, "phases": 5}, "5 angles × 5 phases"),
    ],
)
def test_other_optics_are_refused(stacks, tmp_path, settings, words):
    config = SimulateSimConfig.create(structure="er", snr=30, **settings)
    other = run_to_end(simulate_sim_steps(tmp_path / "other", config)).files["raw"]
    with pytest.raises(ConfigError, match=words):
        job_of(stacks[0], other).check()


def test_files_of_the_same_name_have_results_of_their_own():
    config = PinnSimConfig(
        frames=Path("a.tif"), apply_to=(Path("x/raw.ome.tif"), Path("y/raw.ome.tif"))
    )
    assert config.file_names() == ("sim", "sim_raw", "sim_raw-2")


def test_the_command_creates_and_runs_the_job(stacks, tmp_path, capsys):
    folder = tmp_path / "job"
    flags = [f"--{k.replace('_', '-')}={v}" for k, v in QUICK.items()]
    words = ["train", "pinn-sim", "--frames", str(stacks[0]), "-o", str(folder), *flags]
    assert run(words) == 0
    assert (folder / "result" / "sim.ome.tif").is_file()
    assert run(["train", "pinn-sim", "-o", str(tmp_path / "none")]) == 2
    assert "--frames" in capsys.readouterr().err
