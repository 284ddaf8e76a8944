"""Curves of a run: distinguishable colours, and a legend."""

from __future__ import annotations

import itertools
from types import SimpleNamespace
from typing import cast

import numpy as np
import pytest
from qtpy.QtGui import QColor
from skimage.color import rgb2lab

from napari_geosr.gui.jobs.texts import curves_of, line_text
from napari_geosr.gui.jobs.watch import JobWatch
from napari_geosr.gui.kit.plots.loss_plot import Line, LossPlot, LossScale, curve_pen
from napari_geosr.jobs.folder import JobFolder

#: Machado, Oliveira and Fernandes 2009 (doi:10.1109/TVCG.2009.113), severity 1.
_SEEN = {
    "all": np.eye(3),
    "no green": [
        [0.367322, 0.860646, -0.227968],
        [0.280085, 0.672501, 0.047413],
        [-0.011820, 0.042940, 0.968881],
    ],
    "no red": [
        [0.152286, 1.052583, -0.204868],
        [0.114503, 0.786281, 0.099216],
        [-0.003882, -0.048116, 1.051998],
    ],
}
_LOSSES = ("cycle", "adversarial", "identity", "critic_target", "critic_source")


@pytest.mark.parametrize("eyes", _SEEN)
@pytest.mark.parametrize("text", ["#f0f1f2", "#3b3a39"])
def test_curves_are_told_apart(text, eyes):
    pens = [curve_pen(Line("", [1], [1], i), QColor(text)) for i in range(7)]
    rgb = np.array([pen.color().getRgbF()[:3] for pen in pens])
    linear = np.where(rgb > 0.04045, ((rgb + 0.055) / 1.055) ** 2.4, rgb / 12.92)
    seen = np.clip(linear @ np.transpose(_SEEN[eyes]), 0, 1)
    shown = np.where(seen > 0.0031308, 1.055 * seen ** (1 / 2.4) - 0.055, 12.92 * seen)
    lab = rgb2lab(shown[None])[0]
    near = min(np.linalg.norm(a - b) for a, b in itertools.combinations(lab, 2))
    assert near > 12


def test_every_loss_of_a_run_has_its_colour_and_its_words(tmp_path):
    values = {"operation": "train", "method": "cyclegan", "training": {}}
    job = JobFolder.create(tmp_path / "a", values, name="a")
    losses = dict.fromkeys((*_LOSSES, "validation"), 0.5)
    job.append("progress", step=10, total=100, losses=losses)
    watch = JobWatch(job.path)
    watch.read()
    lines = curves_of(watch)
    assert not {line.name for line in lines} & {*_LOSSES}
    colors = {line.name: line.color for line in lines if not line.dashed}
    assert len(set(colors.values())) == len(_LOSSES)
    (validation,) = (line for line in lines if line.dashed)
    assert validation.color == colors["cycle loss"]


def drawn(plot):
    """The items of a chart: curves, and isolated points."""
    return plot.plot.getPlotItem().listDataItems()


def painted_at(path, x):
    """Heights at which a path crosses or touches a column of the picture."""
    found = [path.elementAt(i) for i in range(path.elementCount())]
    return [
        (a.x, b.x)
        for a, b in itertools.pairwise(found)
        if b.isLineTo() and min(a.x, b.x) < x < max(a.x, b.x)
    ]


def test_losses_below_zero_are_drawn_and_said(qtbot):
    plot = LossPlot()
    qtbot.addWidget(plot)
    values = [2.0, 0.5, 0.0, -0.5, -8.0]
    plot.set_lines([Line("critic", [1, 2, 3, 4, 5], values)], 5)
    assert plot.n_points() == 5
    (curve,) = drawn(plot)
    steps, heights = curve.getData()
    assert steps.tolist() == [1, 2, 3, 4, 5]
    assert (np.diff(heights) < 0).all()
    low, high = plot.plot.viewRange()[1]
    assert low < heights.min() < heights.max() < high
    assert "critic -8 at step 5" in plot.accessibleDescription()
    assert "symmetric logarithmic" in plot.accessibleDescription()
    plot.resize(300, 150)
    plot.grab()
    plot.set_lines([Line("critic", [1], [0.0])], 5)
    assert np.isfinite(drawn(plot)[0].getData()[1]).all()
    plot.set_lines([Line("loss", [1, 2], [3.0, 0.2])], 5)
    assert "The axis is logarithmic." in plot.accessibleDescription()


@pytest.mark.parametrize(
    "values", [[-3.0, 7.0], [0.0, 1e-9], [-1e6, -1.0], [0.0], [1.0], [1e-300, 1e300]]
)
def test_ticks_lie_on_the_axis_in_order(values):
    scale = LossScale.of([np.array(values)])
    ticks = scale.ticks()
    axis_fractions = scale.axis_fractions(np.array(ticks))
    assert len(ticks) < 7
    assert (np.diff(axis_fractions) > 0).all()
    assert ((axis_fractions >= 0) & (axis_fractions <= 1)).all()
    assert (scale.axis_fractions(np.array(values)) > 0).all()


def test_what_is_no_number_is_a_gap(qtbot, tmp_path):
    values = {"operation": "train", "method": "noise2noise", "training": {}}
    job = JobFolder.create(tmp_path / "a", values, name="a")
    losses = [1.0, 0.9, float("nan"), 0.8, float("inf"), 0.7, 0.6, float("nan")]
    for step, loss in enumerate(losses):
        job.append("progress", step=step, total=8, losses={"loss": loss})
    watch = JobWatch(job.path)
    watch.read()
    plot = LossPlot()
    qtbot.addWidget(plot)
    plot.resize(300, 150)
    plot.set_lines(curves_of(watch), 8)
    curve, alone = drawn(plot)
    assert np.isnan(curve.getData()[1]).tolist() == [not np.isfinite(v) for v in losses]
    path = curve.curve.getPath()
    crossed = [bool(painted_at(path, at)) for at in np.arange(0.5, 7)]
    assert crossed == [True, False, False, False, False, True, False]
    assert alone.getData()[0].tolist() == [3]  # a single point is visible, too
    assert "not a number at step 7" in plot.accessibleDescription()
    plot.grab()
    plot.set_lines([Line("loss", [1], [float("nan")])], 8)
    assert plot.accessibleDescription() == plot.empty_text


def test_the_line_of_a_running_job_begins_with_the_time_left():
    status = SimpleNamespace(
        name="foam",
        state="running",
        operation="train",
        done=276,
        total=500,
        is_alive=True,
        queue=SimpleNamespace(queue="", number=""),
    )
    watch = SimpleNamespace(
        status=status, progress={"seconds_left": 7.2}, stage="", pending_request=""
    )
    found = line_text(cast("JobWatch", watch))
    assert found == "55 %, 7 s left · foam: Training, step 276 of 500"
    status.operation, watch.stage = "reconstruct", "Reconstructing"
    watch.progress = {"seconds_left": 180.0, "step": 7, "total": 100}
    found = line_text(cast("JobWatch", watch))
    assert found == "7 %, 3 min left · foam: Reconstructing…"
