# SPDX-License-Identifier: BSD-2-Clause
"""The model files of the inference peers: ONNX in float and QDQ (per-channel int8 weights, uint8 activations) from
networks.py, and what is known of .tflite files. Run as a program it makes one network's files."""
import json
import math
import os
import pathlib
import re
import sys
import warnings

from common import GENERATED


def onnx_files(spec, size):
    name = re.sub(r"[^\w.=-]+", "-", f"{spec}-{size}")
    return GENERATED / f"{name}.onnx", GENERATED / f"{name}.qdq.onnx", GENERATED / f"{name}.json"


class Calibration:
    """Random images: the runtimes' speed does not depend on what the ranges are, only on that they are sane."""

    def __init__(self, size, batches=4):
        import numpy as np
        random = np.random.default_rng(1)
        self.batches = [random.standard_normal((4, 3, size, size), np.float32) for _ in range(batches)]

    def get_next(self):
        return {"x": self.batches.pop()} if self.batches else None


def make_onnx(spec, size, classes):
    """Writes both models and the network's size; an interrupted call leaves nothing that looks complete."""
    import torch
    from onnxruntime.quantization import QuantFormat, QuantType, quantize_static
    from onnxruntime.quantization.shape_inference import quant_pre_process

    import networks
    plain, qdq, facts = onnx_files(spec, size)
    GENERATED.mkdir(parents=True, exist_ok=True)
    torch.manual_seed(1)
    model = networks.build(spec, size, classes).train()
    with torch.no_grad():
        for _ in range(3):
            model(torch.randn(8, 3, size, size))  # batch norm statistics that keep the activations in range
    model.eval()
    torch.onnx.export(model, (torch.randn(1, 3, size, size),), str(plain), input_names=["x"], output_names=["y"],
                      dynamic_axes={"x": {0: "n"}, "y": {0: "n"}}, dynamo=False)
    folded = plain.with_suffix(".folded.onnx")
    quant_pre_process(str(plain), str(folded), skip_symbolic_shape=True)
    quantize_static(str(folded), str(qdq), Calibration(size), quant_format=QuantFormat.QDQ, per_channel=True,
                    activation_type=QuantType.QUInt8, weight_type=QuantType.QInt8)
    folded.unlink()
    facts.write_text(json.dumps(networks.measure(model, size)), encoding="utf-8")


def tflite_macs(path):
    """Multiply-accumulates of one image's convolutions and linear layers."""
    from ai_edge_litert.interpreter import Interpreter
    interpreter = Interpreter(model_path=str(path))
    shape = {t["index"]: [int(n) for n in t["shape"]] for t in interpreter.get_tensor_details()}
    macs = 0
    for op in interpreter._get_ops_details():  # pylint: disable=protected-access
        if op["op_name"] in ("CONV_2D", "DEPTHWISE_CONV_2D", "FULLY_CONNECTED"):
            out = shape[op["outputs"][0]]
            macs += math.prod(shape[op["inputs"][1]]) * math.prod(out[1:-1])
    return macs


if __name__ == "__main__":
    warnings.filterwarnings("ignore")
    if pathlib.Path(sys.argv[1]).suffix == ".tflite":
        print(tflite_macs(sys.argv[1]), flush=True)
        os._exit(0)
    make_onnx(sys.argv[1], int(sys.argv[2]), int(sys.argv[3]))
