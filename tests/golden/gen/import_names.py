# SPDX-License-Identifier: BSD-2-Clause
"""Writes tests/golden/import/names.txt: what torchvision's and timm's networks call their tensors, and what they compute.

usage: import_names.py > tests/golden/import/names.txt      (needs torch, torchvision, timm; torchvision 0.29, timm 1.0.31)

One line per network, then one with its logits:
  network <map> <model of the zoo> <size> <classes> <tensors> <digest of "name[shape]\n" in sorted order>
  logits <the first eight>
Values: x = mix(i + digest(name)) over 2^32, r = 2x - 1 in float32, element i in the order of the file;
  rank 2 and 4: r*sqrt(6/fan_in)   gamma: 1 + r/8   beta, bias, running_mean: r/8   running_var: 1 + r/8
Pixels: mix(i) & 255, N,H,W,C; input = (pixel - mean)*scale of the map's preprocessing. PyTorch computes in double.
"""
import sys

import numpy as np
import timm
import torch
import torchvision


def digest(text, d=0xCBF29CE484222325):
    for b in text.encode():
        d = (d ^ b) * 0x100000001B3 & (1 << 64) - 1
    return d


def mix(x):
    x = x.astype(np.uint32)
    x ^= x >> np.uint32(16)
    x = x * np.uint32(0x85EBCA6B)
    x ^= x >> np.uint32(13)
    x = x * np.uint32(0xC2B2AE35)
    return x ^ (x >> np.uint32(16))


def value(name, shape):
    count = int(np.prod(shape, dtype=np.int64))
    start = np.uint32(digest(name) & 0xFFFFFFFF)
    x = mix(np.arange(count, dtype=np.uint32) + start).astype(np.float64) / 2**32
    r = (2 * x - 1).astype(np.float32)
    if len(shape) > 1:
        v = r * np.float32(np.sqrt(6 / np.prod(shape[1:])))
    elif name.endswith("running_var") or name.endswith(".weight"):
        v = np.float32(1) + r / np.float32(8)
    else:
        v = r / np.float32(8)
    return torch.from_numpy(v.reshape(shape).astype(np.float32))


IMAGENET = ([123.675, 116.28, 103.53], [1 / 58.395, 1 / 57.12, 1 / 57.375])


def pixels(size):
    p = (mix(np.arange(size * size * 3, dtype=np.uint32)) & 255).reshape(1, size, size, 3)
    x = (p.astype(np.float64) - np.array(IMAGENET[0], np.float32)) * np.array(IMAGENET[1]).astype(np.float32)
    return torch.from_numpy(x.transpose(0, 3, 1, 2).copy())


def write(source, spec, size, net):
    state = {k: v for k, v in net.state_dict().items() if not k.endswith("num_batches_tracked")}
    lines = "".join(f"{k}[{','.join(map(str, v.shape))}]\n" for k, v in sorted(state.items()))
    net.load_state_dict({k: value(k, tuple(v.shape)) for k, v in state.items()}, strict=False)
    with torch.no_grad():
        logits = net.double().eval()(pixels(size))[0]
    print("network", source.replace(" ", "_"), spec, size, logits.numel(), len(state), f"{digest(lines):016x}")
    print("logits", *(f"{v:.9g}" for v in logits[:8].tolist()))
    print(source, spec, float(logits.abs().max()), file=sys.stderr)


V = torchvision.models
write("torchvision resnet", "resnet18:form=imagenet", 64, V.resnet18(num_classes=12))
write("torchvision mobilenetv2", "mobilenetv2:form=imagenet", 64, V.mobilenet_v2(num_classes=12))
write("timm efficientnet", "mobilenetv2:form=imagenet", 64, timm.create_model("mobilenetv2_100", num_classes=12))
write("torchvision resnet", "resnet50:form=imagenet", 64, V.resnet50(num_classes=12))
write("torchvision resnet", "resnext50:form=imagenet", 64, V.resnext50_32x4d(num_classes=12))
write("torchvision regnet", "regnetx-400mf:form=imagenet", 64, V.regnet_x_400mf(num_classes=12))
write("timm regnet", "regnetx-800mf:form=imagenet", 64, timm.create_model("regnetx_008", num_classes=12))
write("timm efficientnet", "efficientnet-lite0:form=imagenet", 64, timm.create_model("tf_efficientnet_lite0", num_classes=12))
write("timm efficientnet", "efficientnet-lite2:form=imagenet", 64, timm.create_model("tf_efficientnet_lite2", num_classes=12))
