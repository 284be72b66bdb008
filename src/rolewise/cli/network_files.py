"""What the commands on network files share: the file that a path means, and the data that it is for."""

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from rolewise._roles import ROLES, STUDENT, TEACHER
from rolewise.errors import InputError
from rolewise.own_code import find_own_code, is_own_code

if TYPE_CHECKING:
    from torch import nn

    from rolewise.config import Config
    from rolewise.data import Data
    from rolewise.pretrained import NetworkInfo


def is_run(path: Path) -> bool:
    """Whether a path is a run directory, of whatever stage."""
    from rolewise.runs import layout, read_config

    if not path.is_dir() or not (path / layout.CONFIG).is_file():
        return False
    try:
        read_config(path)
    except InputError:
        return False
    return True


def network_file(source: Path, role: str) -> Path:
    """The network that a path means.

    Raises:
        InputError: an unknown role, no such file, or a run whose training has not ended.
    """
    if role not in ROLES:
        raise InputError(f'`--role` must be student or teacher, got "{role}".')
    check_there(source)
    if source.suffix in (".onnx", ".xml"):
        raise InputError(f"{source} is an export already; give the .safetensors file that it came from.")
    if not source.is_dir() or (source / "model.safetensors").exists():
        return source
    file = source / f"{role}.safetensors"
    if not file.exists():
        raise InputError(f"{source} holds no {role}.safetensors: its training has not ended yet.")
    return file


def role_of(file: Path) -> str:
    """The role of the network in a file of a run, from the file's name; averaged weights are named after it too."""
    from rolewise.runs import layout

    return TEACHER if (layout.averaged_in(file.stem) or file.stem) == TEACHER else STUDENT


def check_there(source: Path) -> None:
    """Checks that a path leads to a file, or to a folder that can hold a network.

    Raises:
        InputError: it does not.
    """
    if not source.exists() and not source.with_name(source.name + ".safetensors").exists():
        raise InputError(f"There is no file or folder {source}.")
    known = ("model.safetensors", *(f"{role}.safetensors" for role in ROLES))
    if source.is_dir() and not is_run(source) and not any((source / name).exists() for name in known):
        raise InputError(
            f"{source} is neither a run directory (it has no config.json of a run) nor a saved network (it has no "
            "model.safetensors)."
        )


def checked_run(file: Path, role: str, network: str | None, data: str | None = None) -> "Config | None":
    """The settings of the run that a file lies in, after its own code was compared with the run's records.

    Args:
        file: a network's file.
        role: its role in the run.
        network: own code of the network that the user names now, in place of the run's.
        data: data set that the user names now.

    Raises:
        InputError: own code that is about to be run and is not what the run recorded.
    """
    if file.is_dir() or not is_run(file.parent):
        return None
    from rolewise.config import changed
    from rolewise.stages.network_info import run_settings
    from rolewise.stages.own import check_unchanged

    config = run_settings(file.parent)
    key = f"{STUDENT}.network" if role == STUDENT and config.student.network else f"{TEACHER}.network"
    if network is not None:
        config = changed(config.model_dump(), {key: network})
    check_unchanged(file.parent, config, {key: network, "data.name": data}, only=("data.name", key))
    return config


def open_network(
    file: Path, about: Mapping[str, Any], config: "Config | None", network: str | None
) -> "nn.Module":
    """The network of a file of any form; one of own code in what the command or the file's run names.

    Args:
        file: the file.
        about: its description.
        config: settings of the run that it lies in, from `checked_run`.
        network: own code that the user names, "FILE.py:NAME".

    Raises:
        InputError: a network that the file cannot build, and whose code is not named.
    """
    from rolewise.pretrained import any_network, load_network

    architecture = about.get("architecture") or {}
    if file.suffix in (".onnx", ".xml") or architecture.get("name") is not None:
        return any_network(file)
    spec = network
    if spec is None and config is not None:
        teacher, student = config.teacher.network, config.student.network
        spec = teacher if role_of(file) == TEACHER else student or teacher
    if spec is None or not is_own_code(spec):
        own = architecture.get("own") or {}
        was = f", made by {own['file']}:{own['name']} (SHA-256 {own['sha256'][:16]}...)" if own else ""
        raise InputError(
            f"{file} holds a {architecture.get('class', 'network')}{was}, which is none of this package's networks. "
            "Name its code, which is then run: --network FILE.py:NAME."
        )
    from rolewise.networks.own import build_own

    given = dict(architecture.get("arguments") or {})
    classes = int(given.pop("num_classes", None) or about.get("num_classes") or 0)
    return load_network(file, model=build_own(spec, num_classes=classes, arguments=given).model)


def data_for(
    about: Mapping[str, Any], config: "Config | None", name: str | None, root: str | None, *, file: Path
) -> tuple[str, "Data"]:
    """The data set that a network is measured on, at the network's own image size.

    Args:
        about: the file's description.
        config: settings of the run that the file lies in.
        name: data set that the user names; None takes the run's, else the file's.
        root: folder that the user names.
        file: the network's file, for messages.

    Raises:
        InputError: nothing says which data set, or it cannot be read, or it does not fit the network.
    """
    from rolewise.data import load_data
    from rolewise.stages.build import load

    if name is not None and is_own_code(name):
        name = ":".join(str(part) for part in find_own_code(name, "data set"))
    known = name or (config.data.name if config is not None else None) or about.get("data")
    if known is None:
        raise InputError(f"`--data`: {file} does not say what it was trained on; name the data set.")
    if config is not None and known == config.data.name:
        changed = {} if root is None else {"root": root}
        found = load(config.model_copy(update={"data": config.data.model_copy(update=changed)}))
    else:
        steps = about.get("preprocessing") or {}
        found = load_data(known, root, **_form(known, steps, about))
    _check_fits(about, found, known, file)
    return known, found


def _form(name: str, steps: Mapping[str, Any], about: Mapping[str, Any]) -> dict[str, Any]:
    """The options that bring the images of a folder into the form that the file requires."""
    if name != "folder":
        return {}  # their images have a size of their own, which `_check_fits` looks at
    size = max(steps.get("size") or about.get("image_size") or [32])
    return {"size": size, "resize": steps.get("resize"), "channels": 1 if steps.get("channels") == "L" else 3}


def _check_fits(about: Mapping[str, Any], data: "Data", name: str, file: Path) -> None:
    """Refuses images of another size than a file is for, and other classes than it knows."""
    classes, own = len(data.classes), about.get("num_classes")
    if own is not None and own != classes:
        raise InputError(
            f"{file} knows {own} classes and {name} has {classes}: name its own data set with `--data`."
        )
    names = about.get("classes")
    if names and len(names) != classes:
        raise InputError(
            f"{file} names {len(names)} classes and {name} has {classes}: name its own data set with `--data`."
        )
    if names and list(names) != list(data.classes):
        first = next(
            f'{index} is "{mine}" in the file and "{theirs}" in the data'
            for index, (mine, theirs) in enumerate(zip(names, data.classes, strict=True))
            if mine != theirs
        )
        raise InputError(f"{file} was trained for other classes than those of {name}: class {first}.")
    size = tuple(about.get("image_size") or ())
    images = tuple(int(one) for one in data.train.images.shape[1:3])
    if size and size != images:
        raise InputError(
            f"{file} takes images of {size[0]}x{size[1]} pixels and those of {name} have {images[0]}x{images[1]}: "
            f"export the network again with `--image-size {images[0]}`."
        )


def info_for(file: Path, about: Mapping[str, Any], role: str, config: "Config | None") -> "NetworkInfo":
    """What an exported file is to say: what the network's file says, completed from the run that it lies in."""
    from rolewise.pretrained import NetworkInfo

    info = NetworkInfo.from_json(about.get("info") or {})
    if info.preprocessing is not None or config is None:
        return info
    from rolewise.runs import layout
    from rolewise.stages.build import load
    from rolewise.stages.network_info import network_info, result_row

    averaged = layout.averaged_in(file.stem)
    key = averaged or (file.stem if file.stem in ROLES else role)
    row = result_row(file.parent, key)
    return network_info(config, load(config), row, averaged=averaged is not None)
