"""Which networks, data and settings a path on the command line means: a file, a saved folder, or a run directory."""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from rolewise._roles import ROLES, STUDENT, TEACHER
from rolewise.errors import InputError
from rolewise.own_code import is_own_code

if TYPE_CHECKING:
    from torch import nn

    from rolewise.config import Config
    from rolewise.data import Data


@dataclass(frozen=True)
class Target:
    """A network's file, and the run that it belongs to.

    Args:
        file: the network.
        role: in its run.
        config: the run's settings, already checked; None where the path was no run directory.
    """

    file: Path
    role: str = STUDENT
    config: "Config | None" = None

    def network(self, name: str | None) -> "nn.Module":
        """The network; one of own code from the file that the run recorded, or that `name` names.

        Raises:
            InputError: a network that cannot be built from the file, and whose code is not named.
        """
        from rolewise.pretrained import describe, load_network

        about = describe(self.file)
        architecture = about["architecture"]
        if architecture.get("name") is not None:
            return load_network(self.file)
        spec = name or (None if self.config is None else _spec(self.config, self.role))
        if spec is None or not is_own_code(spec):
            own = architecture.get("own") or {}
            was = f", made by {own['file']}:{own['name']} (SHA-256 {own['sha256'][:16]}...)" if own else ""
            raise InputError(
                f"{self.file} holds a {architecture.get('class', 'network')}{was}, which is none of this package's "
                "networks. Name its code, which is then run: --network FILE.py:NAME."
            )
        from rolewise.networks.own import build_own

        given = dict(architecture.get("arguments") or {})
        classes = int(given.pop("num_classes", None) or about.get("num_classes") or 0)
        return load_network(self.file, model=build_own(spec, num_classes=classes, arguments=given).model)

    def data(self, name: str | None, root: str | None) -> "Data":
        """The data set: the run's own, in the run's form, unless another is named.

        Raises:
            InputError: neither the file nor the command says which.
        """
        from rolewise.data import load_data
        from rolewise.pretrained import describe
        from rolewise.stages import build

        if self.config is not None and name in (None, self.config.data.name):
            section = self.config.data.model_copy(update={"root": root or self.config.data.root})
            return build.load(self.config.model_copy(update={"data": section}))
        about = describe(self.file)
        name = name or about.get("data")
        if name is None:
            raise InputError(f"`--data`: {self.file} does not say what it was trained on; name the data set.")
        image = about.get("image")
        if name == "folder" and isinstance(image, list) and len(image) == 3:
            return load_data(name, root, size=int(image[1]), channels=int(image[0]))
        return load_data(name, root)


def targets(path: Path, named: Mapping[str, Any]) -> list[Target]:
    """All networks that a path means; of a run directory those that are trained.

    Args:
        path: a file, a saved folder or a run directory.
        named: own code that the user names now, by the setting that it stands for.

    Raises:
        InputError: a run without trained networks, or whose own code is not what it recorded.
    """
    from rolewise.runs import layout

    if not (path.is_dir() and (path / layout.RESULTS).is_file()):
        return [Target(path)]
    config = run_settings(path, named)
    files = {role: path / layout.network_file(role) for role in ROLES}
    found = [Target(file, role, config) for role, file in files.items() if file.is_file()]
    if not found:
        raise InputError(f"{path} holds no trained network yet.")
    return found


def run_settings(path: Path, named: Mapping[str, Any]) -> "Config":
    """The settings of a run, its own code checked against its records."""
    from rolewise.config import changed
    from rolewise.runs import read_config
    from rolewise.stages.own import check_unchanged

    given = {key: value for key, value in named.items() if value is not None}
    config = changed(read_config(path)["config"], given)
    check_unchanged(path, config, given, only=("data.name", "teacher.network", "student.network"))
    return config


def _spec(config: "Config", role: str) -> str:
    return config.teacher.network if role == TEACHER else config.student.network or config.teacher.network
