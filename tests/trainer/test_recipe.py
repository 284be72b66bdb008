"""Each setting of the recipe against PyTorch's own or a plain loop, and resumed against undisturbed trainings."""

import copy
from functools import cache
from types import SimpleNamespace

import pytest
import torch
from small_training import network, split
from tape import Tape
from torch import nn
from torch.nn import functional as F
from torch.optim.lr_scheduler import ConstantLR, CosineAnnealingLR, LinearLR, MultiStepLR, SequentialLR

import rolewise as rw
from rolewise import kd
from rolewise.augment import Mixing, Schedule, TrivialAugment, mix_images, mix_labels
from rolewise.augment.mixing import partners
from rolewise.data import Data
from rolewise.errors import InputError, Interrupted
from rolewise.objective import CrossEntropy, Distill, MutualLearning
from rolewise.quant import quantized_layers, quantizer_parameters, weight_codes
from rolewise.trainer import (
    Feeder,
    State,
    Trainer,
    TrainSettings,
    final_test,
    fit,
    student_settings,
    teacher_settings,
    torch_threads,
)
from rolewise.trainer.checks import check_shared

BATCH = 16
SCHEDULE = Schedule.constant(TrivialAugment(), 4)


@pytest.fixture(autouse=True)
def _one_thread():
    with torch_threads(1):
        yield


def teacher(**changes):
    return Trainer(network(0), CrossEntropy(), split(), teacher_settings(**_small(changes)), seed=0)


def student(loss="soft", *, bits=2, method="dorefa", first_last_bits=32, task_weight=None, **changes):
    task = Distill(network(1).eval(), kd.LOSSES[loss](), task_weight=task_weight)
    model = rw.quantize(network(0), bits, bits, method=method, first_last_bits=first_last_bits)
    return Trainer(model, task, split(), student_settings(**_small(changes)), seed=0, role="student")


def _small(changes):
    return {"epochs": 4, "batch_size": BATCH, "precision": "fp32", "lr": 0.05, **changes}


def equal(one, other):
    assert one.keys() == other.keys()
    for name in one:
        assert torch.equal(one[name], other[name]), name


class TestLearningRates:
    def rates(self, make, epochs):
        optimizer = torch.optim.SGD([nn.Parameter(torch.zeros(1))], lr=0.1)
        schedule, found = make(optimizer), []
        for _ in range(epochs):
            found.append(optimizer.param_groups[0]["lr"])
            optimizer.step()
            schedule.step()
        return found

    def warmed(self, behind, warmup):
        def make(optimizer):
            rising = LinearLR(optimizer, start_factor=1 / (warmup + 1), total_iters=warmup)
            return SequentialLR(optimizer, [rising, behind(optimizer)], milestones=[warmup])

        return make

    @pytest.mark.parametrize("epochs", [1, 7, 200])
    def test_cosine_is_pytorchs(self, epochs):
        ours = TrainSettings(epochs, lr=0.1, lr_schedule="cosine")
        expected = self.rates(lambda optimizer: CosineAnnealingLR(optimizer, epochs), epochs)
        assert [ours.lr_at(epoch) for epoch in range(epochs)] == pytest.approx(expected)

    @pytest.mark.parametrize("warmup", [1, 5])
    def test_warm_up_is_pytorchs(self, warmup):
        cosine = TrainSettings(20, lr=0.1, lr_schedule="cosine", warmup_epochs=warmup)
        expected = self.rates(self.warmed(lambda o: CosineAnnealingLR(o, 20 - warmup), warmup), 20)
        assert [cosine.lr_at(epoch) for epoch in range(20)] == pytest.approx(expected)
        constant = TrainSettings(20, lr=0.1, lr_schedule="constant", warmup_epochs=warmup)
        expected = self.rates(self.warmed(lambda o: ConstantLR(o, factor=1.0), warmup), 20)
        assert [constant.lr_at(epoch) for epoch in range(20)] == pytest.approx(expected)

    def test_steps_stay_where_they_were(self):
        step = TrainSettings(20, lr=0.1, warmup_epochs=2)
        expected = self.rates(lambda o: MultiStepLR(o, [6, 12, 18]), 20)
        found = [step.lr_at(epoch) for epoch in range(20)]
        assert found[2:] == pytest.approx(expected[2:])
        assert found[:2] == pytest.approx([0.1 / 3, 0.2 / 3])

    def test_the_trainer_uses_them(self):
        trainer = teacher(lr_schedule="cosine", warmup_epochs=1)
        used = []
        for _ in range(4):
            trainer.train_epoch()
            used.append(float(trainer.optimizer.param_groups[0]["lr"]))
        assert used == pytest.approx([0.05 / 2, 0.05, 0.05 * 3 / 4, 0.05 / 4])


class TestOneStep:
    """A step of the trainer against the same step written with PyTorch's own parts."""

    def after_one_step(self, trainer):
        batch = next(trainer.feeder.batches(0, None))
        model = copy.deepcopy(trainer.model).train()
        trainer.model.train()
        trainer.train_step(batch)
        return batch, model

    def same(self, trainer, model):
        for name, tensor in model.state_dict().items():
            found = trainer.model.state_dict()[name]
            torch.testing.assert_close(found, tensor, rtol=1e-4, atol=1e-6, msg=name)

    def test_label_smoothing(self):
        trainer = teacher(label_smoothing=0.1, weight_decay=0.0)
        batch, model = self.after_one_step(trainer)
        optimizer = torch.optim.SGD(model.parameters(), 0.05, momentum=0.9, nesterov=True)
        nn.CrossEntropyLoss(label_smoothing=0.1)(model(batch.images), batch.labels).backward()
        optimizer.step()
        self.same(trainer, model)

    def test_gradient_clip(self):
        trainer = teacher(grad_clip=0.01, weight_decay=0.0)
        batch, model = self.after_one_step(trainer)
        F.cross_entropy(model(batch.images), batch.labels).backward()
        gradients = torch.cat([p.grad.flatten() for p in model.parameters()])
        norm = gradients.norm()
        assert norm > 0.02
        with torch.no_grad():
            for parameter in model.parameters():  # Nesterov's first step: 1 + momentum times the gradient
                parameter -= 0.05 * 1.9 * parameter.grad * (0.01 / norm)
        self.same(trainer, model)

    def test_adamw(self):
        trainer = teacher(optimizer="adamw", weight_decay=0.1, lr=0.01)
        batch, model = self.after_one_step(trainer)
        optimizer = torch.optim.AdamW(model.parameters(), 0.01, weight_decay=0.1)
        F.cross_entropy(model(batch.images), batch.labels).backward()
        optimizer.step()
        self.same(trainer, model)

    @pytest.mark.parametrize("kind", ["mixup", "cutmix"])
    def test_mixing(self, kind):
        trainer = teacher(**{kind: 1.0}, weight_decay=0.0, momentum=0.0)
        mixed, model = self.after_one_step(trainer)
        plain = next(teacher().feeder.batches(0, None))
        assert torch.equal(plain.ids, mixed.ids)
        plan = trainer.settings.mixing.plan(
            trainer.settings.mixing.draws(trainer.feeder._seed, 0, 64), plain.ids, 32, 32
        )
        assert torch.equal(mixed.images, mix_images(plain.images, plan))
        assert torch.equal(mixed.labels, mix_labels(plain.labels, plan, 10))
        logits, other = model(mixed.images), plain.labels[partners(BATCH, torch.device("cpu"))]
        own = F.cross_entropy(logits, plain.labels, reduction="none")
        loss = (plan.share * own + (1 - plan.share) * F.cross_entropy(logits, other, reduction="none")).mean()
        loss.backward()
        torch.optim.SGD(model.parameters(), 0.05).step()
        self.same(trainer, model)

    def test_teacher_and_student_see_the_same_mixed_view(self):
        """The target of the distillation is the teacher's output on the mixed images, the task's the mixed labels."""
        trainer = student(mixup=1.0, cutmix=1.0, optimizer="sgd", momentum=0.0, weight_decay=0.0)
        batch, model = self.after_one_step(trainer)
        logits = model(batch.images)
        with torch.no_grad():
            taught = trainer.objective.teacher(batch.images)
        distance = F.kl_div(F.log_softmax(logits / 3, 1), F.softmax(taught / 3, 1), reduction="batchmean")
        (0.7 * F.cross_entropy(logits, batch.labels) + 0.3 * distance).backward()
        torch.optim.SGD(model.parameters(), 0.05).step()
        self.same(trainer, model)

    def test_quantizers_have_a_rate_of_their_own(self):
        one = student(method="lsq", optimizer="sgd", momentum=0.0, weight_decay=0.0)
        other = student(method="lsq", optimizer="sgd", momentum=0.0, weight_decay=0.0, quantizer_lr=0.005)
        start = {name: p.detach().clone() for name, p in one.model.named_parameters()}
        for trainer in (one, other):
            self.after_one_step(trainer)
        learned = quantizer_parameters(one.model)
        assert {name.rsplit(".", 1)[1] for name in learned} == {"weight_step", "act_step"}
        for name, before in start.items():
            step, slow = (t.model.get_parameter(name).detach() - before for t in (one, other))
            torch.testing.assert_close(slow, step * (0.1 if name in learned else 1.0), rtol=1e-3, atol=1e-7)

    def test_without_labels(self):
        """task_weight 0: the teacher alone, and the clip that compares with the task's gradient is off."""
        task = Distill(network(1).eval(), kd.LOSSES["kd-svd"](), task_weight=0.0)
        assert not task.clip
        trainer = Trainer(network(0), task, split(), student_settings(**_small({})), seed=0)
        trainer.train_epoch()
        same = Distill(network(1).eval(), kd.LOSSES["kd-svd"](), task_weight=0.0, clip=False)
        other = Trainer(network(0), same, split(), student_settings(**_small({})), seed=0)
        other.split.labels.copy_((other.split.labels + 3) % 10)
        other.train_epoch()
        equal(trainer.model.state_dict(), other.model.state_dict())
        assert not torch.equal(trainer.model.state_dict()["fc.weight"], network(0).state_dict()["fc.weight"])
        with pytest.raises(InputError, match="`clip` bounds the KD gradient by the task's, which is 0"):
            Distill(network(1).eval(), kd.LOSSES["kd-svd"](), task_weight=0.0, clip=True)


@pytest.mark.parametrize("name", kd.LOSSES)
def test_every_loss_learns_from_mixed_images_or_says_why_not(name):
    trained = {"kd-svd": {}, "mhgd": {"trained": False}, "ii-kd": {"trained": False}}
    loss = kd.LOSSES[name](**trained.get(name, {}))
    task = Distill(network(1).eval(), loss, prepare_epochs=1)
    task.prepare(split(16), seed=0)

    def make():
        model = rw.quantize(network(0), 2, 2)
        chosen = student_settings(**_small({"mixup": 1.0}))
        return Trainer(model, task, split(), chosen, seed=0, role="student")

    assert loss.needs_labels == (name in ("crd", "dkd"))
    if loss.needs_labels:
        with pytest.raises(InputError, match=f"{type(loss).__name__} compares images by their class"):
            make()
    else:
        assert make().train_epoch().finite


def test_the_parts_of_several_processes_are_the_whole_batch():
    chosen = teacher_settings(**_small({"mixup": 1.0, "cutmix": 1.0})).resolved()
    key, placement = (0, "teacher", None), chosen.placement()
    whole, *parts = (
        list(Feeder(split(), chosen, placement, key, share).batches(1, TrivialAugment()))
        for share in (None, slice(0, 6), slice(6, BATCH))
    )
    for batch, first, second in zip(whole, *parts, strict=True):
        assert torch.equal(batch.images, torch.cat([first.images, second.images]))
        assert torch.equal(batch.labels, torch.cat([first.labels, second.labels]))


def test_an_odd_part_cannot_be_mixed_in_pairs():
    chosen = teacher_settings(4, batch_size=18, cutmix=1.0)
    with pytest.raises(
        InputError, match="18 images over 2 processes are an odd number each: choose a multiple of 4"
    ):
        check_shared(CrossEntropy(), chosen, SimpleNamespace(size=2))
    check_shared(CrossEntropy(), teacher_settings(4, batch_size=20, cutmix=1.0), SimpleNamespace(size=2))


def test_mutual_learning_and_bfloat16_take_mixed_images():
    for objective, changes in ((MutualLearning(network(1)), {}), (CrossEntropy(), {"precision": "bf16"})):
        chosen = teacher_settings(**_small({"cutmix": 1.0, "label_smoothing": 0.1, "epochs": 1, **changes}))
        trainer = Trainer(network(0), objective, split(32), chosen, seed=0)
        assert trainer.train_epoch().finite


EVERY = {
    "cosine": {"lr_schedule": "cosine", "warmup_epochs": 1},
    "smoothing": {"label_smoothing": 0.1},
    "clip": {"grad_clip": 0.5},
    "adamw": {"optimizer": "adamw"},
    "mixing": {"mixup": 0.2, "cutmix": 1.0, "mix_probability": 0.7},
    "ema": {"ema_decay": 0.9},
    "last": {"ema_epochs": 2},
    "ladder": {"ladder": (8, 4, 2), "ladder_shares": (0.25, 0.25, 0.5)},
    "quantizers": {"quantizer_lr": 0.001},
    "levels": {"count_level_changes": True},
    "ends": {"first_last_bits": 8},
    "labelfree": {"task_weight": 0.0},
    "all": {
        "lr_schedule": "cosine", "label_smoothing": 0.1, "grad_clip": 1.0, "mixup": 0.2, "cutmix": 1.0,
        "ema_decay": 0.9, "ladder": (4, 2), "quantizer_lr": 0.001, "count_level_changes": True, "first_last_bits": 8,
    },
}  # fmt: skip


class _Stop:
    """Says yes once, after so many questions."""

    def __init__(self, after):
        self.left = after

    def __call__(self):
        self.left -= 1
        return self.left == -1


@cache
def _undisturbed(name):
    """State, test and epochs' losses of a whole training."""
    return _to_the_end(student(method="lsq", **EVERY[name]))


def _to_the_end(trainer):
    history = fit(trainer, SCHEDULE)
    return trainer.state().tensors, final_test(trainer, split(48), history, policy=SCHEDULE[3])


@pytest.mark.parametrize(("name", "after"), [*((name, 6) for name in EVERY), ("all", 0), ("all", 12)])
def test_a_resumed_training_equals_an_undisturbed_one(name, after):
    """Interrupted at the start, in the second epoch, and between two; continued by another object from the bytes."""
    state, result = _undisturbed(name)
    first = student(method="lsq", **EVERY[name])
    first.should_stop = _Stop(after)
    with pytest.raises(Interrupted):
        fit(first, SCHEDULE)
    second = student(method="lsq", **EVERY[name])
    second.load_state(State.from_bytes(first.state().to_bytes()))
    assert (second.epoch, second.step) == divmod(after, 4)
    resumed_state, resumed = _to_the_end(second)
    equal(state, resumed_state)
    assert result.history[second.epoch - len(resumed.history) :] == resumed.history
    assert torch.equal(result.logits, resumed.logits)
    assert (result.averaged is None) == (not name.startswith(("ema", "last", "all")))
    if result.averaged is not None:
        assert result.averaged_accuracy == resumed.averaged_accuracy
        equal(result.averaged.state_dict(), resumed.averaged.state_dict())


@pytest.mark.parametrize("name", EVERY)
def test_nothing_waits_for_the_device(name):
    trainer = student("soft", method="lsq", **EVERY[name])
    trainer.model.train()
    trainer.train_step(next(trainer.feeder.batches(0, None)))
    plain = next(student("soft").feeder.batches(0, None))
    mixing, batch = trainer.settings.mixing, plain
    with Tape() as tape:
        if mixing is not None:
            plan = mixing.plan(mixing.draws(0, 0, 64), plain.ids, 32, 32)
            batch = trainer.feeder._send(type(plain)(plain.images, plain.labels, plain.ids, plan))
        trainer.train_step(batch)
    assert not tape.waits()
    assert len(tape.names) > 100


@pytest.mark.parametrize("name", ["ema", "clip", "all"])
def test_repeating_the_recorded_step_is_training(name):
    """What a CUDA graph would do: new batches in the recorded one's place; averages count the steps on the device."""
    captured, eager = (student(method="lsq", **EVERY[name]) for _ in range(2))
    first, second, *rest = eager.feeder.batches(0, None)
    for trainer in (captured, eager):
        trainer.model.train()
        trainer.train_step(first)
    static = type(first)(second.images.clone(), second.labels.clone(), second.ids.clone())
    with Tape() as tape:
        captured.train_step(static)
    eager.train_step(second)
    for batch in rest:
        for old, new in zip(
            (static.images, static.labels, static.ids), (batch.images, batch.labels, batch.ids), strict=True
        ):
            old.copy_(new)
        tape.replay()
        eager.train_step(batch)
    equal(captured.state().tensors, eager.state().tensors)


class TestAverages:
    def test_exponential(self):
        trainer = teacher(ema_decay=0.8)
        model = copy.deepcopy(trainer.model)
        expected = {name: p.detach().double().clone() for name, p in model.named_parameters()}
        trainer.model.train()
        steps = 0
        for epoch in range(2):
            for batch in trainer.feeder.batches(epoch, None):
                trainer.train_step(batch)
                decay = min(0.8, (1 + steps) / (10 + steps))
                steps += 1
                for name, parameter in trainer.model.named_parameters():
                    expected[name] = decay * expected[name] + (1 - decay) * parameter.detach().double()
        assert min(0.8, (1 + steps) / (10 + steps)) < 0.8
        for name, parameter in trainer.averaged().named_parameters():
            torch.testing.assert_close(parameter.detach().double(), expected[name], rtol=1e-5, atol=1e-6)

    def test_the_decay_is_reached(self):
        trainer = teacher(ema_decay=0.2)
        before = [one.clone() for one in trainer.average._average]
        with torch.no_grad():
            for parameter in trainer.model.parameters():
                parameter += 1
        for expected in (0.1, 2 / 11, 0.2, 0.2):  # (1 + t) / (10 + t) below the decay
            kept = [one.clone() for one in trainer.average._average]
            trainer.average.after_step()
            for now, old, one in zip(trainer.average._average, kept, trainer.model.parameters(), strict=True):
                torch.testing.assert_close(now, expected * old + (1 - expected) * one.detach())
        assert not torch.equal(before[0], trainer.average._average[0])

    def test_last_epochs(self):
        trainer, kept = teacher(ema_epochs=3), []
        for _ in range(4):
            trainer.train_epoch()
            kept.append({name: p.detach().clone() for name, p in trainer.model.named_parameters()})
        for name, parameter in trainer.averaged().named_parameters():
            mean = torch.stack([one[name] for one in kept[1:]]).double().mean(0)
            torch.testing.assert_close(parameter.detach().double(), mean, rtol=1e-5, atol=1e-7)

    def test_statistics_are_those_of_the_augmented_batches(self):
        """Each layer's running mean against the means of its inputs, batch after batch, under the last policy."""
        policy = TrivialAugment()
        trainer = student(ema_decay=0.9, epochs=1, mixup=1.0)
        trainer.train_epoch(policy)
        averaged = trainer.averaged(policy)
        layers = {n: m for n, m in averaged.named_modules() if isinstance(m, nn.BatchNorm2d)}
        seen = {name: [] for name in layers}
        check = copy.deepcopy(averaged)
        for name, layer in check.named_modules():
            if name in layers:
                layer.train()
                layer.momentum = 0.0
                layer.register_forward_pre_hook(
                    lambda _, inputs, name=name: seen[name].append(inputs[0].detach())
                )
        with torch.no_grad():
            for batch in trainer.feeder.batches(0, policy):
                check(batch.images)
        for name, layer in layers.items():
            means = torch.stack([one.mean((0, 2, 3)) for one in seen[name]]).mean(0)
            variances = torch.stack([one.transpose(0, 1).flatten(1).var(1) for one in seen[name]]).mean(0)
            torch.testing.assert_close(layer.running_mean, means, rtol=1e-4, atol=1e-5)
            torch.testing.assert_close(layer.running_var, variances, rtol=1e-4, atol=1e-5)
            assert layer.momentum == trainer.model.get_submodule(name).momentum
        assert not any(module.training for module in averaged.modules())

    def test_the_trained_network_is_not_touched(self):
        trainer = student(ema_decay=0.9)
        trainer.train_epoch()
        before = copy.deepcopy(trainer.state().tensors)
        trainer.averaged()
        equal(before, trainer.state().tensors)

    def test_result(self):
        result = rw.train(network(0), _data(), epochs=2, ema_decay=0.5, batch_size=BATCH)
        assert result.averaged is not None
        assert 0 <= result.averaged_accuracy <= 1
        assert rw.train(network(0), _data(), epochs=1, batch_size=BATCH).averaged is None

    def test_none_is_asked_for(self):
        with pytest.raises(InputError, match="There is no average of the weights: set `ema_decay`"):
            teacher().averaged()


def _data():
    train, test = split(), split(32)
    return Data.from_arrays(
        train=(train.images, train.labels), test=(test.images, test.labels), classes=train.classes
    )


class TestLadder:
    def bits(self, trainer):
        return {one.weights for one in quantized_layers(trainer.model).values()} - {None}

    def test_rungs(self):
        trainer, found = student(ladder=(8, 4, 2), ladder_shares=(0.25, 0.25, 0.5)), []
        for _ in range(4):
            trainer.train_epoch()
            found.append(self.bits(trainer))
        assert found == [{8}, {4}, {2}, {2}]
        assert self.bits(student()) == {2}

    def test_shares(self):
        ten = TrainSettings(10, ladder=(8, 4, 2))
        assert [ten.bits_at(epoch) for epoch in range(10)] == [8] * 3 + [4] * 4 + [2] * 3
        uneven = TrainSettings(10, ladder=(4, 2), ladder_shares=(0.9, 0.1))
        assert [uneven.bits_at(epoch) for epoch in range(10)] == [4] * 9 + [2]
        tight = TrainSettings(3, ladder=(8, 4, 2), ladder_shares=(0.45, 0.4, 0.15))
        assert [tight.bits_at(epoch) for epoch in range(3)] == [8, 4, 2]
        assert TrainSettings(2).bits_at(0) is None

    def test_the_first_rung_is_a_training_at_its_bits(self):
        """Until the first change of bits nothing announces one."""
        lifted, plain = student(bits=2, ladder=(8, 2)), student(bits=8)
        for _ in range(2):
            lifted.train_epoch()
            plain.train_epoch()
        equal(lifted.model.state_dict(), plain.model.state_dict())

    def test_a_rung_starts_from_the_last_with_its_quantizers(self):
        trainer = student(method="lsq", ladder=(4, 2))
        trainer.train_epoch()
        trainer.train_epoch()
        before = {name: one.detach().clone() for name, one in trainer.model.named_parameters()}
        trainer.epoch = 2
        trainer._set_rung()
        learned = quantizer_parameters(trainer.model)
        for name, parameter in trainer.model.named_parameters():
            # Q_P is 7 at 4 bits and 1 at 2 for weights, 15 and 3 for activations.
            ratio = (7 if "weight" in name.rsplit(".", 1)[1] else 5) ** 0.5 if name in learned else 1.0
            torch.testing.assert_close(parameter.detach(), before[name] * ratio)

    @pytest.mark.parametrize(
        ("make", "message"),
        [
            (
                lambda: student(ladder=(8, 4)),
                r"`ladder` must end with the network's own bits, 2, got \[8, 4\]",
            ),
            (lambda: teacher(ladder=(8, 4)), "`ladder` is for a quantized network, and this one is float"),
            (
                lambda: teacher(quantizer_lr=0.1),
                "`quantizer_lr` is 0.1, but this network has no quantizer that",
            ),
            (
                lambda: student(quantizer_lr=0.1),
                "`quantizer_lr` is 0.1, but this network has no quantizer that",
            ),
        ],
    )
    def test_wrong_networks(self, make, message):
        with pytest.raises(InputError, match=message):
            make()


class TestLevelChanges:
    def test_the_share_is_logged(self):
        trainer = student(count_level_changes=True)
        before = weight_codes(trainer.model)
        metrics = trainer.train_epoch()
        after = weight_codes(trainer.model)
        changed = sum(int((before[name] != after[name]).sum()) for name in before)
        assert metrics.values["level_changes"] == changed / sum(codes.numel() for codes in before.values())
        assert 0 < metrics.values["level_changes"] < 1

    def test_a_network_without_low_bit_weights_has_none(self):
        assert "level_changes" not in teacher(count_level_changes=True).train_epoch().values
        assert "level_changes" not in student().train_epoch().values


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (
            {"lr_schedule": "linear"},
            "`lr_schedule` must be 'step', 'cosine' or 'constant', got 'linear'",
        ),
        ({"warmup_epochs": 4}, "`warmup_epochs` must be fewer than the 4 epochs, got 4"),
        ({"label_smoothing": 1.0}, "`label_smoothing`.*less than 1"),
        ({"grad_clip": 0.0}, "`grad_clip`.*greater than 0"),
        ({"ema_decay": 1.0}, "`ema_decay`.*less than 1"),
        ({"ema_decay": 0.9, "ema_epochs": 2}, "`ema_epochs` must be None where `ema_decay` is given"),
        ({"mixup": -1.0}, "`mixup`.*greater than 0"),
        ({"ema_epochs": 5}, "`ema_epochs` must be at most the 4 epochs, got 5"),
        ({"mix_probability": 1.5}, "`mix_probability`.*less than or equal to 1"),
        (
            {"mix_probability": 0.5},
            "`mix_probability` must be left out where neither `mixup` nor `cutmix` is",
        ),
        (
            {"ladder": (8, 6, 5, 4, 2)},
            "`ladder_shares`.*must leave each of the 5 rungs of `ladder` one of the 4 ep",
        ),
        (
            {"ladder": (8, 4, 2), "ladder_shares": (0.05, 0.05, 0.9)},
            "`ladder_shares`.*must leave each of the 3 rungs .* fewer rungs, more epochs or other shares",
        ),
        ({"ladder": (2, 4)}, "`ladder` must be two or more descending bit-widths"),
        ({"ladder": (16, 4)}, "`ladder` must be two or more descending bit-widths"),
        (
            {"ladder": (4, 2), "ladder_shares": (0.5, 0.4)},
            "`ladder_shares` must be 2 shares above 0 with sum 1",
        ),
        ({"ladder_shares": (0.5, 0.5)}, "`ladder_shares` must be left out where there is no `ladder`"),
    ],
)
def test_bad_settings(change, words):
    with pytest.raises(InputError, match=words):
        TrainSettings(4, **change)


def test_no_mixing_by_default():
    assert TrainSettings(1).mixing is None
    assert TrainSettings(1, cutmix=0.5, mix_probability=0.3).mixing == Mixing(None, 0.5, 0.3)
