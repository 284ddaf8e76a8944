"""The Porosity dock draws the porosities of the samples of a diffusion model."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from opening import opened
from porosity_helpers import SHAPE, add, measure, open_dock, physical, wait_for_levels
from test_job_row import measured

import napari_geosr as geosr
from napari_geosr.core.steps import run_to_end
from napari_geosr.core.volume import Volume
from napari_geosr.gui.kit.dock_tabs import POROSITY
from napari_geosr.gui.layers import METADATA, geometry
from napari_geosr.operations.restore.config import RestoreConfig
from napari_geosr.operations.restore.steps import restore_steps

#: Factors between the porosities of four samples and that of the mean image.
FACTORS = (1.02, 1.05, 1.1, 1.3)
CALIBRATION = {"kind": "diffusion", "members": 4, "factor": 2.0, "nominal": 0.9}


def record(grey: np.ndarray, this: str, *, calibrated: bool = False) -> dict:
    """The record of a restoration by four samples."""
    levels = np.linspace(grey.min(), grey.max(), 65)
    below = np.searchsorted(np.sort(grey, axis=None), levels, side="right") / grey.size
    uncertainty = {"kind": "diffusion", "members": [0, 1, 2, 3], "this": this}
    uncertainty["calibration"] = CALIBRATION if calibrated else None
    return {
        "operation": "restore",
        "uncertainty": uncertainty,
        "porosity_samples": {
            "levels": levels.tolist(),
            "below_level": [np.minimum(f * below, 1).tolist() for f in FACTORS],
        },
    }


def mean_of_samples(name: str = "mean", **options) -> Volume:
    volume = physical(name=name)
    made = record(np.asarray(volume.data), "mean", **options)
    return volume.replace(provenance=(made,))


def add_with_record(viewer, volume: Volume):
    known = {METADATA: {"provenance": list(volume.provenance)}}
    place = geometry(volume)
    return viewer.add_image(volume.data, name=volume.name, metadata=known, **place)


def choose(dock, qtbot, layer) -> None:
    dock.settings.image.set_layer(layer)
    wait_for_levels(dock, qtbot)
    measure(dock, qtbot)


def check_chart(dock) -> None:
    """Check the chart of a measured `mean_of_samples`."""
    samples, chart = dock.result.samples, dock.result.samples.chart
    assert not samples.isHidden()
    porosity = 100 * dock.result.report.porosity
    (bars,) = chart.series
    assert bars.counts.sum() == 4
    ends = porosity * FACTORS[0], porosity * FACTORS[-1]
    assert (bars.edges[0], bars.edges[-1]) == pytest.approx(ends, rel=0.02)
    assert chart.mark == pytest.approx(porosity)
    low, high = chart.range()
    assert low < porosity < high
    assert chart.x_title == "porosity of each sample (%)"
    assert "4 values of porosity" in chart.accessibleDescription()
    assert f"mean image {porosity:.4g}" in chart.accessibleDescription()


def test_the_samples_are_drawn_only_for_their_mean(viewer, qtbot):
    mean = add_with_record(viewer, mean_of_samples())
    scan = add(viewer, physical(name="scan"))
    later = mean_of_samples("restored again")
    other = {"operation": "restore", "complete": True}
    again = add_with_record(
        viewer, later.replace(provenance=(*later.provenance, other))
    )
    dock = open_dock(viewer, qtbot)
    choose(dock, qtbot, mean)
    check_chart(dock)
    samples = dock.result.samples
    assert samples.caption.text() == "Spread of 4 samples, not a calibrated interval."
    assert "In 4 samples that agree with the scan" in dock.message.text
    assert samples.chart._caption.toPlainText() == "mean image"
    assert samples.chart._line.value() == samples.chart.mark
    # The caption is within the plot and above the bars.
    assert samples.chart.plot.viewRange()[1][1] > samples.chart.series[0].counts.max()
    for layer in (scan, again):
        choose(dock, qtbot, layer)
        assert samples.isHidden()
        assert "samples" not in dock.message.text
    # With two images, the chart belongs to the one whose pores are listed.
    dock.settings.other.set_layer(scan)
    choose(dock, qtbot, mean)
    check_chart(dock)
    dock.result.which.setCurrentText("scan")
    assert samples.isHidden()


def test_in_a_part_of_the_volume_there_is_no_line(viewer, qtbot):
    mean = add_with_record(viewer, mean_of_samples())
    inside = np.zeros(SHAPE, np.uint8)
    inside[4:-4] = 1
    place = geometry(physical())
    mask = viewer.add_labels(inside, name="inside", **place)
    dock = open_dock(viewer, qtbot)
    dock.settings.sample.set_layer(mask)
    choose(dock, qtbot, mean)
    samples = dock.result.samples
    assert samples.chart.mark is None
    assert not samples.chart._line.isVisible()
    assert "in the whole volume, not a calibrated" in samples.caption.text()


def test_a_calibrated_interval_is_named(viewer, qtbot):
    mean = mean_of_samples(calibrated=True)
    spread = mean.replace(data=np.full(SHAPE, 8, np.float32))
    own = record(np.asarray(mean.data), "standard deviation", calibrated=True)
    spread = replace(spread, name="mean (std)", provenance=(own,))
    layer = add_with_record(viewer, mean)
    dock = open_dock(viewer, qtbot)
    choose(dock, qtbot, layer)
    caption = dock.result.samples.caption
    assert "choose the layer of standard deviations" in caption.text()
    deviation = add_with_record(viewer, spread)
    qtbot.waitUntil(lambda: dock.settings.deviation.layer() is deviation)
    choose(dock, qtbot, layer)
    assert "Spread of 4 samples. Calibrated 90 % interval: " in caption.text()
    assert "not a calibrated" not in caption.text()


def test_the_samples_of_a_job_are_drawn(viewer, qtbot, tmp_path):
    path = geosr.write(mean_of_samples(), tmp_path / "mean.ome.tif")
    measured(tmp_path, path)
    viewer.open(str(path), plugin="napari-geosr")
    dock = opened(viewer, POROSITY)
    row = dock.job_row
    qtbot.waitUntil(lambda: not row.isHidden(), timeout=10_000)
    with qtbot.waitSignal(row.opener.opened, timeout=60_000):
        row.button.click()
    check_chart(dock)


def test_a_restored_file_has_samples(viewer, qtbot, tmp_path):
    rng = np.random.default_rng(0)
    data = (100 + 80 * (rng.random((2, 24, 24)) > 0.3)).astype(np.float32)
    small = {"width": 8, "layers": 1, "patch": 16, "batch_size": 2, "steps": 2}
    geosr.train("ddpm", tmp_path / "job", data, device="cpu", **small)
    noisy = Volume(data + rng.normal(0, 20, data.shape).astype("f4"), "ZYX")
    config = RestoreConfig.create(
        model=str(tmp_path / "job"),
        uncertainty="diffusion",
        uncertainty_members=3,
        sampling_steps=3,
    )
    out = tmp_path / "mean.ome.tif"
    run_to_end(restore_steps(noisy, config, out=out))
    (layer,) = viewer.open(str(out), plugin="napari-geosr")
    dock = open_dock(viewer, qtbot)
    choose(dock, qtbot, layer)
    chart = dock.result.samples.chart
    assert chart.series[0].counts.sum() == 3
    assert chart.mark == pytest.approx(100 * dock.result.report.porosity)
