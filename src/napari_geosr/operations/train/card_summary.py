"""Summarises the card of a new model."""

from __future__ import annotations

from pathlib import Path

from napari_geosr.core.errors import ModelError
from napari_geosr.core.text.counts import in_largest_unit
from napari_geosr.operations.models import catalogue

_DISTANCES = {
    "grey_level_distance": "Distance between grey-level distributions",
    "spectrum_distance": "Distance between spectra",
}


def summarise_card(bundle: Path) -> str:
    """Return the metrics and the energy use on a new model's card, in a few lines."""
    try:
        card = catalogue.find(bundle).card
    except ModelError as error:
        return str(error)
    lines = []
    training = card.provenance.get("training", {})
    adapted = training.get("adapted")
    known = [row for row in card.figures if row.psnr is not None]
    rows = [row for row in known if row.test_set == known[0].test_set]
    # For an adapted model, the expected gain is shown instead.
    if rows and not adapted:
        shown = ", ".join(f"{row.psnr:.1f} dB ({row.method})" for row in rows)
        lines.append(f"PSNR on the {rows[0].test_set}: {shown}.")
    if overlaps := [row for row in card.figures if row.dice is not None and not known]:
        shown = ", ".join(f"{row.dice:.3f} ({row.method})" for row in overlaps)
        lines.append(f"Mean Dice on the {overlaps[0].test_set}: {shown}.")
    for key, title in _DISTANCES.items():
        rows = [row for row in card.figures if getattr(row, key) is not None]
        if rows:
            shown = ", ".join(f"{row.method} {getattr(row, key):.3f}" for row in rows)
            lines.append(f"{title}, {rows[0].test_set}: {shown}.")
    if rows := [row for row in card.figures if row.noise_error is not None]:
        shown = ", ".join(f"{row.noise_error:.3f} ({row.method})" for row in rows)
        lines.append(f"Error of the predicted noise, {rows[0].test_set}: {shown}.")
    if adapted:
        low, high = adapted["interval_db"]
        lines.insert(
            0,
            f"{adapted['reason']} Expected gain over the original model on this scan: "
            f"{adapted['expected_gain_db']:+.2f} dB ({low:+.2f} to {high:+.2f}).",
        )
    seconds = training.get("seconds")
    energy, carbon = (training.get(k) for k in ("kilowatt_hours", "kilograms_co2eq"))
    if seconds is not None and energy is not None and carbon is not None:
        lines.append(
            f"Training took {seconds:.0f} s, "
            f"{in_largest_unit(energy, ('kWh', 'Wh', 'mWh'), 0.01)} and "
            f"{in_largest_unit(carbon, ('kg', 'g', 'mg'))} CO₂eq."
        )
    return "\n".join(lines)
