"""Read only tensors and plain values from third-party files.

A ``.pth`` or ``.ckpt`` file is a pickle, which can contain arbitrary code. torch's
weights-only reader accepts tensors, numbers, strings, lists and dictionaries; a file
with anything else is rejected before any of its code is run.
"""

from __future__ import annotations

import pickle
import re
import warnings
import zipfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from napari_geosr.core.config import format_bytes
from napari_geosr.core.errors import ModelError
from napari_geosr.core.types import AnyDict, AnyMapping
from napari_geosr.models.archives import MAX_RATIO, opened_zip
from napari_geosr.models.bundle_files import MAX_WEIGHTS_BYTES
from napari_geosr.models.weights_header import check_header

if TYPE_CHECKING:
    from torch import Tensor

SAFETENSORS = ".safetensors"
SUFFIXES = (".pth", ".pt", ".ckpt", SAFETENSORS, ".bin", ".th")
#: First bytes of files that torch reads as zips.
_ZIP = b"PK\x03\x04"
#: Keys under which training programs store the tensors; averaged weights come first.
_HOLDERS = (
    "params_ema",
    "params-ema",
    "params",
    "model_state_dict",
    "state_dict",
    "model",
)


def read_file(path: Path) -> AnyDict:
    """Return the contents of a weights file: named tensors, possibly nested.

    Raises
    ------
    ModelError
        If the file is missing, damaged, too large or not a weights file, or contains
        code.
    """
    try:
        size = path.stat().st_size
    except OSError as error:
        raise ModelError(f"{path} cannot be read: {error.strerror}.") from error
    _check_size(size, path)
    content = _safe(path) if path.suffix.lower() == SAFETENSORS else _unpickled(path)
    if not isinstance(content, Mapping):
        raise ModelError(
            f"{path} contains a {type(content).__name__} instead of a state dict "
            "(named tensors). Ask its authors for a file that contains only weights."
        )
    return dict(content)


def _check_size(size: int, path: Path, *, what: str = "") -> None:
    if size > MAX_WEIGHTS_BYTES:
        raise ModelError(
            f"{path} is {format_bytes(size)}{what}; the limit for weights is "
            f"{format_bytes(MAX_WEIGHTS_BYTES)}."
        )


def _safe(path: Path) -> Any:
    from safetensors import SafetensorError
    from safetensors.torch import load_file

    with path.open("rb") as stream:
        check_header(stream, path.stat().st_size, str(path))
    try:
        return load_file(str(path), device="cpu")
    except (SafetensorError, OSError, ValueError, KeyError) as error:
        raise ModelError(
            f"{path} is not a safetensors file ({error}). Download or copy it again."
        ) from error


def _unpickled(path: Path) -> Any:
    import torch

    members = _members(path)
    # torch does not compress tensors; a compressed zip may unpack to any size.
    unpacked = sum(info.file_size for info in members)
    _check_size(unpacked, path, what=" unpacked")
    if unpacked > MAX_RATIO * path.stat().st_size:
        raise ModelError(
            f"{path} unpacks to {format_bytes(unpacked)}, more than {MAX_RATIO} times "
            "its size, which is implausible for model weights. It is not a model."
        )
    if _is_torchscript(members):
        raise ModelError(
            f"{path} is a TorchScript program, and third-party programs are not run. "
            "Ask its authors for the state dict (.pth or .safetensors)."
        )
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # unusual pickles are rejected below
            return torch.load(path, map_location="cpu", weights_only=True)
    except pickle.UnpicklingError as error:
        named = re.search(r"GLOBAL ([\w.]+)", str(error))
        if named is None:
            raise ModelError(
                f"{path} is damaged or was not written by torch: its pickle cannot be "
                "read. Download or copy it again."
            ) from error
        raise ModelError(
            f"{path} contains more than weights: it calls {named[1]}. Such files can "
            "run arbitrary code, so it was not opened. Ask its authors for the state "
            "dict only, for example as .safetensors."
        ) from error
    except Exception as error:  # torch can raise any error on damaged files
        reason = " ".join(str(error).split())[:120] or type(error).__name__
        raise ModelError(
            f"{path} is damaged or was not written by torch ({reason}). Download or "
            "copy it again."
        ) from error


def _members(path: Path) -> list[zipfile.ZipInfo]:
    """Return the members of a zip written by torch; empty for a plain pickle."""
    try:
        with path.open("rb") as file:
            if file.read(len(_ZIP)) != _ZIP:
                return []
    except OSError as error:
        raise ModelError(f"{path} cannot be read: {error.strerror}.") from error
    with opened_zip(path, 2**63) as archive:
        return archive.infolist()


def _is_torchscript(members: Sequence[zipfile.ZipInfo]) -> bool:
    """Whether a zip written by torch holds code as well as tensors."""
    parts = {info.filename.split("/")[1] for info in members if "/" in info.filename}
    return bool(parts & {"code", "constants.pkl"})


def find_state(content: AnyMapping) -> tuple[dict[str, Tensor], str]:
    """Find the tensors in the contents of a file.

    Returns
    -------
    state : dict of str to Tensor
    holder : str
        Key under which they were stored; ``""`` for the top level.

    Raises
    ------
    ModelError
        If the tensors are too large.
    """
    import torch

    state, holder = dict(content), ""
    for _ in range(3):
        inner = next(
            (name for name in _HOLDERS if _holds_tensors(state.get(name))), None
        )
        if (
            inner is None
            and len(state) == 1
            and _holds_tensors(next(iter(state.values())))
        ):
            inner = next(iter(state))
        if inner is None:
            break
        state, holder = dict(state[inner]), inner
    tensors = {str(k): t for k, t in state.items() if isinstance(t, torch.Tensor)}
    for prefix in ("module.", "netG.", "generator."):
        if tensors and all(key.startswith(prefix) for key in tensors):
            tensors = {key.removeprefix(prefix): t for key, t in tensors.items()}
    # A tensor with zero strides can have any size but store a single number.
    size = sum(t.numel() * t.element_size() for t in tensors.values())
    if size > MAX_WEIGHTS_BYTES:
        raise ModelError(
            f"The file's tensors ({some_names(tensors)}) take {format_bytes(size)}; "
            f"the limit for weights is {format_bytes(MAX_WEIGHTS_BYTES)}."
        )
    return tensors, holder


def _holds_tensors(value: object) -> bool:
    import torch

    return isinstance(value, Mapping) and any(
        isinstance(v, torch.Tensor | Mapping) for v in value.values()
    )


def some_names(state: AnyMapping) -> str:
    """Return the first few names of tensors, for a message."""
    names = list(state)
    return ", ".join(names[:3]) + (", …" if len(names) > 3 else "")
