"""BioImage.IO package: a description, ONNX weights, a test input and its result.

The package also contains the card and weights of the model, so it is also a bundle.
"""

from __future__ import annotations

import shutil
import tempfile
import warnings
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from napari_geosr.core.errors import ModelError
from napari_geosr.models import bundle
from napari_geosr.models.exports import _graph

if TYPE_CHECKING:
    from napari_geosr.models.bundle import Model
    from napari_geosr.models.card import ModelCard

TITLE = "BioImage.IO package"
SUFFIX = ".zip"
_TAGS = {
    "denoise": ("denoising", "restoration"),
    "super-resolution": ("super-resolution", "restoration"),
    "translate": ("image-to-image",),
    "segment": ("segmentation",),
    "generate": ("diffusion",),
}
_UNITS = {"nm": "nanometer", "µm": "micrometer", "mm": "millimeter", "m": "meter"}
#: Number added to the range of grey values to avoid division by zero; far below real
#: ranges.
_MIN_RANGE = 1e-12
#: Maximum length of a description in BioImage.IO, in characters.
_MAX_DESCRIPTION = 1024


def write(model: Model, path: Path) -> float:
    """Write the model; return the largest difference from the original.

    Raises
    ------
    ConfigError
        If a library is missing.
    ModelError
        If the model cannot be written, its output differs, or the package is invalid.
    """
    _graph.check_libraries("bioimageio.spec", "onnx", "onnxruntime")
    with tempfile.TemporaryDirectory(ignore_cleanup_errors=True) as temporary:
        folder = Path(temporary)
        trials = _graph.write_graph(model, folder / "weights.onnx")
        # The size of this image is a multiple of the strides.
        np.save(folder / "test_input.npy", trials[1].given)
        np.save(folder / "test_output.npy", trials[1].result)
        for name, content in bundle.contents(model.path).items():
            (folder / name).write_bytes(content)
        (folder / "README.md").write_text(_readme(model.card), encoding="utf-8")
        (folder / "LICENSE.txt").write_text(model.card.licence, encoding="utf-8")
        package = folder / "package.zip"
        _package(model, folder, package)
        _validate(package)
        shutil.move(package, path)
    return max(trial.difference for trial in trials)


def remarks(card: ModelCard) -> list[str]:
    """Return remarks on how the scaling differs from that of ``restore``."""
    return _graph.remarks(card, inside=True)


def _package(model: Model, folder: Path, package: Path) -> None:
    from bioimageio.spec import save_bioimageio_package
    from bioimageio.spec.model import v0_5

    card, spec = model.card, _graph.spec_of(model)
    file = v0_5.FileDescr
    try:
        description = v0_5.ModelDescr(
            name=_package_name(card.title),
            description=card.description[:_MAX_DESCRIPTION],
            authors=[
                v0_5.Author(name=str(name).replace("/", " "))
                for name in card.provenance.get("authors", ["unknown"])
            ],
            cite=[v0_5.CiteEntry(text=card.citation or card.title, url=_PAGE)],
            license=_licence(card.licence, folder),
            documentation=file(source=folder / "README.md"),
            tags=[*_TAGS[card.task], *card.modalities, "napari-geosr"],
            links=[_PAGE],
            inputs=[_input(v0_5, card, spec, folder)],
            outputs=[_output(v0_5, card, folder)],
            weights=v0_5.WeightsDescr(
                onnx=v0_5.OnnxWeightsDescr(
                    source=folder / "weights.onnx", opset_version=_graph.OPSET
                )
            ),
            attachments=[
                file(source=folder / name) for name in bundle.contents(model.path)
            ],
        )
        save_bioimageio_package(description, output_path=package)
    except (ValueError, OSError) as error:
        reason = " ".join(str(error).split())[:300]
        raise ModelError(
            f"{card.name} cannot be described as a BioImage.IO model ({reason})."
        ) from error


_PAGE: Any = "https://github.com/napari-geosr/napari-geosr"


def _package_name(title: str) -> str:
    """Return the title, limited to characters allowed in package names."""
    kept = "".join(c if c.isalnum() or c in "_+- ()" else " " for c in title)
    return " ".join(kept.split())[:128] or "model"


def _licence(text: str, folder: Path) -> Any:
    """Return the SPDX identifier if `text` is one, otherwise a file with the text."""
    from bioimageio.spec.generic.v0_3 import FileDescr, LicenseId
    from pydantic import TypeAdapter, ValidationError

    try:
        return TypeAdapter(LicenseId).validate_python(text)
    except ValidationError:
        return FileDescr(source=folder / "LICENSE.txt")


def _input(v0_5: Any, card: ModelCard, spec: Any, folder: Path) -> Any:
    training = card.training
    unit = _UNITS.get(training.unit or "")
    known = unit is not None and training.voxel_size is not None
    size = training.voxel_size[0] if known and training.voxel_size else 1.0
    axes = [
        v0_5.SpaceInputAxis(
            id=v0_5.AxisId(letter.lower()),
            size=v0_5.ParameterizedSize(
                min=_minimum_size(spec, i), step=spec.stride[i]
            ),
            unit=unit if known else None,
            scale=size,
        )
        for i, letter in enumerate(card.axes)
    ]
    middle = card.adjacent_slices // 2
    channels = [f"slice{i - middle:+d}" for i in range(card.adjacent_slices)]
    if len(channels) == 1:
        channels = ["grey"]
    before, ends = [], _graph.input_percentiles(card)
    if ends is not None:
        low, high = ends
        kwargs = v0_5.ScaleRangeKwargs(
            min_percentile=low, max_percentile=high, eps=_MIN_RANGE
        )
        before.append(v0_5.ScaleRangeDescr(kwargs=kwargs))
    return v0_5.InputTensorDescr(
        id=v0_5.TensorId(_graph.INPUT),
        description=_graph.value_descriptions(card)[0][:128],
        axes=[
            v0_5.BatchAxis(),
            v0_5.ChannelAxis(
                channel_names=[v0_5.Identifier(_word(c)) for c in channels]
            ),
            *axes,
        ],
        preprocessing=before,
        test_tensor=v0_5.FileDescr(source=folder / "test_input.npy"),
        data=v0_5.IntervalOrRatioDataDescr(type="float32"),
    )


def _word(channel: str) -> str:
    return channel.replace("+", "_plus_").replace("-", "_minus_")


def _minimum_size(spec: Any, axis: int) -> int:
    """Return the minimum size: a multiple of the stride, and at least 8 voxels."""
    stride, least = spec.stride[axis], max(spec.minimum_size[axis], 8)
    return int(-(-least // stride) * stride)


def _output(v0_5: Any, card: ModelCard, folder: Path) -> Any:
    training = card.training
    unit = _UNITS.get(training.unit or "")
    known = unit is not None and training.voxel_size is not None
    size = training.voxel_size[0] if known and training.voxel_size else 1.0
    axes = [
        v0_5.SpaceOutputAxis(
            id=v0_5.AxisId(letter.lower()),
            size=v0_5.SizeReference(
                tensor_id=v0_5.TensorId(_graph.INPUT),
                axis_id=v0_5.AxisId(letter.lower()),
            ),
            unit=unit if known else None,
            scale=size / card.upscale_factor,
        )
        for letter in card.axes
    ]
    return v0_5.OutputTensorDescr(
        id=v0_5.TensorId(_graph.OUTPUT),
        description=_graph.value_descriptions(card)[1][:128],
        axes=[
            v0_5.BatchAxis(),
            v0_5.ChannelAxis(channel_names=[v0_5.Identifier("grey")]),
            *axes,
        ],
        test_tensor=v0_5.FileDescr(source=folder / "test_output.npy"),
        data=v0_5.IntervalOrRatioDataDescr(type="float32"),
    )


def _validate(package: Path) -> None:
    """Validate the package with the BioImage.IO libraries."""
    from bioimageio.spec import load_description

    if find_spec("bioimageio.core") is not None:
        from bioimageio.core import test_description

        with warnings.catch_warnings():
            # Ignore warnings that percentiles are computed from a single image, as is
            # intended.
            warnings.simplefilter("ignore", UserWarning)
            summary = test_description(package, weight_format="onnx")
    else:
        summary = load_description(package).validation_summary
    if summary is None or summary.status == "failed":
        problems = (
            []
            if summary is None
            else [e.msg for d in summary.details for e in d.errors]
        )
        raise ModelError(
            "The package did not pass the BioImage.IO test "
            f"({'; '.join(problems[:3]) or 'no reason was given'}), so it was not kept."
        )


def _readme(card: ModelCard) -> str:
    takes, gives = _graph.value_descriptions(card)
    lines = [
        f"# {card.title}",
        card.description,
        f"**Use it for:** {card.intended_use}",
        f"**Not for:** {card.not_for}",
        f"**Input:** {takes}. **Output:** {gives}.",
        *remarks(card),
        *card.remarks,
        f"**Trained on:** {card.training.description}",
        f"**Licence:** {card.licence}",
        "## Validation",
        "Compare the result with the original, and with the ground truth for images "
        "of your kind. The model's validation results are in card.yaml. With "
        "napari-geosr installed, this package restores volumes with: `napari-geosr "
        "restore INPUT --model PACKAGE.zip --out PATH`.",
    ]
    return "\n\n".join(lines) + "\n"
