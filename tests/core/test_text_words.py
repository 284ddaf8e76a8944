"""Words for images and volumes, and values in readable units."""

from __future__ import annotations

from pathlib import Path

import pytest

from napari_geosr.core.text.counts import in_largest_unit
from napari_geosr.core.text.display import short_path
from napari_geosr.core.text.flat import counted_elements, flat_words


def test_an_image_has_edges_and_no_faces():
    text = "Dark space at the faces. Pores at the border of the volume are counted."
    assert flat_words(text) == (
        "Dark space at the edges. Pores at the border of the image are counted."
    )
    assert flat_words(text, flat=False) == text
    assert flat_words("faces of the volume") == "edges of the image"


@pytest.mark.parametrize(
    ("n", "flat", "word"),
    [(1, True, "pixel"), (2, True, "pixels"), (8, False, "voxels")],
)
def test_elements_are_pixels_or_voxels(n, flat, word):
    assert counted_elements(n, flat=flat) == word


@pytest.mark.parametrize(
    ("kilograms", "text"),
    [(2.0, "2 kg"), (0.0018, "1.8 g"), (2.2e-6, "2.2 mg"), (3e-9, "0.003 mg")],
)
def test_small_values_get_a_small_unit(kilograms, text):
    assert in_largest_unit(kilograms, ("kg", "g", "mg")) == text


def test_the_home_folder_is_a_tilde(monkeypatch, tmp_path):
    monkeypatch.setattr(Path, "home", lambda: tmp_path / "me")
    assert short_path(tmp_path / "me" / "jobs") == str(Path("~", "jobs"))
    assert short_path(tmp_path / "mean") == str(tmp_path / "mean")
