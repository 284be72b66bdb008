"""How many weights of a low-bit network change their level in an epoch."""

import torch
from torch import Tensor, nn

from rolewise.quant import changed_share, weight_codes


class LevelChanges:
    """Compares the levels of the quantized weights at the end of an epoch with those at its beginning.

    Args:
        model: the network that is trained, with low-bit weights.
    """

    def __init__(self, model: nn.Module) -> None:
        self.model = model
        self._codes: dict[str, Tensor] = {}

    def begin(self) -> None:
        """Notes the levels at the beginning of an epoch."""
        self._codes = weight_codes(self.model)

    def share(self) -> float:
        """The share of weights whose level is another one now."""
        return changed_share(self._codes, weight_codes(self.model))

    def state(self) -> dict[str, Tensor]:
        """What a checkpoint within an epoch needs."""
        return dict(self._codes)

    def load_state(self, state: dict[str, Tensor]) -> None:
        """Takes back `state()`."""
        self._codes = {name: codes.to(torch.uint8) for name, codes in state.items()}
