"""Networks that outlive the process: save, load and rebuild them, in full precision, packed, or as ONNX."""

from rolewise.pretrained.description import digest
from rolewise.pretrained.files import describe, load_network, save_network

__all__ = ["describe", "digest", "load_network", "save_network"]
