"""Blocks for training are drawn where a volume has labels or a surface."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from scipy.ndimage import maximum_filter, minimum_filter

from napari_geosr import io
from napari_geosr.core.steps import TrainingProgress, WarningIssued
from napari_geosr.core.volume import Volume
from napari_geosr.learning.shapes import SHAPE_METHODS
from napari_geosr.learning.shapes.data import ShapeSet
from napari_geosr.learning.shapes.filled_cells import (
    FilledCells,
    block_around,
    surface_cells,
)
from napari_geosr.learning.training.clock import Clock
from napari_geosr.learning.training.trainer import Trainer
from napari_geosr.operations.shapes import ShapeTrainJob, train_shape_steps
from napari_geosr.physics.shapes import coarsened, sampled, trabeculae

#: Edges of a large volume, and of the labelled cube in it.
LARGE, SMALL = 128, 16
CORNER = 64


def cube(edge: int, corner: int) -> tuple[np.ndarray, np.ndarray]:
    """A scan of two phases that is labelled in a small cube, and the labels."""
    rng = np.random.default_rng(0)
    labels = np.zeros((edge,) * 3, np.uint8)
    place = (slice(corner, corner + SMALL),) * 3
    labels[place] = 1 + (np.arange(SMALL) // 4 % 2)
    scan = rng.normal(0, 10, labels.shape) + 40 * labels
    return scan.astype(np.float32), labels


def cells_of(mask: np.ndarray, depth: int = 5) -> FilledCells:
    cells = FilledCells(mask.shape)
    for start in range(0, len(mask), depth):
        cells.add(start, mask[start : start + depth])
    return cells


def test_all_cells_of_some_planes_are_drawn_equally_often() -> None:
    mask = np.random.default_rng(0).random((37, 21, 30)) < 0.002
    cells = cells_of(mask)
    np.testing.assert_array_equal(cells.planes, mask.any((1, 2)))
    for planes in (slice(0, 37), slice(11, 29)):
        padded = np.pad(mask, [(0, -n % 8) for n in mask.shape])
        z, y, x = np.nonzero(padded)
        expected = {
            tuple(place)
            for place in np.stack([z // 8, y // 8, x // 8], 1).tolist()
            if place[0] * 8 < planes.stop and place[0] * 8 + 8 > planes.start
        }
        rng, found = np.random.default_rng(1), []
        for _ in range(100 * len(expected)):
            cell = cells.draw(planes, rng)
            assert cell is not None
            assert planes.start <= cell[0].start < cell[0].stop <= planes.stop
            assert all(c.stop <= n for c, n in zip(cell, mask.shape, strict=True))
            found.append(tuple(c.start // 8 for c in cell))
        counts = [found.count(place) for place in sorted(expected)]
        assert set(found) == expected
        assert min(counts) > 60
        assert max(counts) < 150
    assert FilledCells((16, 16, 16)).draw(slice(0, 16), rng) is None


def test_a_block_contains_its_cell_and_the_next_voxels() -> None:
    rng = np.random.default_rng(0)
    parts = (slice(5, 30), slice(0, 64), slice(0, 10))
    corners = set()
    for _ in range(300):
        cell = (slice(8, 16), slice(56, 64), slice(0, 8))
        block = block_around(cell, parts, 16, rng)
        for own, part, found in zip(cell, parts, block, strict=True):
            assert part.start <= found.start <= max(part.start, own.start - 2)
            assert min(part.stop, own.stop + 2) <= found.stop <= part.stop
        assert [b.stop - b.start for b in block] == [16, 16, 10]
        corners.add(block[0].start)
    assert corners == {5, 6}  # only these blocks extend two voxels beyond the cell
    free = {block_around(None, parts, 16, rng)[0].start for _ in range(300)}
    assert free == set(range(5, 15))


@pytest.mark.parametrize("shape", [(40, 24, 32), (37, 22, 31)])
def test_surface_cells_are_those_of_the_coarse_shape(shape: tuple[int, ...]) -> None:
    inside = sampled(trabeculae(np.random.default_rng(5)), shape)
    inside[:, :, 14:] = True
    inside[16:24] = False  # both ends of this gap lie between two cells
    coarse = coarsened(inside, 2)
    near = maximum_filter(coarse, 3) != minimum_filter(coarse, 3)
    cells = surface_cells(inside)
    rng, found = np.random.default_rng(0), set()
    for _ in range(2000):
        cell = cells.draw(slice(0, shape[0]), rng)
        assert cell is not None
        found.add(tuple(c.start for c in cell))
        place = tuple(slice(c.start // 2, c.stop // 2 + 1) for c in cell)
        part = coarse[place]
        assert part.any()
        assert not part.all()
    for z, y, x in np.argwhere(near):
        block = coarse[
            4 * (z // 4) : 4 * (z // 4) + 4,
            4 * (y // 4) : 4 * (y // 4) + 4,
            4 * (x // 4) : 4 * (x // 4) + 4,
        ]
        if block.any() and not block.all():
            assert (8 * (z // 4), 8 * (y // 4), 8 * (x // 4)) in found


def opened(name: str, edge: int, corner: int):
    module = SHAPE_METHODS.load(name)
    scan, labels = cube(edge, corner)
    patch = 16 if name == "sparse_segmentation" else 8
    config = module.Config.create(
        source=("a.tif",), target=("b.tif",), patch=patch, channels=(4, 4)
    )
    given = (scan, labels) if name == "sparse_segmentation" else (labels,)
    volumes, *targets = ([Volume(data, "ZYX")] for data in given)
    return module.Method(config), ShapeSet(config, volumes, *targets)


@pytest.mark.parametrize("name", ["sparse_segmentation", "shape_sr"])
def test_a_small_part_of_a_large_volume_is_in_every_block(name: str) -> None:
    method, shapes = opened(name, LARGE, CORNER)
    planes = np.zeros(LARGE, bool)
    planes[CORNER : CORNER + SMALL] = True
    shapes.set_filled(planes)
    for patches in (shapes, shapes.held_out()):
        for seed in range(30):
            target = method.draw(patches, np.random.default_rng(seed))["target"]
            if name == "shape_sr":
                coarse = coarsened(target[0] > 0, 2)
                assert coarse.any()
                assert not coarse.all()
            else:
                assert np.count_nonzero(target >= 0) >= 100


def trained(folder: Path, edge: int, corner: int) -> list[float]:
    """Train on a cube in a scan; return the validation losses."""
    folder.mkdir()
    scan, labels = cube(edge, corner)
    source = io.write(Volume(scan, "ZYX"), folder / "scan.tif")
    target = io.write(Volume(labels, "ZYX"), folder / "labels.tif", kind="labels")
    training = {
        "source": (source,), "target": (target,), "name": "m", "steps": 60,
        "channels": (4, 4), "patch": 16, "threads": 1, "device": "cpu", "seed": 1,
        "learning_rate": 1e-2, "warm_up": 5, "averaging": 0.9,
    }  # fmt: skip
    values = {"method": "sparse_segmentation", "training": training}
    steps = train_shape_steps(ShapeTrainJob.from_values(values), folder / "job")
    reports = [s.losses for s in steps if isinstance(s, TrainingProgress)]
    return [losses["validation"] for losses in reports if "validation" in losses]


def test_a_small_part_of_a_large_scan_is_learned_like_its_surroundings(
    tmp_path: Path,
) -> None:
    large = trained(tmp_path / "large", LARGE, CORNER)[-1]
    small = trained(tmp_path / "small", 32, 8)[-1]
    assert 0 < small < 0.3  # of the same two phases: ln 2 = 0.69 without learning
    assert 0 < large < 1.3 * small


def test_blocks_without_labels_do_not_count(monkeypatch) -> None:
    """They would lower the mean loss, as if the model was better."""
    method, shapes = opened("sparse_segmentation", 32, 8)
    trainer = Trainer(method, shapes, None)
    samples = [method.draw(shapes, np.random.default_rng(i)) for i in range(2)]
    batches = [trainer.batches.on_device([sample]) for sample in samples]
    for module in method.modules.values():
        module.eval()
    alone = trainer._accumulate(batches[:1], method.loss)
    assert alone["loss"] > 0
    batches[1]["target"][:] = -1
    assert trainer._accumulate(batches, method.loss) == pytest.approx(alone)
    assert trainer._accumulate(batches[1:], method.loss) == {}

    draw = method.draw
    every = trainer._validate()
    n_drawn = 0

    def half_empty(patches, rng):
        nonlocal n_drawn
        n_drawn += 1
        drawn = draw(patches, np.random.default_rng(0))
        if n_drawn % 2 or n_drawn > 4:
            drawn["target"] = np.full_like(drawn["target"], -1)
        return drawn

    monkeypatch.setattr(method, "draw", half_empty)
    assert trainer._validate() == pytest.approx(every, rel=0.5)
    assert np.isnan(trainer._validate())  # all blocks are empty
    clock = Clock(0, 10, 1)
    clock.add_losses({})
    clock.validation = float("nan")
    assert dict(clock.report(1.0, 1, 1e-3, 0, None).losses) == {}


def test_last_planes_without_a_surface_are_not_held_out(tmp_path: Path) -> None:
    inside = np.ones((64, 24, 24), np.uint8)
    inside[8:32, 4:20, 4:20] = 0
    path = io.write(Volume(inside, "ZYX"), tmp_path / "a.tif", kind="labels")
    training = {"source": (path,), "patch": 8}
    job = ShapeTrainJob.from_values({"method": "shape_sr", "training": training})
    steps = list(job.check_steps())
    (note,) = [s.message for s in steps if isinstance(s, WarningIssued)]
    assert "the shape has no surface in its last planes, so none of them is" in note
