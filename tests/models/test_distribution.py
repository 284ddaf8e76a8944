from __future__ import annotations

import numpy as np
import pytest

from napari_geosr.core.errors import VolumeError
from napari_geosr.core.volume import Volume
from napari_geosr.models import zoo
from napari_geosr.models.card import ModelCard
from napari_geosr.models.distribution import (
    RING_EDGES,
    TrainingLikeness,
    compare_with_training,
    draw_sample,
    signature,
)
from napari_geosr.physics.blur import gaussian_blur
from napari_geosr.physics.scans import random_scan

from .conftest import card_values

MODELS = [
    ("foam-denoise", (24, 128, 128), {"noise": (0.08, 0.8), "blur": (0, 1.2)}),
    (
        "foam-sr-x2",
        (48, 48, 48),
        {"noise": (0.03, 0.5), "blur": (0.25, 0.8), "downsample": 2},
    ),
]


def _judge(card: ModelCard, data: np.ndarray, **options: object) -> TrainingLikeness:
    axes = "ZYX" if data.ndim == 3 else "YX"
    volume = Volume(data, axes, name="scan", **options)
    return compare_with_training(card, draw_sample(volume), volume)


@pytest.mark.slow
@pytest.mark.parametrize(("name", "shape", "imaging"), MODELS)
def test_in_distribution_scans_pass(name: str, shape, imaging) -> None:
    card = zoo.find(name).card
    rng = np.random.default_rng(77)
    levels = [
        _judge(card, random_scan(shape, rng, **imaging).noisy).level for _ in range(25)
    ]
    assert levels.count("ok") >= 23
    assert levels.count("unlike") == 0


@pytest.fixture(scope="module")
def foam() -> np.ndarray:
    from napari_geosr.physics.specimens.samples import noisy_foam

    return np.asarray(noisy_foam()[0].data)


@pytest.mark.parametrize("name", [m[0] for m in MODELS])
def test_scale_and_offset_play_no_role(name: str, foam: np.ndarray) -> None:
    card = zoo.find(name).card
    first = _judge(card, foam)
    second = _judge(card, (1000 * foam + 3e4).astype(np.float32))
    for key, value in first.figures.items():
        assert second.figures[key] == pytest.approx(value, rel=0.01)
    assert first.level == second.level == "ok"


def test_strange_volumes_are_told(foam: np.ndarray, rng: np.random.Generator) -> None:
    card = zoo.find("foam-denoise").card
    strange = {
        "blurred": gaussian_blur(foam, 4.0),
        "noise alone": rng.standard_normal(foam.shape, dtype=np.float32),
        "skewed": np.exp(3 * (foam - foam.mean()) / foam.std()).astype(np.float32),
        "ramp": np.linspace(0, 1, foam.size, dtype=np.float32).reshape(foam.shape),
        "salt": (rng.random(foam.shape) < 0.002).astype(np.float32),
    }
    for what, data in strange.items():
        likeness = _judge(card, data)
        assert likeness.level != "ok", what
        assert len(likeness.reasons) >= 2, what
        assert all(reason.endswith(".") for reason in likeness.reasons)
    assert "blurred" in " ".join(_judge(card, strange["blurred"]).reasons)
    assert "noise" in " ".join(_judge(card, strange["noise alone"]).reasons)


def test_constant_volume_is_told() -> None:
    likeness = _judge(zoo.find("foam-denoise").card, np.full((8, 70, 70), 5, np.uint16))
    assert likeness.level == "unlike"
    assert "have the same value" in likeness.reasons[0]


def test_real_volumes_get_a_verdict_with_reasons(shared_data) -> None:
    import tifffile

    for name in ("cement", "bone"):
        path = shared_data / "ct_volumes" / f"{name}_128x128x128.tif"
        likeness = _judge(zoo.find("foam-denoise").card, tifffile.imread(path))
        assert (likeness.level == "ok") == (not likeness.reasons)


def test_tiny_volumes_are_not_judged(rng: np.random.Generator) -> None:
    data = rng.standard_normal((3, 8, 40), dtype=np.float32)
    likeness = _judge(zoo.find("foam-denoise").card, data)
    assert likeness.level == "caution"
    assert "too small" in likeness.reasons[0]


def test_voxel_size_is_compared_where_known(foam: np.ndarray) -> None:
    values = card_values()
    values["training"] |= {"voxel_size": [2.0, 5.0], "unit": "µm"}
    card = ModelCard.create(**values)
    good = _judge(card, foam, voxel_size=(4, 4, 4), unit="µm")
    large = _judge(card, foam, voxel_size=(0.02, 0.02, 0.02), unit="mm")
    unknown = _judge(card, foam)
    assert good.figures["voxel_size_ratio"] == pytest.approx(1)
    assert large.figures["voxel_size_ratio"] == pytest.approx(4)
    assert any("4 times as wide" in reason for reason in large.reasons)
    assert "voxel_size_ratio" not in unknown.figures


def test_models_on_volumes_tell_of_uneven_voxels(foam: np.ndarray) -> None:
    card = zoo.find("foam-sr-x2").card
    assert card.axes == "ZYX"
    assert _judge(card, foam).level == "ok"
    uneven = _judge(card, foam, voxel_size=(8, 2, 2), unit="µm")
    assert uneven.level == "caution"
    (reason,) = (r for r in uneven.reasons if "Voxels are" in r)
    assert "Voxels are 8 × 2 × 2 µm: according to its card, foam-sr-x2" in reason
    assert "Resample" in reason
    assert "slice by slice" in reason
    tiny = _judge(card, foam[:, :8, :8], voxel_size=(8, 2, 2), unit="µm")
    assert reason in tiny.reasons


@pytest.mark.parametrize(
    ("voxel_size", "unit"),
    [((3, 2, 2), "µm"), ((2, 2, 2), "mm"), ((8, 2, 2), "pixel")],
)
def test_even_and_unknown_voxels_say_nothing(
    foam: np.ndarray, voxel_size: tuple[float, ...], unit: str
) -> None:
    card = zoo.find("foam-sr-x2").card
    assert _judge(card, foam, voxel_size=voxel_size, unit=unit).level == "ok"


def test_uneven_voxels_are_fine_slice_by_slice_or_if_learned(foam: np.ndarray) -> None:
    uneven = {"voxel_size": (8, 2, 2), "unit": "µm"}
    planes = zoo.find("foam-denoise").card
    assert planes.axes == "YX"
    assert _judge(planes, foam, **uneven).level == "ok"
    card = zoo.find("foam-sr-x2").card
    for voxel_size, level in (((2.0, 8.0), "ok"), ((7.5, 8.0), "caution")):
        training = card.training.model_copy(
            update={"voxel_size": voxel_size, "unit": "µm"}
        )
        learned = card.model_copy(update={"training": training})
        assert _judge(learned, foam, **uneven).level == level


@pytest.mark.parametrize(
    "shape", [(1, 64, 64), (3, 20, 200), (100, 9, 9), (70, 80), (5, 5), (2, 1, 1)]
)
def test_samples_of_any_shape(shape: tuple[int, ...], rng) -> None:
    data = rng.standard_normal(shape).astype(np.float32)
    volume = Volume(data, "ZYX"[-len(shape) :])
    sample = draw_sample(volume)
    edge = min(64, *shape[-2:])
    assert sample.shape[1:] == (edge, edge)
    assert 1 <= len(sample) <= 32
    np.testing.assert_array_equal(sample, draw_sample(volume))
    found = signature(sample)
    if found is not None:
        assert np.isfinite(found.spectrum).all()
        assert len(found.spectrum) == len(RING_EDGES) - 1


def test_sample_of_a_lazy_volume_with_bad_voxels(rng: np.random.Generator) -> None:
    import dask.array as da

    data = rng.standard_normal((6, 70, 70)).astype(np.float32)
    data[:, ::7] = np.nan
    data[0, 1, 1] = np.inf
    sample = draw_sample(Volume(da.from_array(data, chunks=32), "ZYX"))
    assert np.isfinite(sample).all()


def test_sample_needs_one_channel() -> None:
    with pytest.raises(VolumeError, match="channel"):
        draw_sample(Volume(np.zeros((2, 8, 8)), "CYX"))
