"""Export a model as an ONNX graph and compare it with the original."""

from __future__ import annotations

import warnings
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt

from napari_geosr import networks
from napari_geosr.core.errors import ConfigError, ModelError
from napari_geosr.networks.spec import NetworkSpec

if TYPE_CHECKING:
    from torch import Tensor, nn

    from napari_geosr.models.bundle import Model
    from napari_geosr.models.card import ModelCard

Array = npt.NDArray[np.float32]

#: Maximum difference between graph and network, in standard deviations of the result.
TOLERANCE = 1e-4
#: Minimum standard deviation by which an image is divided, so that constant images do
#: not become NaN.
_MIN_DEVIATION = 1e-12
#: Version of ONNX's operator set, old enough for common runtimes.
OPSET = 17
#: Approximate size in voxels of the smallest trial image, by number of axes.
_TRIAL = {2: (40, 44), 3: (16, 18, 20)}
#: Names of the graph's input and output.
INPUT, OUTPUT = "input", "output"


@dataclass(frozen=True)
class Trial:
    """A trial image, on which graph and network were compared.

    Attributes
    ----------
    given, result : ndarray
        The image and the network's result, with batch and channel axes.
    difference : float
        Largest difference, in standard deviations of the result.
    """

    given: Array
    result: Array
    difference: float


def check_libraries(*names: str) -> None:
    """Raise `ConfigError` with the command that installs missing libraries."""
    missing = [name for name in names if find_spec(name.partition(".")[0]) is None]
    if missing:
        lacking = "which is" if len(missing) == 1 else "which are"
        raise ConfigError(
            f"Exporting needs {' and '.join(missing)}, {lacking} not installed: pip "
            "install 'napari-geosr[zoo]'"
        )


def value_descriptions(card: ModelCard) -> tuple[str, str]:
    """Describe the input and output values of the graph."""
    kind = card.normalisation.kind
    input_text = {
        "standardise": "grey values, which the graph scales by the mean and standard "
        "deviation of its input",
        "stored": "grey values on the scale of the training data, which the graph "
        "normalises",
        "unit": "grey values already scaled to 0 … 1",
        "percentiles": "grey values already scaled so that the percentiles "
        f"{_percentile_text(card)} are 0 and 1",
    }[kind]
    if card.adjacent_slices > 1:
        input_text += f"; {card.adjacent_slices} adjacent slices as channels"
    output_text = "grey values on the same scale" if card.labels == 1 else "labels"
    if card.labels == 1 and card.normalisation.output_mean is not None:
        output_text = (
            "values on a different scale" if kind != "stored" else "grey values"
        )
    return input_text, output_text


def input_percentiles(card: ModelCard) -> tuple[float, float] | None:
    """Return the percentiles to be scaled to 0 and 1 before the graph runs, if any."""
    scale = card.normalisation
    return (0.0, 100.0) if scale.kind == "unit" else scale.percentiles


def _percentile_text(card: ModelCard) -> str:
    low, high = input_percentiles(card) or (0.0, 100.0)
    return f"{low:g} and {high:g}"


def remarks(card: ModelCard, *, inside: bool) -> list[str]:
    """Describe how the exported file's scaling differs from that of ``restore``.

    Parameters
    ----------
    inside : bool
        Whether the file itself specifies how each input is scaled to 0 … 1, if the
        network requires this; otherwise, users must scale the input.
    """
    kind = card.normalisation.kind
    if input_percentiles(card) is not None:
        ends, note = f"the percentiles {_percentile_text(card)}", ""
        if kind == "unit":
            ends = "the lowest and the highest value"
            note = (
                "; it divides 8-bit values by 255 and leaves values within 0 … 1 "
                "unchanged"
            )
        here = f"the command restore uses those of the whole volume{note}"
        if inside:
            return [
                f"Grey values are scaled to 0 … 1 using {ends} of each input "
                f"passed to the model; {here}."
            ]
        return [f"Scale grey values to 0 … 1 first, using {ends}; {here}."]
    if kind != "standardise":
        return []
    piece, follows = (
        "one slice",
        "Results differ for slices whose brightness or contrast differs from that "
        "of the volume",
    )
    if card.axes == "ZYX":
        piece = "a volume or a part of one"
        follows = (
            "Pass whole volumes: results differ for parts whose brightness or "
            "contrast differs from that of the whole"
        )
    elif card.adjacent_slices > 1:
        piece = f"{card.adjacent_slices} adjacent slices"
    return [
        "Grey values are scaled by the mean and standard deviation of each input "
        f"passed to the model ({piece}); the command restore uses those of the whole "
        f"volume. {follows}."
    ]


def grey_network(model: Model) -> nn.Module:
    """Return the model's network, including its normalisation."""
    import torch
    from torch import nn

    card = model.card
    scale = card.normalisation

    class GreyValues(nn.Module):
        """The network, with grey values scaled before and after it."""

        def __init__(self) -> None:
            super().__init__()
            self.network = model.restorer()

        def forward(self, x: Tensor) -> Tensor:
            """Scale, restore and scale back."""
            if scale.kind == "stored":
                assert scale.mean is not None
                assert scale.std is not None
                y = self.network((x - scale.mean) / scale.std)
            elif scale.kind == "standardise":
                dims = list(range(1, x.ndim))
                mean = x.mean(dims, keepdim=True)
                std = (x - mean).square().mean(dims, keepdim=True).sqrt()
                std = std.clamp(min=_MIN_DEVIATION)
                y = self.network((x - mean) / std)
            else:
                y = self.network(x)
            if card.labels > 1:
                return torch.as_tensor(y)
            if scale.output_mean is not None:
                return torch.as_tensor(y * scale.output_std + scale.output_mean)
            return torch.as_tensor(y * std + mean if scale.kind == "standardise" else y)

    return GreyValues().eval().requires_grad_(False)


def write_graph(model: Model, path: Path) -> list[Trial]:
    """Write the graph, and compare its results with the network's at three sizes.

    One input is a batch of two images. The first attempt includes sizes that are not
    multiples of the network's strides. If it fails, only multiples are tested, and the
    file states this requirement.

    Raises
    ------
    ModelError
        If the network cannot be written as a graph, or the graph's output differs.
    """
    network, spec = grey_network(model), spec_of(model)
    try:
        return _write(network, model, path, _sizes(spec, odd=True))
    except ModelError:
        if max(spec.stride) == 1:
            raise
    return _write(network, model, path, _sizes(spec, odd=False))


def spec_of(model: Model) -> NetworkSpec:
    """Return the input requirements of a model's network."""
    spec = model.network().spec
    assert isinstance(spec, NetworkSpec)
    return spec


def _write(
    network: nn.Module, model: Model, path: Path, sizes: list[tuple[int, ...]]
) -> list[Trial]:
    import torch

    spec = spec_of(model)
    images = [
        _image(model.card, size, n) for size, n in zip(sizes, (1, 1, 2), strict=True)
    ]
    names = ["z", "y", "x"][-len(spec.axes) :]
    free = {
        INPUT: {0: "batch"} | dict(enumerate(names, start=2)),
        OUTPUT: {0: "batch"}
        | {i: f"{name}_out" for i, name in enumerate(names, start=2)},
    }
    try:
        with warnings.catch_warnings(), torch.no_grad(), networks.plain_layers(network):
            # Ignore warnings about tracing, because the comparison verifies the result.
            warnings.simplefilter("ignore")
            torch.onnx.export(
                network,
                (torch.from_numpy(images[0]),),
                str(path),
                input_names=[INPUT],
                output_names=[OUTPUT],
                dynamic_axes=free,
                opset_version=OPSET,
                dynamo=False,
            )
    except Exception as error:  # torch's exporter raises errors of any kind
        reason = " ".join(str(error).split())[:200]
        raise ModelError(
            f"The network of {model.card.name} cannot be written as an ONNX graph "
            f"({type(error).__name__}: {reason})."
        ) from error
    _describe(model.card, path, _multiples(spec, sizes))
    return [_compare(network, path, image, model.card) for image in images]


def _sizes(spec: NetworkSpec, *, odd: bool) -> list[tuple[int, ...]]:
    """Return three valid input sizes; the graph is traced at the first one.

    With `odd`, the first size is not a multiple of the strides, nor is the last size
    for strides above 2.
    """
    grids = [
        -(-max(n, least) // stride)
        for n, least, stride in zip(
            _TRIAL[len(spec.axes)], spec.minimum_size, spec.stride, strict=True
        )
    ]
    more = ((0, 1), (1, 0), (2, 2)) if odd else ((0, 0), (1, 0), (2, 0))
    return [
        tuple(
            (n + grid) * stride + (rest if stride == 1 else rest % stride)
            for n, stride in zip(grids, spec.stride, strict=True)
        )
        for grid, rest in more
    ]


def _multiples(spec: NetworkSpec, sizes: list[tuple[int, ...]]) -> tuple[int, ...]:
    """Return required divisors of sizes: the strides if only multiples were tested."""
    fit = all(
        n % s == 0 for size in sizes for n, s in zip(size, spec.stride, strict=True)
    )
    return spec.stride if fit else (1,) * len(spec.stride)


def _image(card: ModelCard, size: tuple[int, ...], samples: int) -> Array:
    """Draw an image of structure and noise on the grey scale of the graph's input."""
    rng = np.random.default_rng(sum(size))
    shape = (samples, card.adjacent_slices, *size)
    waves = np.ones(shape)
    for axis, n in enumerate(size, start=2):
        wave = np.sin(np.linspace(0, 7, n))
        waves = waves * wave.reshape(
            [-1 if i == axis else 1 for i in range(len(shape))]
        )
    image = 0.5 + 0.3 * waves + 0.08 * rng.standard_normal(shape)
    scale, ends = card.normalisation, input_percentiles(card)
    if ends is not None:
        low, high = np.percentile(image, ends)
        scaled: Array = ((image - low) / (high - low)).astype(np.float32)
        return scaled
    mean, std = (scale.mean or 100.0), (scale.std or 20.0)
    image = (image - 0.5) * 3 * std + mean
    return image.astype(np.float32)


def _compare(network: nn.Module, path: Path, image: Array, card: ModelCard) -> Trial:
    import onnxruntime
    import torch

    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = max(1, torch.get_num_threads())
    try:
        session = onnxruntime.InferenceSession(
            str(path), options, providers=["CPUExecutionProvider"]
        )
        [theirs] = session.run([OUTPUT], {INPUT: image})
    except Exception as error:  # onnxruntime raises errors of any kind
        reason = " ".join(str(error).split())[:200]
        raise ModelError(
            f"The ONNX graph of {card.name} does not run ({reason}), so it was not "
            "kept."
        ) from error
    with torch.no_grad():
        expected: Array = network(torch.from_numpy(image)).numpy()
    difference = np.inf
    if theirs.shape == expected.shape:
        difference = float(np.abs(theirs - expected).max()) / (
            float(expected.std()) or 1.0
        )
    if not difference <= TOLERANCE:
        raise ModelError(
            f"The output of the ONNX graph of {card.name} differs from that of its "
            f"network by {difference:.2g} standard deviations on an image of "
            f"{' × '.join(map(str, image.shape[2:]))}, so it was not kept."
        )
    return Trial(image, expected, difference)


def _describe(card: ModelCard, path: Path, multiples: tuple[int, ...]) -> None:
    """Add metadata to the file."""
    import onnx

    model = onnx.load(str(path))
    input_text, output_text = value_descriptions(card)
    model.doc_string = f"{card.title}. {card.description}"
    onnx.helper.set_model_props(
        model,
        {
            "name": card.name,
            "licence": card.licence,
            "axes": f"batch, channel, {', '.join(card.axes.lower())}",
            "takes": input_text,
            "gives": output_text,
            "grey_scale": " ".join(remarks(card, inside=False)),
            "sizes": f"multiples of {', '.join(map(str, multiples))}",
            "upscale_factor": str(card.upscale_factor),
            "weights_sha256": card.weights_sha256,
        },
    )
    onnx.save(model, str(path))
