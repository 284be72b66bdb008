"""Recipes in a run: schedules by name, averaged networks beside the last ones, low-bit teachers."""

import json
from typing import ClassVar

import pytest
import torch

from rolewise.augment import NAMED
from rolewise.config import load_config
from rolewise.data import load_data
from rolewise.errors import InputError
from rolewise.networks import build as build_network
from rolewise.pretrained import load_network
from rolewise.quant import lift_bits, quantization, quantized_layers
from rolewise.runs import RunDirectory
from rolewise.stages import build, check, open_pipeline, train_role
from rolewise.stages.schedules import named_schedule

QUICK = {
    "teacher.train.epochs": 2, "student.train.epochs": 2, "machine.threads": 1, "machine.precision": "fp32",
    "teacher.train.batch_size": 256, "student.train.batch_size": 256, "kd.loss": "soft", "baselines": False,
}  # fmt: skip


def trained(out, role, **changes):
    """The rows of a run in which one role was trained."""
    with open_pipeline({**QUICK, **changes}, out=out, only=f"train-{role}") as pipeline:
        train_role(pipeline, role)
    return json.loads((out / "results.json").read_text())["rows"]


def test_a_schedule_by_name(tmp_path):
    assert named_schedule("trivialaugment", 2).schedule == NAMED["trivialaugment"](2, 0)
    assert named_schedule("random", 2, seed=3).schedule == NAMED["random"](2, 3)
    plain = trained(tmp_path / "plain", "teacher", **{"teacher.schedule": "none"})
    named = trained(tmp_path / "named", "teacher", **{"teacher.schedule": "trivialaugment"})
    assert plain[0]["loss"] != named[0]["loss"]
    assert (plain[0]["schedule"], named[0]["schedule"]) == (None, "trivialaugment")


def test_an_unknown_name_is_refused_before_any_work(tmp_path):
    with (
        pytest.raises(InputError, match='There is no file trivialaugmnt.*Did you mean "trivialaugment"'),
        open_pipeline({**QUICK, "teacher.schedule": "trivialaugmnt"}, out=tmp_path / "run"),
    ):
        pass
    assert not (tmp_path / "run").exists()


def test_averaged_networks_and_low_bit_teachers(tmp_path):
    """A float teacher, its 4-bit student with averaged weights, and the 2-bit student of that student."""
    trained(tmp_path / "t", "teacher", **{"teacher.schedule": "none"})
    student = {"student.schedule": "none", "student.quantizer": "lsq", "kd.task_weight": 0.0}
    four = trained(
        tmp_path / "four", "student", **student, **{
            "teacher.file": str(tmp_path / "t" / "teacher.safetensors"),
            "student.train.ema_decay": 0.9, "student.train.ladder": [8, 4],
        }
    )  # fmt: skip
    row = next(row for row in four if row["role"] == "student")
    last, averaged = (
        load_network(tmp_path / "four" / f"student{end}.safetensors") for end in ("", "-averaged")
    )
    assert quantization(last) == quantization(averaged)
    assert not torch.equal(last.state_dict()["fc.weight"], averaged.state_dict()["fc.weight"])
    assert 0 <= row["accuracy_averaged"] <= 1
    for file in ("student.safetensors", "student-averaged.safetensors"):
        two = trained(
            tmp_path / file, "student", **student, **{
                "teacher.file": str(tmp_path / "four" / file), "student.weight_bits": 2, "student.act_bits": 2,
            }
        )  # fmt: skip
        tested = next(one for one in two if one["role"] == "teacher")["accuracy"]
        assert tested == (row["accuracy_averaged"] if "averaged" in file else row["accuracy"])
        assert quantization(load_network(tmp_path / file / "student.safetensors"))["weight_bits"] == 2


def test_the_best_epoch_on_held_out_images_stands_beside_the_last_one(tmp_path):
    changes = {"teacher.schedule": "none", "teacher.train.epochs": 4, "data.held_out": 300}
    (row,) = trained(tmp_path / "run", "teacher", **changes)
    lines = [json.loads(line) for line in (tmp_path / "run" / "metrics.jsonl").read_text().splitlines()]
    scores = [line["accuracy"] for line in lines if line["split"] == "validation"]
    assert len(scores) == 4
    assert row["best_epoch"] == 1 + scores.index(max(scores))
    # The checkpoint of that epoch, evaluated by hand.
    data = load_data("digits")
    with RunDirectory.open(tmp_path / "run", read_only=True) as run:
        tensors = run.checkpoints("train-teacher").best().tensors("trainer")
    model = build_network("cnn-tiny", num_classes=10)
    model.load_state_dict(
        {name.removeprefix("model."): value for name, value in tensors.items() if name.startswith("model.")}
    )
    with torch.no_grad():
        held = data.limited(held_out=300).train
        images = data.test.images.permute(0, 3, 1, 2) / 255
        mean, std = (torch.tensor(values).view(1, -1, 1, 1) for values in (held.mean, held.std))
        found = (model.eval()((images - mean) / std).argmax(1) == data.test.labels).float().mean()
    assert float(found) == pytest.approx(row["accuracy_best_epoch"])
    assert len(held) == len(data.train) - 300
    # The network that is delivered is the last one.
    last = load_network(tmp_path / "run" / "teacher.safetensors")
    with torch.no_grad():
        found = (last((images - mean) / std).argmax(1) == data.test.labels).float().mean()
    assert float(found) == pytest.approx(row["accuracy"])


@pytest.mark.parametrize(
    ("settings", "words"),
    [
        ({"student.train.ladder": [8, 3]}, r"`ladder` must end with the network's own bits, 4, got \[8, 3\]"),
        ({"teacher.train.ladder": [8, 4]}, "`ladder` is for a quantized network"),
        ({"student.train.mixup": 0.2, "kd.loss": "dkd"}, "DKD compares images by their class"),
        ({"kd.task_weight": 0.0, "kd.clip": True}, "`clip` bounds the KD gradient"),
    ],
)
def test_what_cannot_be_is_found_before_any_work(settings, words):
    with pytest.raises(InputError, match=words):
        check(load_config(options={**QUICK, **settings}))


def test_first_and_last_layers_at_8_bits():
    """On a ladder they keep their bits, and all else goes down."""
    config = load_config(
        options={"student.first_last_bits": 8, "student.weight_bits": 2, "student.act_bits": 2}
    )
    model, _ = build.new_student(config, 10, (3, 32, 32), None)
    found = [bits.weights for bits in quantized_layers(model).values() if bits.weights]
    assert found[0] == found[-1] == 8
    assert set(found[1:-1]) == {2}
    lift_bits(model, 4)
    assert [bits.weights for bits in quantized_layers(model).values() if bits.weights][1:-1] == [4] * len(
        found[1:-1]
    )
    lift_bits(model, 1)
    assert [bits.weights for bits in quantized_layers(model).values() if bits.weights] == found
    with pytest.raises(InputError, match="first_last_bits.*bits must be 1 to 8, or 32"):
        load_config(options={"student.first_last_bits": 16})


class TestMembers:
    """They train as the final training does, unless `search.train` says otherwise."""

    RECIPE: ClassVar = {
        "student.train.cutmix": 1.0,
        "student.train.label_smoothing": 0.1,
        "student.train.lr": 0.01,
    }

    def settings(self, **changes):
        config = load_config(options={**self.RECIPE, "search.epochs": 7, **changes})
        return build.train_settings(config, "student", searching=True)

    def test_all_settings_are_the_final_trainings(self):
        found = self.settings()
        assert (found.cutmix, found.label_smoothing, found.lr, found.epochs) == (1.0, 0.1, 0.01, 7)

    def test_overrides_are_for_members_alone(self):
        config = load_config(options={**self.RECIPE, "search.train": {"cutmix": None, "lr": 0.02}})
        members, final = (build.train_settings(config, "student", searching=one) for one in (True, False))
        assert (members.cutmix, members.lr, members.label_smoothing) == (None, 0.02, 0.1)
        assert (final.cutmix, final.lr) == (1.0, 0.01)
        assert load_config(assignments=["search.train.cutmix=null"]).search.train == {"cutmix": None}

    @pytest.mark.parametrize(
        ("train", "words"),
        [
            ({"cutmx": 1.0}, '`search.train`.*"cutmx".*Did you mean "cutmix"'),
            ({"lr": -1}, "`search.train`.*`lr`.*greater than 0"),
            ({"epochs": 3}, "`search.train`.* must not hold `epochs`, which is `search.epochs`"),
            (
                {"ema_decay": 0.9},
                "`search.train`.* must not hold `ema_decay`: members are scored by their weights",
            ),
            ({"ema_epochs": 2}, "`search.train`.* must not hold `ema_epochs`"),
            (
                {"ladder": [4, 2], "ladder_shares": [0.5, 0.4]},
                "`search.train`.*`ladder_shares` must be 2 shares",
            ),
        ],
    )
    def test_bad_overrides(self, train, words):
        with pytest.raises(InputError, match=words):
            self.settings(**{"search.train": train})

    def test_no_weights_are_averaged(self):
        for own in ({"ema_decay": 0.9}, {"ema_epochs": 20}):
            found = self.settings(**{f"student.train.{name}": value for name, value in own.items()})
            assert (found.ema_decay, found.ema_epochs) == (None, None)

    def test_what_goes_with_an_overridden_setting_goes_with_it(self):
        own = {"student.train.mix_probability": 0.5, "student.train.ladder": [8, 4]}
        own["student.train.ladder_shares"] = [0.3, 0.7]
        plain = self.settings(**own, **{"search.train": {"cutmix": None, "ladder": []}})
        assert (plain.mixing, plain.mix_probability, plain.ladder, plain.ladder_shares) == (None, 1.0, (), ())
        three = self.settings(**own, **{"search.train": {"ladder": [8, 6, 4]}})
        assert (three.ladder_shares, three.mix_probability) == ((), 0.5)
        shares = self.settings(**own, **{"search.train": {"ladder_shares": [0.5, 0.5]}})
        assert (shares.ladder, shares.ladder_shares) == ((8, 4), (0.5, 0.5))


MEMBERS = [
    (
        {"student.train.warmup_epochs": 2, "student.train.epochs": 3},
        "student's search.*`search.epochs`.*`warmup_epo",
    ),
    (
        {"teacher.train.warmup_epochs": 2, "teacher.train.epochs": 3},
        "teacher's search.*Name the members' own value",
    ),
    ({"student.train.ladder": [8, 6, 4], "student.train.epochs": 3}, "student's search.*each of the 3 rungs"),
    ({"search.train": {"ladder": [8, 4]}}, "`ladder` is for a quantized network, and this one is float"),
    ({"kd.loss": "dkd", "search.train": {"cutmix": 1.0}}, "DKD compares images by their class"),
    (
        {"student.train.class_weights": [1, 2]},
        "`class_weights` must be one number for each of the 10 classes, got 2",
    ),
    (
        {"search.train": {"class_weights": [1, 2]}},
        "`class_weights` must be one number for each of the 10 classes",
    ),
    (
        {"student.train.quantizer_lr": 0.1},
        "`quantizer_lr` is 0.1, but this network has no quantizer that learns",
    ),
    ({"kd.loss": "soft", "kd.weight": 0, "kd.task_weight": 0}, "`weight` and `task_weight` are both 0"),
    ({"kd.loss": "none", "kd.task_weight": 0}, "`kd.task_weight` must be above 0 where `kd.loss` is none"),
]


@pytest.mark.parametrize(("changes", "words"), MEMBERS)
def test_what_members_cannot_train_with_is_refused_before_any_work(changes, words, tmp_path):
    """Not when their search begins, behind the teacher's training."""
    small = {"search.population": 4, "search.epochs": 2, "search.interval": 1, "student.train.epochs": 2}
    with (
        pytest.raises(InputError, match=words),
        open_pipeline({**QUICK, **small, **changes}, out=tmp_path / "run"),
    ):
        pass
    assert not (tmp_path / "run").exists()


def test_a_schedule_that_is_given_needs_no_members():
    own = {"student.schedule": "none", "student.train.warmup_epochs": 2, "student.train.epochs": 3}
    check(load_config(options={**QUICK, "search.epochs": 2, "search.interval": 1, **own}))


def test_an_own_loss_that_reads_labels_of_mixed_images(tmp_path):
    """The trial step mixes where the training does, and the error says what to do."""
    path = tmp_path / "mine.py"
    path.write_text(
        "import torch\nfrom rolewise.kd import KDLoss\n\n\n"
        "class Mine(KDLoss):\n"
        "    def forward(self, student, teacher):\n"
        "        return (student.logits[torch.arange(len(student.labels)), student.labels] ** 2).mean()\n"
    )
    own = {**QUICK, "kd.loss": f"{path}:Mine", "search.epochs": 2, "search.interval": 1}
    check(load_config(options=own))
    for place in ("student.train.cutmix", "student.train.mixup"):
        with pytest.raises(InputError, match="NoneType[^$]*images are mixed[^$]*needs_labels = True"):
            check(load_config(options={**own, place: 1.0}))
    with pytest.raises(InputError, match="needs_labels = True"):
        check(load_config(options={**own, "search.train": {"cutmix": 1.0}}))
    honest = tmp_path / "honest.py"
    honest.write_text(path.read_text().replace("(KDLoss):\n", "(KDLoss):\n    needs_labels = True\n\n"))
    with pytest.raises(InputError, match="Mine compares images by their class"):
        check(load_config(options={**own, "kd.loss": f"{honest}:Mine", "student.train.cutmix": 1.0}))
