"""Settings for a scan's file, shared by all commands."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from napari_geosr.core.errors import ConfigError
from napari_geosr.core.projections import Projections
from napari_geosr.io.projections import write_projections
from napari_geosr.operations.reconstruct.config import ReconstructConfig
from napari_geosr.operations.reconstruct.inputs import (
    ProjectionsInput,
    open_projections,
)
from napari_geosr.operations.restore.config import RestoreConfig
from napari_geosr.operations.study.config import StudyConfig
from napari_geosr.operations.train.scans import ScansConfig

DISTANCES = {"source_distance": 100.0, "detector_distance": 0.0}


@pytest.fixture
def file(tmp_path: Path) -> Path:
    views = np.ones((4, 3, 5), np.float32)
    scan = Projections(views, np.arange(4.0), is_line_integrals=True, unit="mm")
    return write_projections(scan, tmp_path / "scan.h5")


def opened(file: Path, **said: object) -> Projections:
    return open_projections(file, ProjectionsInput.create(**said))


def test_the_beam_is_as_said(file: Path, tmp_path: Path) -> None:
    assert opened(file).geometry == "parallel"
    cone = opened(file, geometry="cone", **DISTANCES)
    assert (cone.geometry, cone.source_distance) == ("cone", 100.0)
    assert cone.detector_distance == 0.0
    again = write_projections(cone, tmp_path / "cone.h5")
    assert opened(again).geometry == "cone"
    # Values of the file are kept unless others are given.
    fan = opened(again, geometry="fan", detector_distance=7.0)
    assert (fan.geometry, fan.source_distance) == ("fan", 100.0)
    assert fan.detector_distance == 7.0
    plain = opened(again, geometry="parallel")
    assert (plain.geometry, plain.source_distance) == ("parallel", None)


@pytest.mark.parametrize(
    ("said", "says"),
    [
        ({"geometry": "cone"}, r"--source-distance.*--detector-distance.*\(mm\)"),
        ({"geometry": "fan", "source_distance": 9}, "A fan beam needs"),
        ({"source_distance": 9}, "A parallel beam has no source distance"),
        ({"detector_distance": 0}, "A parallel beam has no source distance"),
        (
            {"geometry": "parallel", **DISTANCES},
            "A parallel beam has no source distance",
        ),
        ({"geometry": "round"}, "geometry: one of 'parallel', 'fan', 'cone'"),
        ({"geometry": "cone", "source_distance": 0}, "source distance"),
    ],
)
def test_beams_that_make_no_sense(file: Path, said: dict[str, object], says: str):
    with pytest.raises(ConfigError, match=says):
        opened(file, **said)


def test_trainings_read_scans_alike(file: Path) -> None:
    said = {"geometry": "cone", **DISTANCES, "angle_range": "0,360", "pixel_size": 2}
    scans = ScansConfig.create(projections=file, pixel_unit="um", **said)
    reading = ProjectionsInput.create(unit="um", **said)
    assert scans.reading() == reading
    scan = open_projections(file, scans.reading())
    assert (scan.geometry, scan.unit, scan.angles[1]) == ("cone", "µm", 90.0)


@pytest.mark.parametrize("kind", [ReconstructConfig, StudyConfig, ScansConfig])
def test_the_axis_is_a_column_or_found(kind: type) -> None:
    assert kind.create(centre="12.5").centre == 12.5
    assert kind.create(centre=None).centre == "auto"
    for bad in ("left", "nan", 1e9):
        with pytest.raises(ConfigError, match="auto or the number of a column"):
            kind.create(centre=bad)


@pytest.mark.parametrize("kind", [ReconstructConfig, ScansConfig])
def test_rows_are_two_numbers(kind: type) -> None:
    assert kind.create(rows="3,8").rows == (3, 8)
    with pytest.raises(ConfigError, match="rows: two numbers"):
        kind.create(rows=3)
    with pytest.raises(ConfigError, match="100,120"):
        kind.create(rows="three,8")


@pytest.mark.parametrize("kind", [ReconstructConfig, StudyConfig, RestoreConfig])
def test_memory_is_an_amount(kind: type) -> None:
    assert kind.create(memory="4GB").memory == "4GB"
    assert kind.create(memory=5e8).memory == "500000000.0"
    with pytest.raises(ConfigError, match="'lots' is not an amount of memory"):
        kind.create(memory="lots")
