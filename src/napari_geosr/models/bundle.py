"""Model bundles: a folder or zip of ``card.yaml`` and ``weights.safetensors``.

A model may also have an index of its training patches, ``similarity.safetensors``.

Loading parses two data formats and does not execute any code. The bundle of a classical
filter contains only a card, because the filter has no weights.
"""

from __future__ import annotations

import hashlib
import math
from collections.abc import Callable, Mapping
from contextlib import ExitStack
from functools import lru_cache
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

from napari_geosr import networks
from napari_geosr.core.documents import MAX_BYTES, load_yaml
from napari_geosr.core.errors import ConfigError, ModelError
from napari_geosr.io.unfinished_files import atomic
from napari_geosr.models.bundle_files import (
    CARD_FILE,
    MAX_WEIGHTS_BYTES,
    WEIGHTS_FILE,
    read_file,
)
from napari_geosr.models.card import ModelCard
from napari_geosr.models.similarity import (
    MAX_INDEX_BYTES,
    SIMILARITY_FILE,
    SimilarityIndex,
)
from napari_geosr.networks import FOREIGN, build_network, needs_noise
from napari_geosr.networks.spec import NetworkSpec

if TYPE_CHECKING:
    from torch import Tensor, nn

#: Maximum size of a card in bytes, far above that of real cards.
MAX_CARD_BYTES = MAX_BYTES
#: Buffers of torch's normalisation layers, which are not parameters.
_STATISTICS = ("running_mean", "running_var", "num_batches_tracked")


class Model:
    """A trained network, or a classical filter, with its card.

    Attributes
    ----------
    card : ModelCard
        Description of the model.
    path : Path
        Folder or zip file of the bundle.
    """

    def __init__(self, card: ModelCard, path: Path) -> None:
        self.card = card
        self.path = path
        self._network: nn.Module | None = None
        self._restorer: nn.Module | None = None

    def __repr__(self) -> str:
        return f"Model({self.card.name!r}, {str(self.path)!r})"

    def network(self) -> nn.Module:
        """Return the network in evaluation mode; it is built and loaded only once.

        Raises
        ------
        ModelError
            If the weights are damaged or do not fit the network.
        """
        if self._network is None:
            self._network = _build(self.card, _weights(self.path, self.card), self.path)
        return self._network

    def similarity_index(self) -> SimilarityIndex | None:
        """Read the index of the training patches; None if the model has none.

        Raises
        ------
        ModelError
            If the index is missing, damaged or too large.
        """
        if self.card.similarity_sha256 is None:
            return None
        content = _verified_index(self.path, self.card)
        return SimilarityIndex.from_bytes(content, str(self.path / SIMILARITY_FILE))

    def unbounded(self) -> Model:
        """Return the model without the layers that its card adds to the network."""
        free = {"noise_bound": None, "data_consistency": False}
        changed = Model(self.card.model_copy(update=free), self.path)
        changed._network = self.network()
        return changed

    def restorer(self) -> nn.Module:
        """Return the network used for restoration, as constrained by the card.

        A bound or data-consistency layer is added, unless the architecture has it.
        """
        network, bound = self.network(), self.card.noise_bound
        if cast("NetworkSpec", network.spec).input == "shape":
            raise ModelError(
                f"The model {self.card.name!r} is for shapes, not for grey values. Use "
                "it with napari-geosr shapes."
            )
        if self.card.task == "generate":
            raise ModelError(
                f"The model {self.card.name!r} cannot restore images by itself: draw "
                "samples (--uncertainty diffusion), or train a model from it with "
                "napari-geosr train ptdr --start-from."
            )
        agrees = getattr(network, "is_as_sharp_as_scan", False)
        if self.card.data_consistency and not agrees:
            if self._restorer is None:
                self._restorer = networks.ConsistentUpscaling(network)
            return self._restorer
        if bound is None or needs_noise(network):
            return network
        if self._restorer is None:
            self._restorer = networks.NoiseBound(network, bound).eval()
        return self._restorer

    def with_settings(self, **settings: Any) -> Model:
        """Return the same classical filter with other settings, recorded on its card.

        Parameters
        ----------
        **settings
            Fields of the filter's ``NetworkConfig``.

        Raises
        ------
        ModelError
            If the model has weights, which fit only the settings of its card, or the
            settings are invalid for the filter.
        """
        if self.card.has_weights:
            raise ModelError(
                f"The settings of the model {self.card.name!r} cannot be changed: its "
                "weights fit only the settings on its card."
            )
        kwargs = {**self.card.network_kwargs, **settings}
        card = self.card.model_copy(update={"network_kwargs": kwargs})
        changed = Model(card, self.path)
        spec = cast("NetworkSpec", changed.network().spec)
        changed.card = card.model_copy(
            update={"axes": spec.axes, "halo": max(spec.halo)}
        )
        return changed


def load(path: str | Path) -> Model:
    """Read the card of the bundle at `path`; weights are read on first use.

    Raises
    ------
    ModelError
        If a file is missing or the card is damaged.
    """
    path = Path(path)
    return Model(read_card(path), path)


def read_card(path: Path) -> ModelCard:
    """Read and check only ``card.yaml``."""
    text = read_file(path, CARD_FILE, MAX_CARD_BYTES)
    file = path / CARD_FILE
    try:
        values = _parse_card(text)
    except (UnicodeDecodeError, ConfigError) as error:
        reason = str(error).rstrip(".")
        raise ModelError(
            f"{file} is not readable YAML ({reason}). Download or copy the bundle "
            "again."
        ) from error
    try:
        return ModelCard.from_values(values)
    except ConfigError as error:
        raise ModelError(f"{file} is not a model card: {error}") from error


@lru_cache(maxsize=64)
def _parse_card(text: bytes) -> object:
    """Parse a card only once, because lists of models are read repeatedly."""
    return load_yaml(text.decode("utf-8"), aliases=False)


def verify(path: str | Path) -> ModelCard:
    """Check a bundle: card, checksum, and whether the weights fit the network.

    Returns
    -------
    ModelCard

    Raises
    ------
    ModelError
        The message states the first problem found.
    """
    model = load(path)
    check(model)
    return model.card


def check(model: Model) -> None:
    """Check a loaded bundle; see `verify`."""
    network = model.network()
    spec = cast("NetworkSpec", network.spec)
    card = model.card
    declared: tuple[Any, ...] = (
        card.axes,
        card.adjacent_slices,
        card.upscale_factor,
        card.halo,
        card.local,
    )
    built = (
        spec.axes,
        spec.adjacent_slices,
        spec.upscale_factor[0],
        max(spec.halo),
        spec.local,
    )
    if declared != built:
        raise ModelError(
            f"{model.path / CARD_FILE} does not match its network: the card gives "
            f"(axes, adjacent slices, upscale factor, halo, local) = {declared}, but "
            f"the network has {built}. Correct the card."
        )
    n = sum(p.numel() for p in network.parameters())
    if n != card.n_parameters:
        raise ModelError(
            f"{model.path / CARD_FILE} gives {card.n_parameters} parameters, but its "
            f"network has {n}. Correct the card."
        )
    model.similarity_index()


def check_weights(model: Model) -> None:
    """Compare the checksum and header of the weights, and the index, with the card.

    If the header does not match the card, torch is imported and the network is built to
    find the reason; otherwise neither is needed.

    Raises
    ------
    ModelError
        If the bundle is invalid; the messages are those of `verify`.
    """
    from safetensors import deserialize

    if not model.card.has_weights:
        _verified_weights(model.path, model.card)
        return
    content = _verified_weights(model.path, model.card)
    tensors = _parse(deserialize, content, model.path)
    model.similarity_index()
    n = _count({name: math.prod(tensor["shape"]) for name, tensor in tensors})
    if n != model.card.n_parameters:
        check(model)


def save(
    folder: str | Path,
    card: ModelCard,
    weights: nn.Module | Mapping[str, Tensor],
    *,
    half: bool = False,
    similarity: SimilarityIndex | None = None,
) -> ModelCard:
    """Write a bundle and return the card with the checksum and count of its weights.

    Parameters
    ----------
    folder : str or Path
        Created if missing; files of an earlier bundle in the folder are replaced.
    card : ModelCard
        Card of the model; its checksums and `n_parameters` are replaced.
    weights : torch.nn.Module or mapping of str to Tensor
        The network or its state dict.
    half : bool
        Store the weights as float16 (they are loaded as float32).
    similarity : SimilarityIndex, optional
        Index of the training patches.

    Raises
    ------
    FileError
        If the files cannot be written.
    """
    import torch
    from safetensors.torch import save as to_bytes

    state = weights if isinstance(weights, Mapping) else weights.state_dict()
    dtype = torch.float16 if half else torch.float32
    tensors = {
        key: t.detach().to("cpu", dtype).contiguous() for key, t in state.items()
    }
    # Write a single metadata entry: safetensors writes several in random order, which
    # would change the checksum.
    content = to_bytes(tensors, metadata={"format": "pt"})
    if isinstance(weights, Mapping):
        n = _count({key: t.numel() for key, t in tensors.items()})
    else:  # a network may have buffers, which are not parameters
        n = sum(p.numel() for p in weights.parameters())
    index = None if similarity is None else similarity.to_bytes()
    card = card.model_copy(
        update={
            "weights_sha256": hashlib.sha256(content).hexdigest(),
            "n_parameters": n,
            "similarity_sha256": None
            if index is None
            else hashlib.sha256(index).hexdigest(),
        }
    )
    folder = Path(folder)
    with atomic.explained(folder):
        folder.mkdir(parents=True, exist_ok=True)
    tensor_files = {WEIGHTS_FILE: content}
    if index is not None:
        tensor_files[SIMILARITY_FILE] = index
    # Write all files before replacing any, so that they always belong together.
    with ExitStack() as stack:
        written = {
            name: stack.enter_context(atomic.replacing(folder / name, overwrite=True))
            for name in (*tensor_files, CARD_FILE)
        }
        for name, data in tensor_files.items():
            with atomic.explained(folder / name):  # so that errors name this file
                written[name].write_bytes(data)
        written[CARD_FILE].write_text(card.to_yaml(), encoding="utf-8")
    if index is None:
        with atomic.explained(folder):
            (folder / SIMILARITY_FILE).unlink(missing_ok=True)
    return card


def contents(path: Path) -> dict[str, bytes]:
    """Return all files of the bundle at `path`, by name.

    Raises
    ------
    ModelError
        If a file is missing, or does not match the card.
    """
    files = {CARD_FILE: read_file(path, CARD_FILE, MAX_CARD_BYTES)}
    card = read_card(path)
    if card.has_weights:
        files[WEIGHTS_FILE] = _verified_weights(path, card)
    if card.similarity_sha256 is not None:
        files[SIMILARITY_FILE] = _verified_index(path, card)
    return files


def _count(sizes: Mapping[str, int]) -> int:
    """Return the number of parameters, given the sizes of the tensors by name."""
    return sum(n for name, n in sizes.items() if not name.endswith(_STATISTICS))


def _verified_weights(path: Path, card: ModelCard) -> bytes:
    """Return the contents of the weights file, if it matches the card's checksum."""
    content = b""
    if card.has_weights:
        content = read_file(path, WEIGHTS_FILE, MAX_WEIGHTS_BYTES)
    _check_sum(content, card.weights_sha256, path / WEIGHTS_FILE)
    return content


def _verified_index(path: Path, card: ModelCard) -> bytes:
    """Return the contents of the similarity index; check it against the card."""
    assert card.similarity_sha256 is not None
    content = read_file(path, SIMILARITY_FILE, MAX_INDEX_BYTES)
    _check_sum(content, card.similarity_sha256, path / SIMILARITY_FILE)
    return content


def _check_sum(content: bytes, expected: str, file: Path) -> None:
    checksum = hashlib.sha256(content).hexdigest()
    if checksum != expected:
        raise ModelError(
            f"{file} is damaged or is not the file described by its "
            f"card: checksum {checksum[:12]}…, expected {expected[:12]}…. "
            "Download or copy the bundle again."
        )


def _parse(parse: Callable[[bytes], Any], content: bytes, path: Path) -> Any:
    from safetensors import SafetensorError

    try:
        return parse(content)
    except (SafetensorError, ValueError, KeyError, TypeError) as error:
        raise ModelError(
            f"{path / WEIGHTS_FILE} is not a safetensors file ({error}). Copy it again."
        ) from error


def _weights(path: Path, card: ModelCard) -> dict[str, Tensor]:
    import torch
    from safetensors.torch import load as from_bytes

    content = _verified_weights(path, card)
    tensors = _parse(from_bytes, content, path) if content else {}
    return {
        key: t.to(torch.float32) if t.is_floating_point() else t
        for key, t in tensors.items()
    }


def _build(card: ModelCard, state: dict[str, Tensor], path: Path) -> nn.Module:
    if not _is_as_small_as(state, card):
        _check_shapes(card, state, path)
    network = _build_network(card, path, state)
    _check_state(network.state_dict(), state, card, path)
    network.load_state_dict(state)
    network.requires_grad_(False)
    return network.eval()


def _is_as_small_as(state: Mapping[str, Tensor], card: ModelCard) -> bool:
    """Whether a card's network has no more parameters than the weights file.

    In that case, the network can be built directly. Otherwise, it is built without
    values first, for which torch needs a second or two of preparation.
    """
    if card.network == FOREIGN:
        return False
    try:
        count = networks.parameter_count(card.network, **card.network_kwargs)
    except Exception:  # noqa: BLE001 - reported when the network is built
        return False
    return count is not None and count <= sum(t.numel() for t in state.values())


def _check_shapes(card: ModelCard, state: Mapping[str, Tensor], path: Path) -> None:
    """Check weights without allocating memory, because a card may state any size."""
    import torch

    try:
        with torch.device("meta"):
            meta_state = {key: t.to("meta") for key, t in state.items()}
            shapes = _build_network(card, path, meta_state).state_dict()
    except ModelError:
        # Some networks cannot be built without values; other errors recur on loading.
        return
    _check_state(shapes, state, card, path)


def _build_network(
    card: ModelCard, path: Path, state: Mapping[str, Tensor]
) -> nn.Module:
    """Build the network of a card; errors of its code become a `ModelError`."""
    try:
        network: nn.Module
        if card.network == FOREIGN:
            config = networks.foreign.NetworkConfig.create(**card.network_kwargs)
            network = networks.foreign.build(config, state)
        else:
            network = build_network(card.network, **card.network_kwargs)
    except ConfigError as error:
        raise ModelError(f"{path / CARD_FILE} cannot be used: {error}") from error
    except Exception as error:
        raise ModelError(
            f"The network {card.network!r} of {path / CARD_FILE} cannot be built "
            f"({type(error).__name__}: {error}). Correct its settings, or ask the "
            "authors of the network."
        ) from error
    if not isinstance(getattr(network, "spec", None), NetworkSpec):
        raise ModelError(
            f"The network {card.network!r} of {path / CARD_FILE} does not declare a "
            "NetworkSpec as `spec`. Ask the authors of the network."
        )
    return network


def _check_state(
    expected: Mapping[str, Tensor],
    state: Mapping[str, Tensor],
    card: ModelCard,
    path: Path,
) -> None:
    missing = sorted(expected.keys() - state.keys())
    extra = sorted(state.keys() - expected.keys())
    wrong = sorted(
        f"{key} {tuple(state[key].shape)} instead of {tuple(expected[key].shape)}"
        for key in expected.keys() & state.keys()
        if state[key].shape != expected[key].shape
    )
    for verb, names in (("lacks", missing), ("also has", extra), ("has", wrong)):
        if names:
            shown = ", ".join(names[:3]) + (", …" if len(names) > 3 else "")
            raise ModelError(
                f"{path / WEIGHTS_FILE} does not match the network {card.network!r} "
                f"named in its card: the file {verb} {shown}. The card and the weights "
                "belong to different models."
            )
