"""The role-wise paper's AlexNet for small images.

Source: Krizhevsky et al., NeurIPS 2012, in the form of the role-wise authors' code: five convolutions, two
hidden linear layers of 4096 units, BatchNorm after each of the seven, no bias anywhere, no dropout.
"""

from functools import partial

from torch import Tensor, nn
from torch.nn.functional import adaptive_max_pool2d

from rolewise._types import Logits
from rolewise.networks.base import Maps, Network, make, paper_norm

POOLED = 4  # height and width that the linear layers see


class AlexNet(Network):
    """conv1 ... conv5, fc6, fc7, fc8. Pooling follows the quantizer, and a maximum of levels is a level."""

    taps = ("pool2", "act3", "act4", "pool5")
    act_points = ("act1", "act2", "act3", "act4", "act5", "act6")
    classifier = "fc8"
    classifier_init = "kaiming"

    def __init__(self, num_classes: int) -> None:
        super().__init__()
        sizes = ((3, 64, 11), (64, 192, 5), (192, 384, 3), (384, 256, 3), (256, 256, 3))
        for number, (inputs, outputs, size) in enumerate(sizes, 1):
            self.add_module(f"conv{number}", nn.Conv2d(inputs, outputs, size, padding=size // 2, bias=False))
            self.add_module(f"bn{number}", paper_norm(outputs))
            self.add_module(f"act{number}", nn.ReLU())
            if number in (1, 2, 5):
                self.add_module(f"pool{number}", nn.MaxPool2d(2))
        for number, inputs in ((6, 256 * POOLED**2), (7, 4096)):
            self.add_module(f"fc{number}", nn.Linear(inputs, 4096, bias=False))
            self.add_module(f"bn{number}", nn.BatchNorm1d(4096, eps=1e-3, momentum=0.01))
            self.add_module(f"act{number}", nn.ReLU())
        self.fc8 = nn.Linear(4096, num_classes, bias=False)

    def forward(self, x: Maps) -> Logits:
        for number in range(1, 6):
            x = self._stage("conv", number, x)
            if number in (1, 2, 5):
                x = self.get_submodule(f"pool{number}")(x)
        if x.shape[2:] != (POOLED, POOLED):  # images of another size than 32; the levels stay levels
            x = adaptive_max_pool2d(x, POOLED)
        x = x.flatten(1)
        for number in (6, 7):
            x = self._stage("fc", number, x)
        logits: Tensor = self.fc8(x)
        return logits

    def _stage(self, kind: str, number: int, x: Tensor) -> Tensor:
        for part in (kind, "bn", "act"):
            x = self.get_submodule(f"{part}{number}")(x)
        return x


def alexnet(num_classes: int = 10, *, seed: int = 0) -> Network:
    """The paper's AlexNet, 36 M parameters; images of other sizes than 32 are pooled to 4x4 before fc6."""
    return make("alexnet", partial(AlexNet, num_classes), num_classes, seed)
