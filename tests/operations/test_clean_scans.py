"""A scan without noise is returned unchanged by every kind of restoration."""

from __future__ import annotations

import warnings

import numpy as np
import pytest

from napari_geosr import restore
from napari_geosr.core.volume import Volume


@pytest.fixture(scope="module")
def phases() -> np.ndarray:
    """Two phases without noise: 0 and 200."""
    blocks = np.random.default_rng(0).random((2, 8, 8)) > 0.7
    return (200 * np.kron(blocks, np.ones((2, 8, 8)))).astype(np.uint8)


@pytest.mark.parametrize("strength", [1.0, 0.0])
@pytest.mark.parametrize("uncertainty", ["none", "tta"])
@pytest.mark.parametrize("dtype", ["uint8", "uint16", "float32"])
def test_a_clean_scan_is_returned(
    phases: np.ndarray, dtype: str, uncertainty: str, strength: float
) -> None:
    scan = Volume(phases.astype(dtype), "ZYX")
    settings = {"uncertainty": uncertainty, "strength": strength, "threads": 1}
    if uncertainty == "tta":
        settings["uncertainty_members"] = 2
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # the noise of two phases is not known
        found = restore(scan, model="ct-denoise", **settings)
    # The members of an ensemble differ by the rounding error of whole numbers.
    is_rounded = uncertainty == "tta" and dtype != "float32" and strength > 0
    tolerance = 4 * 12**-0.5 if is_rounded else 1e-4
    np.testing.assert_allclose(np.asarray(found.data), scan.data, atol=tolerance)
