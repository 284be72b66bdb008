"""Settings: sources and their order, every fault named at once, nothing executed."""

import json

import pytest

from rolewise.config import PRESETS, Config, load_config, parse_config
from rolewise.errors import InputError
from rolewise.settings import read_settings_file


def test_sources_in_their_order(tmp_path):
    file = tmp_path / "run.yaml"
    file.write_text(
        "preset: cifar10-small\nsearch: {population: 12, epochs: 9}\nstudent: {train: {lr: 0.005}}\n"
    )
    config = load_config(
        file=file, assignments=["search.population=20"], options={"search.interval": 4, "seed": None}
    )
    assert config.data.name == "cifar10"  # the preset
    assert config.search.epochs == 9  # the file
    assert config.search.population == 20  # --set
    assert config.search.interval == 4  # the option
    assert config.student.train.lr == 0.005
    assert config.student.train.optimizer == "adam"  # a partial section keeps the student's defaults
    assert config.seed == 0


@pytest.mark.parametrize(
    ("sources", "preset"),
    [
        ({}, "demo"),
        ({"options": {"data.name": "digits"}}, "demo"),
        ({"options": {"data.name": "cifar100"}}, "cifar100-small"),
        ({"options": {"data.name": "folder", "data.root": "photos"}}, "folder-small"),
        ({"assignments": ["data.name=cifar10"]}, "cifar10-small"),
        ({"preset": "demo", "options": {"data.name": "cifar10"}}, "demo"),
        ({"assignments": ["preset=cifar10-small", "data.name=cifar10"]}, "cifar10-small"),
        ({"options": {"preset": "cifar10-small", "data.name": "cifar10"}}, "cifar10-small"),
    ],
)
def test_other_data_than_digits_have_a_small_preset_of_their_own(sources, preset):
    config = load_config(**sources)
    assert config.preset == preset
    named = {**sources.get("options", {}), **dict(text.split("=") for text in sources.get("assignments", []))}
    assert config.data.name == named.get("data.name", "digits")
    assert config.search.epochs == PRESETS[preset]["search"]["epochs"]  # its settings, and not its name alone


def test_toml_and_the_config_of_a_run(tmp_path):
    toml = tmp_path / "run.toml"
    toml.write_text('preset = "demo"\n[student]\nweight_bits = 2\n')
    config = load_config(file=toml)
    assert config.student.weight_bits == 2
    saved = tmp_path / "config.json"
    saved.write_text(json.dumps({"format": "rolewise.run", "config": config.model_dump(mode="json")}))
    assert load_config(file=saved) == config


def test_every_preset_is_valid_and_the_papers_are_the_papers():
    for name in PRESETS:
        assert load_config(preset=name).preset == name
    papers = [name for name in PRESETS if name.startswith("paper-")]
    assert len(papers) == 9
    for name in papers:
        config = load_config(preset=name)
        assert (config.search.population, config.search.epochs, config.search.interval) == (16, 200, 3)
        assert (config.data.search_train, config.data.search_validation) == (4000, 36000)
        assert config.teacher.train.epochs == config.student.train.epochs == 200
        assert (config.teacher.train.lr, config.teacher.train.weight_decay) == (0.1, 5e-4)
        assert (config.student.train.lr, config.student.train.weight_decay) == (1e-3, 1e-5)
        assert config.teacher.search_data == "cifar10"
    assert load_config(preset="paper-cifar100-resnet18-w2a2").student.act_bits == 2
    table4 = load_config(preset="paper-cifar100-resnet8-fp32")
    assert (table4.student.network, table4.student.weight_bits) == ("resnet8", 32)


@pytest.mark.parametrize(
    ("assignment", "words"),
    [
        ("student.weigt_bits=2", 'Unknown setting "student.weigt_bits".*Did you mean "student.weight_bits"'),
        (
            "student.weight_bits=0",
            "`student.weight_bits`: bits must be 1 to 8, or 32 for full precision, got 0",
        ),
        ("student.act_bits=33", "`student.act_bits`: bits must be 1 to 8, or 32"),
        ("search.population=3", "`search.population` must be greater than or equal to 4, got 3"),
        (
            "teacher.train.epochs=0",
            "`teacher.train.epochs` must be greater than or equal to 1, got 0",
        ),
        ("teacher.train.lr=.nan", "`teacher.train.lr` must be a finite number"),
        ("teacher.train=3", "`teacher.train` must be a group of named settings"),
        ("data=digits", "`data` must be a group of named settings, got 'digits'"),
        ("seed", "`--set` takes KEY=VALUE"),
        ("seed=[", "`--set`: cannot read the value"),
        ("search.epochs.x=1", 'lies below "epochs", which is not a section'),
    ],
)
def test_faults_name_the_setting_and_the_way_out(assignment, words):
    with pytest.raises(InputError, match=words):
        load_config(assignments=[assignment])


def test_all_faults_at_once():
    with pytest.raises(InputError) as caught:
        load_config(assignments=["search.population=1", "kd.wieght=1", "seed=-1"])
    assert len(str(caught.value).splitlines()) == 3


def test_unknown_preset():
    with pytest.raises(
        InputError, match='Unknown preset "paper-cifar10-resnet18".*Did you mean "paper-cifar'
    ):
        load_config(preset="paper-cifar10-resnet18")
    for source in ({"assignments": ["preset=cifar11-small"]}, {"options": {"preset": "cifar11-small"}}):
        with pytest.raises(InputError, match='Unknown preset "cifar11-small".*Did you mean "cifar10-small"'):
            load_config(**source)


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("seed: 1\nseed: 2\n", 'the key "seed" is given twice'),
        ("seed: !!python/object/apply:os.system ['touch canary']\n", "could not determine a constructor"),
        ("- 1\n- 2\n", "must hold named settings, got list"),
        ("a: [\n", "cannot be read"),
        ("{[1]: 2}\n", "is given twice|cannot be read"),
    ],
)
def test_broken_files_execute_nothing(tmp_path, monkeypatch, text, words):
    monkeypatch.chdir(tmp_path)
    file = tmp_path / "x.yaml"
    file.write_text(text)
    with pytest.raises(InputError, match=words):
        read_settings_file(file)
    assert not (tmp_path / "canary").exists()


def test_missing_and_enormous_files(tmp_path):
    with pytest.raises(InputError, match="there is no file"):
        load_config(file=tmp_path / "none.yaml")
    big = tmp_path / "big.yaml"
    big.write_bytes(b"#" * 1_000_001)
    with pytest.raises(InputError, match="larger than 1,000,000 bytes"):
        load_config(file=big)


def test_round_trip():
    config = load_config(preset="paper-cifar100-alexnet-w2a2", assignments=["kd.arguments={taps: [a, b]}"])
    assert parse_config(json.loads(config.model_dump_json())) == config
    assert isinstance(config, Config)
