"""Scaling of grey values by BioImage.IO packages, in our terms and literally."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

from napari_geosr.core.errors import ModelError
from napari_geosr.models.foreign.scales import BACK_REMARK, apply, scales_of


def op(name: str, **kwargs: Any) -> tuple[str, Any]:
    return name, SimpleNamespace(**kwargs)


STANDARD = op("zero_mean_unit_variance", axes=None, eps=1e-6)
RANGE = op(
    "scale_range",
    axes=["channel", "y", "x"],
    min_percentile=1.0,
    max_percentile=99.0,
    eps=1e-6,
    reference_tensor=None,
)
FIXED = op("fixed_zero_mean_unit_variance", mean=[50.0], std=[10.0])
DTYPE = op("ensure_dtype", dtype="float32")


def test_the_whole_images_own_scale() -> None:
    found = scales_of([DTYPE, STANDARD, DTYPE], [DTYPE], restores=True)
    assert found.normalisation.kind == "standardise"
    assert found.normalisation.output_mean is None  # scaled back
    assert found.remarks == (BACK_REMARK,)
    assert (found.before, found.after) == ((), ())
    ranged = scales_of([RANGE], [], restores=False).normalisation
    assert (ranged.kind, ranged.percentiles) == ("percentiles", (1.0, 99.0))
    assert (ranged.output_mean, ranged.output_std) == (0.0, 1.0)


def test_fixed_scales_are_stored_and_those_after_are_kept() -> None:
    inverse = op("fixed_zero_mean_unit_variance", mean=[-5.0], std=[0.1])
    found = scales_of([FIXED], [inverse], restores=True)
    scale = found.normalisation
    assert (scale.mean, scale.std) == pytest.approx((50.0, 10.0), abs=1e-4)
    assert (scale.output_mean, scale.output_std) == (0.0, 1.0)
    [(name, gain, offset)] = found.after
    assert (name, gain, offset) == (
        "linear",
        pytest.approx(10, 1e-4),
        pytest.approx(50, 1e-4),
    )
    assert not found.remarks
    bare = scales_of([FIXED], [], restores=True).normalisation
    assert (bare.output_mean, bare.output_std) == (bare.mean, bare.std)
    twice = [
        op("scale_linear", gain=2.0, offset=1.0),
        op("scale_linear", gain=3.0, offset=0.0),
    ]
    scale = scales_of(twice, [], restores=False).normalisation
    assert (7.0 - scale.mean) / scale.std == pytest.approx(3 * (2 * 7 + 1))


def test_probabilities_are_left_as_they_are() -> None:
    found = scales_of([STANDARD], [op("sigmoid")], restores=True)
    assert found.after == (("sigmoid",),)
    assert found.normalisation.output_std == 1.0
    binary = scales_of(
        [STANDARD], [op("sigmoid"), op("binarize", threshold=0.5)], restores=False
    )
    assert binary.after == (("sigmoid",), ("above", 0.5))


def test_what_comes_between_is_undone_on_the_way_back() -> None:
    half = op("scale_linear", gain=0.5, offset=0.5)
    found = scales_of([STANDARD, half], [], restores=True)
    assert found.before == (("linear", 0.5, 0.5),)
    assert found.after == (("linear", 2.0, -1.0),)


@pytest.mark.parametrize(
    ("before", "after", "what"),
    [
        ([op("mystery")], [], "mystery"),
        ([op("clip", min=0, max=1), STANDARD], [], "after other operations"),
        (
            [op("zero_mean_unit_variance", axes=["channel"], eps=1e-6)],
            [],
            "over channel",
        ),
        ([op("clip", min=0, max=1, min_percentile=1.0)], [], "percentiles"),
        ([op("scale_linear", gain=[1.0, 2.0], offset=0.0)], [], "each channel"),
        ([], [op("zero_mean_unit_variance", axes=None, eps=1e-6)], "zero_mean"),
        ([], [op("scale_range", reference_tensor=None)], "scale_range"),
    ],
)
def test_what_cannot_be_had_is_refused(before: Any, after: Any, what: str) -> None:
    with pytest.raises(ModelError, match=what):
        scales_of(before, after, restores=True)


def test_to_the_letter() -> None:
    x = np.random.default_rng(0).normal(80, 9, (1, 1, 20, 30))
    y = apply([DTYPE, STANDARD], x, None)
    assert (y.mean(), y.std()) == (
        pytest.approx(0, abs=1e-9),
        pytest.approx(1, abs=1e-6),
    )
    y = apply([RANGE], x, None)
    assert np.percentile(y, (1, 99)) == pytest.approx((0, 1), abs=1e-6)
    assert apply([FIXED], x, None) == pytest.approx((x - 50) / 10, abs=1e-5)
    like = op("scale_mean_variance", axes=None, eps=1e-6, reference_tensor="input")
    back = apply([like], 3 * x - 7, x)
    assert back == pytest.approx(x, abs=1e-4)
    assert apply([op("clip", min=70.0, max=None)], x, None).min() == 70.0
