"""Starting training from napari never changes the folder of another run. No window."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from napari_geosr import io
from napari_geosr.core.errors import GeoSRError, VolumeError
from napari_geosr.core.steps import run_to_end
from napari_geosr.core.volume import Volume
from napari_geosr.gui.jobs import start as _train_start
from napari_geosr.gui.jobs.start import TrainingPlan, start_steps, time_steps
from napari_geosr.jobs.folder import JobFolder
from napari_geosr.jobs.job_files import foreign_files

SMALL = {"layers": 3, "width": 2, "batch_size": 2, "patch": 24, "steps": 5}


@pytest.fixture
def plan(rng):
    scans = [
        Volume(rng.normal(size=(4, 32, 32)).astype(np.float32), "ZYX", name=name)
        for name in ("first", "second")
    ]
    data = {"source": (scans[0],), "target": (scans[1],)}
    return TrainingPlan("noise2noise", {**SMALL, "name": "mine", "device": "cpu"}, data)


@pytest.fixture
def begun(monkeypatch):
    jobs = []
    monkeypatch.setattr(_train_start.local, "start", jobs.append)
    return jobs


def content(folder):
    return sorted(p.relative_to(folder) for p in folder.rglob("*"))


def test_the_job_of_another_napari_is_left_alone(plan, begun, tmp_path):
    theirs = JobFolder.create(tmp_path / "mine", {"operation": "train"}, name="mine")
    before = content(theirs.path)
    ours = run_to_end(start_steps(plan, tmp_path, "mine"))
    assert ours == tmp_path / "mine-2"
    assert [job.path for job in begun] == [ours]
    assert content(theirs.path) == before
    sources = JobFolder(ours).values()["training"]["source"]
    assert sources[0].startswith(str(ours / "data"))
    # Logs name the layer, not its role or its number.
    assert Path(sources[0]).name == "first.ome.zarr"
    assert foreign_files(ours) == []


def test_two_that_start_at_once_get_a_folder_each(plan, begun, tmp_path):
    one, two = (start_steps(plan, tmp_path, "mine") for _ in range(2))
    steps = [one, two]
    found = set()
    while steps:  # each does one step in turn
        for run in list(steps):
            try:
                next(run)
            except StopIteration as end:
                steps.remove(run)
                found.add(end.value)
    assert found == {tmp_path / "mine", tmp_path / "mine-2"}
    assert all(JobFolder(path).is_verified() for path in found)


def test_what_fails_leaves_nothing_of_its_own_only(plan, tmp_path, monkeypatch):
    theirs = JobFolder.create(tmp_path / "mine", {"operation": "train"}, name="mine")
    bad = TrainingPlan(plan.method, {**plan.settings, "network": "magic"}, plan.data)
    with pytest.raises(GeoSRError, match="magic"):
        run_to_end(start_steps(bad, tmp_path, "mine"))
    assert [p.name for p in tmp_path.iterdir()] == ["mine"]
    assert theirs.is_verified()


def test_estimates_at_once_do_not_delete_each_others_files(plan, tmp_path, monkeypatch):
    seen = []

    def estimate_steps(values, *, should_stop):
        seen.append(Path(values["training"]["source"][0]).is_dir())
        yield from ()

    monkeypatch.setattr(_train_start, "estimate_steps", estimate_steps)
    for _ in time_steps(plan, tmp_path):
        for _ in time_steps(plan, tmp_path):
            pass
    assert seen
    assert all(seen)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("value", [np.nan, 5.0])
def test_layers_of_nothing_are_refused_before_anything_is_written(
    plan, tmp_path, value
):
    empty = Volume(np.full((4, 32, 32), value, np.float32), "ZYX", name="empty")
    bad = TrainingPlan(plan.method, plan.settings, {**plan.data, "target": (empty,)})
    for steps in (start_steps(bad, tmp_path, "mine"), time_steps(bad, tmp_path)):
        with pytest.raises(VolumeError, match="'empty'"):
            run_to_end(steps)
    assert list(tmp_path.iterdir()) == []


def test_an_estimate_does_not_need_the_slice_on_screen(plan, tmp_path, monkeypatch):
    seen = []

    def estimate_steps(values, *, should_stop):
        seen.append(values["training"]["preview_slice"])
        yield from ()

    monkeypatch.setattr(_train_start, "estimate_steps", estimate_steps)
    monkeypatch.setattr(_train_start, "_ESTIMATE_EDGE", 2)
    deep = [
        part[0].replace(data=np.tile(part[0].data, (60, 1, 1)))
        for part in plan.data.values()
    ]
    data = {role: (part,) for role, part in zip(plan.data, deep, strict=True)}
    settings = {**plan.settings, "preview_slice": 239}
    run_to_end(time_steps(TrainingPlan(plan.method, settings, data), tmp_path))
    assert seen == [None]
    settings["preview_slice"] = 240
    with pytest.raises(GeoSRError, match="no preview slice 240"):
        run_to_end(time_steps(TrainingPlan(plan.method, settings, data), tmp_path))


@pytest.mark.parametrize("in_file", ["source", "target", None])
@pytest.mark.parametrize("factors", [(1, 1, 1), (2, 2, 2), (1, 2, 2)])
def test_an_estimate_cuts_the_same_box_of_what_belongs_together(
    rng, tmp_path, monkeypatch, in_file, factors
):
    """Also for data in a file whose partner is not in a file."""
    seen = {}

    def estimate_steps(values, *, should_stop):
        for role in ("source", "target"):
            (path,) = values["training"][role]
            seen[role] = np.asarray(io.read(path).data)
        yield from ()

    monkeypatch.setattr(_train_start, "estimate_steps", estimate_steps)
    monkeypatch.setattr(_train_start, "_ESTIMATE_EDGE", 24)
    scan = rng.normal(size=(9, 81, 90)).astype(np.float32)
    parts = {"source": scan, "target": np.kron(scan, np.ones(factors, np.float32))}
    data = {}
    for role, values in parts.items():
        volume = Volume(values, "ZYX", name=role)
        if role == in_file:
            path = io.write(volume, tmp_path / f"{role}.tif")
            volume = path if factors[1] > 1 else volume.replace(source=path)
        data[role] = (volume,)
    plan = TrainingPlan("supervised", {**SMALL, "device": "cpu"}, data)
    if factors != (1, 1, 1):
        depth = "2D" if factors[0] == 1 else "3D"
        more = {"upscale_factor": 2, "dimensions": depth, "network": "light_sr"}
        plan = TrainingPlan("supervised", {**plan.settings, **more}, data)
    run_to_end(time_steps(plan, tmp_path / "jobs"))
    edge = 3 * SMALL["patch"]
    assert seen["source"].shape == (9, edge, edge)
    expected = np.kron(seen["source"], np.ones(factors, np.float32))
    np.testing.assert_array_equal(seen["target"], expected)


def test_an_estimate_cuts_volumes_of_different_size_each_for_itself():
    volumes = [Volume(np.zeros(n, np.float32), "YX") for n in ((300, 90), (450, 500))]
    box = _train_start._box(volumes[1], volumes[0], 100)
    assert box == (slice(175, 275), slice(200, 300))
