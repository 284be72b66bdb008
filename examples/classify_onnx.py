"""An image's class by onnxruntime alone, without rolewise: python classify_onnx.py net.onnx image.png"""

import json
import sys

import numpy as np
import onnxruntime
from PIL import Image

network, image = onnxruntime.InferenceSession(sys.argv[1]), Image.open(sys.argv[2])
info = json.loads(network.get_modelmeta().custom_metadata_map["rolewise"])["info"]
steps = info["preprocessing"]
side = min(image.size)  # the central square, scaled
box = [
    (image.width - side) // 2,
    (image.height - side) // 2,
    (image.width + side) // 2,
    (image.height + side) // 2,
]
scaled, (height, width) = steps["resize"] or max(steps["size"]), steps["size"]
square = image.convert(steps["channels"]).resize((scaled, scaled), Image.Resampling.BILINEAR, box)
top, left = (scaled - height) // 2, (scaled - width) // 2  # the central part of it
pixels = (
    np.asarray(square, np.float32).reshape(scaled, scaled, -1)[top : top + height, left : left + width] / 255
)
values = ((pixels - steps["mean"]) / steps["std"]).astype(np.float32).transpose(2, 0, 1)[None]
(logits,) = network.run(None, {"images": values})
print(info["classes"][logits.argmax()])
