"""Cortex and marrow space of a bone as the sample."""

from __future__ import annotations

import numpy as np
import pytest

from napari_geosr import measure_porosity
from napari_geosr.core.errors import VolumeError
from napari_geosr.core.steps import run_to_end
from napari_geosr.core.volume import Volume
from napari_geosr.measure.thresholds.contours import compartment_steps

pytestmark = pytest.mark.filterwarnings("ignore::UserWarning")


@pytest.fixture(scope="module")
def bone() -> dict[str, np.ndarray]:
    """A tube along Z with pores in its wall and thin struts inside."""
    shape = (40, 96, 96)
    _, y, x = np.indices(shape) - np.array([0, 47.5, 47.5])[:, None, None, None]
    radius = np.hypot(y, x)
    total = radius <= 40
    marrow = radius <= 28
    struts = np.zeros(shape, bool)
    struts[:, 34:37] = struts[:, 60:63] = struts[:, :, 46:49] = True
    pores = np.zeros(shape, bool)
    for angle in np.linspace(0, 2 * np.pi, 12, endpoint=False):
        pores |= np.hypot(y - 34 * np.sin(angle), x - 34 * np.cos(angle)) <= 2.3
    pores &= total & ~marrow
    solid = (total & ~marrow & ~pores) | (marrow & struts)
    return {
        "solid": solid,
        "cortex": total & ~marrow,
        "marrow": marrow,
        "pores": pores,
    }


def dice(one: np.ndarray, other: np.ndarray) -> float:
    return 2 * float((one & other).sum()) / float(one.sum() + other.sum())


@pytest.mark.parametrize("which", ["cortex", "marrow"])
def test_compartments_of_a_tube(bone, which):
    found = run_to_end(compartment_steps(bone["solid"], 5, which))
    assert dice(found, bone[which]) > 0.97
    turned = np.ascontiguousarray(np.rot90(bone["solid"], axes=(1, 2)))
    again = run_to_end(compartment_steps(turned, 5, which))
    assert np.array_equal(np.rot90(found, axes=(1, 2)), again)


def test_both_are_the_whole_bone_and_do_not_overlap(bone):
    cortex, marrow = (
        run_to_end(compartment_steps(bone["solid"], 5, which))
        for which in ("cortex", "marrow")
    )
    assert not (cortex & marrow).any()
    assert dice(cortex | marrow, bone["cortex"] | bone["marrow"]) > 0.99
    assert cortex[0].any()
    assert marrow[0].any()  # the bone is cut off there


def test_porosity_and_bone_volume_fraction_of_the_compartments(bone):
    scan = np.where(bone["solid"], 200, 50).astype(np.uint8)
    volume = Volume(scan, "ZYX")
    cortex = measure_porosity(volume, sample_mask="cortex")
    truth = bone["pores"].sum() / bone["cortex"].sum()
    assert cortex.porosity == pytest.approx(truth, rel=0.1)
    assert cortex.pore_count == 12
    marrow = measure_porosity(volume, sample_mask="marrow", statistics=("trabecular",))
    inside = bone["solid"][bone["marrow"]].mean()
    assert marrow.figures["BV/TV"] == pytest.approx(inside, rel=0.1)


def test_what_has_no_contours_is_refused(bone):
    block = np.ones((12, 30, 30), bool)
    with pytest.raises(
        VolumeError, match="enclosed by the cortex and wider than 10 voxels"
    ):
        run_to_end(compartment_steps(block, 5, "marrow"))
    with pytest.raises(VolumeError, match="has no bone"):
        run_to_end(compartment_steps(~block, 5, "cortex"))
