"""`rolewise config` and `rolewise list`: every setting, every name, and what a command would run with."""

import json
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Annotated, Any

import typer

from rolewise.cli import common
from rolewise.errors import InputError, unknown

app = typer.Typer(help="Settings: show, check, schema, presets, reference.", no_args_is_help=True)

Kind = Annotated[
    str, typer.Argument(help="presets, losses, networks, quantizers, data, operations, methods or settings.")
]


@app.command()
def show(
    preset: common.Preset = None,
    config: common.ConfigFile = None,
    set_: common.Assignments = None,
    resume: Annotated[
        Path | None, typer.Option("--resume", help="Run directory whose settings to show.")
    ] = None,
    resolved: Annotated[
        bool,
        typer.Option(
            "--resolved", help="With the loss's own factors and this machine's choices in place of null."
        ),
    ] = False,
) -> None:
    """Prints the settings with which `rolewise run` would start, or those of a run."""
    import yaml

    found = _settings(preset, config, set_, resume)
    if resolved:
        from rolewise.config import parse_config
        from rolewise.stages.build import resolve

        found = resolve(parse_config(found)).model_dump(mode="json")
    print(yaml.safe_dump(found, sort_keys=False, allow_unicode=True), end="")


@app.command()
def check(
    preset: common.Preset = None, config: common.ConfigFile = None, set_: common.Assignments = None
) -> None:
    """Checks settings, files and data as `rolewise run` does before it starts; makes one step, writes nothing."""
    from rolewise.config import load_config
    from rolewise.stages.check import check as check_settings

    check_settings(load_config(preset=preset, file=config, assignments=set_ or ()))
    print("ok")


@app.command()
def schema() -> None:
    """Prints the JSON schema of a settings file."""
    from rolewise.config import Config

    print(json.dumps(Config.model_json_schema(), indent=2))


@app.command()
def presets() -> None:
    """Prints the presets and what each sets."""
    list_("presets")


@app.command()
def reference() -> None:
    """Prints the page docs/settings.md."""
    from rolewise.cli.reference import settings_page

    print(settings_page(), end="")


def _settings(
    preset: str | None, config: Path | None, assignments: list[str] | None, resume: Path | None
) -> dict[str, Any]:
    from rolewise.config import changed, load_config
    from rolewise.runs import read_config

    if resume is None:
        return load_config(preset=preset, file=config, assignments=assignments or ()).model_dump(mode="json")
    if preset is not None or config is not None:
        raise InputError("A run has its settings: `--preset` and `--config` do not go with `--resume`.")
    return changed(read_config(resume)["config"], {}).model_dump(mode="json")


def list_(kind: Kind) -> None:
    """Lists names: presets, losses, networks, quantizers, data sets, operations, search methods, settings."""
    tables: Mapping[str, Callable[[], Mapping[str, str]]] = {
        "presets": _presets,
        "losses": _losses,
        "networks": _networks,
        "quantizers": _quantizers,
        "data": _data,
        "operations": _operations,
        "methods": _methods,
        "settings": _named_settings,
    }
    if kind not in tables:
        raise InputError(unknown("list", kind, tables))
    rows = tables[kind]()
    width = max(map(len, rows))
    for name, text in rows.items():
        print(f"{name:{width}}  {text}".rstrip())


def _presets() -> Mapping[str, str]:
    from rolewise.cli.reference import preset_changes
    from rolewise.config import PRESETS

    return {name: ", ".join(f"{k}={v}" for k, v in preset_changes(name).items()) for name in PRESETS}


def _first_sentence(documented: object) -> str:
    text = " ".join((documented.__doc__ or "").strip().split("\n\n")[0].split())
    return text.partition(". ")[0].rstrip(".")


def _losses() -> Mapping[str, str]:
    from rolewise.kd import LOSSES

    return {name: _first_sentence(LOSSES[name]) for name in LOSSES}


def _networks() -> Mapping[str, str]:
    from rolewise.networks import NETWORKS

    return {name: _first_sentence(build) for name, build in NETWORKS.items()}


def _quantizers() -> Mapping[str, str]:
    from rolewise.quant import METHODS

    return {name: method.about for name, method in METHODS.items()}


def _data() -> Mapping[str, str]:
    from rolewise.data import DATA_SETS

    return {name: row.about for name, row in DATA_SETS.items()}


def _operations() -> Mapping[str, str]:
    from rolewise.augment.ops import OPS, Op

    def strengths(op: Op) -> str:
        if op.range is None:
            return "no strength"
        low, high = op.range
        return f"strength {low:g} to {high:g} {op.unit}{', either sign' if op.signed else ''}"

    return {name: strengths(op) for name, op in OPS.items()}


def _methods() -> Mapping[str, str]:
    from rolewise.population.methods import named_methods

    return {name: _first_sentence(strategy) for name, strategy in named_methods().items()}


def _named_settings() -> Mapping[str, str]:
    from rolewise.cli.reference import all_settings

    rows = {}
    for one in all_settings():
        parts = [
            one.kind,
            f"default {one.default}",
            one.allowed.replace("`", ""),
            one.meaning.replace("`", ""),
        ]
        rows[one.name] = "; ".join(part for part in parts if part)
    return rows
