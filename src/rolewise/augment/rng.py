"""The keys of augmentation's random streams. The draws themselves are counter-based hashes, in `kernels.py`."""

import numpy as np

from rolewise.seeds import derive_seed

# The ops, the crop and the choice of a part of a larger image have streams of their own: with the same seed, epoch
# and ids, `Policy.apply` and a training batch choose the same ops, whether or not the images are cropped.
OPS_STREAM = "augment"
CROP_STREAM = "crop"
PART_STREAM = "part"


def stream_keys(seed: int, epoch: int) -> np.ndarray:
    """Keys (ops, crop, part) of one epoch as three uint64; the images' ids are the counter below them."""
    names = (OPS_STREAM, CROP_STREAM, PART_STREAM)
    return np.array([derive_seed(seed, name, epoch) for name in names], dtype=np.uint64)
