"""The trainer against a plain PyTorch loop, and resumed trainings against uninterrupted ones, to the bit."""

import copy
import os
import signal

import pytest
import torch
from torch import nn
from torch.nn import functional as F

import rolewise as rw
from rolewise import kd, networks
from rolewise.augment import Schedule, normalize
from rolewise.data import Data
from rolewise.errors import InputError, Interrupted
from rolewise.objective import CrossEntropy, Distill
from rolewise.progress import Progress
from rolewise.runs import RunDirectory
from rolewise.trainer import (
    State,
    Trainer,
    TrainSettings,
    best_state,
    evaluate,
    final_test,
    fit,
    student_settings,
    teacher_settings,
    torch_threads,
)


@pytest.fixture(scope="module")
def data():
    return rw.load_data("digits")


@pytest.fixture(autouse=True)
def _one_thread():
    with torch_threads(1):
        yield


def small(seed=0):
    model = networks.build("cnn-tiny", num_classes=10)
    model.reset(torch.Generator().manual_seed(seed))
    return model


def settings(**changes):
    return teacher_settings(**{"epochs": 4, "batch_size": 64, "lr": 0.05, "precision": "fp32", **changes})


def equal(a, b):
    return a.keys() == b.keys() and all(torch.equal(a[name], b[name]) for name in a)


def test_steps_equal_a_plain_loop(data):
    split = data.train.subset(torch.arange(200))
    chosen = settings(flip=False, crop=0, weight_decay=1e-3)
    trainer = Trainer(small(), CrossEntropy(), split, chosen, seed=3)
    batches = list(trainer.feeder.batches(0, None))
    assert len(batches) == trainer.steps == 3
    plain = small().train()
    optimizer = torch.optim.SGD(plain.parameters(), lr=0.05, momentum=0.9, nesterov=True, weight_decay=1e-3)
    for batch in batches:
        optimizer.zero_grad()
        F.cross_entropy(plain(batch.images), batch.labels).backward()
        optimizer.step()
    trainer.train_epoch()
    for name, tensor in plain.state_dict().items():
        torch.testing.assert_close(trainer.model.state_dict()[name], tensor, rtol=1e-4, atol=1e-6, msg=name)


def test_without_augmentation_the_batches_are_the_normalized_images(data):
    split = data.train.subset(torch.arange(130))
    trainer = Trainer(small(), CrossEntropy(), split, settings(flip=False, crop=0), seed=1)
    seen = torch.cat([batch.ids for batch in trainer.feeder.batches(2, None)])
    assert len(seen) == len(set(seen.tolist())) == 128
    for batch in trainer.feeder.batches(2, None):
        rows = [split.ids.tolist().index(i) for i in batch.ids.tolist()]
        pixels = split.images[rows].permute(0, 3, 1, 2).double() / 255
        mean, std = (torch.tensor(x, dtype=torch.float64).view(3, 1, 1) for x in (split.mean, split.std))
        torch.testing.assert_close(batch.images.double(), (pixels - mean) / std, rtol=1e-5, atol=1e-5)
        assert torch.equal(batch.labels, split.labels[rows])


def test_order_and_augmentation_depend_on_seed_role_member_and_epoch_alone(data):
    split = data.train.subset(torch.arange(128))

    def first(seed=0, role="teacher", member=None, epoch=0):
        trainer = Trainer(small(), CrossEntropy(), split, settings(), seed=seed, role=role, member=member)
        return next(iter(trainer.feeder.batches(epoch, None)))

    base = first()
    assert torch.equal(base.images, first().images)
    for change in ({"seed": 1}, {"role": "student"}, {"member": 2}, {"epoch": 1}):
        assert not torch.equal(base.ids, first(**change).ids)


def test_starting_amid_an_epoch_gives_the_remaining_batches(data):
    trainer = Trainer(small(), CrossEntropy(), data.train, settings(), seed=0)
    policy = Schedule.random(1, seed=0)[0]
    whole = list(trainer.feeder.batches(0, policy))
    for start in (1, 5, len(whole) - 1):
        rest = list(trainer.feeder.batches(0, policy, start))
        assert len(rest) == len(whole) - start
        for a, b in zip(rest, whole[start:], strict=True):
            assert torch.equal(a.images, b.images)
            assert torch.equal(a.ids, b.ids)


def test_learning_rate_and_milestones():
    teacher, student = teacher_settings(200), student_settings(200)
    assert [round(teacher.lr_at(e), 8) for e in (0, 59, 60, 120, 180, 199)] == [
        0.1,
        0.1,
        0.01,
        0.001,
        0.0001,
        0.0001,
    ]
    assert [round(student.lr_at(e), 10) for e in (0, 60, 120, 180)] == [1e-3, 1e-4, 1e-5, 1e-6]
    released = teacher_settings(200, milestones=(0.3, 0.6, 0.8))
    assert [e for e in range(1, 200) if released.lr_at(e) != released.lr_at(e - 1)] == [60, 120, 160]


def test_weight_decay_scope():
    from rolewise.trainer.optimizer import make_optimizer

    model = networks.build("resnet8-small", num_classes=10)
    weights = {id(m.weight) for m in model.modules() if isinstance(m, nn.Conv2d | nn.Linear)}
    optimizer = make_optimizer(model, [], student_settings(1).resolved())
    decay = {id(p): group["weight_decay"] for group in optimizer.param_groups for p in group["params"]}
    assert len(decay) == len(list(model.parameters()))
    assert all((value == 1e-5) == (key in weights) for key, value in decay.items())
    assert optimizer.defaults["eps"] == 1e-5
    optimizer = make_optimizer(model, [], teacher_settings(1).resolved())
    assert {group["weight_decay"] for group in optimizer.param_groups} == {5e-4}


@pytest.mark.parametrize("objective", ["plain", "distill"])
@pytest.mark.parametrize("stop_after", [3, 30])
def test_interrupted_and_resumed_equals_uninterrupted(data, objective, stop_after):
    """Also within an epoch, through bytes, into a fresh trainer: momentum, buffers, sums, own parameters, all."""
    schedule = Schedule.random(3, seed=1, interval=1)

    def make(should_stop=None):
        model, task = small(1), CrossEntropy()
        chosen = settings(epochs=3)
        if objective == "distill":
            rw.quantize(model, 4, 4)
            task = Distill(small(2).eval(), kd.LOSSES["fitnet"](), clip=True)
            chosen = student_settings(3, batch_size=64, precision="fp32")
        return Trainer(model, task, data.train, chosen, seed=4, role="student", should_stop=should_stop)

    reference = make()
    history = [reference.train_epoch(schedule[epoch]).values for epoch in range(3)]

    left = iter(range(stop_after))
    broken = make(should_stop=lambda: next(left, None) is None)
    done = []
    for epoch in range(stop_after // reference.steps):
        done.append(broken.train_epoch(schedule[epoch]).values)
    with pytest.raises(Interrupted):
        broken.train_epoch(schedule[broken.epoch])
    saved = State.from_bytes(broken.state().to_bytes())
    resumed = make()
    resumed.load_state(saved)
    assert (resumed.epoch, resumed.step) == divmod(stop_after, reference.steps)
    while resumed.epoch < 3:
        done.append(resumed.train_epoch(schedule[resumed.epoch]).values)
    assert done == history
    assert equal(resumed.state().tensors, reference.state().tensors)


def test_state_is_a_copy_and_loads_into_a_trainer_that_went_on(data):
    trainer = Trainer(small(), CrossEntropy(), data.train.subset(torch.arange(128)), settings(), seed=0)
    fresh = trainer.state()
    kept = copy.deepcopy(fresh.tensors)
    trainer.train_epoch()
    assert equal(fresh.tensors, kept)
    first = trainer.state()
    trainer.load_state(fresh)
    trainer.train_epoch()
    assert equal(trainer.state().tensors, first.tensors)


def test_evaluation_against_a_plain_loop(data):
    split = data.test.subset(torch.arange(150))
    model = small().eval()
    correct, loss = 0, 0.0
    for image, label in zip(split.images, split.labels, strict=True):
        x = (
            image.permute(2, 0, 1).double() / 255 - torch.tensor(data.train.mean).double().view(3, 1, 1)
        ) / torch.tensor(data.train.std).double().view(3, 1, 1)
        logits = model(x.float()[None])[0].double()
        correct += int(logits.argmax() == label)
        loss += -torch.log_softmax(logits, 0)[label].item()
    found = evaluate(
        model, split, mean=data.train.mean, std=data.train.std, placement=settings().placement(), batch=64
    )
    assert (found.accuracy, found.n) == (correct / 150, 150)
    assert found.loss == pytest.approx(loss / 150, rel=1e-4)


def test_evaluation_does_not_depend_on_the_batch_and_changes_nothing(data):
    trainer = Trainer(small(), CrossEntropy(), data.train, settings(), seed=0)
    trainer.train_epoch()
    before = {name: tensor.clone() for name, tensor in trainer.model.state_dict().items()}
    found = {
        trainer.evaluate(data.test.subset(torch.arange(200))).accuracy,
        evaluate(
            trainer.model,
            data.test.subset(torch.arange(200)),
            mean=data.train.mean,
            std=data.train.std,
            placement=trainer.placement,
            batch=7,
        ).accuracy,
    }
    assert len(found) == 1
    trainer.evaluate(data.test, batch_statistics=True)
    assert equal(trainer.model.state_dict(), before)
    assert trainer.model.training


def test_batch_statistics_are_those_of_batches_of_128(data):
    model = small().eval()
    split = data.test.subset(torch.arange(256))
    reference = copy.deepcopy(model).train()
    images = normalize(split.images, data.train.mean, data.train.std)
    hits = sum(
        (reference(images[k : k + 128]).argmax(1) == split.labels[k : k + 128]).sum().item() for k in (0, 128)
    )
    place = settings().placement()
    found = evaluate(
        model, split, mean=data.train.mean, std=data.train.std, placement=place, batch_statistics=True
    )
    assert found.accuracy == hits / 256


def test_training_learns_and_reports(data):
    model = small()
    result = rw.train(model, data, epochs=4, batch_size=64, lr=0.1, flip=False, crop=2)
    assert result.accuracy > 0.8
    assert result.n == len(data.test)
    assert [entry["epoch"] for entry in result.history] == [1, 2, 3, 4]
    assert result.history[-1]["loss"] < result.history[0]["loss"]
    assert not model.training


def test_bf16_reaches_what_fp32_reaches(data):
    accuracy = {}
    for precision in ("fp32", "bf16"):
        model = small()
        accuracy[precision] = rw.train(
            model, data, epochs=4, batch_size=64, lr=0.05, flip=False, crop=2, precision=precision
        ).accuracy
    assert abs(accuracy["fp32"] - accuracy["bf16"]) < 0.08


def test_schedule_of_another_length_names_stretch(data):
    with pytest.raises(InputError, match=r"holds 3 epochs, but the training has 5: augment.stretch\(5\)"):
        rw.train(small(), data, augment=Schedule.none(3), epochs=5)


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"batch_size": 5000}, "`batch_size` is 5000, but there are only"),
        ({"lr": 0}, "`lr` must be greater than 0, got 0"),
        ({"optimizer": "lion"}, "`optimizer` must be 'sgd', 'adam' or 'adamw', got 'lion'"),
        ({"learning_rate": 1}, 'Unknown argument of train "learning_rate".*"augment".*"lr"'),
        ({"batch_size": 2.5}, "`batch_size` must be an integer, got 2.5"),
        ({"batch_size": True}, "`batch_size` must be an integer, got True"),
        ({"lr": float("nan")}, "`lr` must be a finite number, got nan"),
        ({"device": "cuda:7"}, "PyTorch sees no CUDA device"),
        ({"milestones": (0.6, 0.3)}, "`milestones` must be ascending fractions"),
    ],
)
def test_bad_settings(data, change, words):
    if "device" in change and torch.cuda.is_available():
        change = {"device": "cuda:99"}
    with pytest.raises(InputError, match=words):
        rw.train(small(), data, epochs=2, **change)


def test_a_cuda_device_beyond_the_last_is_refused(monkeypatch):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 2)
    for device in ("cuda", "cuda:0", "cuda:1"):
        assert settings(device=device).resolved().device == device
    with pytest.raises(
        InputError, match='"cuda:2", but PyTorch sees no CUDA device of that number.*"cuda:0" or "cuda:1"'
    ):
        settings(device="cuda:2").resolved()


def test_resuming_needs_a_folder(data):
    with pytest.raises(InputError, match="`resume` needs `out`"):
        rw.train(small(), data, epochs=1, resume=True)


def test_another_number_of_classes_is_refused(data):
    with pytest.raises(InputError, match="the data have 10 classes: build it with num_classes=10"):
        rw.train(networks.build("cnn-tiny", num_classes=7), data, epochs=1)


def test_a_diverging_training_stops_with_a_diagnosis(data):
    with pytest.raises(
        RuntimeError, match="diverged in epoch 1: the loss is nan|diverged in epoch 1: the loss is inf"
    ):
        rw.train(small(), data, epochs=2, batch_size=64, lr=1e30)


def test_the_test_images_are_read_after_training_only(data):
    def read_test():
        assert trained, "the test images were read before the training was over"
        return data.test

    watched = Data("digits", data.train, read_test)
    trained = []

    class Ends(Progress):
        def finish(self, summary=""):
            trained.append(True)

    rw.train(small(), watched, epochs=1, batch_size=64, progress=Ends())
    assert trained


def test_out_directory_resumes_to_the_same_bytes(data, tmp_path):
    def run(out=None, resume=False):
        model = small()
        return model, rw.train(model, data, epochs=3, batch_size=64, lr=0.05, out=out, resume=resume)

    reference, expected = run()
    model, found = run(tmp_path / "run")
    assert equal(model.state_dict(), reference.state_dict())
    again, same = run(tmp_path / "run", resume=True)  # all is done: the last checkpoint is read
    assert equal(again.state_dict(), reference.state_dict())
    assert same.accuracy == found.accuracy == expected.accuracy


@pytest.mark.parametrize("loss", [None, "soft", "ii-kd"])
def test_the_same_objective_resumes_in_the_same_session(data, tmp_path, loss):
    few = data.limited(128, 16)

    class Stops(Progress):
        def batch(self, images):
            os.kill(os.getpid(), signal.SIGTERM)  # a step, and no more

    def run(objective, out, **options):
        model = small(1)
        rw.train(
            model, few, objective=objective, epochs=1, batch_size=64, seed=5, out=tmp_path / out, **options
        )
        return model.state_dict()

    def make():
        teacher = small(7).eval()
        return CrossEntropy() if loss is None else Distill(teacher, kd.LOSSES[loss](), prepare_epochs=1)

    expected = run(make(), "whole")
    objective = make()
    with pytest.raises(Interrupted):
        run(objective, "broken", progress=Stops())
    assert equal(run(objective, "broken", resume=True), expected)
    if loss is not None:
        other = Distill(small(8).eval(), kd.LOSSES[loss](), prepare_epochs=1)
        with pytest.raises(InputError, match=r"begun with other settings: objective\.teacher\.weights was"):
            run(other, "broken", resume=True)


def test_fit_with_validation_keeps_the_best_checkpoint(data, tmp_path):
    searched, held_out = data.reduced()
    with RunDirectory.create(tmp_path / "run", {}) as run:
        trainer = Trainer(small(), CrossEntropy(), searched, settings(epochs=3), seed=0)
        history = fit(trainer, None, run=run, validation=held_out, save_seconds=0)
        best = max(entry["validation_accuracy"] for entry in history)
        store = run.checkpoints("train")
        found = store.best()
        assert found is not None
        assert found.state["history"][-1]["validation_accuracy"] == best
        assert best_state(run).info["epoch"] == 1 + [one["validation_accuracy"] for one in history].index(
            best
        )


@pytest.mark.parametrize("epoch", [1, 2])
def test_an_interrupted_validation_loses_no_epoch(data, tmp_path, epoch):
    searched, held_out = data.limited(128).train, data.limited(192).train.subset(torch.arange(128, 192))

    def run(out, resume=False, stop=False):
        calls = 0

        def poll():  # two steps and one batch of validation an epoch
            nonlocal calls
            calls += 1
            return stop and calls == 3 * epoch

        path = tmp_path / out
        with RunDirectory.open(path) if resume else RunDirectory.create(path, {}) as directory:
            trainer = Trainer(small(), CrossEntropy(), searched, settings(epochs=2), seed=0, should_stop=poll)
            history = fit(trainer, None, run=directory, validation=held_out)
            return history, trainer.state().tensors, (path / "metrics.jsonl").read_bytes()

    history, tensors, lines = run("whole")
    with pytest.raises(Interrupted, match="evaluation"):
        run("broken", stop=True)
    again = run("broken", resume=True)
    assert again[0] == history
    assert equal(again[1], tensors)
    assert again[2] == lines


def test_a_test_of_the_best_epoch_that_is_interrupted_leaves_the_last_weights(data):
    stopping = False
    train = data.limited(128).train
    trainer = Trainer(
        small(), CrossEntropy(), train, settings(epochs=1), seed=0, should_stop=lambda: stopping
    )
    begun = trainer.state()
    history = fit(trainer, None)
    last = trainer.state()
    measure, trained = trainer.evaluate, trainer.load_state

    def load_state(state):
        nonlocal stopping
        stopping = state is begun
        trained(state)

    trainer.load_state = load_state
    with pytest.raises(Interrupted):
        final_test(trainer, data.limited(128, 20).test, history, best=begun)
    assert equal(trainer.model.state_dict(), last.part("model"))
    assert measure(train).n == 128


def test_settings_choose_precision_from_the_processor(monkeypatch):
    for capable, expected in ((True, "bf16"), (False, "fp32")):
        monkeypatch.setattr(torch.cpu, "get_capabilities", lambda capable=capable: {"avx512_bf16": capable})
        assert TrainSettings(1).resolved().precision == expected
        assert TrainSettings(1).resolved().channels_last is capable
