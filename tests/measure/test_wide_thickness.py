"""Local thickness of wide structures, and of images in wide blocks."""

import numpy as np
import pytest
from pore_shapes import measure, scan

from napari_geosr.core.steps import run_to_end
from napari_geosr.measure.local_thickness import spheres as thickness
from napari_geosr.measure.local_thickness.blocks import cut_blocks, preferred_edge
from napari_geosr.measure.morphometry.trabecular import mid_axis_steps
from napari_geosr.measure.slabs.thickness import block_thickness_steps


def wall(width: int, height: int = 24) -> np.ndarray:
    """A wall between two gaps, in an image that is not high."""
    image = np.zeros((1, height, width + 80), bool)
    image[:, :, 40:-40] = True
    return image


@pytest.mark.parametrize(("width", "step"), [(2000, 32), (2300, 16), (4200, 8)])
def test_walls_wider_than_2047_voxels(width: int, step: int) -> None:
    solid = wall(width)
    found = run_to_end(thickness.thickness_steps(solid))
    assert 1 / found.step == step
    assert found.mean == pytest.approx(width, rel=0.002)
    assert found.largest == pytest.approx(width, rel=0.002)
    values = thickness.local_thickness(solid)
    assert values[solid] == pytest.approx(width, rel=0.002)
    assert not values[~solid].any()


def test_wide_walls_in_blocks_and_in_processes() -> None:
    solid = wall(2300)

    def share(work, items):
        for item in items:
            yield work(item, lambda: False, 0)

    expected = run_to_end(thickness.thickness_steps(solid, edge=10_000))
    for given in (None, share):
        steps = block_thickness_steps(
            solid, share=given, check=lambda: None, message="", edge=400
        )
        found = run_to_end(steps)
        assert found.step == expected.step
        assert np.array_equal(found.counts, expected.counts)


def test_the_mid_axis_of_a_wide_wall_is_its_middle() -> None:
    solid = wall(2300)
    marked = np.zeros_like(solid)

    def write(box, found) -> None:
        marked[box] = found

    run_to_end(mid_axis_steps(solid, write))
    x = np.flatnonzero(marked[0].any(axis=0))
    assert x.size
    assert np.abs(x - (solid.shape[2] - 1) / 2).max() <= 1


def test_a_remark_states_the_rounding_of_wide_walls() -> None:
    report = measure(
        scan(~wall(2300)[0]),
        "YX",
        statistics=("thickness",),
        threshold=120.0,
        voxel_size=(2.0, 2.0),
        unit="µm",
    )
    found = report.morphometry["thickness"]
    assert found.values["Tb.Th"] == pytest.approx(4600, rel=0.002)
    (remark,) = (text for text in found.remarks if "rounded" in text)
    assert remark.startswith("The diameters of Tb.Th are rounded to 1/16 voxel")


def test_images_and_thin_volumes_are_cut_into_wide_blocks() -> None:
    assert (
        len(list(cut_blocks((1, 2800, 2800), preferred_edge((1, 2800, 2800), 200**3))))
        == 1
    )
    for shape in ((1, 4000, 4000), (20, 1500, 1500), (4000, 1, 4000), (400, 400, 400)):
        blocks = list(cut_blocks(shape, preferred_edge(shape, 200**3)))
        sizes = [np.prod([s.stop - s.start for s in block]) for block in blocks]
        assert sum(sizes) == np.prod(shape)
        assert 200**3 / 4 < max(sizes) < 1.1 * 200**3
    assert preferred_edge((60, 70, 80), 200**3) >= 80


def test_margins_around_the_blocks_of_an_image_are_small() -> None:
    """In blocks of 200 × 200 pixels, most voxels that are read would be margin."""
    image = np.ones((1, 1600, 1600), bool)
    image[:, ::160, ::160] = False
    read = 0

    class Counted:
        shape = image.shape

        def __getitem__(self, box) -> np.ndarray:
            nonlocal read
            found = image[box]
            read += found.size
            return found

    blocks = list(cut_blocks(image.shape, preferred_edge(image.shape, 200**3)))
    steps = thickness.sphere_steps(
        Counted(),
        blocks,
        to_centres=False,
        within=None,
        check=lambda: None,
        n_steps=len(blocks),
    )
    run_to_end(steps)
    assert read <= 3 * image.size
