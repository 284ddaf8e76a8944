"""Segmentation from strokes with the features of a diffusion model."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

import napari_geosr as geosr
from napari_geosr.core.errors import ConfigError, ModelError, VolumeError
from napari_geosr.core.steps import WarningIssued, run_to_end
from napari_geosr.core.volume import Volume
from napari_geosr.learning.painting import prior as prior_features
from napari_geosr.models import zoo
from napari_geosr.operations.segment import (
    SegmentConfig,
    answer_steps,
    compare_steps,
    open_segmenter,
    segment_steps,
)

SHAPE = (4, 37, 42)
SMALL = {"batch_size": 2, "patch": 16, "steps": 2, "width": 8, "device": "cpu"}


@pytest.fixture(scope="module")
def scan() -> Volume:
    values = np.random.default_rng(0).normal(100, 10, SHAPE).astype("f4")
    values[:, :18] += 60
    return Volume(values, "ZYX", name="rock")


@pytest.fixture(scope="module")
def labels() -> Volume:
    strokes = np.zeros(SHAPE, np.uint8)
    strokes[1, 5:9], strokes[1, 25:29] = 2, 1
    return Volume(strokes, "ZYX", name="strokes")


@pytest.fixture(scope="module")
def trained(scan: Volume, tmp_path_factory: pytest.TempPathFactory) -> str:
    folder = tmp_path_factory.mktemp("prior") / "job"
    geosr.train("ddpm", folder, scan, name="rock", layers=2, **SMALL)
    return str(folder)


def test_features_belong_to_the_voxels(trained: str, scan: Volume) -> None:
    features = prior_features.PriorFeatures(zoo.find(trained))
    found = features(scan.data[0])
    # Two levels of the decoder (16 and 8 maps) at three times.
    assert found.shape == (3 * (16 + 8), *SHAPE[1:])
    assert found.dtype == np.float16
    np.testing.assert_array_equal(features(scan.data[0]), found)


@pytest.mark.parametrize(("factor", "n"), [(1, 8), (2, 7), (4, 9)])
def test_maps_of_lower_levels_stay_in_place(factor: int, n: int) -> None:
    """A ramp of positions is preserved, in voxels of the slice."""
    edge = -(-n // factor) + 1
    centres = (torch.arange(edge) + 0.5) * factor - 0.5
    maps = centres.expand(1, 2, edge, edge)
    found = prior_features._at_full_size(maps, factor, (n, n))
    assert found.shape == (2, n, n)
    inner = slice(factor // 2, n)  # there are no map values beyond the first centre
    np.testing.assert_allclose(found[0, 0, inner], np.arange(n)[inner], atol=1e-3)


def test_the_model_is_used_and_recorded(
    trained: str, scan: Volume, labels: Volume, tmp_path: Path
) -> None:
    config = SegmentConfig(model=trained, device="cpu")
    out = tmp_path / "out.tif"
    run_to_end(segment_steps(scan, labels, out, config))
    found = geosr.read(out)
    assert (np.asarray(found)[:, :16] == 2).mean() > 0.95
    assert (np.asarray(found)[:, 20:] == 1).mean() > 0.95
    assert found.provenance[-1]["model"]["name"] == "rock"
    segmenter = open_segmenter(scan, config)
    answer = run_to_end(answer_steps(segmenter, labels, 3, config, lambda: False))
    np.testing.assert_array_equal(answer.found.labels, np.asarray(found)[3])
    assert run_to_end(segmenter.suggest_steps(1))


def test_the_model_is_compared_with_no_pre_training(
    trained: str, scan: Volume, labels: Volume
) -> None:
    config = SegmentConfig(model=trained, device="cpu")
    segmenter = open_segmenter(scan, config)
    with pytest.raises(VolumeError, match="every class on at least two slices"):
        run_to_end(compare_steps(segmenter, labels, config, lambda: False))
    more = np.array(labels.data)
    more[3, 5:9], more[3, 25:29] = 2, 1
    twice = labels.replace(data=more)
    found = run_to_end(compare_steps(segmenter, twice, config, lambda: False))
    assert found.slices == (1, 3)
    assert min(found.with_model, found.without_model) > 0.95
    assert "On 2 slices" in found.sentence()
    # Wrong strokes on one of two slices: both slices are predicted wrongly.
    more[3, 5:9], more[3, 25:29] = 1, 2
    wrong = labels.replace(data=more)
    found = run_to_end(compare_steps(segmenter, wrong, config, lambda: False))
    assert max(found.with_model, found.without_model) < 0.05
    plain = SegmentConfig()
    with pytest.raises(ConfigError, match="Choose a model"):
        run_to_end(compare_steps(segmenter, twice, plain, lambda: False))


@pytest.mark.parametrize(
    "change", [lambda x: 0.5 + x / 1e5, lambda x: 20 * x, lambda x: x + 1000]
)
def test_a_scan_of_another_grey_scale_is_refused(
    trained: str, scan: Volume, change: Any
) -> None:
    other = scan.replace(data=change(np.asarray(scan.data)), name="other")
    with pytest.raises(ModelError, match="other.* has a different") as raised:
        open_segmenter(other, SegmentConfig(model=trained, device="cpu"))
    assert "training data of rock (129.2" in str(raised.value)
    open_segmenter(other, SegmentConfig())  # filters adapt to any grey scale


def test_a_scan_with_little_contrast_is_warned_about(
    trained: str, scan: Volume, labels: Volume, tmp_path: Path
) -> None:
    values = np.asarray(scan.data)
    faint = scan.replace(data=values.mean() + (values - values.mean()) / 5)
    config = SegmentConfig(model=trained, device="cpu")
    steps = segment_steps(faint, labels, tmp_path / "out.tif", config)
    said = [step.message for step in steps if isinstance(step, WarningIssued)]
    assert any("If it shows more than one material" in each for each in said)


def test_models_and_slices_that_do_not_fit(
    trained: str, scan: Volume, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = tmp_path / "job"
    slices = {"dimensions": "2.5D", "adjacent_slices": 3}
    geosr.train("ddpm", folder, scan, name="thick", **slices, **SMALL)
    with pytest.raises(ModelError, match="does not work on single slices"):
        open_segmenter(scan, SegmentConfig(model=str(folder)))
    monkeypatch.setattr(prior_features, "_MAX_VOXELS", 100)
    with pytest.raises(VolumeError, match="37 × 42 voxels are too large"):
        prior_features.PriorFeatures(zoo.find(trained))(scan.data[0])
