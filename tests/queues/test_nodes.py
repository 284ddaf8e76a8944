"""Jobs on several nodes: a real SLURM of two daemons, and an emulated OAR."""

from __future__ import annotations

import os
from contextlib import suppress
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import psutil
import pytest
import tifffile
from queue_helpers import Cluster, resubmit, submit, wait_for

from napari_geosr import io
from napari_geosr.cli.app import run
from napari_geosr.core.errors import ConfigError, JobError, WorkerError
from napari_geosr.core.steps import never_stop
from napari_geosr.jobs.cluster import allocation, queue_record, submission
from napari_geosr.jobs.cluster.queue_record import QueueRecord
from napari_geosr.jobs.folder import JobFolder
from napari_geosr.operations.cluster.passed_on import export_lines
from napari_geosr.operations.cluster.starters import start_all
from napari_geosr.operations.restore.job import RestoreJob

pytest.importorskip("distributed")

in_both = pytest.mark.parametrize(
    "cluster", ["oar", pytest.param("slurm", marks=pytest.mark.slow)], indirect=True
)
#: Environment variables with the name of the node, in SLURM and in the emulated OAR.
NODE = ("SLURMD_NODENAME", "OAR_EMULATOR_NODE")


@pytest.fixture
def porous(tmp_path: Path) -> Path:
    """A volume of several shards."""
    from scipy import ndimage

    rng = np.random.default_rng(3)
    smooth = ndimage.gaussian_filter(rng.standard_normal((160, 96, 96)), 1.5)
    # Noise that is measured: without it, models return the scan as it is.
    data = np.where(smooth > 0, 130, 70) + rng.normal(0, 8, smooth.shape)
    data = data.astype(np.float32)
    folder = tmp_path / "it's a scan"
    folder.mkdir()
    tifffile.imwrite(folder / "porous.tif", data, imagej=True)
    return folder / "porous.tif"


def workers_of(job: JobFolder) -> dict[int, tuple[str, psutil.Process]]:
    """Node and process of each worker of a job, by its number."""
    found = {}
    for process in psutil.process_iter():
        try:
            words, environment = process.cmdline(), process.environ()
        except psutil.Error:
            continue
        if "distributed.cli.dask_worker" not in words or not any(
            str(job.path) in word for word in words
        ):
            continue
        node = next(environment[name] for name in NODE if name in environment)
        found[int(words[-1])] = node, process
    return found


@pytest.mark.slow
@in_both
def test_a_restoration_uses_all_nodes_and_survives_the_loss_of_one(
    cluster: Cluster, porous: Path, capsys: Any
) -> None:
    out, here = (porous.with_name(f"{name}.ome.zarr") for name in ("clean", "here"))
    words = ["restore", str(porous), "-m", "ct-denoise", "--threads", "2"]
    words += ["--memory", "400MB", "--uncertainty", "tta"]
    where = ["--nodes", "2", "--cores", "2", "--queue", cluster.name]
    job = JobFolder(
        submit(capsys, *words, "--workers", "4", "-o", str(out), *where)["job"]
    )
    wait_for(job, lambda: len(workers_of(job)) == 4)
    workers = workers_of(job)
    assert sorted(node for node, _ in workers.values()) == ["node0"] * 2 + ["node1"] * 2
    (keys,) = job.path.glob(".workers.*")
    assert keys.stat().st_mode & 0o077 == 0  # others could use them to run code
    wait_for(job, lambda: job.status().done > 0)
    for node, process in workers.values():
        if node == "node1":
            for each in (process, *process.children(recursive=True)):
                with suppress(psutil.NoSuchProcess):  # it ended with its parent
                    each.kill()
    wait_for(job, lambda: not job.status().is_alive)
    assert job.status().state == "done", job.status().message
    assert io.read(out).provenance[-1]["workers"]["processes"] == 4
    assert run([*words, "-o", str(here)]) == 0
    one, other = np.asarray(io.read(out).data), np.asarray(io.read(here).data)
    np.testing.assert_allclose(one, other, rtol=0, atol=1e-5 * other.std())
    assert not list(job.path.glob(".workers.*"))
    wait_for(job, lambda: not workers_of(job))


@in_both
def test_without_a_number_there_is_a_worker_for_each_node(
    cluster: Cluster, porous: Path, capsys: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A measurement, with exactly the same numbers as in one process."""
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "a b'c$d")
    out, here = porous.parent / "report", porous.parent / "here"
    words = ["measure", str(porous), "--threshold", "80", "--memory", "300MB"]
    where = ["--nodes", "2", "--cores", "1", "--queue", cluster.name]
    job = JobFolder(submit(capsys, *words, "-o", str(out), *where)["job"])
    wait_for(job, lambda: len(workers_of(job)) == 2)
    # The workers get the keys of a cloud storage, which are in no file on the disk.
    for _, process in workers_of(job).values():
        assert process.environ()["AWS_SECRET_ACCESS_KEY"] == "a b'c$d"
    assert list(job.path.glob(".workers.*/worker.sh"))
    files = [path for path in job.path.rglob("*") if path.is_file()]
    assert not any(b"AWS_SECRET" in path.read_bytes() for path in files)
    assert run([*words, "-o", str(here), "--labels"]) == 0
    wait_for(job, lambda: not job.status().is_alive)
    assert job.status().state == "done", job.status().message
    assert (out / "pores.csv").read_bytes() == (here / "pores.csv").read_bytes()


@pytest.mark.slow
@in_both
def test_a_job_on_several_nodes_is_resubmitted_and_ends(
    cluster: Cluster, porous: Path, capsys: Any
) -> None:
    """Workers end with each run, and new ones start with the next."""
    out, here = (porous.with_name(f"{name}.ome.zarr") for name in ("clean", "here"))
    words = ["restore", str(porous), "-m", "ct-denoise", "--threads", "2"]
    words += ["--memory", "400MB", "--uncertainty", "tta"]
    where = ["--nodes", "2", "--cores", "1", "--queue", cluster.name]
    job = JobFolder(submit(capsys, *words, "-o", str(out), *where)["job"])
    wait_for(job, lambda: job.status().done > 0)
    resubmit(cluster, job, 1)
    wait_for(job, lambda: not job.status().is_alive)
    assert job.status().state == "done", job.status().message
    assert run([*words, "-o", str(here)]) == 0
    one, other = np.asarray(io.read(out).data), np.asarray(io.read(here).data)
    np.testing.assert_allclose(one, other, rtol=0, atol=1e-5 * other.std())
    wait_for(job, lambda: not workers_of(job))
    assert not list(job.path.glob(".workers.*"))


def test_nodes_of_oar_are_those_of_its_file(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from napari_geosr.jobs.queues.oar import QUEUE

    monkeypatch.delenv("OAR_NODEFILE", raising=False)
    monkeypatch.delenv("OAR_NODE_FILE", raising=False)
    assert QUEUE.count_nodes() == 1
    with pytest.raises(JobError, match="does not state the nodes of this job"):
        QUEUE.start_workers(tmp_path / "script.sh", 2, 1)
    (tmp_path / "nodes").write_text("a\na\nb\n-oProxyCommand=x\nb\n")
    monkeypatch.setenv("OAR_NODEFILE", str(tmp_path / "nodes"))
    assert QUEUE.count_nodes() == 2
    started = QUEUE.start_workers(tmp_path / "it's a script.sh", 3, 1)
    assert [words[:2] for words in started] == [
        ["oarsh", "a"],
        ["oarsh", "a"],
        ["oarsh", "b"],
    ]
    assert started[2][2].endswith(" 2")
    (tmp_path / "nodes").write_text("a\nb\nc\nd\n")
    started = QUEUE.start_workers(tmp_path / "script.sh", 5, 1)
    assert [words[1] for words in started] == ["a", "a", "b", "c", "d"]
    assert os.linesep not in started[2][2]


@pytest.mark.parametrize(
    ("gpus", "given", "n_workers"), [(4, None, 4), (4, 2, 2), (1, None, None)]
)
def test_on_one_node_there_is_a_worker_for_each_gpu(
    porous: Path,
    monkeypatch: pytest.MonkeyPatch,
    gpus: int,
    given: int | None,
    n_workers: int | None,
) -> None:
    """The workers of a computer divide its GPUs; see `device_of`."""
    monkeypatch.delenv("SLURM_JOB_NUM_NODES", raising=False)
    values = {"data": {"volume": str(porous)}, "settings": {"model": "ct-denoise"}}
    values |= {"name": "clean", "out": str(porous.with_name("clean.ome.zarr"))}
    spec = RestoreJob.from_values({**values, "workers": given})
    folder = porous.parent / "clean.job"
    job = JobFolder.create(folder, spec.to_values(), name="clean")
    record = QueueRecord("slurm", "SLURM", "12", profile={"gpus": gpus})
    queue_record.write_record(job.path, record)
    with allocation.on_all_nodes(job, spec, never_stop) as shared:
        assert shared.workers == n_workers
    monkeypatch.setattr(allocation, "check_installed", not_installed)
    with allocation.on_all_nodes(job, spec, never_stop) as shared:
        assert shared.workers == given
    warnings = [e["message"] for e in job.events()[0] if e["event"] == "warning"]
    assert warnings == (["Only one GPU is used. Not installed."] * (n_workers == 4))
    # On this computer (--queue local), the profile of the cluster does not apply.
    monkeypatch.undo()
    queue_record.forget_number(job.path)
    with allocation.on_all_nodes(job, spec, never_stop) as shared:
        assert shared.workers == given


def test_submit_explains_how_nodes_share_a_job(
    porous: Path, monkeypatch: pytest.MonkeyPatch, capsys: Any
) -> None:
    monkeypatch.setattr(submission, "submit", lambda *_: "12")
    words = ["submit", "measure", str(porous), "--queue", "slurm", "--nodes", "5"]
    for name, more in (("a", []), ("b", ["--workers", "5"]), ("c", [])):
        if name == "c":
            monkeypatch.setattr(allocation, "check_installed", not_installed)
        assert run([*words, "-o", str(porous.with_name(name)), *more]) == 0
        said = " ".join(capsys.readouterr().err.split())
        assert ("Processes: 5 workers, one on each node" in said) == (name == "a")
        assert ("only one node is used. Not installed." in said) == (name == "c")


def not_installed() -> None:
    raise ConfigError("Not installed.")


def test_the_page_of_dask_is_named_where_there_is_one(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    client = SimpleNamespace(dashboard_link="http://node0:4321/status")
    for package, port in ((None, None), (object(), 4321)):
        monkeypatch.setattr(allocation, "find_spec", lambda _, found=package: found)
        assert allocation.dashboard_port(client) == port


def test_the_other_nodes_get_the_settings_of_the_network_but_not_of_one_node(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("NCCL_SOCKET_IFNAME", "ib0")
    monkeypatch.setenv("CUDA_HOME", "/opt/cuda")
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "3")
    # Sources on mass storage are read by the workers as well.
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "a b")
    monkeypatch.setenv("https_proxy", "http://proxy:3128")
    lines = export_lines({"A": "it's"}).splitlines()
    assert {"export NCCL_SOCKET_IFNAME=ib0", "export CUDA_HOME=/opt/cuda"} < set(lines)
    assert not any("CUDA_VISIBLE_DEVICES" in line for line in lines)
    assert any(line.startswith("export A=") for line in lines)
    expected = {"export AWS_SECRET_ACCESS_KEY='a b'"}
    assert expected | {"export https_proxy=http://proxy:3128"} < set(lines)


def test_a_program_that_is_missing_starts_nothing() -> None:
    before = len(psutil.Process().children())
    with pytest.raises(WorkerError, match="'no-such-program' could not be started"):
        start_all([["sleep", "60"], ["no-such-program"]])
    assert len(psutil.Process().children()) == before
