"""Files of a pair: two volumes, a picture and a report; all or none are written."""

from __future__ import annotations

import json
import shlex
from collections.abc import Mapping
from pathlib import Path

from napari_geosr.core.errors import FileError
from napari_geosr.core.types import AnyDict, AnyMapping
from napari_geosr.core.volume import Volume
from napari_geosr.io.unfinished_files import atomic
from napari_geosr.operations.inputs import check_not_source

#: Upscale factors for which networks are available.
_TRAINED = (1, 2, 4, 8)
#: Names of the files of a pair, by content.
FILES = {
    "low": "low.ome.tif",
    "high": "high.ome.tif",
    "picture": "overlay.png",
    "report": "pairs.json",
}


def plan(out: str | Path, inputs: list[Volume], *, overwrite: bool) -> dict[str, Path]:
    """Return the paths of the files of a pair, and check that they may be written.

    Parameters
    ----------
    out : path
        A folder, which need not exist.
    inputs : list of Volume
        Inputs; their files must not be overwritten.
    overwrite : bool
        Whether existing files may be overwritten.

    Returns
    -------
    dict of str to Path
        Paths, keyed by content; see `FILES`.

    Raises
    ------
    FileError
        If the files may not be written there.
    """
    folder = Path(out).expanduser()
    files = {key: folder / name for key, name in FILES.items()}
    if folder.exists() and not folder.is_dir():
        raise FileError(f"{folder} is a file, not a folder. Choose another one.")
    existing = [path.name for path in files.values() if path.exists()]
    if existing and not overwrite:
        raise FileError(
            f"{folder} already contains {', '.join(existing)}. Choose another folder, "
            "or allow overwriting (--overwrite)."
        )
    for volume in inputs:
        check_not_source(volume, *files.values())
    return files


def train_command(
    files: Mapping[str, Path], factor: int, dimensions: str, *, flat: bool
) -> str | None:
    """Return the command that trains a model with the pair; None if impossible.

    Parameters
    ----------
    flat : bool
        Whether the pair consists of two 2D images.
    """
    if factor not in _TRAINED:
        return None
    words = ["napari-geosr", "train", "supervised"]
    if factor > 1:
        words += ["--network", "light_sr", "--upscale-factor", str(factor)]
    if flat or dimensions == "2D":
        words += ["--dimensions", "2D"]
    elif factor > 1:
        words += ["--dimensions", "3D"]
    words += ["--source", str(files["low"]), "--target", str(files["high"])]
    words += ["--out", str(files["low"].parent / "training")]
    return shlex.join(words)


def untrained_factor_notes(factor: int) -> list[str]:
    """Return a note if none of the available networks upscales by this factor."""
    if factor in _TRAINED:
        return []
    return [
        f"The available networks upscale by a factor of "
        f"{', '.join(map(str, _TRAINED[1:-1]))} or {_TRAINED[-1]}, so none of them can "
        f"be trained on a pair with a factor of {factor}."
    ]


def write_report(
    files: Mapping[str, Path],
    report: AnyDict,
    picture: bytes,
    *,
    record: AnyMapping,
    flat: bool,
    overwrite: bool,
) -> None:
    """Complete the report, and write it (as JSON) together with the picture.

    Parameters
    ----------
    files : mapping of str to Path
        Paths as named by `plan`.
    report : dict
        Receives ``train``, ``files`` and ``provenance``.
    picture : bytes
        PNG of the pair.
    record : mapping
        Provenance record of the pair.
    flat : bool
        Whether the pair consists of two 2D images.
    overwrite : bool
    """
    atomic.write_bytes(files["picture"], picture, overwrite=overwrite)
    factor, dimensions = report["upscale_factor"], report["dimensions"]
    report["train"] = train_command(files, factor, dimensions, flat=flat)
    report["files"] = {key: path.name for key, path in files.items()}
    report["provenance"] = record
    text = json.dumps(report, indent=2, ensure_ascii=False, allow_nan=False) + "\n"
    atomic.write_text(files["report"], text, overwrite=overwrite)
