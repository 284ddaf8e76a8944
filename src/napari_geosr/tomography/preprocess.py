"""Convert detector counts to line integrals, in blocks of rows.

Flat and dark fields are applied, the negative logarithm is taken (clipped values are
reported), and zingers and stripes are removed. Every row is processed separately, so
results do not depend on how the rows are divided into blocks.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from napari_geosr.core.errors import ProjectionsError
from napari_geosr.core.projections import Projections
from napari_geosr.core.types import AnyArray
from napari_geosr.tomography.flat_fields import incident_counts, transmission
from napari_geosr.tomography.preparation_config import PreparationConfig
from napari_geosr.tomography.stripes import StripeSettings, remove_stripes

FloatArray = npt.NDArray[np.float32]
BoolArray = npt.NDArray[np.bool_]

#: Median transmission above which flat fields cannot belong to the scan; air is 1.
_MAX_TRANSMISSION = 1.1
#: Maximum fraction of detector pixels without light; above it, a warning is given,
#: because gaps are then wider than single pixels.
_MAX_DEAD_SHARE = 0.05
#: Maximum ratio of the given counts without a sample to those of the brightest pixels,
#: in either direction; above it, the given number is considered wrong.
_MAX_INCIDENT_RATIO = 1e3
#: Minimum noise level assumed for a row, in units of the intensity without a sample;
#: otherwise, nearly noise-free data would appear to be full of zingers.
_MIN_NOISE = 1e-3


@dataclass(frozen=True)
class ClippingReport:
    """Numbers of invalid measurements that were clipped or repaired.

    Attributes
    ----------
    n_values : int
        Number of values examined.
    n_clipped : int
        Values below the minimum transmission (no signal, or less than the dark field).
    n_saturated : int
        Values at or above the saturation level; they are not changed.
    n_dead : int
        Detector pixels without signal in the flat field, interpolated.
    n_empty : int
        Detector rows without any signal in the flat field, left empty (zero).
    n_nonfinite : int
        NaN or infinite values, interpolated.
    n_zingers : int
        Zingers (flashes) that were replaced.
    notes : tuple of str
        Assumptions and warnings.
    """

    n_values: int = 0
    n_clipped: int = 0
    n_saturated: int = 0
    n_dead: int = 0
    n_empty: int = 0
    n_nonfinite: int = 0
    n_zingers: int = 0
    notes: tuple[str, ...] = ()

    def __add__(self, other: ClippingReport) -> ClippingReport:
        """Return the combined report of both blocks."""
        counts = {
            f.name: getattr(self, f.name) + getattr(other, f.name)
            for f in dataclasses.fields(self)
            if f.name != "notes"
        }
        notes = tuple(dict.fromkeys(self.notes + other.notes))
        return ClippingReport(**counts, notes=notes)

    def summary_lines(self) -> list[str]:
        """Return sentences for the user; empty if there is nothing to report."""
        lines = []
        for n, words in (
            (
                self.n_clipped,
                "values were below the minimum transmission and were clipped",
            ),
            (self.n_saturated, "values are saturated"),
            (self.n_nonfinite, "values were NaN or infinite and were interpolated"),
            (self.n_zingers, "zingers were removed"),
        ):
            if n:
                lines.append(f"{n:,} of {self.n_values:,} {words}.")
        if self.n_dead:
            lines.append(
                f"{self.n_dead:,} detector pixels recorded no signal in the flat "
                "field and were interpolated."
            )
        if self.n_empty:
            rows = "row" if self.n_empty == 1 else "rows"
            lines.append(
                f"{self.n_empty:,} detector {rows} recorded no signal in the flat "
                "field: zero attenuation is assumed there, as if there were no sample."
            )
        return [*lines, *self.notes]


class LineIntegrals:
    """Line integrals of projections, computed on demand.

    Parameters
    ----------
    projections : Projections
    config : PreparationConfig, optional
    incident : float, optional
        Counts without a sample, used if neither flat fields nor the settings give them;
        by default, estimated from `projections`. For a part of a scan, pass the result
        of `beam_without_sample` for the whole scan.
    """

    def __init__(
        self,
        projections: Projections,
        config: PreparationConfig | None = None,
        incident: float | None = None,
    ) -> None:
        self.projections = projections
        self.config = config or PreparationConfig()
        self._incident = self.config.incident or incident

    @property
    def n_rows(self) -> int:
        """Number of detector rows."""
        return self.projections.n_rows

    @property
    def angles(self) -> npt.NDArray[np.float64]:
        """Angles in degrees."""
        return self.projections.angles

    def rows(self, start: int, stop: int) -> tuple[FloatArray, ClippingReport]:
        """Return the line integrals of the detector rows `start` … `stop` - 1.

        Returns
        -------
        sinogram : ndarray of shape (row, angle, column), float32
        report : ClippingReport

        Raises
        ------
        ProjectionsError
            If there are no such rows, there is no signal, NaN or infinite values are
            refused, or the flat field is nowhere brighter than the dark field.
        """
        scan, config = self.projections, self.config
        if not 0 <= start < stop <= scan.n_rows:
            raise ProjectionsError(
                f"{scan.title} has rows 0 to {scan.n_rows - 1}, so rows {start} to "
                f"{stop - 1} do not exist. Choose rows within this range (--rows)."
            )
        if scan.is_line_integrals:
            sinogram, report = self._given(start, stop)
        else:
            sinogram, report = self._measured(start, stop)
        if config.zingers:
            n = remove_zingers(sinogram, config.zingers)
            report = dataclasses.replace(report, n_zingers=n)
        settings = StripeSettings(
            config.stripe_size, config.large_stripe_size, config.stripe_contrast
        )
        return remove_stripes(sinogram, config.stripes, settings), report

    def blocks(self, n_rows: int) -> Iterator[tuple[slice, FloatArray, ClippingReport]]:
        """Yield all rows, `n_rows` at a time: position, line integrals and report."""
        for start in range(0, self.n_rows, n_rows):
            stop = min(start + n_rows, self.n_rows)
            yield slice(start, stop), *self.rows(start, stop)

    def _given(self, start: int, stop: int) -> tuple[FloatArray, ClippingReport]:
        """Return line integrals of rows, if the projections contain line integrals."""
        stored = np.asarray(self.projections.data[:, start:stop, :])
        bad = self._nonfinite(stored, start)
        sinogram = np.ascontiguousarray(stored.transpose(1, 0, 2), np.float32)
        if sinogram.base is stored or np.shares_memory(sinogram, stored):
            sinogram = sinogram.copy()
        if bad is not None:
            fill(sinogram, bad)
        n_bad = 0 if bad is None else int(bad.sum())
        return sinogram, ClippingReport(n_values=stored.size, n_nonfinite=n_bad)

    def _measured(self, start: int, stop: int) -> tuple[FloatArray, ClippingReport]:
        """Return line integrals of rows, computed from counts."""
        scan, config = self.projections, self.config
        notes = self._notes()
        values, dead, counts = transmission(
            scan, start, stop, frames=config.frames, incident=self._incident
        )
        bad = self._nonfinite(counts, start)
        everywhere = np.broadcast_to(dead[:, None, :], values.shape)
        wrong = everywhere if bad is None else everywhere | bad
        if wrong.any():
            values[wrong] = 1
            fill(values, wrong)
        self._require_light(values, dead, start)
        # Check row by row: warnings must not depend on the size of the block.
        some = values.reshape(len(values), -1)
        some = some[:, :: max(1, some.shape[1] // 10_000)]
        if (
            scan.flats is not None
            and (np.median(some, axis=1) > _MAX_TRANSMISSION).any()
        ):
            notes += (
                "In at least one detector row, most pixels are brighter behind the "
                "sample than in the flat fields, so most attenuation values are "
                "negative: check that the flat fields belong to these projections "
                "(exposure, energy, detector).",
            )
        shaded = dead.all(axis=1)
        if (dead[~shaded].mean(axis=1) > _MAX_DEAD_SHARE).any():
            notes += (
                "In at least one row, more than a twentieth of the detector pixels "
                "recorded no signal in the flat field; values interpolated across "
                "wide gaps are not measurements. Check flat and dark fields, or crop "
                "the projections to the illuminated area.",
            )
        low = values < config.minimum_transmission
        np.maximum(values, config.minimum_transmission, out=values)
        np.log(values, out=values)
        np.negative(values, out=values)
        report = ClippingReport(
            n_values=values.size,
            n_clipped=int(np.count_nonzero(low)),
            n_saturated=self._saturated(counts),
            n_dead=int(np.count_nonzero(dead[~shaded])),
            n_empty=int(np.count_nonzero(shaded)),
            n_nonfinite=0 if bad is None else int(np.count_nonzero(bad)),
            notes=notes,
        )
        return values, report

    def _notes(self) -> tuple[str, ...]:
        """Return notes on missing flat or dark fields; may estimate incident counts."""
        scan = self.projections
        notes = []
        if scan.flats is None:
            if self._incident is None:
                self._incident = incident_counts(scan)
            source = "given" if self.config.incident else "from the brightest pixels"
            notes.append(
                f"There are no flat fields; {self._incident:.5g} counts were taken as "
                f"the intensity without the sample ({source})."
            )
            return tuple(notes)
        if self.config.incident:
            notes.append(
                "The counts without the sample (--incident) were not used, because "
                "there are flat fields."
            )
        if scan.darks is None:
            notes.append("There are no dark fields; a dark level of zero was assumed.")
        return tuple(notes)

    def _nonfinite(self, counts: AnyArray, start: int) -> npt.NDArray[np.bool_] | None:
        """Return the mask (row, angle, column) of values that are NaN or infinite."""
        if counts.dtype.kind != "f" or np.isfinite(counts).all():
            return None
        bad = ~np.isfinite(counts)
        if self.config.nonfinite == "refuse":
            angle, row, column = np.argwhere(bad)[0]
            raise ProjectionsError(
                f"{self.projections.title}: its projections contain NaN or infinite "
                f"values ({np.count_nonzero(bad)} in the rows examined, the first in "
                f"projection {angle}, row {start + row}, column {column}). Repair "
                "them, or have them interpolated (--nonfinite fill)."
            )
        by_row: npt.NDArray[np.bool_] = bad.transpose(1, 0, 2)
        return by_row

    def _require_light(
        self, values: FloatArray, dead: npt.NDArray[np.bool_], start: int
    ) -> None:
        lit = ~dead.all(axis=1)
        dark = np.flatnonzero(lit & (values <= 0).all(axis=(1, 2)))
        if dark.size:
            raise ProjectionsError(
                f"{self.projections.title}: detector row {start + dark[0]} has no "
                "signal in any projection (every value is zero or below the dark "
                "field). Check that these are the right projections and dark fields."
            )

    def _saturated(self, counts: AnyArray) -> int:
        level = self.config.saturation
        if level is None and counts.dtype.kind in "iu":
            level = float(np.iinfo(counts.dtype).max)
        return 0 if level is None else int(np.count_nonzero(counts >= level))


def beam_without_sample(
    projections: Projections, config: PreparationConfig
) -> float | None:
    """Return the counts without a sample; None if they are not needed.

    The counts are not needed if there are flat fields, or for line integrals.

    Parameters
    ----------
    projections : Projections
        The whole scan; its brightest pixels are used unless the settings give a value.
    config : PreparationConfig

    Raises
    ------
    ProjectionsError
        If the projections are dark throughout, or contradict the counts in `config`.
    """
    if projections.is_line_integrals or projections.flats is not None:
        return None
    if config.incident is None:
        return incident_counts(projections)
    brightest = incident_counts(projections)
    ratio = config.incident / brightest
    if not 1 / _MAX_INCIDENT_RATIO <= ratio <= _MAX_INCIDENT_RATIO:
        raise ProjectionsError(
            f"{projections.title}: {config.incident:.4g} cannot be the counts "
            "without the sample (--incident), because the brightest pixels have "
            f"{brightest:.4g}. Check the number, or omit it."
        )
    return config.incident


def line_integrals(
    projections: Projections, config: PreparationConfig | None = None
) -> LineIntegrals:
    """Prepare line integrals, to be computed in blocks of rows; nothing is read yet.

    Parameters
    ----------
    projections : Projections
        Counts with flat and dark fields, or line integrals.
    config : PreparationConfig, optional
    """
    return LineIntegrals(projections, config)


def prepare_rows(
    projections: Projections,
    start: int,
    stop: int,
    config: PreparationConfig | None = None,
) -> tuple[FloatArray, ClippingReport]:
    """Return the line integrals of some detector rows; see `LineIntegrals.rows`.

    Parameters
    ----------
    projections : Projections
    start, stop : int
        Rows of the detector.
    config : PreparationConfig, optional

    Returns
    -------
    rows : ndarray of shape (row, angle, column)
    report : ClippingReport
    """
    return LineIntegrals(projections, config).rows(start, stop)


def fill(sinogram: FloatArray, bad: BoolArray) -> None:
    """Fill bad values in place by linear interpolation between columns of a projection.

    Rows of a projection without any good value are not changed.

    Parameters
    ----------
    sinogram : ndarray of shape (row, angle, column)
    bad : ndarray of bool, shape (row, angle, column)
    """
    lines = bad.any(axis=2) & ~bad.all(axis=2)
    columns = np.arange(sinogram.shape[2])
    for row, angle in zip(*np.nonzero(lines), strict=True):
        line, wrong = sinogram[row, angle], bad[row, angle]
        line[wrong] = np.interp(columns[wrong], columns[~wrong], line[~wrong])


def remove_zingers(sinogram: FloatArray, threshold: float) -> int:
    """Replace zingers with the median of their neighbourhood, in place.

    A gamma ray or cosmic ray that hits the sensor makes single pixels of single
    projections far too bright, i.e. line integrals far too low. The noise of a line
    integral p is proportional to exp(p / 2), because photon counts have Poisson noise.
    The difference from the median of 3 × 3 values (angle, column) is therefore divided
    by this factor.

    Parameters
    ----------
    sinogram : ndarray of shape (row, angle, column)
        Line integrals.
    threshold : float
        Minimum excess of a zinger, in standard deviations of the row's noise.

    Returns
    -------
    int
        Number of zingers replaced.
    """
    from scipy import ndimage

    median = ndimage.median_filter(sinogram, size=(1, 3, 3), mode="nearest")
    excess = (median - sinogram) * np.exp(-np.maximum(median, 0) / 2)
    middle = np.median(np.abs(excess), axis=(1, 2), keepdims=True)
    noise = np.maximum(1.4826 * middle, _MIN_NOISE)
    found = excess > threshold * noise
    sinogram[found] = median[found]
    return int(found.sum())
