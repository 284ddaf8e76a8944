"""Import a third-party model: read, probe, compare and store it.

Reading does not execute any code of the model (`models.foreign`). The receptive field
is measured to determine whether tiling is exact. The result is compared with the
reference supplied with the model. Finally, the stored bundle is loaded and compared
with the imported model, to make sure that the original file is no longer needed.
"""

from __future__ import annotations

import math
import tempfile
from collections.abc import Generator, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from napari_geosr import networks
from napari_geosr.core.errors import Cancelled, ConfigError, ModelError
from napari_geosr.core.steps import (
    ShouldStop,
    StageStarted,
    Step,
    WarningIssued,
    never_stop,
    run_to_end,
)
from napari_geosr.core.volume import Volume
from napari_geosr.inference.compute import interruptible
from napari_geosr.inference.receptive_field import probe
from napari_geosr.models import bundle, foreign, zoo
from napari_geosr.models.card import ModelCard, TrainingData
from napari_geosr.models.foreign.download import download, file_name_of, is_address
from napari_geosr.networks import FOREIGN
from napari_geosr.operations.models import catalogue
from napari_geosr.operations.restore import RestoreConfig, restore_steps

if TYPE_CHECKING:
    from torch import nn

    from napari_geosr.models.foreign.draft import ImportDraft
    from napari_geosr.networks.foreign import ForeignNetwork, NetworkConfig

#: Maximum edge length of the window in which the receptive field is measured, in
#: voxels, by number of axes. A network with a receptive-field radius of more than half
#: this window is treated as global, because exact tiles would be too expensive.
_MAX_WINDOW = {2: 1024, 3: 256}
#: Edge length of the windows in which global networks are run, in voxels, by number of
#: axes.
_GLOBAL_WINDOW = {2: 512, 3: 96}
#: Overlap of these windows, in voxels, by number of axes.
_GLOBAL_OVERLAP = {2: 128, 3: 32}
#: Maximum accepted difference between the outputs of the imported and the stored
#: network, relative to the largest output, or absolute if the largest output is below
#: 1.
_MAX_STORED_DIFFERENCE = 1e-5
#: Maximum accepted difference between restoration and reference, in standard deviations
#: of the reference.
_MAX_RESTORED_DIFFERENCE = 1e-3


@dataclass(frozen=True)
class ImportResult:
    """A model that has been added to the user's models.

    Attributes
    ----------
    name : str
        Name by which it is selected.
    path : Path
        Folder of its bundle.
    """

    name: str
    path: Path
    card: ModelCard


def import_steps(
    source: str | Path,
    *,
    name: str | None = None,
    channel: int | None = None,
    should_stop: ShouldStop = never_stop,
) -> Generator[Step, None, ImportResult]:
    """Add a third-party model or a bundle to the user's models, after checking it.

    Parameters
    ----------
    source : str or Path
        A bundle of this plugin, or a file in a format supported by
        `napari_geosr.models.foreign`; see `source_help`.
    name : str, optional
        Name of the imported model; by default, the name of the file or package.
    channel : int, optional
        Channel of the result to use, for packages with several channels.

    Raises
    ------
    ModelError
        If the model cannot be read or used; nothing is stored.
    FileError
        If the model folder is not writable.
    Cancelled
        If `should_stop` returns True; nothing is stored.
    """
    text = str(source)
    yield StageStarted(message=f"Reading {text}")
    if name is not None:
        zoo.check_name_available(name)
    with _local_copy(text, should_stop) as local_source:
        path = Path(local_source).expanduser()
        if zoo.is_bundle(path):
            return (yield from _import_bundle(path, name))
        draft = foreign.read(local_source, channel=channel, should_stop=should_stop)
    _raise_if_stopped(should_stop)
    network = _build_network(draft)
    yield StageStarted(message="Measuring the receptive field")
    config, remarks = measure_receptive_field(network, should_stop=should_stop)
    yield from (WarningIssued(message=remark) for remark in remarks)
    _raise_if_stopped(should_stop)
    yield StageStarted(message="Comparing with the reference")
    with tempfile.TemporaryDirectory() as folder:
        stored = Path(folder) / "bundle"
        final = _with_config(network, config)
        remarks = (*draft.remarks, *remarks)
        _save(stored, draft, final, remarks, name)
        _compare(stored, draft, final)
        _raise_if_stopped(should_stop)
        known_difference = _compare_restoration(stored, draft)
        if known_difference:
            yield WarningIssued(message=known_difference)
            stored = Path(folder) / "remarked"
            _save(stored, draft, final, (*remarks, known_difference), name)
        _raise_if_stopped(should_stop)
        target = zoo.adopt(stored)
    return _imported(target)


@contextmanager
def _local_copy(source: str, should_stop: ShouldStop) -> Iterator[str]:
    """Provide a local path for a source; a zip at a URL is downloaded once."""
    if not (is_address(source) and file_name_of(source).lower().endswith(".zip")):
        yield source
        return
    with tempfile.TemporaryDirectory(ignore_cleanup_errors=True) as folder:
        path = Path(folder) / file_name_of(source)
        download(source, path, should_stop)
        try:
            yield str(path)
        except ModelError as error:  # name the URL given by the user
            raise ModelError(str(error).replace(str(path), source)) from error


def _import_bundle(path: Path, name: str | None) -> Generator[Step, None, ImportResult]:
    """Verify and copy a bundle of this plugin."""
    catalogue.verify(path)
    yield from ()
    return _imported(zoo.adopt(path, name))


def _imported(target: Path) -> ImportResult:
    card = bundle.read_card(target)
    return ImportResult(card.name, target, card)


def _raise_if_stopped(should_stop: ShouldStop) -> None:
    if should_stop():
        raise Cancelled("The import was cancelled; nothing was kept.")


def _build_network(draft: ImportDraft) -> ForeignNetwork:
    try:
        network = networks.foreign.build(draft.config, draft.weights)
        network.load_state_dict(dict(draft.weights))
    except ConfigError as error:
        raise ModelError(f"{draft.title}: {error}") from error
    except RuntimeError as error:  # some tensors do not match
        reason = " ".join(str(error).split())[:200]
        raise ModelError(
            f"The tensors of {draft.title} do not fit its network ({reason})."
        ) from error
    network.requires_grad_(False)
    return network.eval()


def _with_config(network: ForeignNetwork, config: NetworkConfig) -> ForeignNetwork:
    """Return the same network with another config."""
    other = networks.foreign.ForeignNetwork(config, network.inner)
    other.requires_grad_(False)
    return other.eval()


def measure_receptive_field(
    network: ForeignNetwork, *, should_stop: ShouldStop = never_stop
) -> tuple[NetworkConfig, tuple[str, ...]]:
    """Return a config with the measured halo and stride, and sentences for the card.

    A network with global statistics, or with a halo that cannot be measured, is set to
    process overlapping windows, which are blended.

    Raises
    ------
    Cancelled
        If `should_stop` returns True, between two layers.
    """
    config = network.config
    if config.window:
        return config, (_not_exact(config, "the network has windows of a fixed size"),)
    reason = (
        "no shift of the input was found that shifts the output by the same distance"
    )
    with interruptible(network, lambda: _raise_if_stopped(should_stop)):
        for _ in range(3):
            try:
                measured = probe(network, longest=_MAX_WINDOW[config.ndim])
            except ModelError as error:
                reason = (
                    f"the receptive field of the network cannot be measured ({error})"
                )
                break
            if not measured.local:
                reason = measured.reason
                break
            stride = tuple(
                math.lcm(a, b)
                for a, b in zip(measured.stride, network.spec.stride, strict=True)
            )
            if stride == network.spec.stride:
                update = {"halo": measured.halo, "stride": stride}
                return config.model_copy(update=update), ()
            # The halo is the maximum over all positions within a stride. A larger
            # stride contains more positions, so measure again.
            config = config.model_copy(update={"stride": stride})
            network = _with_config(network, config)
    n = config.ndim
    window = tuple(
        -(-max(_GLOBAL_WINDOW[n], minimum) // m) * m
        for minimum, m in zip(
            config.sizes("minimum_size"), config.sizes("multiple_of"), strict=True
        )
    )
    blended = {
        "local": False,
        "window": window,
        "overlap": _GLOBAL_OVERLAP[n],
        "stride": (),
    }
    config = config.model_copy(update=blended)
    return config, (_not_exact(config, reason),)


def _not_exact(config: NetworkConfig, reason: str) -> str:
    window = " × ".join(map(str, config.window))
    noun = "images" if config.ndim == 2 else "volumes"
    return (
        f"Tiling is not exact: {reason.rstrip('.')}. Up to a size of {window} voxels, "
        f"{noun} are processed as a whole; larger ones are processed in windows of "
        f"that size, which overlap by {config.overlap} voxels and are blended."
    )


def _save(
    folder: Path,
    draft: ImportDraft,
    network: ForeignNetwork,
    remarks: tuple[str, ...],
    name: str | None,
) -> None:
    spec = network.spec
    card = ModelCard.create(
        name=name or draft.name,
        title=draft.title,
        task=draft.task,
        modalities=draft.modalities,
        method=draft.origin,
        network=FOREIGN,
        network_kwargs=network.config.model_dump(mode="json", exclude_defaults=True),
        axes=spec.axes,
        upscale_factor=spec.upscale_factor[0],
        halo=max(spec.halo),
        local=spec.local,
        normalisation=draft.normalisation,
        training=TrainingData(
            description=draft.trained_on,
            voxel_size=draft.voxel_size,
            unit=draft.unit,
        ),
        description=draft.description,
        intended_use=_use(draft, network),
        not_for=draft.not_for or "Measurements without prior validation.",
        remarks=remarks,
        licence=draft.licence,
        citation=draft.citation,
        provenance=dict(draft.provenance),
        weights_sha256="0" * 64,
        n_parameters=1,
    )
    bundle.save(folder, card, network)


def _use(draft: ImportDraft, network: ForeignNetwork) -> str:
    input_kind = "images and, slice by slice, volumes"
    input_kind = "volumes" if network.config.ndim == 3 else input_kind
    kind = {"denoise": "Removing noise from", "super-resolution": "Enlarging"}.get(
        draft.task, "Transforming"
    )
    return f"{kind} {input_kind} like the training data."


def _compare_restoration(folder: Path, draft: ImportDraft) -> str:
    """Restore the reference with the stored model, including its grey-value scaling.

    Returns
    -------
    str
        A note for the user about an intentional difference; ``""`` if there is none.

    Raises
    ------
    ModelError
        If the results do not agree although they should.
    """
    import numpy as np

    reference = draft.reference
    if reference is None:
        return ""
    axes = "ZYX"[-reference.given.ndim :]
    scan = Volume(reference.given, axes, name="test")
    steps = restore_steps(scan, RestoreConfig.create(model=str(folder)))
    restored = np.asarray(run_to_end(steps).volume, np.float64)
    spread = float(reference.expected.std()) or 1.0
    difference = float(np.abs(restored - reference.expected).max()) / spread
    if difference <= _MAX_RESTORED_DIFFERENCE:
        return ""
    if not reference.known_difference:
        raise ModelError(
            f"{draft.title}: the restored test image of the package differs by "
            f"{difference:.2g} standard deviations from the expected result. "
            "Its scaling of grey values is not supported, so the model was not "
            "imported."
        )
    return (
        f"{reference.known_difference} The restored test image of the package differs "
        f"from the expected result by up to {difference:.2g} standard deviations."
    )


def _compare(folder: Path, draft: ImportDraft, network: nn.Module) -> None:
    """Load the stored model; it must match the imported network and the reference."""
    import torch

    model = bundle.load(folder)
    bundle.check(model)
    stored = model.network()
    draft.check(stored)
    spec = model.card
    size = (45,) * 2 if spec.axes == "YX" else (20,) * 3
    x = torch.rand((1, 1, *size), generator=torch.Generator().manual_seed(1))
    with torch.no_grad():
        before, after = network(x), stored(x)
    scale = max(1.0, float(before.abs().max()))
    if not float((before - after).abs().max()) <= _MAX_STORED_DIFFERENCE * scale:
        raise ModelError(
            f"{draft.title}: the converted model gives different values from the "
            "original, so it was not imported. Please report this and attach the file."
        )
