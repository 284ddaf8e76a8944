"""``submit``: a job in a queue gives the same result as the command."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from queue_helpers import Cluster, submit, wait_for

from napari_geosr import io
from napari_geosr.cli.app import run
from napari_geosr.jobs import index
from napari_geosr.jobs.folder import JobFolder

SMALL = ["--threads", "1"]


@pytest.mark.parametrize(
    "cluster", ["slurm", pytest.param("oar", marks=pytest.mark.slow)], indirect=True
)
def test_a_submitted_restoration_gives_the_same(
    cluster: Cluster, scan: Path, capsys: Any
) -> None:
    out, here = scan.parent / "clean.ome.tif", scan.parent / "here.ome.tif"
    words = ["restore", str(scan), *SMALL]
    said = submit(capsys, *words, "-o", str(out), "--queue", cluster.name)
    assert said["output"] == str(out)
    job = JobFolder(said["job"])
    assert job.path == scan.parent / "clean.job"
    assert job.status().queue.number == said["number"]
    assert run([*words, "-o", str(here)]) == 0
    wait_for(job, lambda: not job.status().is_alive)
    status = job.status()
    assert (status.state, status.result) == ("done", out)
    np.testing.assert_array_equal(io.read(out).data, io.read(here).data)
    assert not list(scan.parents[1].rglob("hacked"))
    # If the number is known, the job is found by it.
    assert index.find(said["number"]).path == job.path
