"""Docks never name command-line options: messages name fields, buttons and docks."""

from __future__ import annotations

import numpy as np
import pytest
import tifffile
from opening import opened

from napari_geosr.core.errors import ConfigError
from napari_geosr.core.questions.voxel_size import VoxelSizeQuestion
from napari_geosr.gui.kit.notify import MessageRow, error_sentence
from napari_geosr.gui.kit.option_words import fields_of_options

QUESTION = str(VoxelSizeQuestion((1.0, 0.01, 0.01), "mm", ("too uneven",)))


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        (
            "Train one with napari-geosr train ddpm --dimensions 2D. Then go on.",
            "Train one in the Train dock (ddpm, dimensions 2D). Then go on.",
        ),
        (
            "'Resume with…' in the Jobs dock, or napari-geosr jobs resume JOB "
            "--learning-rate 0.0005.",
            "'Resume with…' in the Jobs dock.",
        ),
        (
            "Use tv (napari-geosr reconstruct --algorithm tv).",
            "Use tv (Reconstruct dock).",
        ),
        (
            "Give all (napari-geosr restore A B … --average; in Python, a list).",
            "Give all (on the command line).",
        ),
        ("Remove --no-checks or --report.", "Remove no checks or report."),
        (
            "If they are slices, give --axes ZYX; if they are frames, give --axes TYX.",
            "Choose Time series or Slices.",
        ),
        (
            "The volume is too small. `napari-geosr plan` estimates the size.",
            "The volume is too small. 'How much to scan' in the Porosity dock "
            "estimates the size.",
        ),
        (
            "`napari-geosr jobs list` shows jobs; `napari-geosr jobs remove /a b` not.",
            "The Jobs dock shows jobs; the Jobs dock not.",
        ),
        (
            "None is known. `napari-geosr profiles new NAME` creates one.",
            "None is known. `napari-geosr profiles new NAME` creates one.",
        ),
        ("Check the optics (--na, --wavelength).", "Check the optics."),
        ("Saved as /data/scan--v2.tif.", "Saved as /data/scan--v2.tif."),
        ("Saved as --v2.tif of (a--b).", "Saved as v2.tif of (a--b)."),
    ],
)
def test_commands_and_options_become_words_of_docks(text, expected):
    assert fields_of_options(text, ())[0] == expected


@pytest.mark.parametrize(
    ("text", "expected", "names"),
    [
        (
            "The optics do not fit (--na, --wavelength, --damping).",
            "The optics do not fit (NA, Wavelength, Damping).",
            ["na", "wavelength", "damping"],
        ),
        (
            "Set both (--na and --damping).",
            "Set both (NA, Damping).",
            ["na", "damping"],
        ),
        (
            "Set it (--na 1.4, or na in the profile, --x).",
            "Set it (NA: 1.4, or na in the profile).",
            ["na"],
        ),
        ("Set it (--damping, or x in the file).", "Set it (Damping).", ["damping"]),
        (
            "Give others (--other, --damping 0).",
            "Give others (Damping: 0).",
            ["damping"],
        ),
        ("Change the NA (--na).", "Change the NA.", ["na"]),
        (
            "Change the NA (--na, --damping).",
            "Change the NA (NA, Damping).",
            ["na", "damping"],
        ),
        ("Use fewer (--other, --another).", "Use fewer.", []),
    ],
)
def test_all_options_of_a_bracket_become_fields(text, expected, names):
    class Form:
        names = ("na", "wavelength", "damping")

        def title(self, name):
            return name.upper() if name == "na" else name.capitalize()

    found, fields = fields_of_options(text, [Form()])
    assert found == expected
    assert [name for _, name in fields] == names


def test_a_warning_of_the_sim_dock_names_all_its_fields(viewer):
    dock = opened(viewer, "SIM")
    dock.show_warning("The contrast is low: check the optics (--na, --wavelength).")
    titles = [dock.form.title(name) for name in ("na", "wavelength")]
    assert dock.message.text.endswith(f"check the optics ({', '.join(titles)}).")


def test_the_row_for_the_voxel_size_is_named():
    def words(text):
        return fields_of_options(text, (), asks_voxel_size=True)[0]

    assert words(QUESTION).endswith(
        "treated as unknown. Enter the voxel size above, or click Set to use this one."
    )
    sure = str(VoxelSizeQuestion((1.0, 1.0), "in", ("a default",), may_be_right=False))
    assert words(sure).endswith("as unknown. Enter the voxel size above.")
    assert words("If so, give the voxel size (--voxel-size and --unit).") == (
        "If so, correct the voxel size above."
    )
    assert words("Set both voxel sizes (--voxel-size, --unit), or crop one.") == (
        "Set both voxel sizes above, or crop one."
    )


def test_a_message_outside_a_dock_names_no_option(qtbot):
    row = MessageRow()
    qtbot.addWidget(row)
    row.show_message(QUESTION, "warning", "Choose fewer (--counts).")
    assert row.text.endswith("Give the voxel size, or confirm this one.")
    assert row._more == "Choose fewer."
    row.show_message("Too small. `napari-geosr plan` estimates the size.", "warning")
    assert "Too small. 'How much to scan' in the Porosity dock estimates" in row.text
    error = ConfigError("Give the model to adapt (--model).")
    row.show_error(error)
    assert row.text == "Error: Give the model to adapt."
    assert row._error is error
    assert error_sentence(error) == "Give the model to adapt."


def test_messages_of_the_restore_dock_name_its_fields(viewer, qtbot, tmp_path, rng):
    path = tmp_path / "screen.tif"
    data = rng.normal(100, 9, (6, 40, 48)).astype(np.float32)
    data[:, 12:28, 16:36] -= 60
    about = {"metadata": {"axes": "ZYX"}, "resolution": (72, 72), "resolutionunit": 2}
    tifffile.imwrite(path, data, **about)
    viewer.open(path, plugin="napari-geosr")
    dock = opened(viewer)
    assert not dock.voxel_size.isHidden()
    dock.model_box.set_model("gaussian")
    shown = []
    dock.message.changed.connect(lambda: shown.append(dock.message.text))
    with qtbot.waitSignal(dock.activity.finished, timeout=120_000):
        dock.run_button.click()
    assert "Enter the voxel size above" in dock.message.text
    assert not [text for text in shown if "--" in text]
    dock.message.show_message("Leave --strength at 1, or name a model (--model).")
    assert dock.message.text == "Leave Strength at 1, or name a model (Model)."
    dock.show_failure(ConfigError("Set the members (--uncertainty-members) to 2."))
    assert dock.message.text == "Error: Set the members to 2."
