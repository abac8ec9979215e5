# SPDX-License-Identifier: BSD-2-Clause
"""Logits of shared/models/efficientnet-lite0.pth in PyTorch, for tests/test_import_load.c.

usage: efficientnet_lite0.py WEIGHTS > tests/golden/import/efficientnet_lite0.txt     (needs torch, timm 1.0.31)

The network is timm's tf_efficientnet_lite0 with the file's tensors under timm's names, in double. Two images of 224x224x3:
mix(i) & 255 (import_names.py) and (3y + 5x + 40c) & 255; input = (pixel - 127)/128. One line each: every 25th logit.
"""
import sys

import numpy as np
import timm
import torch

net = timm.create_model("tf_efficientnet_lite0")
source = list(torch.load(sys.argv[1]).values())
target = [k for k in net.state_dict()]
order = {}
for key, value in zip(target, source):
    order[key] = value
missing = net.load_state_dict(order)
net = net.double().eval()

i = np.arange(224 * 224 * 3, dtype=np.uint32)
x = i ^ i >> np.uint32(16)
x = x * np.uint32(0x85EBCA6B)
x ^= x >> np.uint32(13)
x = x * np.uint32(0xC2B2AE35)
noise = ((x ^ x >> np.uint32(16)) & 255).reshape(224, 224, 3)
y, x, c = np.meshgrid(np.arange(224), np.arange(224), np.arange(3), indexing="ij")
for image in noise, (3 * y + 5 * x + 40 * c) & 255:
    with torch.no_grad():
        tensor = torch.from_numpy((image.astype(np.float64) - 127) / 128).permute(2, 0, 1)[None]
        logits = net(tensor)[0]
    print(*(f"{v:.7f}" for v in logits[::25].tolist()))
