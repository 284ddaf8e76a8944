"""Units, in the spellings used in files."""

from __future__ import annotations

import pytest

from napari_geosr.core.errors import ConfigError
from napari_geosr.core.units import (
    convert_length,
    parse_unit,
    require_unit,
    restates_unit,
)


@pytest.mark.parametrize(
    "spelling",
    ["µm", "μm", "um", "micron", "Microns", "micrometer", "\\u00B5m", " um\x00"],
)
def test_every_spelling_of_the_micrometre(spelling):
    assert parse_unit(spelling) == "µm"


@pytest.mark.parametrize("text", [None, "", "furlong", "second"])
def test_what_is_no_length_is_none(text):
    assert parse_unit(text) is None


def test_require_unit_names_the_known_ones():
    with pytest.raises(ConfigError, match="µm"):
        require_unit("furlong")


def test_conversion():
    assert convert_length(2500.0, "µm", "mm") == pytest.approx(2.5)
    assert convert_length(1.0, "in", "mm") == pytest.approx(25.4)
    with pytest.raises(ConfigError, match="physical unit"):
        convert_length(1.0, "pixel", "mm")


def test_a_unit_given_alone():
    assert restates_unit("um", "a.tif", (0.5, 0.5), "µm")
    assert not restates_unit("mm", "a.tif", (0.5, 0.5), "pixel")
    with pytest.raises(ConfigError, match=r"a\.tif has no voxel size"):
        restates_unit("mm", "a.tif", (1, 1), "pixel")
    with pytest.raises(ConfigError, match=r"\(0.5 × 0.5 µm\). Leave out the unit"):
        restates_unit("mm", "a.tif", (0.5, 0.5), "µm")
