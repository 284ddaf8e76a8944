"""Import packages of the BioImage.IO model zoo: a description, weights and a test.

They are read with bioimageio.spec (MIT licence; the extra ``zoo``) from a path, URL or
identifier. Supported weights are ONNX graphs and state dicts of the CAREamics U-Net;
a package's own Python code and TorchScript programs are never run.
"""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from napari_geosr import networks
from napari_geosr.core.errors import ModelError
from napari_geosr.core.steps import ShouldStop, never_stop
from napari_geosr.core.text.vocabulary import Modality, Task
from napari_geosr.core.types import AnyArray
from napari_geosr.models.foreign import ModelSource, careamics, scales
from napari_geosr.models.foreign.draft import (
    RGB_REMARK,
    ImportDraft,
    ReferenceImage,
    name_of,
)
from napari_geosr.models.foreign.package_files import (
    DESCRIPTIONS,
    array_of,
    fetch,
    load_description,
    on_disk,
    opened,
)
from napari_geosr.models.foreign.tensors import find_state, read_file

if TYPE_CHECKING:
    from bioimageio.spec import ModelDescr
    from torch import Tensor, nn

    from napari_geosr.networks.foreign import NetworkConfig

ABOUT = "BioImage.IO packages (.zip, folder, rdf.yaml, URL or identifier)"
SUFFIXES = (".zip", ".yaml", ".yml")
#: Maximum difference from the package's expected test result, in standard deviations of
#: that result.
_TOLERANCE = 1e-3
#: Windows of fixed size overlap by their shortest edge divided by this number.
_OVERLAP = 4
#: Modality that corresponds to each tag of a package.
_MICROSCOPY: dict[str, Modality] = {
    "fluorescence": "fluorescence",
    "light-sheet": "fluorescence",
    "confocal": "fluorescence",
    "electron": "electron",
    "em": "electron",
    "brightfield": "light",
    "phase-contrast": "light",
    "dic": "light",
    "ct": "ct",
    "x-ray": "ct",
    "tomography": "ct",
    "mri": "mri",
}
_SPACES = ("z", "y", "x")
_SCALING_DIFFERENCE = (
    "The package scales its output to the mean and standard deviation of its input; "
    "napari-geosr inverts the scaling of the input instead."
)
_Tensors = tuple[AnyArray, AnyArray]


def recognises(source: ModelSource) -> bool:
    """Whether this is a package on disk, or may be the URL or identifier of one."""
    if source.path.exists():
        return is_package(source.path)
    return not source.is_path


def read(source: ModelSource, channel: int | None) -> ImportDraft:
    """Import the network of a package; see `draft`."""
    here = source.path.exists()
    text = str(source.path) if here else source.text
    return draft(text, channel, source.should_stop)


def draft(
    source: str, channel: int | None = None, should_stop: ShouldStop = never_stop
) -> ImportDraft:
    """Import the network of a package.

    Parameters
    ----------
    source : str
        Path of a zip, a folder or a description; or a URL or an identifier.
    channel : int, optional
        Output channel to use, if the network has several.
    should_stop : callable
        Called between the chunks of a download; returns True to cancel the download.

    Raises
    ------
    ModelError
        If bioimageio.spec is missing, the package cannot be read, or its network is not
        supported.
    Cancelled
        If `should_stop` returned True.
    """
    with (
        tempfile.TemporaryDirectory(ignore_cleanup_errors=True) as folder,
        opened(source, Path(folder), should_stop) as given,
    ):
        description = load_description(given, source)
        fetch(_files_to_read(description), source, Path(folder), should_stop)
        return _draft(description, source, channel)


def _draft(description: ModelDescr, source: str, channel: int | None) -> ImportDraft:
    axes = _Axes.of(description, source)
    config, weights = _network(description, axes, source)
    tags = {str(tag).lower() for tag in description.tags}
    pre, post = (
        [(str(op.id), op.kwargs) for op in operations if str(op.id) != "custom"]
        for operations in (
            description.inputs[0].preprocessing,
            description.outputs[0].postprocessing,
        )
    )
    _refuse_custom(description, source)
    config = _with_channels(config, description, channel, source)
    task = _task(tags, config.upscale_factor)
    scale = scales.scales_of(pre, post, restores=task != "translate")
    config = config.model_copy(update={"before": scale.before, "after": scale.after})
    tensors = _test_tensors(description)
    remarks = [*scale.remarks]
    if config.in_channels > 1:
        remarks.append(RGB_REMARK)
    if config.window:
        remarks.append(
            f"It accepts only windows of {_author_text(config.window)} voxels."
        )
    return ImportDraft(
        name=name_of(str(description.name)),
        title=str(description.name),
        task=task,
        origin="bioimageio",
        config=config,
        weights=weights,
        normalisation=scale.normalisation,
        description=f"{str(description.description).rstrip('.')}. Imported from the "
        f"BioImage.IO package {getattr(description, 'id', None) or Path(source).name}.",
        licence=str(description.license or "unknown: ask its authors"),
        citation="; ".join(_citation(entry) for entry in description.cite),
        not_for=(
            "Images unlike its training data (see its page); measurements, until its "
            "results have been compared with ground truth for scans of your kind."
        ),
        trained_on=_trained_on(description),
        modalities=tuple(dict.fromkeys(m for t, m in _MICROSCOPY.items() if t in tags)),
        voxel_size=axes.voxel_size,
        unit=axes.unit,
        remarks=tuple(remarks),
        provenance={
            "package": str(getattr(description, "id", None) or Path(source).name),
            "version": str(getattr(description, "version", None) or ""),
            "authors": [str(author.name) for author in description.authors],
        },
        check=_test(tensors, pre, post, source),
        reference=_reference(tensors, config, scale, pre),
    )


def is_package(path: Path) -> bool:
    """Whether a folder contains a package, or a file has a package suffix."""
    if path.is_dir():
        return any((path / name).is_file() for name in DESCRIPTIONS)
    return path.suffix.lower() in SUFFIXES


def _files_to_read(description: ModelDescr) -> list[Any]:
    """Return the files of the package that will be read."""
    weights = description.weights
    state, onnx = weights.pytorch_state_dict, weights.onnx
    files = [onnx, getattr(onnx, "external_data", None)]
    if state is not None and _is_known(state.architecture):
        files = [state]
    tensors = (*description.inputs, *description.outputs)
    files += [tensor.test_tensor for tensor in tensors]
    return [file for file in files if file is not None]


@dataclass(frozen=True)
class _Axes:
    """Axes and sizes of the network's input according to the description."""

    ndim: int
    channels: int
    multiple_of: tuple[int, ...]
    minimum_size: tuple[int, ...]
    fixed: tuple[int | None, ...]
    voxel_size: tuple[float, float] | None
    unit: str | None

    @classmethod
    def of(cls, description: ModelDescr, source: str) -> _Axes:
        inputs, outputs = description.inputs, description.outputs
        if len(inputs) != 1 or len(outputs) != 1:
            raise ModelError(
                f"{source} has {len(inputs)} inputs and {len(outputs)} outputs; only "
                "models with one input image and one output image can be imported."
            )
        names = [str(axis.id) for axis in inputs[0].axes]
        kinds = [str(axis.type) for axis in inputs[0].axes]
        spatial = [name for name in names if name in _SPACES]
        expected = ["batch", "channel", *("space" for _ in spatial)]
        if kinds != expected or tuple(spatial) not in (_SPACES, _SPACES[1:]):
            raise ModelError(
                f"{source} takes the axes {', '.join(names)}; only the order batch, "
                "channel, (z,) y, x can be imported. Packages made with TensorFlow "
                "use a different order."
            )
        colours = [str(name).lower() for name in inputs[0].axes[1].channel_names]
        if len(colours) != 1 and "".join(c[:1] for c in colours) != "rgb":
            raise ModelError(
                f"{source} takes {len(colours)} channels ({', '.join(colours[:4])}); "
                "only models with one channel, or with red, green and blue, can be "
                "imported."
            )
        sizes = inputs[0].axes[2:]
        multiples, least, fixed = [], [], []
        for axis in sizes:
            step, minimum = getattr(axis.size, "step", 1), getattr(axis.size, "min", 1)
            # Sizes such as 33, 49, 65, … have no common divisor, so only the smallest
            # is used.
            odd = minimum % step != 0
            multiples.append(1 if odd else step)
            least.append(minimum)
            is_fixed = isinstance(axis.size, int)
            fixed.append(axis.size if is_fixed else minimum if odd else None)
        units = {str(axis.unit) for axis in sizes if axis.unit is not None}
        scale = [float(axis.scale) for axis in sizes]
        unit = _UNITS.get(units.pop()) if len(units) == 1 else None
        return cls(
            ndim=len(spatial),
            channels=len(colours),
            multiple_of=tuple(multiples),
            minimum_size=tuple(least),
            fixed=tuple(fixed),
            voxel_size=(min(scale), max(scale)) if unit else None,
            unit=unit,
        )


_UNITS = {"nanometer": "nm", "micrometer": "µm", "millimeter": "mm", "meter": "m"}


def _network(
    description: ModelDescr, axes: _Axes, source: str
) -> tuple[NetworkConfig, dict[str, Tensor]]:
    """Return the settings and tensors from the first supported kind of weights."""
    reasons = []
    state = description.weights.pytorch_state_dict
    if state is not None:
        known = _known_network(state, source)
        if known is not None:
            return known
        reasons.append(
            f"its state dict needs the Python code of {state.architecture.callable}, "
            "and code in packages is not run"
        )
    onnx = description.weights.onnx
    if onnx is not None:
        try:
            return _graph_network(onnx, description, axes)
        except ModelError as error:
            reasons.append(str(error).rstrip("."))
    if description.weights.torchscript is not None:
        reasons.append("TorchScript weights are programs, which are not run")
    kinds = ", ".join(description.weights.available_formats)
    why = "; ".join(reasons) or f"its weights have the format {kinds}"
    raise ModelError(
        f"{source} cannot be imported: {why}. ONNX weights with standard operators "
        "and state dicts of a CAREamics U-Net are supported."
    )


def _known_network(
    entry: Any, source: str
) -> tuple[NetworkConfig, dict[str, Tensor]] | None:
    if not _is_known(entry.architecture):
        return None
    shape = careamics.shape_of(entry.architecture.kwargs, source)
    with on_disk(entry, ".pth") as path:
        state, _ = find_state(read_file(path))
    state = {key.removeprefix("model."): tensor for key, tensor in state.items()}
    return careamics.config_of(shape), careamics.weights_of(state)


def _is_known(architecture: Any) -> bool:
    place = str(getattr(architecture, "import_from", ""))
    return place.startswith("careamics.") and str(architecture.callable) == "UNet"


def _graph_network(
    entry: Any, description: ModelDescr, axes: _Axes
) -> tuple[networks.foreign.NetworkConfig, dict[str, Tensor]]:
    from napari_geosr.models.foreign.onnx_graph import read_graph

    companion = getattr(entry, "external_data", None)
    with on_disk(entry, ".onnx", companion) as path:
        graph = read_graph(path)
    sizes = graph.sizes[2:] or (None,) * axes.ndim
    fixed = [a or b for a, b in zip(axes.fixed, sizes, strict=True)]
    # The window is fixed only if the graph itself fixes a size.
    is_fixed = any(n is not None for n in sizes)
    window = tuple(n or _WINDOW[axes.ndim] for n in fixed) if is_fixed else ()
    config = networks.foreign.NetworkConfig(
        format="graph",
        settings=graph.settings.model_dump(mode="json"),
        ndim=3 if axes.ndim == 3 else 2,
        in_channels=axes.channels,
        out_channels=_channels(description.outputs[0]),
        upscale_factor=_factor(description),
        multiple_of=() if window else axes.multiple_of,
        minimum_size=window or axes.minimum_size,
        local=not window,
        window=window,
        overlap=min(window) // _OVERLAP if window else 0,
    )
    return config, {f"inner.{name}": t for name, t in graph.weights.items()}


#: Window size along axes of free size if the size of another axis is fixed, by number
#: of axes.
_WINDOW = {2: 512, 3: 64}


def _channels(tensor: Any) -> int:
    return next(
        (len(a.channel_names) for a in tensor.axes if str(a.type) == "channel"), 1
    )


def _factor(description: ModelDescr) -> int:
    """Return the number of output voxels per input voxel, equal along all axes."""
    entering = {str(a.id): float(a.scale) for a in description.inputs[0].axes[2:]}
    factors = set()
    for axis in description.outputs[0].axes:
        if str(axis.id) in entering:
            if getattr(axis.size, "offset", 0):
                raise ModelError(
                    "The package crops a margin from its output, which is not "
                    "supported."
                )
            factors.add(entering[str(axis.id)] / float(axis.scale))
    factor = factors.pop() if len(factors) == 1 else 0.0
    if factor < 1 or factor != int(factor):
        raise ModelError(
            "The package scales the axes by different factors, or shrinks images, "
            "which is not supported."
        )
    return int(factor)


def _with_channels(
    config: NetworkConfig, description: ModelDescr, channel: int | None, source: str
) -> NetworkConfig:
    n_in, n_out = config.in_channels, config.out_channels
    if channel is not None:
        if not 0 <= channel < n_out:
            raise ModelError(
                f"{source} has the output channels 0 to {n_out - 1}, not {channel}."
            )
        return config.model_copy(update={"output_channel": channel})
    if n_out not in (1, n_in):
        names = [
            str(n)
            for a in description.outputs[0].axes
            for n in getattr(a, "channel_names", ())
        ]
        raise ModelError(
            f"{source} has {n_out} output channels ({', '.join(names[:4])}). Choose "
            f"one: --channel 0 to --channel {n_out - 1}."
        )
    return config


def _refuse_custom(description: ModelDescr, source: str) -> None:
    tensors = (*description.inputs, *description.outputs)
    for tensor in tensors:
        operations = getattr(tensor, "preprocessing", None) or getattr(
            tensor, "postprocessing", ()
        )
        if any(str(op.id) == "custom" for op in operations or ()):
            raise ModelError(
                f"{source} contains Python code for scaling grey values, and code in "
                "packages is not run."
            )


def _task(tags: set[str], factor: int) -> Task:
    if factor > 1:
        return "super-resolution"
    words = ("denois", "restor", "deblur", "deconvol", "noise2", "n2v", "care")
    return "denoise" if any(w in tag for tag in tags for w in words) else "translate"


def _citation(entry: Any) -> str:
    doi = getattr(entry, "doi", None)
    return f"{entry.text} doi:{doi}" if doi else str(entry.text)


def _trained_on(description: object) -> str:
    data = getattr(description, "training_data", None)
    name = getattr(data, "name", None) or getattr(data, "id", None)
    return str(name) if name else "unknown: not given in the package"


def _test_tensors(description: ModelDescr) -> _Tensors | None:
    """Return the test input and expected output of the package, if it has any."""
    tensors = (description.inputs[0].test_tensor, description.outputs[0].test_tensor)
    return None if None in tensors else (array_of(tensors[0]), array_of(tensors[1]))


def _reference(
    tensors: _Tensors | None,
    config: NetworkConfig,
    scale: scales.GreyScaling,
    pre: Sequence[scales.Operation],
) -> ReferenceImage | None:
    """Return the expected restoration of the package's test input.

    None if a restoration treats the image differently: colour networks receive grey
    values, and images larger than the window are restored in blended windows.
    """
    if tensors is None or config.in_channels != 1:
        return None
    given, expected = tensors
    size = given.shape[2:]
    larger = any(n > w for n, w in zip(size, config.window, strict=False))
    if larger or given.shape[:2] != (1, 1) or expected.ndim != given.ndim:
        return None
    k = config.output_channel or 0
    result = scales.to_restoration_scale(scale, pre, given, expected[:1, k : k + 1])
    if result is None:
        return None
    return ReferenceImage(
        given[0, 0], result[0, 0], _SCALING_DIFFERENCE if scale.like_input else ""
    )


def _test(
    tensors: _Tensors | None,
    pre: Sequence[scales.Operation],
    post: Sequence[scales.Operation],
    source: str,
) -> Callable[[nn.Module], None]:
    """Return a function that compares the network with the result in the package."""
    if tensors is None:
        return lambda _network: None
    given, expected = tensors

    def check(network: nn.Module) -> None:
        """Run the package's operations and the network; check the test result."""
        import torch

        x = scales.apply(pre, given, None)
        inner: Any = network.inner
        with torch.no_grad():
            y = inner(torch.from_numpy(np.asarray(x, np.float32))).numpy()
        y = scales.apply(post, y, given)
        if y.shape != expected.shape:
            raise ModelError(
                f"{source}: for the package's own test input, the network returns an "
                f"output of shape {y.shape} instead of {expected.shape}, so it was not "
                "imported."
            )
        spread = float(expected.std()) or 1.0
        difference = float(np.abs(y - expected).max()) / spread
        if not difference <= _TOLERANCE:
            raise ModelError(
                f"{source}: the result for the package's own test input differs "
                f"from the expected one by {difference:.2g} standard deviations, so it "
                "was not kept."
            )

    return check


def _author_text(sizes: Sequence[int]) -> str:
    return " × ".join(map(str, sizes))
