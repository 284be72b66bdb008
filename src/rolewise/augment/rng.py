"""The keys of augmentation's random streams. The draws themselves are counter-based hashes, in `kernels.py`."""

import numpy as np

from rolewise.seeds import derive_seed

# The ops and the crop have streams of their own: with the same seed, epoch and ids, `Policy.apply` and a
# training batch choose the same ops, whether or not the images are cropped.
OPS_STREAM = "augment"
CROP_STREAM = "crop"


def stream_keys(seed: int, epoch: int) -> np.ndarray:
    """Keys (ops, crop) of one epoch as two uint64; the images' ids are the counter below them."""
    return np.array([derive_seed(seed, name, epoch) for name in (OPS_STREAM, CROP_STREAM)], dtype=np.uint64)
