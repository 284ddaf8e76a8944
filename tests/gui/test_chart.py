"""Charts: axes, legends, keyboard and mouse, and both themes."""

from __future__ import annotations

import numpy as np
import pytest
from napari.qt import get_stylesheet
from qtpy.QtCore import QPoint, Qt
from qtpy.QtWidgets import QVBoxLayout, QWidget

from napari_geosr.gui.kit.plots.chart import Legend, linear_ticks, log_ticks, tick_text
from napari_geosr.gui.kit.plots.histogram import (
    Bars,
    HistogramView,
    PlotColors,
    ThresholdView,
)
from napari_geosr.gui.kit.plots.loss_plot import Line, LossPlot
from napari_geosr.gui.study.plot import StudyPlot

RED, BLUE = "#ff0000", "#0000ff"


def show(qtbot, chart, width=340):
    chart.resize(width, chart.sizeHint().height())
    qtbot.addWidget(chart)
    chart.show()
    qtbot.waitExposed(chart)
    qtbot.wait(50)
    return chart


def bars(n=100, low=0.0, high=200.0):
    return Bars(np.full(n, 4), np.linspace(low, high, n + 1))


@pytest.fixture
def view(qtbot):
    view = ThresholdView()
    view.set_colors(PlotColors("#101010", RED, BLUE))
    view.set_series([bars()], "grey value")
    return show(qtbot, view)


def axis_texts(chart, side):
    """The labels of an axis."""
    (ticks,) = chart.plot.getAxis(side)._tickLevels
    return [text for _, text in ticks if text]


def test_the_threshold_follows_mouse_and_keys(view, qtbot):
    view.set_threshold(50.0, dark=True)
    moved = []
    view.thresholdMoved.connect(moved.append)
    place = QPoint(round(view.x_of(150)), 20)
    qtbot.mousePress(view, Qt.MouseButton.LeftButton, pos=place)
    assert view.threshold == pytest.approx(150, abs=1)
    qtbot.keyClick(view, Qt.Key.Key_Left)
    assert view.threshold == pytest.approx(148, abs=1)
    assert moved == [pytest.approx(150, abs=1), pytest.approx(148, abs=1)]
    assert f"threshold {view.threshold:.6g}" in view.accessibleDescription()
    view.set_threshold(199.9, dark=True)
    qtbot.keyClick(view, Qt.Key.Key_Right)
    assert view.threshold == 200  # not beyond the grey values
    qtbot.mousePress(view, Qt.MouseButton.LeftButton, pos=QPoint(0, 20))
    assert view.threshold == 0


@pytest.mark.parametrize("dark", [True, False])
def test_pores_are_marked_on_their_side_of_the_threshold(view, qtbot, dark):
    view.set_threshold(100.0, dark=dark)
    qtbot.wait(20)
    picture = view.grab().toImage()
    seen = [
        picture.pixelColor(round(view.x_of(value)), view.height() // 2).name()
        for value in (50, 150)
    ]
    assert seen == [BLUE, RED][:: 1 if dark else -1]
    view.set_threshold(None, dark=dark)
    picture = view.grab().toImage()
    assert picture.pixelColor(view.width() // 4, view.height() // 2).name() == RED


def test_places_and_values_belong_together(view, qtbot):
    for value in (0, 37, 100, 200):
        assert view.value_at(view.x_of(value)) == pytest.approx(value, abs=1)
    logarithmic = HistogramView(log_x=True)
    logarithmic.set_series([bars(low=10.0, high=1e6)], "pore volume (µm³)")
    show(qtbot, logarithmic)
    places = [logarithmic.x_of(10.0**power) for power in range(1, 7)]
    assert np.diff(places) == pytest.approx(np.diff(places)[0], abs=2)
    assert logarithmic.value_at(places[2]) == pytest.approx(1e3, rel=0.05)
    assert axis_texts(logarithmic, "bottom") == ["10", "1000", "10⁵"]
    assert "pore volume" in logarithmic.accessibleDescription()


def test_a_histogram_of_two_has_a_legend(qtbot):
    view = HistogramView(log_x=True)
    names = ["noisy foam", "restored foam"]
    view.set_series(
        [
            Bars(b.counts, b.edges, n)
            for b, n in zip([bars(low=1)] * 2, names, strict=True)
        ],
        "volume",
    )
    show(qtbot, view)
    (legend,) = view.findChildren(Legend)
    assert legend.isVisible()
    assert legend.texts() == names
    view.set_series([bars(low=1)], "volume")
    assert not legend.isVisible()
    view.set_series([], "")
    view.empty_text = "No pores."
    assert view.accessibleDescription() == ""
    assert not view.plot.isVisible()


def rows(*counts):
    return [
        {"title": t, "projections": n, "exposure": 1.0, "porosity_error": 0.1 / n}
        for t in ("FBP", "TV")
        for n in counts
    ]


def test_labels_of_an_axis_do_not_lie_over_each_other(qtbot):
    plot = StudyPlot()
    plot.set_rows(rows(100, 101, 102, 150, 400), "porosity_error", tolerance=5.0)
    show(qtbot, plot)
    texts = axis_texts(plot, "bottom")
    assert {"100", "400"} <= set(texts)  # the ends first
    assert "101" not in texts
    plot.resize(1200, plot.height())
    qtbot.waitUntil(lambda: "150" in axis_texts(plot, "bottom"))
    assert "0" in axis_texts(plot, "left")


@pytest.mark.parametrize("make", [LossPlot, StudyPlot])
def test_another_theme_has_other_colours(qtbot, make):
    plot = make()
    if make is LossPlot:
        plot.set_lines([Line("loss", [1, 2, 3], [3.0, 2.0, 1.0])], 3)
    else:
        plot.set_rows(rows(10, 20), "porosity_error")
    window = QWidget()
    QVBoxLayout(window).addWidget(plot)
    qtbot.addWidget(window)
    window.resize(340, 200)
    window.show()
    seen = {}
    for theme in ("dark", "light"):
        window.setStyleSheet(get_stylesheet(theme))
        qtbot.wait(50)
        item = plot.plot.getPlotItem().listDataItems()[0]
        pen = item.opts["pen"].color()
        assert pen == plot.plot.getAxis("left").textPen().color()
        background = plot.grab().toImage().pixelColor(plot.width() // 2, 3)
        seen[theme] = pen.lightness(), background.lightness()
    assert seen["dark"][0] > 200 > 60 > seen["dark"][1]
    assert seen["light"][0] < 60 < 200 < seen["light"][1]


def test_the_wheel_scrolls_the_dock_and_moves_no_axis(view, qtbot):
    assert view.childAt(view.width() // 2, view.height() // 3) is None
    assert view.plot.getViewBox().state["mouseEnabled"] == [False, False]


def test_a_logarithmic_axis_has_several_ticks_over_any_range():
    for low in np.geomspace(1, 10, 41):
        for ratio in (1.03, 1.5, 2.35, 4, 8.8, 11, 30, 60, 110, 1e5):
            ticks = log_ticks(low, low * ratio)
            assert 2 <= len(ticks) <= 5, (low, ratio)
            assert ticks == sorted(set(ticks))
            assert low * 0.998 <= ticks[0] < ticks[-1] <= low * ratio * 1.002


def test_ticks_are_round_and_short():
    assert linear_ticks(0.0, 1.0) == [0.0, 0.5, 1.0]
    assert linear_ticks(3.0, 3.0) == [3.0]
    assert log_ticks(1.0, 1e9, max_count=5) == [1.0, 1e2, 1e4, 1e6, 1e8]
    assert log_ticks(0.4, 3.0) == [0.5, 1.0, 2.0]
    assert log_ticks(0.15, 0.6) == [0.2, 0.4, 0.6]
    assert log_ticks(17.0, 40.0) == [20.0, 30.0, 40.0]
    assert log_ticks(2e-18, 5e-18) == [2e-18, 3e-18, 4e-18, 5e-18]
    assert [tick_text(v) for v in (0, 0.02, 250, 1e5, 2.5e-4)] == [
        "0",
        "0.02",
        "250",
        "10⁵",
        "2.5×10⁻⁴",
    ]
