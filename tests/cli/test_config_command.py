"""`rolewise config`, `rolewise list` and `--version`: every setting and name, read from the definitions."""

import json
import re
from pathlib import Path

import pytest
import yaml

from rolewise.cli import main
from rolewise.cli.reference import all_settings, preset_changes, settings_page
from rolewise.config import PRESETS, Config, flat, load_config, parse_config
from rolewise.kd import LOSSES

ROOT = Path(__file__).resolve().parents[2]


def test_every_setting_is_there_once_with_a_meaning() -> None:
    names = [one.name for one in all_settings()]
    assert len(set(names)) == len(names)
    empty = {one.name for one in all_settings() if one.default == "{}"}  # `flat` has no line for it
    assert set(names) | empty == set(flat(Config().model_dump())) | empty
    assert [one.name for one in all_settings() if not one.meaning] == []
    by_name = {one.name: one for one in all_settings()}
    bits = by_name["search.population"]
    assert (bits.kind, bits.default, bits.allowed) == ("integer", "16", "at least 4, at most 64")
    optimizer = by_name["student.train.optimizer"]
    assert (optimizer.kind, optimizer.default) == ("choice", "adam")
    assert {"`sgd`", "`adam`"} <= set(optimizer.allowed.split(", "))


def test_the_page_is_the_generated_one() -> None:
    assert (ROOT / "docs" / "settings.md").read_text("utf-8") == settings_page(), (
        "run: rolewise config reference > docs/settings.md"
    )


def test_show_prints_what_can_be_given_back(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    assert main(["config", "show", "--preset", "paper-cifar10-alexnet-w2a2", "--set", "seed=5"]) == 0
    shown = capsys.readouterr().out
    expected = load_config(preset="paper-cifar10-alexnet-w2a2", assignments=["seed=5"])
    assert parse_config(yaml.safe_load(shown)) == expected
    (tmp_path / "s.yaml").write_text(shown, "utf-8")
    assert load_config(file=tmp_path / "s.yaml") == expected


def test_show_resolves_what_the_loss_and_the_machine_choose(capsys: pytest.CaptureFixture[str]) -> None:
    arguments = [
        "config",
        "show",
        "--set",
        "kd.loss=rkd",
        "--set",
        "kd.decay=false",
        "--set",
        "machine.device=cpu",
    ]
    assert main(arguments) == 0
    plain = yaml.safe_load(capsys.readouterr().out)
    assert main([*arguments, "--resolved"]) == 0
    found = yaml.safe_load(capsys.readouterr().out)
    assert plain["kd"]["weight"] is None
    loss = LOSSES["rkd"]()
    assert [found["kd"][name] for name in ("weight", "task_weight", "decay", "clip")] == [
        loss.weight, loss.task_weight, False, loss.clip,
    ]  # fmt: skip
    assert found["machine"]["precision"] in ("fp32", "bf16")
    assert None not in (found["machine"]["eval_batch"], found["machine"]["channels_last"])
    assert {**found, "kd": 0, "machine": 0} == {**plain, "kd": 0, "machine": 0}
    parse_config(found)


def test_check_makes_nothing(
    capsys: pytest.CaptureFixture[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    assert main(["config", "check"]) == 0
    assert capsys.readouterr().out == "ok\n"
    assert main(["config", "check", "--set", "kd.arguments={taps: [layer9]}"]) == 2
    assert "layer9" in capsys.readouterr().err
    assert list(tmp_path.iterdir()) == []


def test_schema(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["config", "schema"]) == 0
    assert set(json.loads(capsys.readouterr().out)["properties"]) >= {"data", "teacher", "student", "kd"}


@pytest.mark.parametrize(
    ("kind", "name"),
    [
        ("presets", "demo"), ("losses", "ii-kd"), ("networks", "resnet18"), ("quantizers", "lsq"), ("data", "cifar100"),
        ("operations", "ShearX"), ("methods", "random"), ("settings", "student.weight_bits"),
    ],
)  # fmt: skip
def test_lists(kind: str, name: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["list", kind]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert sum(re.match(rf"{re.escape(name)} +\S", line) is not None for line in lines) == 1


def test_lists_say_something_of_each_row(capsys: pytest.CaptureFixture[str]) -> None:
    """No two rows of one list say the same, as they would if the text were that of a common class."""
    for kind in ("losses", "quantizers", "data", "methods"):
        assert main(["list", kind]) == 0
        texts = [line.partition(" ")[2].strip() for line in capsys.readouterr().out.splitlines()]
        assert len(set(texts)) == len(texts) > 2, kind


def test_a_search_knows_the_methods_that_are_listed(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["list", "methods"]) == 0
    listed = [line.split()[0] for line in capsys.readouterr().out.splitlines()]
    assert main(["search", "--role", "teacher", "--method", "randaugment-fixd", "--quiet"]) == 2
    error = " ".join(capsys.readouterr().err.split())
    known = ", ".join(f'"{name}"' for name in listed)
    assert f'Unknown method of a search "randaugment-fixd". Known: {known}. Did you mean' in error


def test_an_unknown_list_and_the_version(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["list", "loses"]) == 2
    assert 'Did you mean "losses"?' in capsys.readouterr().err
    assert main(["--version"]) == 0
    assert re.fullmatch(r"rolewise \d+\.\d+\.\d+\S*\n", capsys.readouterr().out)


def test_what_a_preset_sets_is_what_it_says() -> None:
    assert preset_changes("paper-cifar100-resnet18-w4a4")["data.name"] == "cifar100"
    assert [name for name in PRESETS if not preset_changes(name)] == [
        "experiment"
    ]  # the paper's numbers alone
