"""Class weights in the task loss, accuracy per class, the confusion matrix; stored and gray images in a training."""

import numpy as np
import pytest
import torch
from torch import nn
from torch.nn import functional as F
from torch.utils.data import DataLoader, TensorDataset

import rolewise as rw
from rolewise.data import Data
from rolewise.data.images import StoredImages
from rolewise.errors import InputError, InputTypeError
from rolewise.objective import CrossEntropy
from rolewise.trainer import TrainSettings, class_weights, confusion_matrix, per_class_accuracy


def data_of(labels, channels=3, side=8):
    rng = np.random.default_rng(0)
    images = rng.integers(0, 256, (len(labels), side, side, channels), dtype=np.uint8)
    images[..., 0] //= np.array(labels)[:, None, None].astype(np.uint8) + np.uint8(1)
    return Data.from_arrays((images, labels), (images, labels))


LABELS = np.repeat([0, 1, 2], [40, 15, 5])


def network(channels=3):
    return nn.Sequential(
        nn.Conv2d(channels, 8, 3), nn.ReLU(), nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(8, 3)
    )


def test_balanced_weights_give_every_class_the_same_sum():
    split = data_of(LABELS).train
    expected = [60 / (3 * 40), 60 / (3 * 15), 60 / (3 * 5)]  # n / (k * images of the class)
    found = class_weights("balanced", split, torch.device("cpu"))
    assert found.tolist() == pytest.approx(expected, rel=1e-6)
    assert found[split.labels].mean() == pytest.approx(1, rel=1e-6)
    missing = split.subset(torch.arange(50))  # no image of class 2
    assert class_weights("balanced", missing, torch.device("cpu")).tolist() == pytest.approx([0.625, 2.5, 0])
    assert class_weights(None, split, torch.device("cpu")) is None


def test_the_task_loss_is_the_mean_of_weighted_losses():
    generator = torch.Generator().manual_seed(0)
    logits, labels = torch.randn(12, 3, generator=generator), torch.arange(12) % 3
    objective = CrossEntropy()
    assert torch.equal(objective.task(logits, labels), F.cross_entropy(logits, labels))
    objective.class_weights = torch.tensor([0.5, 2.0, 1.0])
    by_hand = 0.0
    for row, label in zip(logits.double(), labels, strict=True):
        by_hand -= [0.5, 2.0, 1.0][label] * float(torch.log_softmax(row, 0)[label]) / 12
    assert float(objective.task(logits, labels)) == pytest.approx(by_hand, rel=1e-6)


@pytest.mark.parametrize("kd", [False, True])
def test_a_training_weighs_its_classes(kd):
    """With all the weight on the rare class, that is all it learns to say."""
    data = data_of(LABELS)
    torch.manual_seed(0)
    model = network()
    objective = rw.Distill(network().eval(), rw.kd.SoftLabels(), weight=0.0, task_weight=1.0) if kd else None
    options = {"batch_size": 20, "lr": 0.05, "optimizer": "adam", "precision": "fp32"}
    result = rw.train(model, data, epochs=6, objective=objective, class_weights=(0, 0, 1), **options)
    recall = per_class_accuracy(confusion_matrix(result.logits, result.labels))
    assert recall == [0, 0, 1]
    with pytest.raises(
        InputError, match="`class_weights` must be one number for each of the 3 classes, got 2"
    ):
        rw.train(network(), data, epochs=1, class_weights=(1, 2), **options)


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("class_weights", (0, 0)),
        ("class_weights", (1, -1)),
        ("class_weights", "even"),
        ("random_resized_crop", (0, 1)),
        ("random_resized_crop", (0.5, 0.2)),
        ("random_resized_crop", (0.5,)),
    ],
)
def test_settings_that_cannot_be(field, value):
    with pytest.raises(InputError, match=field):
        TrainSettings(1, **{field: value})


def test_the_confusion_matrix_counts_pairs():
    generator = torch.Generator().manual_seed(1)
    logits, labels = torch.randn(200, 5, generator=generator), torch.randint(4, (200,), generator=generator)
    found = confusion_matrix(logits, labels)
    counted = np.zeros((5, 5), int)
    for row, label in zip(logits.tolist(), labels.tolist(), strict=True):
        counted[label, max(range(5), key=row.__getitem__)] += 1
    assert np.array_equal(found, counted)
    shares = per_class_accuracy(found)
    assert shares[4] is None  # no image of it
    for label in range(4):
        chosen = labels == label
        assert shares[label] == pytest.approx(float((logits.argmax(1)[chosen] == label).float().mean()))


def test_gray_images_train_a_network_of_one_channel():
    data = data_of(LABELS, channels=1)
    result = rw.train(network(1), data, epochs=1, batch_size=20, augment=rw.Schedule.random(1, 0))
    assert result.n == 60
    with pytest.raises(
        InputError, match=r"instead\. Its first convolution takes 3 channels and the images are gray \(1\)"
    ):
        rw.train(network(3), data, epochs=1, batch_size=20)
    with pytest.raises(InputError, match=r"first convolution takes 1 channels and the images are RGB \(3\)"):
        rw.train(network(1), data_of(LABELS), epochs=1, batch_size=20)


def stored(data, side):
    """The training images as the central part of larger ones."""
    split = data.train
    object.__setattr__(split, "images", StoredImages(split.images, (side, side)))
    return data


def test_larger_stored_images_and_random_resized_crops_train_and_are_searched():
    seen = []

    class Spy(nn.Module):
        def __init__(self):
            super().__init__()
            self.inner = network()

        def forward(self, images):
            seen.append(tuple(images.shape))
            return self.inner(images)

    data = stored(data_of(LABELS, side=12), 9)
    whole = data.train.images.source
    data._read_test = lambda: data_of(LABELS, side=9).test
    for shares in (None, (0.3, 1.0)):
        rw.train(Spy(), data, epochs=1, batch_size=20, random_resized_crop=shares)
    assert {shape[1:] for shape in seen} == {(3, 9, 9)}
    options = {"population": 4, "epochs": 2, "interval": 1, "batch_size": 8, "workers": 1}
    schedule = rw.search(
        network(), data, train_images=16, validation_images=20, random_resized_crop=(0.3, 1.0), **options
    )
    assert len(schedule) == 2
    assert whole.shape[1:] == (12, 12, 3)


@pytest.mark.parametrize("act", [rw.train, rw.search])
def test_what_is_no_data_set_is_refused_with_the_way_out(act):
    tensors = TensorDataset(torch.zeros(8, 3, 8, 8), torch.zeros(8, dtype=torch.int64))
    for given, way in (
        (tensors, r"TensorDataset: make one with Data.from_dataset\(dataset, test_dataset\)"),
        (
            DataLoader(tensors),
            r"DataLoader: make one with Data.from_dataset\(loader.dataset, test_loader.dataset\)",
        ),
        ((tensors, tensors), r"tuple: make one with Data.from_arrays\("),
        ("digits", r"str: make one with rolewise.load_data\('digits'\)"),
    ):
        with pytest.raises(InputTypeError, match=way):
            act(network(), given, epochs=3)
