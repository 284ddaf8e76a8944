"""Jobs of another computer: its paths and known data. No ssh here."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path, PurePosixPath
from typing import Any

import numpy as np
import pytest

from napari_geosr.cli.jobs import listing
from napari_geosr.core.errors import (
    ConfigError,
    GeoSRError,
    JobError,
    UnansweredError,
)
from napari_geosr.core.steps import run_to_end
from napari_geosr.core.volume import Volume
from napari_geosr.jobs import index
from napari_geosr.jobs.cluster import (
    login_node,
    profiles,
    queue_record,
    remote,
    remote_submission,
    submission,
)
from napari_geosr.jobs.cluster.profiles import Profile
from napari_geosr.jobs.cluster.queue_record import QueueRecord
from napari_geosr.jobs.cluster.remote import SharedFolder
from napari_geosr.jobs.folder import JobFolder
from napari_geosr.jobs.handover import LayerVolume, StoppedMeasurement
from napari_geosr.jobs.index import Elsewhere
from napari_geosr.operations.measure import MeasureConfig

HOSTILE = ["a b.tif", "it's $(touch hacked).tif", "\u00e9\u03bc.tif", "{x}%s;&.tif"]


@pytest.fixture(autouse=True)
def own_list(new_folder: Callable[[], Path], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_STATE_HOME", str(new_folder()))


@pytest.mark.parametrize("name", HOSTILE)
def test_files_of_a_job_have_their_paths_on_the_other_computer(
    tmp_path: Path, name: str
) -> None:
    (tmp_path / "data").mkdir()
    file, job = tmp_path / "data" / name, tmp_path / "job"
    file.touch()
    own = job / "data" / "scan.ome.zarr"
    own.mkdir(parents=True)
    shared = SharedFolder(str(tmp_path), "/bettik/me")
    values = {
        "data": {"volume": str(file), "reading": {"dataset": str(tmp_path)}},
        "sources": [str(file), "ct-denoise", str(own), 3, None],
        "angles": "/entry/theta",
        "training": {"target": (str(file),)},
    }
    there = f"/bettik/me/data/{name}"
    assert shared.map_settings(values, job) == {
        # Names inside files, and paths inside the job's own folder, do not change.
        "data": {"volume": there, "reading": {"dataset": str(tmp_path)}},
        "sources": [there, "ct-denoise", str(own), 3, None],
        "angles": "/entry/theta",
        "training": {"target": [there]},
    }
    assert SharedFolder().map_settings(values, job)["data"] == values["data"]


def test_files_elsewhere_are_named(tmp_path: Path) -> None:
    model = tmp_path / "model"
    model.mkdir()
    shared = SharedFolder(str(tmp_path / "Z"), "/bettik")
    with pytest.raises(ConfigError, match="model is not in the shared folder .*Z"):
        shared.map_settings({"model": str(model)}, tmp_path / "job")


def test_outputs_that_do_not_exist_yet_have_their_paths_too(tmp_path: Path) -> None:
    shared, job = SharedFolder(str(tmp_path), "/bettik/me"), tmp_path / "job"
    values = {
        "out": str(tmp_path / "new" / "clean.ome.zarr"),
        "scans": {"restore": str(tmp_path / "denoised.ome.tif"), "angles": "/e/theta"},
    }
    assert shared.map_settings(values, job) == {
        "out": "/bettik/me/new/clean.ome.zarr",
        "scans": {"restore": "/bettik/me/denoised.ome.tif", "angles": "/e/theta"},
    }
    with pytest.raises(ConfigError, match="not in the shared folder"):
        shared.map_settings({"out": "/elsewhere/clean.ome.zarr"}, job)


@pytest.mark.parametrize(
    ("here", "there", "message"),
    [
        ("/a", "", "on both computers"),
        ("", "/a", "on both computers"),
        ("a", "/b", "absolute"),
        ("/a", "b", "absolute"),
    ],
)
def test_half_a_shared_folder_is_refused(here: str, there: str, message: str) -> None:
    profile = Profile(host="me@login", local_folder=here, remote_folder=there)
    with pytest.raises(ConfigError, match=message):
        remote.check(profile, Path("/a/b"))


def test_watched_computers_are_kept(tmp_path: Path) -> None:
    assert remote.watched_hosts() == []
    for host in ("me@one", "two", "me@one"):
        remote.watch_host(host)
    assert remote.watched_hosts() == ["me@one", "two"]
    with pytest.raises(ConfigError, match="is not a valid computer"):
        remote.watch_host("-oProxyCommand=x")
    # Of a damaged file, the readable part is listed.
    with (index.index_folder() / "hosts.txt").open("a") as file:
        file.write("-oProxyCommand=x\n\nthree\n")
    assert remote.watched_hosts() == ["me@one", "two", "three"]
    remote.forget_host("two")
    assert remote.watched_hosts() == ["me@one", "three"]


def test_files_of_another_computer_are_found_here(tmp_path: Path) -> None:
    there = PurePosixPath("/bettik/me/a/clean.ome.zarr")
    here = tmp_path / "Z" / "a" / "clean.ome.zarr"
    here.mkdir(parents=True)
    assert remote.path_here("me@login", there) is None
    assert remote.path_here("me@login", PurePosixPath(here)) == here
    remote.share_folder("me@login", tmp_path / "elsewhere", PurePosixPath("/bettik"))
    assert remote.path_here("me@login", there) is None
    remote.share_folder("me@login", tmp_path / "Z", PurePosixPath("/bettik/me"))
    assert remote.path_here("me@login", there) == here
    assert remote.path_here("me@other", there) is None
    (index.index_folder() / "shared.json").write_text("[1, 2")
    assert remote.path_here("me@login", there) is None
    values = {"local_folder": str(tmp_path / "Z"), "remote_folder": "/bettik/me"}
    profiles.save_profile("far", Profile(host="me@login", **values))
    assert remote.path_here("me@login", there) == here


def test_an_invalid_profile_does_not_hide_those_of_other_computers() -> None:
    for name, host in (("a", "me@one"), ("b", "me@login")):
        profiles.save_profile(name, Profile(queue="oar", host=host))
    profiles.profile_path("a").write_text("host: [me@one\n")
    assert login_node.profile_for("me@login").host == "me@login"
    assert login_node.profile_for("me@one") == Profile()
    with pytest.raises(GeoSRError):  # it was asked for
        login_node.profile_for("me@one", "a")


def test_a_job_elsewhere_stays_known_as_such(tmp_path: Path) -> None:
    job = JobFolder.create(tmp_path / "job", {"operation": "restore"}, name="far")
    place = Elsewhere("me@login", "/bettik/job")
    index.register(job, elsewhere=place)
    index.find(tmp_path / "job")  # this registers it again
    assert index.elsewhere_of(job.path) == place
    index.forget(job.path)
    assert index.elsewhere_of(job.path) is None


def test_a_list_of_jobs_keeps_all_that_is_shown_of_them(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    job = JobFolder.create(tmp_path / "job", {"operation": "restore"}, name="far")
    queue_record.write_record(job.path, QueueRecord("slurm", "SLURM", "12"))
    facts = {"parts": [100, 40, 0], "processor_seconds": 36_000.0}
    job.set_state("running", pid=1, host="node7", done=3, total=9, **facts)
    job.request("cancel")
    updated = job.status().updated
    for phase in ("waiting", "running", "ended"):
        queue_record.write_state(job.path, phase, "words", updated, submitted="12")
        error = JobError("SLURM does not respond: no route.")
        queue_record.write_problem(job.path, error)
        status = job.status()
        text = json.dumps({"jobs": [listing.values_of(status)]})
        monkeypatch.setattr(remote, "output_of", lambda *_, _t=text, **__: _t)
        (found,) = remote.list_jobs("me@login")
        assert found.energy == "about 0.1 kWh, 6 g CO₂eq"
        expected = replace(status, energy=found.energy)
        assert replace(found, path=status.path) == expected
        assert getattr(found.queue, f"{'has' if phase == 'ended' else 'is'}_{phase}")


@pytest.mark.parametrize("how", ["refused", "not connected", "disconnected"])
def test_only_a_job_that_the_queue_may_have_taken_is_kept(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, how: str
) -> None:
    def output_of(_host: str, words: list[str], *_: Any, **__: Any) -> str:
        job = JobFolder(words[-1])
        if how != "not connected":
            submission.write_script(job.path, "exit")
        if how == "refused":
            job.set_state("paused")
        raise JobError("me@login has not answered for 60 s.")

    monkeypatch.setattr(remote_submission, "output_of", output_of)
    volume = Volume(np.zeros((2, 3, 4), np.uint8), "ZYX", name="scan")
    run = StoppedMeasurement({"data": LayerVolume(volume)}, MeasureConfig())
    profile = Profile(queue="slurm", host="me@login")
    is_kept = how == "disconnected"
    with pytest.raises(UnansweredError if is_kept else JobError) as caught:
        run_to_end(remote_submission.submit_steps(run, tmp_path / "jobs", profile))
    assert "has not answered" in str(caught.value)
    folders = list((tmp_path / "jobs").iterdir())
    assert len(folders) == len(index.list_jobs()) == is_kept
    if is_kept:
        assert f"may have accepted {folders[0]}" in str(caught.value)
