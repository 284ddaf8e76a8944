"""The methods section of a report: every setting and source, in words.

The settings can be read back with `settings_of`, so that a reader can reproduce the
numbers of a report from its text.
"""

from __future__ import annotations

import json
import math
import re
from collections.abc import Collection, Mapping
from typing import Protocol

from napari_geosr.core.errors import ConfigError
from napari_geosr.core.reading import READING_NAMES
from napari_geosr.core.types import AnyDict, AnyMapping
from napari_geosr.core.units import PIXEL, shown_unit
from napari_geosr.core.version import __version__
from napari_geosr.measure.config import PorosityConfig
from napari_geosr.measure.groups import GroupSummary
from napari_geosr.measure.groups.kept import definitions, group_texts
from napari_geosr.measure.groups.missing import missing_remarks
from napari_geosr.measure.phases.cubic import ON_CUBIC_VOXELS, cubic_shape, is_cubic
from napari_geosr.measure.phases.findings import Morphometry
from napari_geosr.measure.phases.gaps import GAP_WIDTH

#: Settings that affect neither the measured values nor their definition.
_WITHOUT_EFFECT = {"memory"}
#: The threshold rules in words.
_RULES = {
    "otsu": "Otsu's method",
    "multi-otsu": "Otsu's method for three classes",
    "li": "Li's method",
    "triangle": "the triangle method",
}
#: The voxels from which the threshold was computed, in words.
_SCOPES = {
    "volume": " from the grey values of the whole volume",
    "mask": " from the grey values inside the sample mask",
    "sample": " from the grey values of the sample",
    "inner": " from the grey values of the sample below its blurred surface",
}
#: Settings entry with the definitions of groups that were kept after the measurement.
GROUPS = "groups"
_SETTINGS = re.compile(r"^Settings: (.*)\.$", re.MULTILINE)
_NAME = re.compile(r"(?:^|\s*;)\s*(\w+)\s*=\s*")


class MethodsSource(Protocol):
    """The attributes of a `PorosityReport` that a methods section describes."""

    @property
    def name(self) -> str: ...
    @property
    def unit(self) -> str: ...
    @property
    def voxel_size(self) -> tuple[float, ...]: ...
    @property
    def shape(self) -> tuple[int, ...]: ...
    @property
    def threshold(self) -> float: ...
    @property
    def threshold_rule(self) -> str: ...
    @property
    def threshold_scope(self) -> str: ...
    @property
    def phase(self) -> str: ...
    @property
    def min_voxels(self) -> int: ...
    @property
    def connectivity(self) -> int: ...
    @property
    def figures(self) -> AnyMapping: ...
    @property
    def morphometry(self) -> Mapping[str, Morphometry]: ...
    @property
    def group(self) -> GroupSummary | None: ...
    @property
    def groups(self) -> Mapping[str, GroupSummary]: ...
    @property
    def measured_columns(self) -> Collection[str]: ...
    @property
    def settings(self) -> AnyMapping: ...


def methods_text(report: MethodsSource) -> str:
    """Return the methods section as paragraphs.

    Parameters
    ----------
    report : MethodsSource

    Returns
    -------
    str
        One paragraph per line; the last paragraphs list the sources.
    """
    shape = " × ".join(map(str, report.shape))
    dark = "at or below" if report.phase == "dark" else "above"
    rule = (
        "set by hand"
        if report.threshold_rule == "manual"
        else f"found by {_RULES.get(report.threshold_rule, report.threshold_rule)}"
        f"{_SCOPES.get(report.threshold_scope, '')}"
    )
    flat = all(n == 1 for n in report.shape[:-2])
    neighbours = report.connectivity
    if flat:
        neighbours = {26: 8, 6: 4}[neighbours]
    lines = [
        f"{report.name} ({shape} voxels{_grain(report)}) was measured with "
        f"napari-geosr {__version__}. Voxels {dark} the threshold of "
        f"{report.threshold:.6g}, {rule}, were classified as pores. Pores of at "
        f"least {report.min_voxels} voxels ({neighbours}-connected) were counted; the "
        "porosity includes pores of all sizes.",
    ]
    lines += part_texts(report.settings)
    lines += [text for text, _ in neighbourhood_texts(report.settings)]
    lines += sample_texts(report)
    sources = [source for _, source in neighbourhood_texts(report.settings)]
    for text, source in grid_texts(report) if report.morphometry else ():
        lines.append(text)
        sources += [source] if source else []
    for found in report.morphometry.values():
        lines.append(f"{found.title}: {found.convention}")
        sources += [s for s in found.sources if s not in sources]
    if any(found.bands for found in report.morphometry.values()):
        lines.append(
            "Bands: these statistics were also measured with the threshold lowered and "
            "raised by 5 % of the distance between the mean grey values of the phases; "
            "the interval of a value runs from the lowest to the highest of the three. "
            "Noise and artefacts are not included."
        )
    if report.group is not None:
        lines.append(f"Group of pores: {report.group.text}.")
        lines += missing_remarks(report.group, flat=flat)
    lines += group_texts(report.groups, report.measured_columns, flat=flat)
    values = {k: v for k, v in report.settings.items() if k not in _WITHOUT_EFFECT}
    if defined := definitions(report.groups, report.measured_columns):
        values[GROUPS] = defined
    written = "; ".join(
        f"{name} = {json.dumps(value, ensure_ascii=False)}"
        for name, value in values.items()
    )
    lines.append(f"Settings: {written}.")
    return "\n".join([*lines, *(f"[{i}] {s}" for i, s in enumerate(sources, start=1))])


def _grain(report: MethodsSource) -> str:
    """Return the voxel size as text, such as " of 2 × 2 × 2 µm"; empty if unknown."""
    size = " × ".join(f"{v:.6g}" for v in report.voxel_size)
    if report.unit != PIXEL:
        return f" of {size} {report.unit}"
    is_known = shown_unit(report.unit, report.voxel_size) == "unit"
    return f" of {size}, without a unit" if is_known else ""


def part_texts(settings: AnyMapping) -> list[str]:
    """State which part of the file was measured, if it was chosen."""
    words = {"time": "time point", "channel": "channel", "dataset": "dataset"}
    parts = [f"{words[k]} {settings[k]}" for k in words if settings.get(k) is not None]
    if not parts:
        return []
    counted = ", counted from 0" if {"time", "channel"} & settings.keys() else ""
    return [f"The file was read in part ({', '.join(parts)}{counted})."]


#: The automatic sample masks in words.
_SAMPLES = {
    "auto": "the largest solid object with its pores",
    "cortex": "the cortex with its pores (Buie et al. 2007)",
    "marrow": "the marrow space with its trabeculae (Buie et al. 2007)",
}


def sample_texts(report: MethodsSource) -> list[str]:
    """Describe the measured part of the volume, and the other files used."""
    found = []
    figures, settings = report.figures, report.settings
    if (sample := _SAMPLES.get(str(settings.get("sample_mask")))) is not None:
        found.append(
            f"Only the sample was measured: {sample}; openings of up to twice "
            f"{settings['mask_closing']} voxels were closed."
        )
    inside = figures.get("sample_voxels")
    outside = figures.get("nonfinite_voxels") or 0
    if inside is None:
        return found
    if not found and inside + outside < math.prod(report.shape):
        found.append(
            f"Only the voxels inside a sample mask ({inside:,}) were measured; the "
            "mask is not part of this text."
        )
    if figures.get("porosity_spread") is not None:
        found.append(
            f"The porosity interval was calculated from the {_interval_basis(figures)} "
            "of the restoration, which are not part of this text."
        )
    return found


def _interval_basis(figures: AnyMapping) -> str:
    """Name what a porosity interval was calculated from."""
    has_interval = figures.get("porosity_interval") is not None
    is_of_samples = has_interval and figures.get("porosity_interval_factor") is None
    return "samples" if is_of_samples else "standard deviations"


def neighbourhood_texts(settings: AnyMapping) -> list[tuple[str, str]]:
    """Return sentences and sources for `local_window` and `hysteresis`, if set."""
    found = []
    if (window := settings.get("local_window")) is not None:
        found.append(
            (
                "Before thresholding, the local mean of the grey values (Gaussian "
                f"window of {window} voxels, standard deviation "
                f"{(window - 1) / 6:.4g} voxels) was subtracted from them and their "
                "overall mean was added, which makes the threshold local.",
                "Gonzalez RC, Woods RE. Digital Image Processing. 4th ed. Pearson "
                "(2018), section 10.3.",
            )
        )
    if (share := settings.get("hysteresis")) is not None:
        found.append(
            (
                "Only pores were kept in which at least one voxel lies beyond the "
                f"threshold by {share:g} times the distance between the threshold "
                "and the mean grey value of the pores (hysteresis).",
                "Canny J. A computational approach to edge detection. IEEE Trans "
                "Pattern Anal Mach Intell 8:679-698 (1986). "
                "doi:10.1109/TPAMI.1986.4767851",
            )
        )
    return found


def grid_texts(report: MethodsSource) -> list[tuple[str, str]]:
    """Return sentences and sources on how voxels were changed for morphometry."""
    found = []
    if report.figures.get("nonfinite_voxels"):
        found.append(
            (
                "For morphometry, NaN and infinite voxels in gaps narrower than "
                f"{GAP_WIDTH} voxels were assigned the phase of most of their "
                "neighbours; wider gaps were left out.",
                "",
            )
        )
    size = report.voxel_size
    if is_cubic(size):
        return found
    if cubic_shape(report.shape, size) == tuple(report.shape):
        how, source = "with the same number of voxels", ""
    else:
        how = "by linear interpolation of the signed distances to the other phase"
        source = (
            "Raya SP, Udupa JK. Shape-based interpolation of multidimensional objects. "
            "IEEE Trans Med Imaging 9:32-42 (1990). doi:10.1109/42.52980"
        )
    unit = "" if report.unit == PIXEL else f" {report.unit}"
    text = (
        f"{ON_CUBIC_VOXELS[0].upper()}{ON_CUBIC_VOXELS[1:]} were measured on cubic "
        f"voxels with an edge length of {min(size):.6g}{unit}, obtained {how}; "
        "everything else was measured on the voxels of the scan."
    )
    return [*found, (text, source)]


def settings_of(text: str) -> PorosityConfig:
    """Read the settings of a measurement from its methods section.

    Raises
    ------
    ConfigError
        If the text contains no settings, or they are invalid.
    """
    values = settings_values(text)
    others = {GROUPS, *READING_NAMES}
    return PorosityConfig.from_mapping(
        _as_tuples({k: v for k, v in values.items() if k not in others})
    )


def reading_settings_of(text: str) -> AnyDict:
    """Find, in a methods section, the arguments with which the file was read.

    Returns
    -------
    dict
        Keyword arguments of `napari_geosr.read`: voxel size, unit, time point and so
        on.

    Raises
    ------
    ConfigError
        If the text contains no settings.
    """
    values = settings_values(text)
    return _as_tuples({k: v for k, v in values.items() if k in READING_NAMES})


def groups_of(text: str) -> dict[str, str]:
    """Find, in a methods section, the groups of pores kept after the measurement.

    Returns
    -------
    dict of str
        Expressions by the name of their column, in the order in which they must be
        evaluated, because later ones may refer to earlier ones.

    Raises
    ------
    ConfigError
        If the text contains no settings.
    """
    found: dict[str, str] = settings_values(text).get(GROUPS, {})
    return found


def settings_values(text: str) -> AnyDict:
    """Return the settings in a methods section, by name.

    Raises
    ------
    ConfigError
        If the text contains no settings, or a setting is damaged.
    """
    found = _SETTINGS.findall(text)
    if not found:
        raise ConfigError(
            "The text has no settings. Copy the line that begins with “Settings:”."
        )
    values: AnyDict = {}
    # Earlier lines may begin with the name of a volume, which may be anything.
    line, at, decoder = found[-1].strip(), 0, json.JSONDecoder()
    if not line:
        raise ConfigError(
            "There are no settings after “Settings:”. Copy the whole line."
        )
    while at < len(line):
        name = _NAME.match(line, at)
        if name is None:
            raise ConfigError(f"The settings are damaged at {line[at : at + 40]!r}.")
        try:
            # Text in quotation marks may look like another setting.
            values[name[1]], at = decoder.raw_decode(line, name.end())
        except json.JSONDecodeError as error:
            value = line[name.end() :].split(";")[0]
            raise ConfigError(f"The setting {name[1]} = {value} is damaged.") from error
    return values


def _as_tuples(values: Mapping[str, object]) -> AnyDict:
    return {k: tuple(v) if isinstance(v, list) else v for k, v in values.items()}
