"""`search` with real networks and images: against a plain loop over trainers, on every engine, interrupted
and resumed."""

import copy
import functools
import os
import signal
import threading
import time

import pytest
import torch
from searches import Heard

import rolewise as rw
from rolewise import networks
from rolewise.augment import Policy, Schedule
from rolewise.errors import InputError, Interrupted
from rolewise.objective import CrossEntropy
from rolewise.population import SearchResult, engine, exploit, explore, make_plan, processes
from rolewise.population.runner import reinitialize
from rolewise.runs import read_lineage, read_metrics
from rolewise.runs.store import CheckpointStore
from rolewise.seeds import numpy_generator
from rolewise.settings import SearchSettings
from rolewise.trainer import Trainer, teacher_settings, torch_threads

SIZE = {"population": 4, "epochs": 4, "interval": 2, "train_images": 200, "validation_images": 150}
NUMBERS = {"batch_size": 50, "lr": 0.05, "precision": "fp32"}
SEARCH = {**SIZE, **NUMBERS, "seed": 5, "resample": 0.5}


@pytest.fixture(scope="module")
def data():
    return rw.load_data("digits")


@pytest.fixture(scope="module")
def model():
    return networks.build("cnn-tiny", num_classes=10)


@pytest.fixture(scope="module")
def found(data, model, tmp_path_factory) -> tuple[SearchResult, dict[str, bytes]]:
    folder = tmp_path_factory.mktemp("search") / "run"
    result = rw.search(model, data, workers=1, out=folder, details=True, **SEARCH)
    return result, files_of(folder)


def files_of(folder):
    names = ["A_T.json", "metrics.jsonl", "lineage.jsonl"]
    names += [f"pbt-teacher/{path.name}" for path in (folder / "pbt-teacher").iterdir()]
    return {name: (folder / name).read_bytes() for name in sorted(names)}


def plain_search(data, model):
    """The published loop, one trainer for each member."""
    train, validation = data.reduced(SIZE["train_images"], SIZE["validation_images"])
    settings = teacher_settings(SIZE["epochs"], **NUMBERS)
    trainers = []
    for member in range(SIZE["population"]):
        network = copy.deepcopy(model)
        reinitialize(network, 5, "init", "teacher", member)
        trainers.append(
            Trainer(network, CrossEntropy(), train, settings, seed=5, role="teacher", member=member)
        )
    policies = [[[0] * 60] * SIZE["epochs"] for _ in trainers]
    for boundary in (2, 4):
        for trainer, planned in zip(trainers, policies, strict=True):
            while trainer.epoch < boundary:
                trainer.train_epoch(Policy.from_vector(planned[trainer.epoch]))
        scores = [trainer.evaluate(validation).accuracy for trainer in trainers]
        if boundary == 2:
            rng = numpy_generator(5, "pbt", "teacher", boundary)
            for target, source in exploit(scores, rng):
                new = explore(policies[source][-1], rng, resample=0.5)
                trainers[target].load_state(trainers[source].state())
                policies[target] = [*policies[source][:2], new, new]
    best = max(range(SIZE["population"]), key=lambda member: (scores[member], -member))
    return scores, policies[best]


def test_a_search_is_the_plain_loop(data, model, found):
    result, _ = found
    with torch_threads(1):
        scores, policies = plain_search(data, model)
    assert list(result.scores) == scores
    assert [policy.to_vector() for policy in result.schedule] == policies


def test_the_model_the_data_and_the_generators_stay_as_they_were(data, model):
    weights = {name: tensor.clone() for name, tensor in model.state_dict().items()}
    images = data.train.images.clone()
    torch.manual_seed(0)
    threads, expected = torch.get_num_threads(), torch.random.get_rng_state()
    schedule = rw.search(model, data, workers=1, **{**SEARCH, "epochs": 1, "interval": 1})
    assert isinstance(schedule, Schedule)
    assert all(torch.equal(tensor, weights[name]) for name, tensor in model.state_dict().items())
    assert torch.equal(images, data.train.images)
    assert torch.equal(torch.random.get_rng_state(), expected)
    assert torch.get_num_threads() == threads


def test_two_workers_give_the_same_bytes(data, model, found, tmp_path):
    rw.search(model, data, workers=2, out=tmp_path / "run", **SEARCH)
    assert files_of(tmp_path / "run") == found[1]


@pytest.mark.ray
@pytest.mark.filterwarnings("ignore::ResourceWarning")
@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")
@pytest.mark.filterwarnings("ignore::DeprecationWarning:ray")
@pytest.mark.filterwarnings("ignore::FutureWarning:ray")
def test_ray_on_this_machine_gives_the_same_bytes(data, model, found, tmp_path):
    """One command starts it, on the loopback interface, and ends it; signal handlers stay whose they were."""
    import ray

    seen = []

    class Watching(Heard):
        def start(self, stage, **about):
            address = ray.get_runtime_context().gcs_address
            seen.append((address.split(":")[0], signal.getsignal(signal.SIGTERM)))

    progress = Watching()
    rw.search(model, data, engine="ray", workers=2, out=tmp_path / "run", progress=progress, **SEARCH)
    assert files_of(tmp_path / "run") == found[1]
    assert seen[0][0] == "127.0.0.1"
    assert "StopFlag" in seen[0][1].__qualname__
    assert not ray.is_initialized()


def test_what_the_folder_holds(found, model, data, tmp_path):
    result, files = found
    assert len(read_lineage_of(files)) == 1
    schedule_file = tmp_path / "A_T.json"
    schedule_file.write_bytes(files["A_T.json"])
    schedule = Schedule.load(schedule_file)
    assert schedule == result.schedule
    about = schedule.provenance
    assert about["data"] == "digits"
    assert about["fingerprint"] == data.fingerprint()
    assert (about["train_images"], about["validation_images"], about["population"]) == (200, 150, 4)
    assert (about["seed"], about["score"], about["member"]) == (5, result.score, result.best)
    assert about["versions"]["torch"] == torch.__version__
    assert b"pbt_global.txt" not in files["A_T.json"]
    for name, content in files.items():
        if "pbt_policy" in name:
            (tmp_path / "log.txt").write_bytes(content)
            member = int(name.split("_")[-1].split(".")[0])
            read = Schedule.load(tmp_path / "log.txt", epochs=4)
            assert [(n, tuple(p.to_vector())) for n, p in read.segments] == result.lineage.trace(member)


def read_lineage_of(files):
    return files["lineage.jsonl"].splitlines()


def test_the_score_is_a_held_out_training_accuracy(found, data):
    result, _ = found
    assert all((score * 150) == pytest.approx(round(score * 150)) for score in result.scores)


def test_a_signal_stops_within_a_batch_and_resume_gives_the_same(found, model, data, tmp_path):
    class Ringing(Heard):
        def batch(self, images):
            super().batch(images)
            if self.images == 7 * 50:
                os.kill(os.getpid(), signal.SIGTERM)

    progress = Ringing()
    before = signal.getsignal(signal.SIGTERM)
    with pytest.raises(Interrupted):
        rw.search(model, data, workers=1, out=tmp_path / "run", progress=progress, **SEARCH)
    assert progress.images == 7 * 50
    assert signal.getsignal(signal.SIGTERM) is before
    with pytest.raises(InputError, match="already holds a run"):
        rw.search(model, data, workers=1, out=tmp_path / "run", **SEARCH)
    result = rw.search(model, data, workers=1, out=tmp_path / "run", resume=True, details=True, **SEARCH)
    assert files_of(tmp_path / "run") == found[1]
    assert result.images == 4 * 4 * 200
    # and once more, after a kill just before the checkpoints were removed: it is complete, and read back
    left = tmp_path / "run" / "checkpoints" / "search-teacher"
    CheckpointStore(left).save(16, {}, {})
    again = rw.search(model, data, workers=1, out=tmp_path / "run", resume=True, details=True, **SEARCH)
    assert again.schedule == result.schedule
    assert again.summary() == result.summary()
    assert again.history == result.history
    assert not list(left.iterdir())
    with pytest.raises(InputError, match=r"begun with other settings: seed was 5 and is 6\. Resume"):
        rw.search(model, data, workers=1, out=tmp_path / "run", resume=True, **{**SEARCH, "seed": 6})


def test_a_student_begins_with_its_given_weights(data):
    teacher = networks.build("cnn-tiny", num_classes=10).eval()
    student = rw.quantize(copy.deepcopy(teacher), weight_bits=4, act_bits=4)
    task = rw.Distill(teacher, rw.kd.SoftLabels())
    before = copy.deepcopy(teacher.state_dict())
    progress = Heard()
    result = rw.search(
        student,
        data,
        objective=task,
        workers=1,
        details=True,
        progress=progress,
        **{**SEARCH, "epochs": 2, "interval": 1},
    )
    assert progress.started["stage"] == "search-student"
    assert result.schedule.role == "student"
    assert result.schedule.provenance["init"] == "given"
    assert result.schedule.provenance["objective"] == "Distill"
    assert all(torch.equal(tensor, before[name]) for name, tensor in teacher.state_dict().items())


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"train_images": 10}, "`batch_size` is 50, but there are only 10 training images"),
        ({"train_images": 2000}, "`train` \\+ `validation` must be at most"),
        ({"momentun": 0.5}, 'Unknown argument of search "momentun".*Did you mean "momentum"'),
        (
            {"populaton": 8},
            'Unknown argument of search "populaton".*"validation_images".*Did you mean "population"',
        ),
        ({"quantil": 0.2}, 'Known: .*"quantile".*"weight_decay".*Did you mean "quantile"'),
        ({"role": "pupil"}, 'Unknown role "pupil"'),
        ({"init": "zeros"}, '`init` must be "random" or "given", got'),
        ({"seed": -1}, "`seed` must be an integer at least 0"),
        ({"objective": "ce"}, "`objective` must be an objective such as"),
        ({"settings": teacher_settings(7)}, "`epochs` is 4, but `settings.epochs` is 7"),
        ({"ema_decay": 0.9}, "`ema_decay` is 0.9, but members of a search are scored by their current"),
        ({"settings": teacher_settings(4, ema_epochs=2)}, "`ema_epochs` is 2, but members of a search"),
        ({"resume": True}, "`resume` needs `out`"),
        ({"checkpoint_seconds": -1.0}, "`checkpoint_seconds` must be a number of at least 0"),
        ({"device": "cuda:99"}, "CUDA"),
    ],
)
def test_bad_arguments_are_named(data, model, changes, words):
    with pytest.raises((InputError, RuntimeError) if "device" in changes else InputError, match=words):
        rw.search(model, data, workers=1, **{**SEARCH, **changes})


def test_the_preparation_of_a_loss_stops_when_asked(data, model):
    task = rw.Distill(copy.deepcopy(model).eval(), rw.kd.IIKD(taps=["layer1", "layer2", "layer3"]))
    asked = []

    def stop():
        asked.append(1)
        return len(asked) > 3

    with pytest.raises(Interrupted, match="while the distillation loss was prepared"):
        rw.search(model, data, objective=task, workers=1, should_stop=stop, **SEARCH)
    assert len(asked) == 4


def test_a_place_that_cannot_be_is_refused_before_a_loss_is_prepared(data, model, tmp_path):
    class Prepares(CrossEntropy):
        def prepare(self, split, *, seed, device=None):
            pytest.fail("prepared")

    (tmp_path / "taken").mkdir()
    (tmp_path / "taken" / "notes.txt").write_text("mine")
    for options, words in (
        ({"out": tmp_path / "taken"}, "must be new or empty"),
        ({"out": tmp_path / "none", "resume": True}, "is not a run directory"),
        ({"resume": True}, "`resume` needs `out`"),
    ):
        with pytest.raises(InputError, match=words):
            rw.search(model, data, objective=Prepares(), workers=1, **SEARCH, **options)


def test_a_model_must_be_one(data):
    with pytest.raises(InputError, match="`model` must be a torch.nn.Module, got str"):
        rw.search("resnet18", data)


def test_a_network_with_other_classes_is_refused(data):
    with pytest.raises(InputError, match="10 classes"):
        rw.search(networks.build("cnn-tiny", num_classes=7), data, workers=1, **SEARCH)


@pytest.mark.parametrize(("cores", "workers"), [(1, 1), (3, 3), (64, 4)])
def test_workers_default_to_cores(data, model, monkeypatch, cores, workers):
    """And are no more than there are members; a single one works in this process."""
    monkeypatch.setattr(engine, "cores", lambda: cores)
    monkeypatch.setattr(processes, "ProcessEngine", lambda spec, workers, progress: workers)
    plan = make_plan(model, data, SearchSettings(population=4), changes={"device": "cpu"})
    found = engine.make_engine(plan.spec, plan.settings)
    assert (1 if isinstance(found, engine.InlineEngine) else found) == workers


def test_metrics_hold_what_a_report_needs(found, tmp_path):
    _, files = found
    (tmp_path / "metrics.jsonl").write_bytes(files["metrics.jsonl"])
    (tmp_path / "lineage.jsonl").write_bytes(files["lineage.jsonl"])
    for line in read_metrics(tmp_path):
        assert {"role", "member", "epoch", "split", "accuracy", "loss"} <= set(line)
        assert line["split"] in ("train", "validation")
    for line in read_lineage(tmp_path):
        assert {"role", "epoch", "target", "source", "target_score", "source_score", "old", "new"} == set(
            line
        )


def test_a_bad_run_directory_is_refused(model, data, tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(InputError, match="must be new or empty"):
        rw.search(model, data, workers=1, out=tmp_path, **SEARCH)


def test_a_stop_of_the_caller_takes_effect(model, data):
    begun = time.monotonic()
    with pytest.raises(Interrupted):
        rw.search(
            model,
            data,
            workers=1,
            should_stop=lambda: time.monotonic() - begun > 0.2,
            **{**SEARCH, "epochs": 400},
        )


def test_searching_works_in_a_thread(model, data, found, tmp_path):
    """Signals are for the main thread; elsewhere a search runs without heeding them."""
    call = functools.partial(rw.search, model, data, workers=1, out=tmp_path / "run", **SEARCH)
    thread = threading.Thread(target=call)
    thread.start()
    thread.join()
    assert files_of(tmp_path / "run") == found[1]
