"""A model with its own grey scale: properties of the volume are preserved."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from napari_geosr.core.steps import run_to_end
from napari_geosr.core.volume import Volume
from napari_geosr.inference.windows import WindowReader
from napari_geosr.models.card import Normalisation
from napari_geosr.operations.restore import RestoreConfig, prepare_steps, run_steps
from napari_geosr.operations.restore.scale import scaled

STORED = Normalisation(
    kind="stored", mean=1000.0, std=50.0, output_mean=30.0, output_std=7.0
)


@pytest.fixture
def prepared(rng):
    data = rng.normal(1200, 80, (5, 24, 26)).astype(np.float32)
    data[2, 3, 4] = np.nan
    volume = Volume(data, "ZYX", (2.0,) * 3, "µm", name="block")
    found = run_to_end(prepare_steps(volume, RestoreConfig(threads=1)))
    card = found.model.card.model_copy(update={"normalisation": STORED})
    return replace(found, statistics=scaled(found.statistics, card, volume))


@pytest.mark.parametrize("policy", ["mean", "zero"])
def test_missing_voxels_get_a_grey_value_of_the_volume(prepared, policy):
    from napari_geosr.inference.tiles.tiling import lay_out, plan

    volume, spec = prepared.volume, prepared.network.spec
    layout = lay_out(volume.shape, spec)
    reader = WindowReader(volume.data, layout, prepared.statistics, policy)
    (tile,) = plan(volume.shape, spec, volume.shape).tiles
    block, _ = reader.read(tile)
    z = 2 + layout.context + tile.core[0].start - tile.window[0].start
    mean = np.nanmean(volume.data.astype(float))
    value = mean if policy == "mean" else 0.0
    assert block[z, 3, 4] == pytest.approx((value - 1000) / 50, rel=1e-5)
    expected = (volume.data[2, 0, 0] - 1000) / 50
    assert block[z, 0, 0] == pytest.approx(expected, rel=1e-5)


def test_the_record_holds_the_volumes_figures_and_the_models(prepared):
    result = run_to_end(run_steps(prepared)).volume
    record = result.provenance[-1]["intensities"]
    data = prepared.volume.data.astype(float)
    assert record["mean"] == pytest.approx(np.nanmean(data))
    assert record["std"] == pytest.approx(np.nanstd(data))
    assert list(record["input_scale"]) == [1000.0, 50.0]
    assert list(record["output_scale"]) == [30.0, 7.0]
    assert result.provenance[-1]["complete"] is True
