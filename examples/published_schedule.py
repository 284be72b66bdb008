"""A published augmentation schedule in an ordinary PyTorch loop with a DataLoader.

    python examples/published_schedule.py rcifar10_16_wrn.txt --search-epochs 200 --epochs 5

The file is PBA's own; the data here are the digits that come with rolewise, so that nothing has to be downloaded.
Replace `Digits` by your data set, `Network` by your model: what matters are the four lines marked with (*).
"""

import argparse

import numpy as np
import torch
from PIL import Image
from torch import Tensor, nn
from torch.nn import functional as F
from torch.utils.data import DataLoader, Dataset

import rolewise as rw
from rolewise.augment import AugmentedDataset, ScheduleTransform


class Digits(Dataset[tuple[Image.Image, int]]):
    """PIL images and labels, as most data sets give them."""

    def __init__(self, train: bool) -> None:
        data = rw.load_data("digits")
        self.split = data.train if train else data.test

    def __len__(self) -> int:
        return len(self.split)

    def __getitem__(self, index: int) -> tuple[Image.Image, int]:
        return Image.fromarray(self.split.images[index].numpy()), int(self.split.labels[index])


class Network(nn.Sequential):
    """Two convolutions and a classifier."""

    def __init__(self) -> None:
        super().__init__(
            nn.Conv2d(3, 16, 3, stride=2, padding=1), nn.BatchNorm2d(16), nn.ReLU(),
            nn.Conv2d(16, 32, 3, stride=2, padding=1), nn.BatchNorm2d(32), nn.ReLU(),
            nn.AdaptiveAvgPool2d(2), nn.Flatten(), nn.Linear(128, 10),
        )  # fmt: skip


def to_tensor(image: Image.Image) -> Tensor:
    """Float32 `(3, h, w)`, within -1..1."""
    return torch.from_numpy(np.array(image)).permute(2, 0, 1).float() / 127.5 - 1


def main(arguments: list[str] | None = None) -> float:
    """Trains, and returns the test accuracy."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument(
        "schedule", help="a schedule: PBA's .txt, a log of the role-wise authors or of Ray, our JSON"
    )
    parser.add_argument(
        "--search-epochs", type=int, help="length of its search, where the file does not state it"
    )
    parser.add_argument("--epochs", type=int, default=5, help="length of this training")
    parser.add_argument("--workers", type=int, default=0, help="processes of the data loader")
    options = parser.parse_args(arguments)

    schedule = rw.Schedule.load(options.schedule, options.search_epochs).stretch(options.epochs)  # (*)
    transform = ScheduleTransform(schedule, seed=0)  # (*)
    train = AugmentedDataset(Digits(train=True), transform, then=to_tensor)  # (*)
    test = [(to_tensor(image), label) for image, label in Digits(train=False)]
    torch.manual_seed(0)
    loader = DataLoader(
        train,
        batch_size=64,
        shuffle=True,
        num_workers=options.workers,
        persistent_workers=options.workers > 0,
    )
    model = Network()
    optimizer = torch.optim.SGD(model.parameters(), lr=0.05, momentum=0.9, nesterov=True)

    for epoch in range(options.epochs):
        train.set_epoch(epoch)  # (*)
        model.train()
        losses = []
        for images, labels in loader:
            loss = F.cross_entropy(model(images), labels)
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            losses.append(loss.item())
        model.eval()
        with torch.no_grad():
            hits = [model(image[None]).argmax().item() == label for image, label in test]
        accuracy = sum(hits) / len(hits)
        print(
            f"epoch {epoch + 1}/{options.epochs}: loss {sum(losses) / len(losses):.3f}, test accuracy {accuracy:.3f}"
        )
    return accuracy


if __name__ == "__main__":
    main()
