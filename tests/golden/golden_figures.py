"""The compared values of the results of golden folders."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np

from napari_geosr import io
from napari_geosr.jobs.folder import JobFolder

#: One job of each kind that can be resumed; for training, those with the smallest and
#: largest checkpoints.
JOBS = ("supervised", "noise2void", "pix2pix", "from_projections", "ganrec", "study")
#: Column of the rotation axis in the scan used by some jobs.
CENTRE = 11.5
#: Commands that resume what they left.
LEFT = {
    "restore": (
        *("restore", "{folder}/data/low.ome.tif", "--model", "{bundle}"),
        *("--out", "{folder}/restored.ome.tif", "--device", "cpu"),
    ),
    "reconstruct": (
        *("reconstruct", "{folder}/data/scan.h5", "--centre", str(CENTRE)),
        *("--out", "{folder}/volume.ome.tif"),
    ),
}


def figures_of_volume(path: Path) -> dict[str, Any]:
    """Shape, mean and deviation of the grey values, and position of the volume."""
    volume = io.read(path)
    data = np.asarray(volume.data, np.float64)
    return {
        "shape": list(data.shape),
        "mean": float(data.mean()),
        "deviation": float(data.std()),
        "voxel_size": list(volume.voxel_size),
        "origin": list(volume.origin),
    }


def job_figures(folder: Path) -> dict[str, Any]:
    """Figures of a finished job's result: a model's weights, a volume or a table."""
    job = JobFolder(folder)
    result = job.status().result
    assert result is not None, job.status()
    if job.values()["operation"] == "ganrec":
        return figures_of_volume(result)
    if job.values()["operation"] == "study projections":
        rows = json.loads((result.parent / "study.json").read_text())["rows"]
        return {f"{r['projections']} {r['algorithm']}": r["porosity"] for r in rows}
    from safetensors.numpy import load_file

    (weights,) = result.glob("*.safetensors")
    return {
        name: [float(np.mean(values)), float(np.std(values))]
        for name, values in sorted(load_file(weights).items())
    }
