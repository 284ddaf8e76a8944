"""Import a foreign model: read, measure, compare and keep it.

Reading runs nothing of what came with it (`models.foreign`). How far the network sees
is measured, so that tiles are exact or known not to be; its result is compared with the
reference that it came with; and the bundle that is kept is loaded again and compared,
so that the original file is not needed any more.
"""

from __future__ import annotations

import math
import tempfile
from collections.abc import Generator, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING
from urllib.parse import urlsplit

from napari_geosr import networks
from napari_geosr.core.errors import Cancelled, ConfigError, ModelError
from napari_geosr.core.steps import (
    ShouldStop,
    StageStarted,
    Step,
    Warned,
    never_stop,
    run_to_end,
)
from napari_geosr.core.volume import Volume
from napari_geosr.inference.compute import interruptible
from napari_geosr.inference.receptive_field import probe
from napari_geosr.models import bundle, foreign, zoo
from napari_geosr.models.card import ModelCard, TrainingData
from napari_geosr.models.foreign.download import download, is_address
from napari_geosr.networks import FOREIGN
from napari_geosr.operations.models import catalogue
from napari_geosr.operations.restore import RestoreConfig, restore_steps

if TYPE_CHECKING:
    from torch import nn

    from napari_geosr.models.foreign.draft import Draft
    from napari_geosr.networks.foreign import ForeignNetwork, NetworkConfig

#: Longest window on which reach is looked for; beyond half of it a network counts as
#: seeing everything: exact tiles would cost more than they are worth.
_LONGEST = {2: 1024, 3: 256}
#: Windows of networks that see everything, and how far they overlap.
_WINDOW, _OVERLAP = {2: 512, 3: 96}, {2: 128, 3: 32}
#: Largest change between the network that was read and the one that was kept.
_KEPT = 1e-5
#: Largest difference of a restoration from the reference, in standard deviations of it.
_RESTORED = 1e-3


@dataclass(frozen=True)
class ImportResult:
    """A model that is among the person's own now.

    Attributes
    ----------
    name : str
        What to choose it by.
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
    """Import a model.

    Parameters
    ----------
    source : str or Path
        A bundle of ours, or what `napari_geosr.models.foreign` knows; see
        `about_sources`.
    name : str, optional
        What it is to be called; by default what the file or package is called.
    channel : int, optional
        Which channel of the result is wanted, for packages that give several.

    Raises
    ------
    ModelError
        If it cannot be read or used; nothing is kept then.
    FileError
        If the folder of models cannot be written to.
    Cancelled
        If `should_stop` said so; nothing is kept.
    """
    text = str(source)
    yield StageStarted(message=f"Reading {text}")
    if name is not None:
        zoo.check_free(name)
    with _at_hand(text, should_stop) as place:
        path = Path(place).expanduser()
        if zoo.is_bundle(path):
            return (yield from _own(path, name))
        draft = foreign.read(place, channel=channel, should_stop=should_stop)
    _stop_if(should_stop)
    network = _built(draft)
    yield StageStarted(message="Measuring how far the network sees")
    config, remarks = measured(network, should_stop=should_stop)
    yield from (Warned(message=remark) for remark in remarks)
    _stop_if(should_stop)
    yield StageStarted(message="Comparing with its reference")
    with tempfile.TemporaryDirectory() as folder:
        kept = Path(folder) / "bundle"
        final = _with(network, config)
        remarks = (*draft.remarks, *remarks)
        _save(kept, draft, final, remarks, name)
        _compare(kept, draft, final)
        _stop_if(should_stop)
        departs = _restored_otherwise(kept, draft)
        if departs:
            yield Warned(message=departs)
            kept = Path(folder) / "remarked"
            _save(kept, draft, final, (*remarks, departs), name)
        _stop_if(should_stop)
        target = zoo.adopt(kept)
    return _imported(target)


@contextmanager
def _at_hand(source: str, should_stop: ShouldStop) -> Iterator[str]:
    """Where a source can be read: a zip at an address is downloaded, once."""
    if not (is_address(source) and urlsplit(source).path.lower().endswith(".zip")):
        yield source
        return
    with tempfile.TemporaryDirectory(ignore_cleanup_errors=True) as folder:
        path = Path(folder) / (Path(urlsplit(source).path).name or "model.zip")
        download(source, path, should_stop)
        try:
            yield str(path)
        except ModelError as error:  # people gave the address
            raise ModelError(str(error).replace(str(path), source)) from error


def _own(path: Path, name: str | None) -> Generator[Step, None, ImportResult]:
    """Copy a bundle of ours."""
    catalogue.verify(path)
    yield from ()
    return _imported(zoo.adopt(path, name))


def _imported(target: Path) -> ImportResult:
    card = bundle.read_card(target)
    return ImportResult(card.name, target, card)


def _stop_if(should_stop: ShouldStop) -> None:
    if should_stop():
        raise Cancelled("The import was cancelled; nothing was kept.")


def _built(draft: Draft) -> ForeignNetwork:
    try:
        network = networks.foreign.build(draft.config, draft.weights)
        network.load_state_dict(dict(draft.weights))
    except ConfigError as error:
        raise ModelError(f"{draft.title}: {error}") from error
    except RuntimeError as error:  # tensors that do not fit
        reason = " ".join(str(error).split())[:200]
        raise ModelError(
            f"{draft.title}: its tensors do not fit its network ({reason})."
        ) from error
    network.requires_grad_(False)
    return network.eval()


def _with(network: ForeignNetwork, config: NetworkConfig) -> ForeignNetwork:
    """The same network under another config."""
    other = networks.foreign.ForeignNetwork(config, network.inner)
    other.requires_grad_(False)
    return other.eval()


def measured(
    network: ForeignNetwork, *, should_stop: ShouldStop = never_stop
) -> tuple[NetworkConfig, tuple[str, ...]]:
    """Config with reach and stride as they are found; and sentences for the card.

    A network that sees everything, or whose reach cannot be found, is given windows
    that overlap and are blended.

    Raises
    ------
    Cancelled
        Between two layers, if `should_stop` says so.
    """
    config = network.config
    if config.window:
        return config, (_not_exact(config, "its windows have a fixed size"),)
    reason = "its results follow no grid"
    with interruptible(network, lambda: _stop_if(should_stop)):
        for _ in range(3):
            try:
                found = probe(network, longest=_LONGEST[config.ndim])
            except ModelError as error:
                reason = f"its reach cannot be measured ({error})"
                break
            if not found.local:
                reason = found.reason
                break
            stride = tuple(
                math.lcm(a, b)
                for a, b in zip(found.stride, network.spec.stride, strict=True)
            )
            if stride == network.spec.stride:
                update = {"halo": found.halo, "stride": stride}
                return config.model_copy(update=update), ()
            # On the wider grid there are more places whose reach counts.
            config = config.model_copy(update={"stride": stride})
            network = _with(network, config)
    n = config.ndim
    window = tuple(
        -(-max(_WINDOW[n], least) // m) * m
        for least, m in zip(
            config.sizes("minimum_size"), config.sizes("multiple_of"), strict=True
        )
    )
    blended = {"local": False, "window": window, "overlap": _OVERLAP[n], "stride": ()}
    config = config.model_copy(update=blended)
    return config, (_not_exact(config, reason),)


def _not_exact(config: NetworkConfig, reason: str) -> str:
    window = " × ".join(map(str, config.window))
    noun = "images" if config.ndim == 2 else "volumes"
    return (
        f"Tiles are not exact: {reason.rstrip('.')}. Up to {window} voxels, {noun} are "
        "computed whole; larger ones in windows of that size, which overlap by "
        f"{config.overlap} voxels and are blended."
    )


def _save(
    folder: Path,
    draft: Draft,
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
        not_for=draft.not_for or "Measuring, before it was compared with the truth.",
        remarks=remarks,
        licence=draft.licence,
        citation=draft.citation,
        provenance=dict(draft.provenance),
        weights_sha256="0" * 64,
        n_parameters=1,
    )
    bundle.save(folder, card, network)


def _use(draft: Draft, network: ForeignNetwork) -> str:
    what = "images and, slice by slice, volumes"
    what = "volumes" if network.config.ndim == 3 else what
    kind = {"denoise": "Removing noise from", "super-resolution": "Enlarging"}.get(
        draft.task, "Transforming"
    )
    return f"{kind} {what} like those that it was trained on."


def _restored_otherwise(folder: Path, draft: Draft) -> str:
    """Restore the reference with what was saved, all scales of grey values included.

    Returns
    -------
    str
        What a person should know of a difference that is there on purpose; ``""`` where
        there is none.

    Raises
    ------
    ModelError
        If the two should be the same and are not.
    """
    import numpy as np

    reference = draft.reference
    if reference is None:
        return ""
    axes = "ZYX"[-reference.given.ndim :]
    given = Volume(reference.given, axes, name="test")
    steps = restore_steps(given, RestoreConfig.create(model=str(folder)))
    found = np.asarray(run_to_end(steps).volume, np.float64)
    spread = float(reference.expected.std()) or 1.0
    difference = float(np.abs(found - reference.expected).max()) / spread
    if difference <= _RESTORED:
        return ""
    if not reference.departs:
        raise ModelError(
            f"{draft.title}: restoring the package's own test gives values that differ "
            f"by {difference:.2g} standard deviations from those expected: how it "
            "scales grey values cannot be had here, so it was not kept."
        )
    return (
        f"{reference.departs} On the package's own test the two differ by up to "
        f"{difference:.2g} standard deviations."
    )


def _compare(folder: Path, draft: Draft, network: nn.Module) -> None:
    """Load what was saved; it must do what was read, and give the reference."""
    import torch

    model = bundle.load(folder)
    bundle.check(model)
    kept = model.network()
    draft.check(kept)
    spec = model.card
    size = (45,) * 2 if spec.axes == "YX" else (20,) * 3
    x = torch.rand((1, 1, *size), generator=torch.Generator().manual_seed(1))
    with torch.no_grad():
        before, after = network(x), kept(x)
    scale = max(1.0, float(before.abs().max()))
    if not float((before - after).abs().max()) <= _KEPT * scale:
        raise ModelError(
            f"{draft.title}: the converted model gives different values from the "
            "original, so it was not kept. Please report this and attach the file."
        )
