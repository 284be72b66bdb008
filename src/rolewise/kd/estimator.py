"""What trains MHGD's heads: a network that predicts the directions of a layer from those of the layer before."""

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.nn import functional as F

from rolewise.kd.layers import kaiming_linear


class Estimator(nn.Module):
    """Predicts the unit vectors of a layer from those of the layer before, through graphs among the samples.

    Source: Lee and Song, BMVC 2019, and its reference code. `rows`, `columns` and their batch norms are the heads that
    MHGD keeps; `inner` and `output` serve this training alone.

    Args:
        current, previous: numbers of channels.
        heads: graphs side by side.
        generator: draws the weights.
        eps, momentum: numbers of the batch norms.
    """

    def __init__(
        self,
        current: int,
        previous: int,
        heads: int,
        *,
        generator: torch.Generator,
        eps: float,
        momentum: float,
    ) -> None:
        super().__init__()
        width = (current + previous) // 2
        self.heads = heads
        self.rows = kaiming_linear(current, width * heads, generator)
        self.columns = kaiming_linear(previous, width * heads, generator)
        self.inner = kaiming_linear(previous, width, generator)
        self.output = kaiming_linear(width * heads, current, generator, bias=True)
        self.row_norm = nn.BatchNorm1d(width * heads, eps=eps, momentum=momentum)
        self.column_norm = nn.BatchNorm1d(width * heads, eps=eps, momentum=momentum)
        self.inner_norm = nn.BatchNorm1d(width, eps=eps, momentum=momentum)

    def predict(
        self, current: Float[Tensor, "n c"], previous: Float[Tensor, "n d"], noise: torch.Generator
    ) -> Float[Tensor, "n c"]:
        """The predicted unit vectors. Each row drops about half of its heads: those below the mean of its draws."""
        n = len(current)
        rows = self.row_norm(self.rows(current)).view(n, -1, self.heads)
        columns = self.column_norm(self.columns(previous)).view(n, -1, self.heads)
        attention = torch.einsum("idh,jdh->hij", rows, columns).softmax(2)
        draw = torch.randn(self.heads, n, 1, generator=noise)
        keep = (draw > draw.mean(0, keepdim=True)).to(attention.device)
        values = F.relu(self.inner_norm(self.inner(previous)))
        mixed = torch.matmul(attention * keep, values).permute(1, 0, 2).flatten(1)
        return F.normalize(self.output(mixed), eps=1e-6)

    def loss(
        self, current: Float[Tensor, "n c"], previous: Float[Tensor, "n d"], noise: torch.Generator
    ) -> Float[Tensor, ""]:
        """One minus the cosine of prediction and truth, batch mean."""
        return (1 - (self.predict(current, previous, noise) * current).sum(1)).mean()
