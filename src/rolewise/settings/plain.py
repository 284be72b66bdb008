"""Settings as plain values: from YAML, TOML or JSON, whole files or single texts; nothing in them is executed.

What comes back holds mappings with text keys, lists, texts, numbers, truth values and None alone, and is small: a few
hundred bytes of YAML can name one list again and again until its copies fill the memory, so the size is counted as if
all were written out.
"""

import tomllib
from collections.abc import Hashable, Mapping
from pathlib import Path
from typing import Any

from rolewise.errors import InputError

MOST_BYTES = 1_000_000  # a settings file is a few kilobytes
MOST_VALUES = 20_000  # written out; a settings file has about a hundred
MOST_LEVELS = 32
MOST_DIGITS = 64  # of one number; longer ones take time that grows with the square of their length


def read_settings_file(path: Path) -> dict[str, Any]:
    """A YAML, TOML or JSON file as a tree of plain values.

    Raises:
        InputError: no such file, too large, not text in UTF-8, not of the format, a key given twice, values that are
            no settings.
    """
    if not path.is_file():
        raise InputError(f"`--config`: there is no file {path}.")
    if path.stat().st_size > MOST_BYTES:
        raise InputError(
            f"`--config`: {path} is larger than {MOST_BYTES:,} bytes, which no settings file is."
        )
    try:
        text = path.read_bytes().decode("utf-8-sig")
        tree = tomllib.loads(text) if path.suffix == ".toml" else yaml_value(text)
        tree = plain(tree)
    except (ValueError, RecursionError) as error:
        raise InputError(f"`--config`: {path} cannot be read: {' '.join(str(error).split())}") from None
    if not isinstance(tree, dict):
        raise InputError(f"`--config`: {path} must hold named settings, got {type(tree).__name__}.")
    return tree["config"] if isinstance(tree.get("config"), dict) else tree  # a run's own `config.json`


def read_value(text: str) -> Any:
    """The value of a text such as that behind `--set student.weight_bits=`.

    Raises:
        InputError: it is no YAML, or no plain value.
    """
    try:
        return plain(yaml_value(text))
    except (ValueError, RecursionError) as error:
        shown = text if len(text) <= 80 else f"{text[:80]}..."
        raise InputError(
            f"`--set`: cannot read the value {shown!r}: {' '.join(str(error).split())}"
        ) from None


def yaml_value(text: str) -> Any:
    """YAML of plain values whose repeated keys are errors: the last would win in silence.

    Raises:
        ValueError: it is none.
    """
    import yaml  # here, because settings that come from Python need no YAML

    def refuse(node: yaml.Node, why: str) -> yaml.constructor.ConstructorError:
        return yaml.constructor.ConstructorError(None, None, why, node.start_mark)

    class UniqueKeys(yaml.SafeLoader):
        def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict[Hashable, Any]:
            seen: set[Any] = set()
            for key_node, _ in node.value:
                if key_node.tag == "tag:yaml.org,2002:merge":
                    raise refuse(key_node, "`<<` is not supported: write the settings out")
                key = self.construct_object(key_node, deep=True)
                if not isinstance(key, Hashable) or key in seen:
                    raise refuse(key_node, f'the key "{key}" is given twice')
                seen.add(key)
            return super().construct_mapping(node, deep)

        def construct_scalar(self, node: Any) -> Any:
            number = node.tag in ("tag:yaml.org,2002:int", "tag:yaml.org,2002:float")
            if number and len(node.value) > MOST_DIGITS:
                raise refuse(node, f"a number of more than {MOST_DIGITS} digits")
            return super().construct_scalar(node)

    try:
        return UniqueKeys(text).get_single_data()
    except yaml.YAMLError as error:
        raise ValueError(str(error)) from None
    except (TypeError, AttributeError, KeyError, IndexError, OverflowError) as error:
        # What the parser's own constructors stumble over, such as `!!int []` or `!!timestamp x`.
        raise ValueError(f"a value that does not fit its tag ({type(error).__name__}: {error})") from None


def plain(value: Any) -> Any:
    """A copy of a tree that shares nothing, after checking that it holds plain values alone.

    Raises:
        ValueError: a value of another kind (its place is named), too many values, or too many levels.
    """
    left = [MOST_VALUES]

    def copy(value: Any, place: str, level: int) -> Any:
        left[0] -= 1
        if left[0] < 0:
            raise ValueError(f"more than {MOST_VALUES:,} values, written out")
        if level > MOST_LEVELS:
            raise ValueError(f"more than {MOST_LEVELS} levels, at {place[:80]}")
        if value is None or isinstance(value, bool | int | float | str):
            return value
        if isinstance(value, list):
            return [copy(one, f"{place}[{index}]", level + 1) for index, one in enumerate(value)]
        if isinstance(value, Mapping):
            for key in value:
                if not isinstance(key, str):
                    raise ValueError(f"{place or 'the top level'} has the key {key!r}, which is no text")
            return {
                key: copy(one, f"{place}.{key}" if place else key, level + 1) for key, one in value.items()
            }
        raise ValueError(
            f"`{place}` is a {type(value).__name__}, which no setting is; if a text is meant, put it in quotes"
        )

    return copy(value, "", 0)
