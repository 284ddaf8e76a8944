"""Available models: list them, read their cards, check whether they fit a volume."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from textwrap import wrap
from typing import TYPE_CHECKING, Annotated, TypeAlias, get_args

from napari_geosr.core.text.vocabulary import ModelOrigin
from napari_geosr.core.types import AnyDict
from napari_geosr.core.units import convert_length
from napari_geosr.core.volume import Volume
from napari_geosr.inference.receptive_field import check_spec
from napari_geosr.measure.number_text import signed_text
from napari_geosr.models import bundle, zoo
from napari_geosr.models.names import MODEL_NAME

if TYPE_CHECKING:
    # Re-exported, because docks, commands and public functions do not import `models`.
    from napari_geosr.models.bundle import Model as Model
    from napari_geosr.models.card import FigureRow
    from napari_geosr.models.card import ModelCard as ModelCard
    from napari_geosr.models.zoo import ZooEntry as ZooEntry


#: Ways to specify a model.
ModelLike: TypeAlias = str | Path | bundle.Model | zoo.ZooEntry
#: Name or path of a model, with completion in the shell.
ModelName: TypeAlias = Annotated[str, MODEL_NAME]
#: Maximum ratio of two voxel sizes at which they are considered equal.
VOXEL_SIZE_TOLERANCE = 2.0
#: Folder of the bundled models for binary shapes.
_SHAPES = zoo.bundled_folder() / "shapes"


@dataclass(frozen=True)
class Compatibility:
    """Whether a model can restore a volume, and if not, a short reason."""

    fits: bool
    reason: str = ""


def list_models(model_filter: ModelFilter | None = None) -> list[ZooEntry]:
    """Return the bundled models and the user's models, without importing torch.

    Parameters
    ----------
    model_filter : ModelFilter, optional
        Omit models that do not match.
    """
    entries = zoo.list_models()
    if model_filter is None:
        return entries
    return [entry for entry in entries if model_filter.fits(entry)]


@dataclass(frozen=True)
class ModelFilter:
    """Search criteria for models; None and ``""`` match every model.

    Attributes
    ----------
    modality : str or None
        Imaging modality. Models without this information always match.
    voxel_size : float or None
        Edge length of a voxel, in `unit`. Models without a trained voxel size always
        match.
    words : str
        Each word must occur in the main facts on the card, such as its name, title or
        descriptions; "bundled" and "own" select models by origin.
    """

    task: str | None = None
    modality: str | None = None
    voxel_size: float | None = None
    unit: str = "µm"
    words: str = ""

    def fits(self, entry: ZooEntry) -> bool:
        """Return whether a model meets all criteria."""
        card = entry.card
        if self.task is not None and card.task != self.task:
            return False
        if self.modality not in (None, *(card.modalities or (self.modality,))):
            return False
        if self.voxel_size is not None and not self._fits_size(card):
            return False
        return self._has_words(entry)

    def _fits_size(self, card: ModelCard) -> bool:
        training = card.training
        if training.voxel_size is None or training.unit is None:
            return True
        assert self.voxel_size is not None
        size = convert_length(self.voxel_size, self.unit, training.unit)
        low, high = min(training.voxel_size), max(training.voxel_size)
        return low / VOXEL_SIZE_TOLERANCE <= size <= high * VOXEL_SIZE_TOLERANCE

    def _has_words(self, entry: ZooEntry) -> bool:
        card = entry.card
        text = " ".join(
            (
                card.name,
                card.title,
                card.task,
                card.method,
                card.description,
                card.intended_use,
                *card.modalities,
                f"x{card.upscale_factor} ×{card.upscale_factor}",
                "3D volumes" if card.axes == "ZYX" else "2D slices images",
            )
        ).casefold()
        # Compare origins with whole words: "own" is also a part of "unknown" and
        # "down".
        return all(
            word == entry.origin if word in get_args(ModelOrigin) else word in text
            for word in self.words.casefold().split()
        )


def remove(name: str) -> Path:
    """Delete one of the user's own models; return its folder or zip.

    Raises
    ------
    ModelError, FileError
        If there is no such model, it is bundled, or it cannot be deleted.
    """
    return zoo.remove(name)


def damaged() -> dict[str, str]:
    """Return the reasons why model bundles are unusable, by path."""
    return scan_folders()[1]


def scan_folders() -> tuple[list[ZooEntry], dict[str, str]]:
    """Return the results of `list_models` and `damaged` after a single search."""
    entries, faults = zoo.scan_folders()
    return entries, {str(path): reason for path, reason in faults.items()}


def find(name_or_path: str | Path) -> Model:
    """Return one model by name or path; its weights are loaded on first use.

    Raises
    ------
    ModelError
        If there is no such model or its bundle is damaged.
    """
    return zoo.find(str(name_or_path))


def name_of(model: ModelLike) -> str:
    """Return the name of a model in the zoo, or the path of its bundle.

    Parameters
    ----------
    model : str, Path, Model or ZooEntry
        Model, its entry in the zoo, its name or its path. Anything else is returned
        unchanged, to be rejected by the settings.
    """
    if isinstance(model, bundle.Model | zoo.ZooEntry):
        entries = zoo.list_models()
        known = {entry.path: entry.name for entry in entries}
        return known.get(model.path, str(model.path))
    return str(model) if isinstance(model, Path) else model


def adopt(path: str | Path) -> Path:
    """Copy the bundle at `path` to the user's models; return its new path.

    Raises
    ------
    ModelError, FileError
        If there is no bundle, or the user's folder cannot be written to.
    """
    return zoo.adopt(path)


def checked_card(name_or_path: str | Path) -> ModelCard:
    """Return the card of a model after a quick check of its weights.

    Checksum and header of the weights are compared with the card, without torch;
    `verify` checks everything.

    Raises
    ------
    ModelError
        If there is no such model, its bundle is damaged or its weights do not match.
    """
    shape_model = _SHAPES / str(name_or_path)
    is_shape_model = str(name_or_path) in names_for_shapes()
    model = bundle.load(shape_model) if is_shape_model else find(name_or_path)
    bundle.check_weights(model)
    return model.card


def names_for_shapes() -> list[str]:
    """Return the names of the bundled models for binary shapes."""
    return sorted(path.parent.name for path in _SHAPES.glob("*/card.yaml"))


def verify(path: str | Path) -> ModelCard:
    """Check the bundle at `path` completely and return its card.

    In addition to the comparisons of `napari_geosr.models.bundle.verify`, the network
    is run: an input value must not influence the output beyond the halo.

    Raises
    ------
    ModelError
        If a check fails; the message says which.
    """
    model = bundle.load(path)
    bundle.check(model)
    check_spec(model.network())
    return model.card


def fit(card: ModelCard, volume: Volume) -> Compatibility:
    """Check whether a model can restore `volume`, according to their axes."""
    if card.axes == "ZYX" and "Z" not in volume.axes and card.has_weights:
        return Compatibility(False, "needs a volume, but this is a single image")
    return Compatibility(True)


def has_strength(card: ModelCard) -> bool:
    """Return whether the strength of a denoiser can be chosen."""
    is_filter = not card.has_weights and card.task == "denoise"
    return is_filter or card.noise_bound is not None


def summary(entry: ZooEntry) -> AnyDict:
    """Return one model as a row of ``models list --json``."""
    card = entry.card
    return {
        "name": card.name,
        "title": card.title,
        "task": card.task,
        "modalities": list(card.modalities),
        "voxel_size": card.training.voxel_size,
        "unit": card.training.unit,
        "axes": card.axes,
        "adjacent_slices": card.adjacent_slices,
        "upscale_factor": card.upscale_factor,
        "n_parameters": card.n_parameters,
        "licence": card.licence,
        "bundled": entry.bundled,
        "path": str(entry.path),
    }


def card_text(card: ModelCard) -> str:
    """Return the card as plain text; its tables fit 80 columns."""
    input_kind = "volumes" if card.axes == "ZYX" else "slices"
    if takes_volumes(card):
        input_kind = "volumes and slices"
    if card.adjacent_slices > 1:
        input_kind = f"groups of {card.adjacent_slices} adjacent slices"
    lines = [
        f"{card.name}: {card.title}",
        "",
        card.description,
        "",
        f"Use it for:  {card.intended_use}",
        f"Not for:     {card.not_for}",
        f"Works on:    {input_kind}; {_size(card)}; {_reach(card)}",
        f"Made with:   {card.method}",
        f"Licence:     {card.licence}",
        "",
        *(f"- {remark}" for remark in card.remarks),
        *([""] if card.remarks else []),
    ]
    shown = [
        key
        for key in _HEADINGS
        if any(getattr(row, key) is not None for row in card.figures)
    ]
    if shown:
        lines += ["How to read the results:", *_meanings(shown), ""]
    tests = list(dict.fromkeys(row.test_set for row in card.figures))
    for test in tests:
        lines.append(f"Results on {test}:")
        rows = [
            (row.method, *(_figure(row, key) for key in shown))
            for row in card.figures
            if row.test_set == test
        ]
        lines += _table([("", *(_HEADINGS[key] for key in shown)), *rows])
        lines.append("")
    return "\n".join(lines).rstrip()


def takes_volumes(card: ModelCard) -> bool:
    """Return whether a model is a filter for both volumes and slices."""
    return not card.has_weights and "ndim" not in card.network_kwargs


def _size(card: ModelCard) -> str:
    return f"{card.n_parameters:,} parameters" if card.has_weights else "no weights"


def _reach(card: ModelCard) -> str:
    return f"halo {card.halo}" if card.local else "uses the whole image"


#: Maximum length of a method's name in a table of figures, in characters.
_METHOD_WIDTH = 25
_HEADINGS = {
    "psnr": "PSNR/dB",
    "porosity_error": "porosity",
    "pores_per_mm3_error": "per mm³",
    "volume_histogram_distance": "volumes",
    "euler_error": "Euler",
    "dice": "Dice",
    "branch_recall": "recall",
    "branch_precision": "precis.",
    "grey_level_distance": "greys",
    "spectrum_distance": "spectrum",
    "noise_error": "noise",
}


#: Meaning of each column of figures, for readers without the documentation.
_MEANINGS = {
    "psnr": "peak signal-to-noise ratio; higher is better",
    "porosity_error": "relative error of the porosity",
    "pores_per_mm3_error": "relative error of the number of pores per mm³",
    "volume_histogram_distance": "distance between the pore-volume distributions (W1); "
    "0 is best",
    "euler_error": "relative error of the Euler number; 0 is best",
    "dice": "overlap with the true pores; 1 is best",
    "branch_recall": "fraction of the true branches that were found",
    "branch_precision": "fraction of the found branches that are true",
    "grey_level_distance": "distance from the grey-level distribution of the targets",
    "spectrum_distance": "difference from the spectrum of the targets",
    "noise_error": "mean squared error of the predicted noise",
}


def _meanings(columns: Sequence[str]) -> list[str]:
    """Return lines of text, each of which explains one column of the table."""
    width = max(len(_HEADINGS[key]) for key in columns)
    return [f" {_HEADINGS[key]:<{width}}  {_MEANINGS[key]}" for key in columns]


def _table(rows: Sequence[Sequence[str]]) -> list[str]:
    """Return the lines of a table of methods; long names are wrapped."""
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    room = min(widths[0], _METHOD_WIDTH)
    lines = []
    for name, *cells in rows:
        first, *more = wrap(name, room, subsequent_indent="  ") or [""]
        figures = zip(cells, widths[1:], strict=True)
        lines.append(f" {first:<{room}}" + "".join(f"  {c:>{n}}" for c, n in figures))
        lines += [f" {part}" for part in more]
    return lines


def _figure(row: FigureRow, key: str) -> str:
    value = getattr(row, key)
    if value is None:
        return "–"
    if key == "euler_error":  # in per cent, values would be in the thousands
        return signed_text(value, 2)
    if key.endswith("_error"):
        return error_text(value)
    return f"{value:.2f}" if key == "psnr" else f"{value:.3f}"


def error_text(fraction: float) -> str:
    """Format a relative error from a model's card as a percentage."""
    return f"{signed_text(100 * fraction, 1)} %"
