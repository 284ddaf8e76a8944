"""Curves of a run: colours that can be told apart, and words that explain them."""

from __future__ import annotations

import itertools

import numpy as np
import pytest
from qtpy.QtGui import QColor
from skimage.color import rgb2lab

from napari_geosr.gui._job_watch import JobWatch
from napari_geosr.gui._job_words import curves_of
from napari_geosr.gui._loss_plot import Line, LossPlot
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
def test_curves_are_told_apart(qtbot, text, eyes):
    plot = LossPlot()
    qtbot.addWidget(plot)
    pens = [plot._pen(Line("", [1], [1], i), QColor(text)) for i in range(7)]
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
    assert validation.color == colors["there and back"]
