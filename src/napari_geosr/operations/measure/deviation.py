"""Prepares the standard deviations of a restoration for a porosity interval."""

from __future__ import annotations

import json
from collections.abc import Sequence

from napari_geosr.core.errors import ConfigError, VolumeError
from napari_geosr.core.positions import other_position
from napari_geosr.core.types import AnyDict, AnyMapping
from napari_geosr.core.units import same_position, same_sizes
from napari_geosr.core.volume import Volume
from napari_geosr.measure.config import PorosityConfig
from napari_geosr.measure.interval import Deviation

#: Records of the operations on a volume, in order.
Provenance = Sequence[AnyMapping]
#: Names, used in records, of the two volumes of a restoration for which the uncertainty
#: was estimated.
_MEAN, _DEVIATION = "mean", "standard deviation"
#: Keys in which the records of the two volumes may differ.
_OWN = ("uncertainty", "run", "complete", "finished", "error")


def uncertainty_record(provenance: Provenance) -> AnyDict:
    """Return the uncertainty settings recorded by the restoration; empty if none."""
    record = _restoration(provenance)
    return dict(record.get("uncertainty") or {})


def is_deviation(provenance: Provenance) -> bool:
    """Return whether a volume holds standard deviations, according to its records."""
    return uncertainty_record(provenance).get("this") == _DEVIATION


def belongs_to(deviation: Provenance, mean: Provenance) -> bool:
    """Return whether records state that deviations and mean are from the same run."""
    ours, theirs = _restoration(mean), _restoration(deviation)
    if not is_deviation(deviation) or uncertainty_record(mean).get("this") != _MEAN:
        return False

    def shared(record: AnyMapping) -> str:
        """Return the part of a record that both volumes of a run share, as JSON."""
        common = {key: value for key, value in record.items() if key not in _OWN}
        return json.dumps(common, sort_keys=True, default=str)

    return shared(ours) == shared(theirs)


def align_deviation(
    deviation: Volume, volume: Volume, config: PorosityConfig
) -> tuple[Deviation, list[str]]:
    """Return the deviations for `volume`, and remarks about them.

    The half-width of the interval, as a multiple of the standard deviation, is taken
    from the settings or, by default, from the model's calibration, as recorded by the
    restoration.

    Parameters
    ----------
    deviation : Volume
        Standard deviations, at the position of the volume.
    volume : Volume
    config : PorosityConfig

    Raises
    ------
    VolumeError
        If the deviations belong to another volume or another grid.
    """
    deviation = deviation.select()
    _check_place(deviation, volume)
    remarks = []
    record = uncertainty_record(volume.provenance)
    if is_deviation(deviation.provenance) or record:
        if not belongs_to(deviation.provenance, volume.provenance):
            raise VolumeError(
                f"{deviation.title} does not contain the standard deviations of "
                f"{volume.title}: they come from a different run. Use the file that "
                f"was written together with {volume.title}.",
                fields=["deviation"],
            )
    else:
        remarks.append(
            f"{deviation.title} does not record what it contains: it is treated as "
            f"the standard deviations of {volume.title}."
        )
    if config.interval_factor is not None:
        return Deviation(deviation.data, config.interval_factor), remarks
    known = record.get("calibration") or {}
    if not known:
        remarks.append(
            f"The standard deviations of {volume.title} are not calibrated, so the "
            "report gives no porosity interval, only the change of the porosity for "
            "one standard deviation. Set the width of the interval with "
            "--interval-factor."
        )
        return Deviation(deviation.data), remarks
    remarks += differences_from_calibration(volume)
    return Deviation(deviation.data, known["factor"], known["nominal"]), remarks


def differences_from_calibration(volume: Volume) -> list[str]:
    """Return remarks on a restoration that was made unlike those of the calibration."""
    record, remarks = uncertainty_record(volume.provenance), []
    known = record.get("calibration") or {}
    n = len(record.get("members") or ())
    if n != known.get("members"):
        remarks.append(
            f"The interval was calibrated with {known.get('members')} members, but "
            f"{volume.title} is the mean of {n}: the interval may contain the true "
            "porosity less often than stated."
        )
    restored = _restoration(volume.provenance).get("settings") or {}
    steps, usual = restored.get("sampling_steps"), known.get("sampling_steps")
    if usual is not None and steps != usual:
        remarks.append(
            f"The interval was calibrated with samples of {usual} steps, but the "
            f"samples for {volume.title} have {steps}: the interval may contain the "
            "true porosity less often than stated."
        )
    return remarks


def refuse_factor_alone(config: PorosityConfig) -> None:
    """Raise `ConfigError` if an interval is requested without deviations."""
    if config.interval_factor is not None:
        raise ConfigError(
            "An interval needs standard deviations: give the STEM_std file that a "
            "restoration with --uncertainty wrote (--deviation PATH)."
        )


def _restoration(provenance: Provenance) -> AnyMapping:
    made = (e for e in reversed(provenance) if e.get("operation") == "restore")
    return next(made, {})


def _check_place(deviation: Volume, volume: Volume) -> None:
    same = deviation.axes == volume.axes and deviation.shape == volume.shape
    if same and deviation.unit != volume.unit:
        same = not other_position(deviation, volume)
    elif same:
        same = same_sizes(deviation.voxel_size, volume.voxel_size) and same_position(
            deviation.origin, volume.origin, volume.voxel_size
        )
    if not same:
        raise VolumeError(
            f"{deviation.title} has a different voxel grid from {volume.title} "
            f"(shapes {deviation.shape} and {volume.shape}), so it does not contain "
            "its standard deviations. Use the file that was written together with "
            f"{volume.title}.",
            fields=["deviation"],
        )
