"""Published third-party weights restore real scans as in their own programs.

The references are made here without our code: spandrel's own call on the whole plane,
and the layers of DnCNN written out as defined by its authors.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch.nn import functional

from napari_geosr import io, restore
from napari_geosr.cli.app import run
from napari_geosr.core.steps import Step, TileDone, run_to_end
from napari_geosr.core.volume import Volume
from napari_geosr.models import bundle, zoo
from napari_geosr.operations.restore import RestoreConfig, restore_steps

pytestmark = pytest.mark.skipif(
    find_spec("spandrel") is None, reason="spandrel is not installed (extra zoo)"
)
#: Weights with an architecture that spandrel 0.4.2 does not support.
UNKNOWN = ("team00_rlfn", "team14_GFMN", "team15_SAFMN")
PLACE: dict[str, Any] = {
    "voxel_size": (3.0, 0.5, 0.5),
    "unit": "µm",
    "origin": (9.0, -2.0, 4.0),
}


@pytest.fixture(scope="module")
def dncnn(
    shared_data: Path, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Path]:
    """The published file, imported on the command line under the name ``theirs``."""
    path = shared_data / "models" / "dncnn_25.pth"
    own = tmp_path_factory.mktemp("models")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(zoo, "user_folder", lambda: own)
        assert run(["models", "import", str(path), "--name", "theirs"]) == 0
        yield path


@pytest.fixture
def cement(dncnn: Path, shared_data: Path) -> Volume:
    """Two slices of odd size, with voxel size and origin."""
    whole = io.read(shared_data / "ct_volumes" / "cement_128x128x128.tif")
    part = np.asarray(whole.data[62:64, 20:97, 30:101])
    return Volume(part, "ZYX", name="cement", **PLACE)


def by_spandrel(path: Path, plane: np.ndarray) -> np.ndarray:
    """Result of the library for a whole plane with values from 0 to 1."""
    from napari_geosr.networks.foreign_formats.spandrel import library

    state = torch.load(path, weights_only=True, map_location="cpu")
    model = library().ModelLoader().load_from_state_dict(state)
    made: np.ndarray = model(torch.from_numpy(plane)[None, None])[0, 0].numpy()
    return made


def by_definition(path: Path, plane: np.ndarray) -> np.ndarray:
    """DnCNN written out: convolutions and rectifiers give the noise (Zhang, 2017)."""
    state = torch.load(path, weights_only=True, map_location="cpu")
    layers = sorted({int(key.split(".")[1]) for key in state})
    x = maps = torch.from_numpy(plane)[None, None]
    for i in layers:
        maps = functional.conv2d(
            maps, state[f"model.{i}.weight"], state[f"model.{i}.bias"], padding=1
        )
        maps = maps if i == layers[-1] else maps.relu()
    made: np.ndarray = (x - maps).clamp(0, 1)[0, 0].numpy()
    return made


REFERENCES = (by_spandrel, by_definition)


def farthest(
    found: Any, path: Path, scan: np.ndarray, low: float, high: float
) -> dict[str, float]:
    """Largest difference from each reference, slice by slice, from 0 to 1."""
    unit = (scan.astype(np.float64) - low) / (high - low)
    got = (np.asarray(found, np.float64) - low) / (high - low)
    return {
        reference.__name__: max(
            float(np.abs(plane - reference(path, given.astype(np.float32))).max())
            for plane, given in zip(got, unit, strict=True)
        )
        for reference in REFERENCES
    }


@torch.no_grad()
def test_a_volume_is_restored_as_the_authors_do(
    dncnn: Path, cement: Volume, tmp_path: Path
) -> None:
    """With the operation and on the command line, using files, slice by slice."""
    scan = np.asarray(cement.data)
    noise = scan[0] / 255 - by_definition(dncnn, scan[0].astype(np.float32) / 255)
    assert np.abs(noise).max() > 0.05  # it has an effect
    given, out = tmp_path / "in.ome.tif", tmp_path / "out.ome.tif"
    io.write(cement, given)
    flags = ["--model", "theirs", "--out", str(out), "--threads", "1"]
    assert run(["restore", str(given), *flags]) == 0
    written = io.read(out)
    for result in (restore(cement, "theirs", threads=1), written):
        apart = farthest(result.data, dncnn, scan, 0, 255)
        print(apart)
        assert max(apart.values()) < 1e-3
        assert result.axes == "ZYX"
        assert result.voxel_size == pytest.approx(PLACE["voxel_size"])
        assert result.origin == pytest.approx(PLACE["origin"])
        assert result.unit == "µm"
    assert written.provenance[-1]["model"]["name"] == "theirs"


@torch.no_grad()
def test_tiles_make_no_difference(dncnn: Path, cement: Volume) -> None:
    made: dict[str | int, tuple[int, np.ndarray]] = {}
    for memory in ("2GB", "54MB"):
        config = RestoreConfig.create(model="theirs", threads=1, memory=memory)
        steps: list[Step] = []
        restored = run_to_end(restore_steps(cement, config), steps.append)
        tiles = sum(isinstance(step, TileDone) for step in steps)
        made[memory] = tiles, np.asarray(restored.volume.data) / 255
    (few, whole), (many, tiled) = made.values()
    print(f"{few} and {many} tiles: {np.abs(whole - tiled).max():.2g} apart")
    # The number depends on the measured cost of a tile: one or both planes at once, and
    # parts of planes.
    assert few <= len(cement.data) < many
    np.testing.assert_allclose(tiled, whole, atol=1e-5)


@torch.no_grad()
def test_deep_grey_values_are_scaled_by_the_whole_volume(
    dncnn: Path, shared_data: Path
) -> None:
    """16 bits: scaled from the minimum to the maximum of all planes, as stated on the
    card, and back.
    """
    frames = io.read(shared_data / "microscopy" / "membrane_2d_timelapse.tif")
    scan = np.asarray(frames.data[:2, 100:155, 90:139])
    assert np.ptp(scan[0]) != np.ptp(scan[1])
    result = restore(Volume(scan, "ZYX"), "theirs", threads=1)
    apart = farthest(result.data, dncnn, scan, float(scan.min()), float(scan.max()))
    print(apart)
    assert max(apart.values()) < 1e-3
    card = bundle.read_card(zoo.find("theirs").path)
    assert any(
        "from their lowest to their highest" in remark for remark in card.remarks
    )


@pytest.fixture
def own(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    folder = tmp_path / "own"
    monkeypatch.setattr(zoo, "user_folder", lambda: folder)
    return folder


@pytest.mark.parametrize("name", UNKNOWN)
def test_an_unknown_network_is_one_sentence(
    name: str, shared_data: Path, own: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = shared_data / "models" / f"{name}.pth"
    assert run(["models", "import", str(path)]) == 2
    said = capsys.readouterr()
    reading, refusal = said.err.strip().splitlines()
    assert reading == f"Reading {path}"
    assert refusal.startswith(f"napari-geosr: {path}: spandrel")
    assert "does not recognise a network with these tensors" in refusal
    assert "Traceback" not in said.out + said.err
    assert not own.exists()


class Program:
    """Writes a file when it is unpickled."""

    def __init__(self, marker: Path) -> None:
        self.marker = marker

    def __reduce__(self) -> tuple[Any, ...]:
        return Path.write_text, (self.marker, "ran")


def test_published_weights_with_a_program_among_them_are_not_opened(
    shared_data: Path, own: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    state = torch.load(shared_data / "models" / "dncnn_25.pth", weights_only=True)
    marker, path = tmp_path / "marker", tmp_path / "dncnn.pth"
    torch.save({**state, "note": Program(marker)}, path)
    assert run(["models", "import", str(path), "--json"]) == 2
    said = capsys.readouterr()
    assert "contains more than weights" in said.err
    assert "Traceback" not in said.out + said.err
    assert not marker.exists()
    assert not own.exists()


def test_the_list_says_where_it_comes_from(
    dncnn: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run(["models", "list", "--json"]) == 0
    rows = json.loads(capsys.readouterr().out)["models"]
    [row] = [row for row in rows if row["name"] == "theirs"]
    assert row["task"] == "denoise"
    card = bundle.read_card(zoo.find("theirs").path)
    assert (card.method, card.axes, card.halo, card.local) == (
        "spandrel", "YX", 17, True
    )  # fmt: skip
