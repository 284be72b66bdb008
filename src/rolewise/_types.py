"""Shape aliases (jaxtyping). Tests check them with beartype while they run."""

from jaxtyping import Float, Int64, UInt8
from torch import Tensor

Scalar = Float[Tensor, ""]
Logits = Float[Tensor, "n k"]
Pixels = UInt8[Tensor, "n h w c"]
Labels = Int64[Tensor, " n"]
