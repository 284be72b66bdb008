"""An image's class by OpenVINO alone, without rolewise: python classify_openvino.py net.xml image.png"""

import json
import sys

import numpy as np
import openvino
from PIL import Image

model, image = openvino.Core().read_model(sys.argv[1]), Image.open(sys.argv[2])
network = openvino.compile_model(
    model, "CPU", {"INFERENCE_PRECISION_HINT": "f32", "DYNAMIC_QUANTIZATION_GROUP_SIZE": 0}
)
info = json.loads(model.get_rt_info(["rolewise"]).astype(str))["info"]
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
print(info["classes"][network(values)[0].argmax()])
