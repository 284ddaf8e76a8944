"""Messages name the mistake and the next step, in words of the command line."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import tifffile

from napari_geosr.cli.app import run
from napari_geosr.cli.kit.console import name_in_errors
from napari_geosr.cli.reconstruct import _axis
from napari_geosr.core.errors import VolumeError


@pytest.fixture
def scan(tmp_path: Path, rng: np.random.Generator) -> str:
    path = tmp_path / "scan.tif"
    tifffile.imwrite(path, rng.integers(0, 200, (8, 32, 32)).astype(np.uint8))
    return str(path)


@pytest.mark.parametrize(
    ("line", "said"),
    [
        (
            "restore SCAN -o OUT.tif --uncertainty tta2",
            "uncertainty: one of 'none', 'diffusion', 'ensemble', 'tta' is needed "
            "(given: 'tta2'; did you mean 'tta'?).",
        ),
        (
            "restore SCAN -o OUT.tif -m auto --dry-run",
            "Name a model (--model); napari-geosr models rank shows which one",
        ),
        (
            "measure SCAN -o OUT --statistics thicker",
            "there is no statistic 'thicker'. Did you mean 'thickness'? Choose from",
        ),
        (
            "reconstruct SCAN -o OUT.tif --algorithm fpb",
            "napari-geosr: There is no reconstruction algorithm 'fpb'. Did you mean "
            "'fbp'? Known: cgls, fbp",
        ),
        (  # as the choice is named in other commands
            "reconstruct SCAN -o OUT.tif --method fbpp",
            "There is no reconstruction algorithm 'fbpp'. Did you mean 'fbp'?",
        ),
        ("restore SCAN -o OUT.tif -m foam-denois", "Did you mean 'foam-denoise'?"),
        (
            "train noise2void --source SCAN -o OUT --target SCAN",
            "This method learns from the sources alone: remove --target.",
        ),
        (
            "train noise2noise --source SCAN -o OUT",
            "This method needs a target for each source: give --target.",
        ),
        (
            "train noise2void --source SCAN -o OUT --network-options 3",
            "network options: a value with a name",
        ),
        ("profiles show gricat", "Did you mean 'gricad'? Known: "),
        ("train noise2voi", "train has no method 'noise2voi'. Did you mean"),
        ("models lst", "models has no subcommand 'lst'. Did you mean 'list'?"),
    ],
)
def test_a_mistake_is_named_with_the_next_step(
    scan: str,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    line: str,
    said: str,
) -> None:
    out = str(tmp_path / "out")
    words = [w.replace("SCAN", scan).replace("OUT", out) for w in line.split()]
    assert run(words) == 2
    error = " ".join(capsys.readouterr().err.split())
    assert said in error
    assert "dictionary" not in error
    assert "settings: " not in error
    assert "Loading model" not in error  # no model is loaded


def test_a_file_is_named_once_in_an_error() -> None:
    path = Path("scans/foam.tif")
    for text, expected in (
        ("'foam' has no contrast.", "foam.tif has no contrast."),
        ("The volume has no contrast.", "foam.tif: The volume has no contrast."),
        ("foam.tif has no contrast.", "foam.tif has no contrast."),
    ):
        with pytest.raises(VolumeError) as caught, name_in_errors(path):
            raise VolumeError(text)
        assert str(caught.value) == expected


@pytest.mark.parametrize(
    ("name", "content", "said"),
    [
        (
            "a.dat2",
            b"\x80\x02\x8a\nl\xfc\x9cF\xf9 j\xa8P",
            "binary data of an unknown type",
        ),
        ("a.dat2", b"Some words, no image", "it begins with 'Some words, no i'"),
        ("a.pth", b"\x80\x02\x8a", "a.pth contains a model, not an image volume."),
    ],
)
def test_a_file_that_is_no_image_is_described_without_its_bytes(
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    name: str,
    content: bytes,
    said: str,
) -> None:
    (tmp_path / name).write_bytes(content)
    assert run(["info", str(tmp_path / name)]) == 2
    error = capsys.readouterr().err
    assert said in error
    assert error.isascii()


@pytest.mark.parametrize(
    ("method", "words"),
    [
        ("wedge", "determined from the projections"),
        ("opposite", "determined from the projections"),
        ("given", "as given"),
        ("from the file", "from the file"),
    ],
)
def test_the_origin_of_the_rotation_axis_is_stated(method: str, words: str) -> None:
    result = SimpleNamespace(centre=SimpleNamespace(column=20.5, method=method))
    assert _axis(result) == f"20.50 ({words})"  # type: ignore[arg-type]
