"""Killed restoration and reconstruction jobs lose next to nothing."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from kills import Commands
from test_kills import content, projections, scan

from napari_geosr.core.types import AnyDict
from napari_geosr.jobs.folder import JobFolder

pytestmark = pytest.mark.skipif(os.name == "nt", reason="no SIGKILL there")
__all__ = ["projections", "scan"]


def made(folder: Path, kind: str, scan: Path, projections: Path) -> JobFolder:
    values: AnyDict = {"operation": kind, "name": "made"}
    if kind == "restore":
        settings: AnyDict = {"model": "ct-denoise", "memory": "1GB", "threads": 1}
        values |= {"method": "ct-denoise", "data": {"volume": str(scan)}}
    else:
        settings = {"algorithm": "sirt", "iterations": 3, "threads": 1}
        values |= {"method": "sirt", "projections": str(projections)}
    values["settings"] = settings
    return JobFolder.create(folder, values, name="made")


@pytest.mark.parametrize(
    "kind", ["restore", pytest.param("reconstruct", marks=pytest.mark.slow)]
)
def test_a_killed_job_resumes_to_the_same_bytes(
    tmp_path: Path, commands: Commands, scan: Path, projections: Path, kind: str
) -> None:
    whole = made(tmp_path / "whole", kind, scan, projections)
    code, said = commands.run(["jobs", "resume", str(whole.path)])
    assert code == 0, said
    n_tiles = tiles(said)
    job = made(tmp_path / "killed", kind, scan, projections)
    words = ["jobs", "resume", str(job.path)]
    counts = []
    for _ in range(1 if kind == "restore" else 2):
        code, said = commands.run(words, n_tiles=2)
        assert code == -9, said
        assert job.status().state == "interrupted"
        counts.append(tiles(said))
    code, said = commands.run(words)
    assert code == 0, said
    # The part that was being written when the job was killed is computed again.
    assert tiles(said) < n_tiles
    assert sum(counts) + tiles(said) <= n_tiles + 2 * len(counts)
    assert job.status().state == "done"
    result, expected = job.status().result, whole.status().result
    assert result is not None
    assert expected is not None
    voxels, record = content(result)
    other_voxels, other = content(expected)
    assert voxels == other_voxels
    assert np.array_equal(sorted(record), sorted(other))
    assert record["complete"] is True


def tiles(said: list[Any]) -> int:
    return sum(str(line).startswith("tile ") for line in said)
