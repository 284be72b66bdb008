"""The arguments of `search`: one definition of each, known to type checkers, and to the error for a misspelled one."""

import inspect
import subprocess
import sys
import textwrap
from dataclasses import fields
from typing import get_overloads, get_type_hints

import pytest

import rolewise as rw
from rolewise.errors import InputError
from rolewise.population import estimate, make_plan
from rolewise.population.arguments import SearchArguments
from rolewise.settings import SearchOptions, SearchSettings, TrainOptions
from rolewise.trainer import TrainSettings

FIRST = {
    "epochs", "batch_size", "optimizer", "lr", "momentum", "weight_decay", "decay_scope", "milestones", "lr_factor",
    "crop", "flip", "cutout", "eval_batch", "precision", "channels_last", "compile", "device", "threads",
}  # fmt: skip
SPELT = {"population", "epochs", "interval", "method"}  # of the settings, in the signature itself


def test_the_options_are_the_settings():
    names = {one.name for one in fields(SearchSettings)}
    assert set(SearchOptions.__annotations__) == names - SPELT
    assert set(TrainOptions.__annotations__) == {one.name for one in fields(TrainSettings)} - {"epochs"}


def test_overloads_and_signature_name_the_same_arguments():
    signature = inspect.signature(rw.search).parameters
    own = {name for name, one in signature.items() if one.kind is not inspect.Parameter.VAR_KEYWORD}
    typed = set(SearchArguments.__annotations__) - set(SearchOptions.__annotations__)
    typed -= set(TrainOptions.__annotations__)
    overloads = get_overloads(rw.search)
    assert len(overloads) == 2
    for overload in overloads:
        spelt = inspect.signature(overload).parameters
        assert set(spelt) - {"options"} | typed == own
        for name, one in spelt.items():
            if name not in ("options", "details"):
                assert one.default == signature[name].default, name
    assert {name for name in inspect.signature(estimate).parameters if name != "options"} == own - typed - {
        "out",
        "details",
    }
    hints = get_type_hints(SearchArguments)
    for name in typed:
        assert hints[name] == get_type_hints(rw.search)[name], name


@pytest.mark.parametrize("function", [rw.search, estimate])
def test_a_misspelled_argument_lists_all_names(function):
    with pytest.raises(InputError, match='Unknown argument of search "populaton"') as caught:
        function(None, None, populaton=8)
    text = str(caught.value)
    names = [*SearchSettings.__dataclass_fields__, *TrainSettings.__dataclass_fields__, "warm_start", "out"]
    assert all(f'"{name}"' in text for name in names)
    assert text.endswith('Did you mean "population"?')


def test_a_type_checker_sees_the_arguments(tmp_path):
    code = """
        from typing import Any

        import rolewise as rw
        from rolewise.population import SearchResult

        def calls(model: Any, data: Any) -> None:
            a: rw.Schedule = rw.search(model, data, population=8, quantile=0.5, batch_size=64)
            b: SearchResult = rw.search(model, data, details=True, engine="ray", lr=0.1)
            rw.search(model, data, populaton=8)
            rw.search(model, data, batch_size="many")
    """
    path = tmp_path / "calls.py"
    path.write_text(textwrap.dedent(code))
    command = [sys.executable, "-m", "mypy", "--config-file=", "--follow-imports=silent", str(path)]
    done = subprocess.run(command, capture_output=True, text=True)
    errors = [line for line in done.stdout.splitlines() if ": error:" in line]
    assert {line.split(":")[1] for line in errors} == {"10", "11"}, done.stdout + done.stderr
    assert any('Unexpected keyword argument "populaton"' in line for line in errors)


def test_later_settings_at_their_defaults_leave_a_searchs_identity_as_it_was():
    """So that searches of earlier versions can be resumed; the names are those of the first version."""
    data, model = rw.load_data("digits"), rw.networks.build("cnn-tiny", num_classes=10)

    def settings(**changes):
        plan = make_plan(model, data, SearchSettings(epochs=3), changes={"precision": "fp32", **changes})
        return plan.identity["settings"]

    plain = settings()
    assert set(plain) == FIRST
    assert settings(record_steps=False) == plain
    assert settings(grad_clip=0.9) == {**plain, "grad_clip": 0.9}
    assert settings(lr=0.3) == {**plain, "lr": 0.3}
