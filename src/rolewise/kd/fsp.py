"""Flow of the solution procedure."""

from itertools import pairwise

import torch
from jaxtyping import Float
from torch import Tensor

from rolewise.errors import InputError
from rolewise.kd.base import KDLoss, Outputs
from rolewise.kd.checks import check_features, shapes_of
from rolewise.kd.layers import same_size


class FSP(KDLoss):
    """How features flow from one layer to the next is the same: inner products of two layers' channels.

    Source: Yim et al., CVPR 2017, eq. 1 and 2, as a mean over images and entries, for which the classic weight 50
    (RepDistiller) is meant:

        G_ij = sum_positions A_i B_j / (h w) for adjacent layers A (c maps) and B (d maps),
        L = sum_pairs mean_images mean_ij (G_S - G_T)_ij^2

    The paper trains this first and the task afterwards, with RepDistiller; here both at once, since a student
    has one objective. Within a network the larger of two maps is average-pooled to the size of the other
    (RepDistiller; the paper max-pools).

    Layers: all adjacent pairs of feature maps. Sizes may differ between the networks, channels may not: the
    paper gives no bridge, since each entry belongs to a pair of channels.

    Shape:
        at least 2 maps (n, c, h, w); returns ().
    Raises:
        InputError: student and teacher do not fit, or their numbers of channels differ.
    """

    weight = 50.0

    def forward(self, student: Outputs, teacher: Outputs) -> Float[Tensor, ""]:
        check_features("FSP", student, teacher, least=2)
        for index, (s, t) in enumerate(shapes_of(student, teacher)):
            if s[0] != t[0]:
                raise InputError(
                    f"FSP compares channels one by one: student features[{index}] has {s[0]}, "
                    f"teacher features[{index}] has {t[0]}. Name layers of equal width in `taps`."
                )
        pairs = zip(_flows(student), _flows(teacher), strict=True)
        return torch.stack([(s - t).square().mean() for s, t in pairs]).sum()


def _flows(outputs: Outputs) -> list[Float[Tensor, "n c d"]]:
    """One matrix per image and adjacent pair of layers."""
    flows = []
    for lower, upper in pairwise(outputs.features):
        a, b = same_size(lower, upper)
        flows.append(a.flatten(2) @ b.flatten(2).transpose(1, 2) / (a.shape[2] * a.shape[3]))
    return flows
