"""A dock's run in a real SLURM, from the button to the layer, in real napari."""

from __future__ import annotations

import subprocess
import sys
import tempfile
from pathlib import Path

import numpy as np
import opening
import pytest
import tifffile

from napari_geosr import restore
from napari_geosr.gui.kit.dock_tabs import JOBS
from napari_geosr.jobs.folder import JobFolder

sys.path.append(str(Path(__file__).parents[1] / "queues"))
import slurm_cluster

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(
        bool(slurm_cluster.why_missing()), reason=slurm_cluster.why_missing() or "there"
    ),
]


@pytest.fixture
def slurm(monkeypatch):
    with (
        tempfile.TemporaryDirectory(prefix="slurm") as folder,
        slurm_cluster.slurm(Path(folder)) as conf,
    ):
        monkeypatch.setenv("SLURM_CONF", str(conf))
        yield
        subprocess.run(["scancel", "--user=root"], check=False)


def submitted(dock, qtbot) -> JobFolder:
    """Submit as a user would: open the dialog, choose SLURM, press *Submit*."""
    dialog = opening.asked_where(dock, qtbot)
    dialog.cluster.setCurrentIndex(dialog.cluster.findData("slurm"))
    dialog.form.set_values({"cores": 1, "memory": ""})
    assert "#SBATCH --cpus-per-task=1" in dialog.script.toPlainText()
    with qtbot.waitSignal(dialog.submitted, timeout=60_000) as made:
        dialog.submit_button.click()
    return JobFolder(made.args[0])


def test_from_the_dock_to_the_result(slurm, viewer, qtbot, tmp_path, rng):
    data = rng.normal(100, 10, (8, 32, 32)).astype(np.float32)
    tifffile.imwrite(tmp_path / "scan.tif", data, imagej=True)
    viewer.open(tmp_path / "scan.tif", plugin="napari-geosr")
    dock = opening.opened(viewer)
    dock.model_box.set_model("gaussian")
    dock.model_box.set_user_choice(True)
    job = submitted(dock, qtbot)
    jobs = opening.opened(viewer, JOBS)
    jobs.show_job(job.path)
    qtbot.waitUntil(lambda: jobs.view.state == "done", timeout=180_000)
    jobs.view.show_button.click()
    qtbot.waitUntil(lambda: len(viewer.layers) == 2, timeout=30_000)
    expected = restore(data, "gaussian")
    np.testing.assert_allclose(viewer.layers[-1].data, expected, rtol=1e-5)
    # A cancellation outside napari is noticed within five seconds.
    other = submitted(dock, qtbot)
    jobs.show_job(other.path)
    qtbot.waitUntil(lambda: bool(other.status().queue.number), timeout=10_000)
    subprocess.run(["scancel", other.status().queue.number], check=True)
    qtbot.waitUntil(lambda: jobs.view.state == "interrupted", timeout=5000)
