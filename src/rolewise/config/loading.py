"""From a preset, a file, `--set` and options to one checked `Config`."""

import json
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any, get_type_hints

from pydantic import ValidationError

from rolewise.config.presets import PRESETS
from rolewise.config.sections import Config
from rolewise.errors import InputError, unknown
from rolewise.own_code import is_own_code
from rolewise.settings import explain, field_names, read_settings_file, read_value


def load_config(
    *,
    preset: str | None = None,
    file: str | Path | None = None,
    assignments: Iterable[str] = (),
    options: Mapping[str, Any] | None = None,
) -> Config:
    """The resolved settings; later sources win: defaults, preset, file, `--set`, options of the command.

    Args:
        preset: a name of `PRESETS`; None takes that of the other sources (the last of them that names one), else "demo"
            for digits, and for other data the small one of their name, such as "cifar10-small".
        file: YAML or TOML, by suffix; JSON is YAML too, so a run's `config.json` will do.
        assignments: texts such as "student.weight_bits=2".
        options: dotted keys and values; those that are None are left out.

    Raises:
        InputError: an unknown preset or key (the nearest is named), a value of a wrong type or out of range, a broken
            file; every fault is listed.
    """
    tree: dict[str, Any] = {}
    given = read_settings_file(Path(file)) if file is not None else {}
    changes = read_changes(assignments, options or {})
    stated = _with(given, changes)
    name = preset or stated.get("preset") or _default_preset(stated)
    if not isinstance(name, str) or name not in PRESETS:
        raise InputError(unknown("preset", name, PRESETS))
    _merge(tree, PRESETS[name])
    _merge(tree, given)
    return changed(tree, {**changes, "preset": name})


def _default_preset(tree: Mapping[str, Any]) -> str:
    """The preset for the data that the tree names."""
    section = tree.get("data")
    name = section.get("name") if isinstance(section, Mapping) else None
    if isinstance(name, str) and is_own_code(name):
        name = "folder"  # your own images as well
    return f"{name}-small" if f"{name}-small" in PRESETS else "demo"


def load_tree(
    tree: Mapping[str, Any], assignments: Iterable[str], options: Mapping[str, Any]
) -> dict[str, Any]:
    """A copy of the tree with texts such as "student.weight_bits=2" and dotted options put in.

    Raises:
        InputError: a text without `=`, or a key below something that is no section.
    """
    return _with(tree, read_changes(assignments, options))


def read_changes(assignments: Iterable[str], options: Mapping[str, Any]) -> dict[str, Any]:
    """Values by dotted names, from texts such as "student.weight_bits=2" and from options that are not None.

    Raises:
        InputError: a text without `=`, or whose value cannot be read.
    """
    found: dict[str, Any] = {}
    for text in assignments:
        key, separator, value = text.partition("=")
        if not separator:
            raise InputError(f'`--set` takes KEY=VALUE such as student.weight_bits=2, got "{text}".')
        found[key.strip()] = read_value(value)
    return found | {key: value for key, value in options.items() if value is not None}


def changed(tree: Mapping[str, Any], changes: Mapping[str, Any]) -> Config:
    """The settings of `tree` with dotted names set to other values, such as {"student.weight_bits": 2}.

    Raises:
        InputError: see `load_config`.
    """
    return parse_config(_with(tree, changes))


def flat(tree: Mapping[str, Any], prefix: str = "") -> dict[str, Any]:
    """A tree of settings with dotted names."""
    found: dict[str, Any] = {}
    for key, value in tree.items():
        if isinstance(value, Mapping) and key != "arguments":
            found.update(flat(value, f"{prefix}{key}."))
        else:
            found[prefix + key] = list(value) if isinstance(value, tuple) else value
    return found


def parse_config(tree: Mapping[str, Any]) -> Config:
    """The settings from a tree of plain values; see `load_config` for the errors."""
    try:
        return Config.model_validate(tree)
    except ValidationError as error:
        raise InputError(_explain(error)) from None


def _merge(tree: dict[str, Any], more: Mapping[str, Any]) -> None:
    for key, value in more.items():
        if isinstance(value, Mapping) and isinstance(tree.get(key), dict) and key != "arguments":
            _merge(tree[key], value)
        else:
            tree[key] = json.loads(json.dumps(value)) if isinstance(value, Mapping) else value


def _with(tree: Mapping[str, Any], changes: Mapping[str, Any]) -> dict[str, Any]:
    """A copy of the tree with values put in by their dotted names."""
    copy: dict[str, Any] = json.loads(json.dumps(tree))
    for key, value in changes.items():
        _put(copy, key, value)
    return copy


def _put(tree: dict[str, Any], key: str, value: Any) -> None:
    *path, last = key.split(".")
    for part in path:
        below = tree.setdefault(part, {})
        if not isinstance(below, dict):
            raise InputError(f'`--set`: "{key}" lies below "{part}", which is not a section.')
        tree = below
    tree[last] = value


def _known(location: tuple[Any, ...]) -> list[str]:
    """The keys of the section at `location`."""
    section: Any = Config
    for part in location:
        section = get_type_hints(section)[part]
    return field_names(section)


def _explain(error: ValidationError) -> str:
    unknown_key = ("extra_forbidden", "unexpected_keyword_argument")
    said = []
    for fault in error.errors():
        *above, name = (str(part) for part in fault["loc"])
        deeper = _deeper(above, name) if fault["type"] in unknown_key else None
        text = explain(fault, _known(fault["loc"][:-1]) if fault["type"] in unknown_key else ())
        said.append(f'{text.partition(" Did you mean")[0]} Did you mean "{deeper}"?' if deeper else text)
    return "\n".join(said)


def _deeper(above: list[str], name: str) -> str | None:
    """The setting of this very name in a group below the one where it was looked for."""
    names = [one for one in flat(Config().model_dump()) if one.split(".")[-1] == name]
    return next((one for one in names if one.split(".")[: len(above)] == above), None)
