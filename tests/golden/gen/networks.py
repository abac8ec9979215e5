#!/usr/bin/env python3
# SPDX-License-Identifier: BSD-2-Clause
"""Logits of published networks in PyTorch, for tests/test_golden_networks.c.

usage: networks.py > tests/golden/networks.txt        (needs torch and numpy)

The networks are written down here from their publications (tables of widths and depths, not the formulas that
layers/models_*.c computes them by), in NCHW and with PyTorch's modules; only the names of the parameters are Octet's.
Nothing that goes in is stored: values come from the Philox streams of streams.py, which the test generates again.

  tensor t, element i (in Octet's layout):  r = signed(name of t)[i]
      weight: r*sqrt(6/fan_in)   bias, beta, mean: r*0.1   gamma, var: 1 + r*0.2     each operation rounded to float
  pixels of network k, image n: u32(key(1000 + k, n)) & 255 in H,W,C order
  input = (pixel - 127.5)/64, evaluation mode

PyTorch computes in double; "float32" in a network's line is how far its float run is from that, relative to the largest
logit.
"""
import sys

import numpy as np
import torch
import torch.nn.functional as F
from torch import nn

from streams import SEED, key, signed, u32

IMAGES = 2
TF = {"eps": 1e-3, "momentum": 0.01}


class SameConv2d(nn.Conv2d):
    """TensorFlow's "same" padding: the odd pixel goes to the bottom and the right."""

    def forward(self, x):
        pads = []
        for size, k, s in zip(reversed(x.shape[2:]), reversed(self.kernel_size), reversed(self.stride)):
            total = max((-(-size // s) - 1) * s + k - size, 0)
            pads += [total // 2, total - total // 2]
        return super().forward(F.pad(x, pads))


class Named:
    """Makes modules and remembers Octet's names of their tensors."""

    def __init__(self):
        self.tensors = []  # name, tensor, kind of layout

    def conv(self, name, i, o, k, stride=1, groups=1, bias=False, same=False):
        k = (k, k) if isinstance(k, int) else k
        kind = SameConv2d if same else nn.Conv2d
        pad = (0, 0) if same else (k[0] // 2, k[1] // 2)
        m = kind(i, o, k, stride, pad, 1, groups, bias)
        self.tensors.append((name + "/weight", m.weight, "depthwise" if groups == i == o else "conv"))
        if bias:
            self.tensors.append((name + "/bias", m.bias, ""))
        return m

    def norm(self, name, m):
        for ours, theirs in ("gamma", m.weight), ("beta", m.bias), ("mean", m.running_mean), ("var", m.running_var):
            self.tensors.append((f"{name}/{ours}", theirs, ""))
        return m

    def linear(self, name, i, o):
        m = nn.Linear(i, o)
        self.tensors += [(name + "/weight", m.weight, "linear"), (name + "/bias", m.bias, "")]
        return m

    def unit(self, prefix, n, i, o, k, act, bn=None, **conv):
        """conv<n>, bn<n>, activation"""
        layers = [self.conv(f"{prefix}/conv{n}", i, o, k, **conv)]
        layers.append(self.norm(f"{prefix}/bn{n}", nn.BatchNorm2d(o, **(bn or {}))))
        return nn.Sequential(*layers, *([act()] if act else []))

    def fill(self):
        with torch.no_grad():
            for name, t, kind in self.tensors:
                end = name.rsplit("/", 1)[1]
                if end == "weight":
                    scale = np.float32(np.sqrt(np.float64(6) / t[0].numel()))
                    base = np.float32(0)
                else:
                    base, scale = (np.float32(1), np.float32(0.2)) if end in ("gamma", "var") else (np.float32(0), np.float32(0.1))
                v = torch.tensor(base + signed(name, t.numel()) * scale)
                if kind == "conv":  # ours: O,H,W,I
                    v = v.reshape(t.shape[0], *t.shape[2:], t.shape[1]).permute(0, 3, 1, 2)
                elif kind == "depthwise":  # ours: H,W,C
                    v = v.reshape(*t.shape[2:], t.shape[0]).permute(2, 0, 1).unsqueeze(1)
                t.copy_(v.reshape(t.shape))


class Residual(nn.Module):
    def __init__(self, branch, shortcut):
        super().__init__()
        self.branch, self.shortcut = branch, shortcut

    def forward(self, x):
        return F.relu(self.branch(x) + self.shortcut(x))


class Inverted(nn.Module):
    def __init__(self, branch, add):
        super().__init__()
        self.branch, self.add = branch, add

    def forward(self, x):
        return x + self.branch(x) if self.add else self.branch(x)


def bottleneck(n, prefix, i, middle, o, stride, groups):
    branch = nn.Sequential(n.unit(prefix, 1, i, middle, 1, nn.ReLU),
                           n.unit(prefix, 2, middle, middle, 3, nn.ReLU, stride=stride, groups=groups),
                           n.unit(prefix, 3, middle, o, 1, None))
    shortcut = nn.Identity()
    if i != o or stride != 1:
        shortcut = n.unit(prefix + "/shortcut", "", i, o, 1, None, stride=stride)
    return Residual(branch, shortcut)


def inverted(n, prefix, i, expanded, o, k, stride, act, same):
    layers = [n.unit(prefix, 1, i, expanded, 1, act, TF)] if expanded != i else []
    layers.append(n.unit(prefix, 2, expanded, expanded, k, act, TF, stride=stride, groups=expanded, same=same))
    layers.append(n.unit(prefix, 3, expanded, o, 1, None, TF))
    return Inverted(nn.Sequential(*layers), stride == 1 and i == o)


def head(n, i, classes):
    return [nn.AdaptiveAvgPool2d(1), nn.Flatten(), n.linear("head", i, classes)]


def resnext50(n, classes):
    layers, i = [n.unit("stem", "", 3, 64, 7, nn.ReLU, stride=2), nn.MaxPool2d(3, 2, 1)], 64
    for s, (blocks, middle, o) in enumerate([(3, 128, 256), (4, 256, 512), (6, 512, 1024), (3, 1024, 2048)], 1):
        for b in range(1, blocks + 1):
            layers.append(bottleneck(n, f"stage{s}/block{b}", i, middle, o, 2 if s > 1 and b == 1 else 1, 32))
            i = o
    return nn.Sequential(*layers, *head(n, i, classes))


def regnetx_400mf(n, classes):
    layers, i = [n.unit("stem", "", 3, 32, 3, nn.ReLU, stride=2)], 32
    for s, (blocks, o) in enumerate([(1, 32), (2, 64), (7, 160), (12, 400)], 1):
        for b in range(1, blocks + 1):
            layers.append(bottleneck(n, f"stage{s}/block{b}", i, o, o, 2 if b == 1 else 1, o // 16))
            i = o
    return nn.Sequential(*layers, *head(n, i, classes))


def efficientnet_lite0(n, classes):
    layers, i = [n.unit("stem", "", 3, 32, 3, nn.ReLU6, TF, stride=2, same=True)], 32
    table = [(1, 1, 16, 1, 3), (2, 6, 24, 2, 3), (2, 6, 40, 2, 5), (3, 6, 80, 2, 3), (3, 6, 112, 1, 5), (4, 6, 192, 2, 5),
             (1, 6, 320, 1, 3)]
    for s, (blocks, e, o, stride, k) in enumerate(table, 1):
        for b in range(1, blocks + 1):
            layers.append(inverted(n, f"stage{s}/block{b}", i, i * e, o, k, stride if b == 1 else 1, nn.ReLU6, True))
            i = o
    return nn.Sequential(*layers, n.unit("tail", "", i, 1280, 1, nn.ReLU6, TF), *head(n, 1280, classes))


def mobilenetv3_lite_small(n, classes):
    layers, i = [n.unit("stem", "", 3, 16, 3, nn.ReLU, TF, stride=2)], 16
    table = [(3, 16, 16, 2), (3, 72, 24, 2), (3, 88, 24, 1), (5, 96, 40, 2), (5, 240, 40, 1), (5, 240, 40, 1),
             (5, 120, 48, 1), (5, 144, 48, 1), (5, 288, 96, 2), (5, 576, 96, 1), (5, 576, 96, 1)]
    for b, (k, e, o, stride) in enumerate(table, 1):
        layers.append(inverted(n, f"block{b}", i, e, o, k, stride, nn.ReLU, False))
        i = o
    layers += [n.unit("tail", "", i, 576, 1, nn.ReLU, TF), nn.AdaptiveAvgPool2d(1), nn.Flatten()]
    return nn.Sequential(*layers, n.linear("hidden", 576, 1024), nn.ReLU(), n.linear("head", 1024, classes))


def ds_cnn(n, classes):
    layers = [n.unit("stem", "", 1, 64, (10, 4), nn.ReLU, TF, stride=2, bias=True, same=True)]
    for b in range(1, 5):
        layers.append(n.unit(f"block{b}", 1, 64, 64, 3, nn.ReLU, TF, groups=64, bias=True, same=True))
        layers.append(n.unit(f"block{b}", 2, 64, 64, 1, nn.ReLU, TF, bias=True))
    return nn.Sequential(*layers, *head(n, 64, classes))


def autoencoder(n, classes):
    layers, i = [nn.Flatten()], 640
    names = [f"encoder{j}" for j in range(1, 5)] + ["bottleneck"] + [f"decoder{j}" for j in range(1, 5)]
    for name in names:
        o = 8 if name == "bottleneck" else 128
        layers += [n.linear(name + "/linear", i, o), n.norm(name + "/bn", nn.BatchNorm1d(o, **TF)), nn.ReLU()]
        i = o
    return nn.Sequential(*layers, n.linear("head", i, 640))


NETWORKS = [  # spec, height, width, channels, classes, maker
    ("resnext50:form=imagenet", 64, 48, 3, 10, resnext50),
    ("regnetx-400mf:form=imagenet", 63, 64, 3, 10, regnetx_400mf),
    ("efficientnet-lite0:form=imagenet", 64, 75, 3, 10, efficientnet_lite0),
    ("mobilenetv3-lite-small:form=imagenet", 65, 64, 3, 10, mobilenetv3_lite_small),
    ("ds-cnn", 49, 10, 1, 12, ds_cnn),
    ("autoencoder", 5, 128, 1, 640, autoencoder),
]


def images(k, height, width, channels):
    pixels = np.stack([u32(key(1000 + k, n), height * width * channels) & np.uint32(255) for n in range(IMAGES)])
    x = (pixels.astype(np.float32) - np.float32(127.5)) * np.float32(1 / 64)
    return torch.tensor(x.reshape(IMAGES, height, width, channels)).permute(0, 3, 1, 2).contiguous()


def main():
    torch.set_num_threads(1)
    print("# Written by tests/golden/gen/networks.py: see there for what the numbers are.")
    print(f"# python {sys.version.split()[0]}, torch {torch.__version__}, numpy {np.__version__}, seed {SEED}")
    for k, (spec, height, width, channels, classes, make) in enumerate(NETWORKS):
        named = Named()
        net = make(named, classes).eval()
        named.fill()
        x = images(k, height, width, channels)
        with torch.no_grad():
            floats = net(x).double()
            logits = net.double()(x.double())
        error = ((floats - logits).abs().max() / logits.abs().max()).item()
        shown = logits.numpy()[:, ::-(-classes // 16)]
        print(f"# float32 {error:.1e}")
        print(f"network {spec} {height} {width} {channels} {classes} {-(-classes // 16)} {logits.abs().max():.9g}")
        for row in shown:
            print(" ".join(f"{v:.9g}" for v in row))


if __name__ == "__main__":
    main()
