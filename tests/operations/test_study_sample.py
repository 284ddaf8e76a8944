"""The sample found by a study, and warnings if it may be too small."""

from __future__ import annotations

from collections.abc import Generator
from types import SimpleNamespace
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest

from napari_geosr.core.errors import VolumeError
from napari_geosr.core.steps import Step, WarningIssued, never_stop, run_to_end
from napari_geosr.core.volume import Volume
from napari_geosr.measure.reliability.hull import hull_area
from napari_geosr.operations.study.config import StudyConfig
from napari_geosr.operations.study.reference import sample_steps

N, ROWS = 64, 24
AXIS = np.arange(N) - (N - 1) / 2
RADIUS = np.hypot(AXIS[:, None], AXIS[None, :])
ANGLE = np.arctan2(AXIS[:, None], AXIS[None, :])


def found(
    solid: npt.NDArray[np.bool_], sample: str = "auto", noise: float = 0.1
) -> tuple[npt.NDArray[np.bool_], list[str]]:
    """The sample in a volume with this solid, and warnings."""
    rng = np.random.default_rng(0)
    grey = solid + rng.normal(0, noise, solid.shape)
    volume = Volume(grey.astype(np.float32), "ZYX", (1.0,) * 3, "µm", name="full")
    config = StudyConfig.create(sample=sample, counts=[10])
    context: Any = SimpleNamespace(config=config, mask=None, size=N)

    def slices() -> Generator[Step, None, Volume]:
        yield from ()
        return volume

    steps: list[Step] = []
    sample = run_to_end(
        sample_steps(context, (0, ROWS), slices, never_stop), steps.append
    )
    assert sample is not None
    said = [step.message for step in steps if isinstance(step, WarningIssued)]
    return sample, said


def ball(radius: float, z: float, y: float, x: float) -> npt.NDArray[np.bool_]:
    axes = (np.arange(ROWS) - z, AXIS - y, AXIS - x)
    far = sum(axis**2 for axis in np.meshgrid(*axes, indexing="ij", sparse=True))
    inside: npt.NDArray[np.bool_] = far < radius**2
    return inside


def cylinder(radius: float = 27) -> npt.NDArray[np.bool_]:
    """With two pores, one of them wider than any bridged opening."""
    whole = np.repeat((radius > RADIUS)[None], ROWS, axis=0)
    return whole & ~ball(8, 11, 8, -6) & ~ball(4, 12, -10, 4)


def test_pores_that_are_open_to_the_surface_are_told_of() -> None:
    mouth = (np.abs(ANGLE) < 0.6) & (RADIUS > 6)
    solid = cylinder() & ~mouth
    sample, said = found(solid)
    assert len(said) == 1
    share = 1 - sample.sum() / ROWS / hull_area(solid[0])
    assert share > 0.1
    assert f"fills only {100 * (1 - share):.0f} % of its convex hull" in said[0]
    assert "use a sample mask" in said[0]
    assert "evaluate the whole field of view" in said[0]
    assert "--" not in said[0]  # docks also show it
    assert not found(solid, "circle")[1]


def test_a_crack_counts_where_there_are_few_pores() -> None:
    whole = np.repeat((RADIUS < 27)[None], ROWS, axis=0)
    crack = (np.abs(AXIS[:, None]) < 6.5) & (AXIS[None, :] > 15)
    few = whole & ~ball(4, 12, -10, 4)
    sample, said = found(few & ~crack)
    assert 0.01 < 1 - sample.sum() / ROWS / hull_area(whole[0]) < 0.1
    assert said
    assert not found(few)[1]


def test_a_second_piece_that_is_left_out_is_told_of() -> None:
    assert found(cylinder() & (np.abs(AXIS[:, None] - 5) > 8))[1]


@pytest.mark.parametrize("noise", [0.05, 0.25])
def test_a_convex_sample_with_pores_within_is_no_reason_to_warn(noise: float) -> None:
    brick = (np.abs(AXIS[:, None]) < 19) & (np.abs(AXIS[None, :]) < 18)
    for solid in (cylinder(), cylinder() & ball(26, 11, 0, 0), cylinder() & brick):
        sample, said = found(solid, noise=noise)
        assert not said
        assert sample[11, 40, 26]  # at the centre of the pore


def test_a_sample_without_solid_is_refused() -> None:
    with pytest.raises(VolumeError, match="full"):
        found(np.zeros((ROWS, N, N), bool), noise=0.0)


def test_the_hull_of_a_slice() -> None:
    dots = np.zeros((9, 11), bool)
    assert hull_area(dots) == 0
    dots[1, 2] = True
    assert hull_area(dots) == 1
    dots[7, 2] = dots[7, 8] = True
    assert hull_area(dots) == sum(range(1, 8))
    dots[1, 8] = True
    assert hull_area(dots) == 49
    rng = np.random.default_rng(0)
    for _ in range(20):
        some = rng.random((12, 15)) < 0.04
        points = np.argwhere(some)
        if np.linalg.matrix_rank(points - points[:1]) < 2:
            continue
        from scipy.spatial import Delaunay

        grid = np.argwhere(np.ones(some.shape, bool))
        inside = Delaunay(points).find_simplex(grid, tol=1e-9) >= 0
        assert hull_area(some) == inside.sum()
