"""What the help of a command shows: options in groups, and only useful ones."""

from __future__ import annotations

import re

import pytest
from cyclopts import App

from napari_geosr.cli.app import build_app, run
from napari_geosr.operations.shapes import shape_needs


@pytest.fixture(scope="module")
def app() -> App:
    return build_app()


def help_of(capsys: pytest.CaptureFixture[str], words: str) -> dict[str, str]:
    """Text of each group of options in the help of a command."""
    assert run([*words.split(), "--help"]) == 0
    parts = re.split(r"╭─ (.+?) ─+╮", capsys.readouterr().out)
    return dict(zip(parts[1::2], parts[2::2], strict=True))


@pytest.mark.parametrize(
    ("command", "group", "names"),
    [
        ("measure", "Output", "--write-labels"),
        ("measure", "Input", "--deviation --mask"),
        ("segment", "Input", "--labels"),
        ("segment", "Output", "--probabilities"),
        ("study labels", "Input", "--labels"),
        ("study projections", "Advanced", "--options.NAME"),
        ("restore", "Output", "--dry-run"),
        ("restore", "Method", "--average"),
        ("submit restore", "Cluster", "--dry-run --queue --host --mem"),
        ("profiles new", "Cluster", "--options --template"),
        ("explain", "Input", "--pores"),
        ("compare", "Method", "--pores"),
        ("compare", "Output", "--difference"),
        ("generate", "Input", "--training-images"),
        ("generate", "Method", "--shape"),
        ("simulate", "Method", "--zingers --flats --darks --voxel-size"),
        ("simulate sim", "Method", "--angles --na --order"),
        ("reconstruct", "Corrections", "--zingers --flats --darks"),
        ("shapes simulate", "Method", "--shape --voxel-size"),
        ("shapes complete", "Output", "--implant --mesh"),
        ("sim", "Output", "--report"),
        ("sim", "Input", "--angles --phases"),
        ("train noise2inverse", "Output", "--restore --overwrite-restored"),
    ],
)
def test_options_are_in_the_group_of_their_purpose(
    capsys: pytest.CaptureFixture[str], command: str, group: str, names: str
) -> None:
    shown = help_of(capsys, command)[group].split()
    assert set(names.split()) <= set(shown)


def test_the_queue_comes_first_in_its_group(capsys: pytest.CaptureFixture[str]) -> None:
    shown = help_of(capsys, "submit measure")["Cluster"].split()
    order = ["--queue", "--profile", "--project", "--nodes", "--job-folder", "--host"]
    assert [shown.index(name) for name in order] == sorted(map(shown.index, order))


@pytest.mark.parametrize(
    ("command", "left_out", "kept"),
    [
        ("train noise2void", "--target", "--source"),
        ("train neighbor2neighbor", "--target", "--source"),
        ("train noise2inverse", "--target", "--source"),
        ("train ddpm", "--target", "--source"),
        ("submit train noise2void", "--target", "--source"),
        ("train adapt", "--normalisation", "--second"),
        ("train shape-sr", "--dimensions", "--channels"),
        ("train shell-completion", "--learning-rate", "--components"),
        ("train sparse-segmentation", "--simulated", "--target"),
    ],
)
def test_settings_without_effect_are_left_out(
    capsys: pytest.CaptureFixture[str], command: str, left_out: str, kept: str
) -> None:
    assert run([*command.split(), "--help"]) == 0
    shown = capsys.readouterr().out.split()
    assert left_out not in shown
    assert kept in shown


def test_settings_without_effect_exist() -> None:
    """Otherwise, a renamed setting would be shown again."""
    from napari_geosr.operations.shapes import shape_config_class
    from napari_geosr.operations.train import config_class, needs

    kinds = [config_class(method) for method in needs()]
    kinds += [shape_config_class(method) for method in shape_needs()]
    for kind in kinds:
        assert kind.unused_settings <= kind.model_fields.keys()


def test_targets_are_described_for_each_method(
    capsys: pytest.CaptureFixture[str],
) -> None:
    texts = {
        "noise2noise": "Second noisy scan of the same object",
        "cyclegan": "showing different objects",
        "sparse-segmentation": "0 outside the mask",
    }
    for method, text in texts.items():
        shown = " ".join(help_of(capsys, f"train {method}")["Input"].split())
        assert text.lower() in shown.replace("│ ", "").replace("│", "").lower()


def test_named_settings_are_shown_as_they_are_typed(
    app: App, capsys: pytest.CaptureFixture[str]
) -> None:
    shown = help_of(capsys, "train noise2void")["Advanced"]
    assert "--network-options.NAME VALUE" in shown
    line = "train noise2void --source a.tif -o job --network-options.features 64"
    _, bound, unused, *_ = app.parse_known_args(line.split())
    assert not unused
    assert bound.arguments["config"].network_options == {"features": "64"}


def test_usage_names_the_arguments(capsys: pytest.CaptureFixture[str]) -> None:
    for words, usage in (
        ("restore", "restore --out PATH [OPTIONS] INPUT [OTHERS...]"),
        ("sim", "sim [COMMAND] --out PATH [OPTIONS] RAW"),
        ("train", "train METHOD [OPTIONS]"),
        ("train noise2void", "train noise2void --out PATH [OPTIONS]"),
    ):
        assert run([*words.split(), "--help"]) == 0
        assert f"Usage: napari-geosr {usage}\n" in capsys.readouterr().out


def test_commands_on_a_cluster_have_the_same_descriptions(
    capsys: pytest.CaptureFixture[str],
) -> None:
    for method in ("ganrec", "pinn-sim", "noise2void"):
        texts = []
        for words in (["train"], ["submit", "train"]):
            assert run([*words, method, "--help"]) == 0
            text = capsys.readouterr().out.partition("╭")[0]
            texts.append(" ".join(text.split()).partition(f"{method} --out")[2])
        assert texts[0] == texts[1]
