#!/usr/bin/env python3
# SPDX-License-Identifier: BSD-2-Clause
"""ONNX files and what ONNX Runtime makes of them, for tests/test_import_onnx.c.

usage: onnx_files.py FOLDER        (needs onnx, onnxruntime, torch)

Writes into FOLDER (tests/golden/onnx):
  torch.onnx      a network exported by PyTorch: residuals, depthwise, flatten into a Gemm, pools
  layers.onnx     made by hand: preprocessing in the graph, Constant nodes, typed data, Resize, Pad, PRelu, Sum...
  nhwc.onnx       made by hand as tf2onnx does: image N,H,W,C, Transposes, Reshape, MatMul and Add
  external.onnx   a tensor in another file
  reference.txt   softmax of the outputs by ONNX Runtime, float32; images as in keras_files.py
"""
import io
import sys

import numpy as np
import onnx
import onnxruntime
import torch
from onnx import TensorProto, helper, numpy_helper
from torch import nn


def images(count, height, width, channels):
    n, y, x, c = np.meshgrid(*(np.arange(k) for k in (count, height, width, channels)), indexing="ij")
    return ((x * (1 + n % 5) + y * (1 + n % 7) + c * (17 + n) + ((x // 4) ^ (y // 4)) * (n % 11) * 9) & 255).astype(np.float32)


class Small(nn.Module):
    def __init__(self):
        super().__init__()
        self.stem = nn.Conv2d(3, 8, 3, 2, 1, bias=False)
        self.norm = nn.BatchNorm2d(8)
        self.depthwise = nn.Conv2d(8, 8, 3, 1, 1, groups=8)
        self.grouped = nn.Conv2d(8, 8, 1, groups=2)
        self.point = nn.Conv2d(16, 6, (1, 3), padding=(0, 2), dilation=(1, 2))
        self.prelu = nn.PReLU(6)
        self.fc1 = nn.Linear(6 * 3 * 2, 10)
        self.fc2 = nn.Linear(10, 4)

    def forward(self, x):
        x = a = nn.functional.relu6(self.norm(self.stem(x / 255)))
        x = self.grouped(nn.functional.hardswish(self.depthwise(x))) + a
        x = torch.cat([nn.functional.max_pool2d(x, 3, 1, 1), nn.functional.avg_pool2d(x, 3, 1, 1)], 1)
        x = nn.functional.avg_pool2d(self.prelu(self.point(x)), 2)
        return self.fc2(torch.sigmoid(self.fc1(torch.flatten(x, 1))))


def tensor(name, value, **kwargs):
    return numpy_helper.from_array(np.asarray(value, **kwargs), name)


def model(nodes, inits, shape, classes, name, opset=17):
    graph = helper.make_graph(nodes, name, [helper.make_tensor_value_info("x", TensorProto.FLOAT, shape)],
                              [helper.make_tensor_value_info("y", TensorProto.FLOAT, [None, classes])], inits)
    m = helper.make_model(graph, opset_imports=[helper.make_opsetid("", opset)], producer_name="octet tests")
    m.ir_version = 8
    onnx.checker.check_model(m)
    return m


def by_hand(r):
    n = helper.make_node
    w = r.normal(0, 0.4, (4, 3, 3, 3))
    listed = helper.make_tensor("b", TensorProto.FLOAT, (4,), r.normal(0, 0.2, 4).tolist())
    nodes = [
        n("Sub", ["x", "mean"], ["x1"]), n("Div", ["x1", "std"], ["x2"]),
        n("Identity", ["wf"], ["wi"]),
        n("Conv", ["x2", "wi", "b"], ["c"], name="head", kernel_shape=[3, 3], auto_pad="SAME_UPPER", strides=[2, 2]),
        n("LeakyRelu", ["c"], ["l"], alpha=0.2),
        n("Resize", ["l", "", "scales"], ["u"], mode="nearest", coordinate_transformation_mode="asymmetric", nearest_mode="floor"),
        n("Constant", [], ["pads"], value=tensor("", [0, 0, 1, 0, 0, 0, 1, 2], dtype=np.int64)),
        n("Pad", ["u", "pads"], ["p"]),
        n("Clip", ["p", "lo", "hi"], ["k"]),
        n("Mul", ["k", "two"], ["m"]), n("Sub", ["m", "two"], ["s"]), n("Tanh", ["s"], ["t"]), n("Elu", ["m"], ["e"]),
        n("Sum", ["s", "t", "e"], ["sum"]),
        n("Resize", ["sum", "", "", "sizes"], ["z"], mode="linear", coordinate_transformation_mode="align_corners"),
        n("BatchNormalization", ["z", "g", "b", "b", "g"], ["n"], epsilon=1e-3, momentum=0.8),
        n("AveragePool", ["n"], ["a"], kernel_shape=[2, 2], strides=[2, 2], pads=[1, 1, 0, 0], count_include_pad=1),
        n("Dropout", ["a"], ["d"]), n("Softmax", ["d"], ["q"], axis=1), n("Mul", ["q", "d"], ["qd"]),
        n("GlobalAveragePool", ["qd"], ["gap"]), n("Conv", ["gap", "w1"], ["v"]), n("Squeeze", ["v", "axes"], ["v2"]),
        n("Gemm", ["v2", "w2", "b2"], ["o"]), n("LogSoftmax", ["o"], ["y"], axis=1),
    ]
    inits = [listed, tensor("wf", w.astype(np.float32)),
             tensor("mean", np.float32([100, 120, 90]).reshape(1, 3, 1, 1)), tensor("std", np.float32(60)),
             tensor("scales", np.float32([1, 1, 2, 3])), tensor("lo", np.float32(-1.5)), tensor("hi", np.float32(2.5)),
             tensor("two", np.float32(0.5)), tensor("sizes", [1, 4, 9, 8], dtype=np.int64),
             tensor("g", r.uniform(0.5, 1.5, 4).astype(np.float32)), tensor("axes", [2, 3], dtype=np.int64),
             tensor("w1", r.normal(0, 1, (5, 4, 1, 1)).astype(np.float32)),
             tensor("w2", r.normal(0, 1, (5, 3)).astype(np.float32)), tensor("b2", r.normal(0, 1, (1, 3)).astype(np.float32))]
    return model(nodes, inits, ["N", 3, 10, 7], 3, "by hand")


def channels_last(r):
    n = helper.make_node
    nodes = [
        n("Transpose", ["x"], ["t"], perm=[0, 3, 1, 2]), n("Conv", ["t", "w"], ["c"], pads=[0, 0, 1, 1]),
        n("Add", ["c", "cb"], ["cc"]), n("Relu", ["cc"], ["r"]), n("Transpose", ["r"], ["h"], perm=[0, 2, 3, 1]),
        n("Reshape", ["h", "shape"], ["f"]), n("MatMul", ["f", "m"], ["z"]), n("Add", ["z", "b"], ["y"]),
    ]
    inits = [tensor("w", r.normal(0, 0.01, (4, 2, 3, 3)).astype(np.float32)),
             tensor("cb", r.normal(0, 0.1, (1, 4, 1, 1)).astype(np.float32)), tensor("shape", [-1, 80], dtype=np.int64),
             tensor("m", r.normal(0, 0.3, (80, 3)).astype(np.float32)), tensor("b", r.normal(0, 1, 3).astype(np.float32))]
    return model(nodes, inits, [1, 6, 5, 2], 3, "channels last", 13)


def external(r):
    m = channels_last(r)
    t = m.graph.initializer[0]
    t.ClearField("raw_data")
    t.data_location = TensorProto.EXTERNAL
    t.external_data.add(key="location", value="weights.bin")
    return m


def write(out, name, m, x):
    session = onnxruntime.InferenceSession(m.SerializeToString(), providers=["CPUExecutionProvider"])
    y = np.concatenate([session.run(None, {session.get_inputs()[0].name: x[i:i + 1]})[0] for i in range(len(x))])
    p = np.exp(y.astype(np.float64) - y.max(1, keepdims=True))
    p /= p.sum(1, keepdims=True)
    print(f"{name} {p.shape[0]} {p.shape[1]}", file=out)
    for row in p:
        print(" ".join(f"{v:.7f}".lstrip("0") for v in row), file=out)


def main():
    folder = sys.argv[1]
    r = np.random.default_rng(5)
    torch.manual_seed(5)
    net = Small().eval()
    for p in net.parameters():
        p.data *= 2.5
    for p in net.norm.buffers():
        if p.dtype.is_floating_point:
            p.uniform_(0.2, 1)
    buffer = io.BytesIO()
    torch.onnx.export(net, torch.zeros(1, 3, 12, 8), buffer, dynamo=False, opset_version=17)
    exported = onnx.load_from_string(buffer.getvalue())
    hand, last = by_hand(r), channels_last(r)
    onnx.save(exported, f"{folder}/torch.onnx")
    onnx.save(hand, f"{folder}/layers.onnx")
    onnx.save(last, f"{folder}/nhwc.onnx")
    with open(f"{folder}/external.onnx", "wb") as f:
        f.write(external(r).SerializeToString())
    nchw = (0, 3, 1, 2)
    with open(f"{folder}/reference.txt", "w") as out:
        print("# made by tests/golden/gen/onnx_files.py", file=out)
        write(out, "torch", exported, images(8, 12, 8, 3).transpose(nchw))
        write(out, "layers", hand, images(8, 10, 7, 3).transpose(nchw))
        write(out, "nhwc", last, images(8, 6, 5, 2))


if __name__ == "__main__":
    main()
