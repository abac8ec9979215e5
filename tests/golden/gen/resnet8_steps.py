#!/usr/bin/env python3
# SPDX-License-Identifier: BSD-2-Clause
"""Ten SGD steps of MLPerf Tiny's ResNet-8 in PyTorch, for tests/test_golden.c.

usage: resnet8_steps.py > tests/golden/resnet8_steps.txt        (needs torch and numpy)

Nothing that goes in is stored: parameters, pixels and labels come from Philox streams (autograd/base/rng.h) that the
test generates again. What comes out is: the loss of every step, and of every parameter and running statistic after the
last step its largest magnitude, its sum of squares and up to SAMPLES evenly spaced values.

  parameter p, element i:  u = uniform(key(SEED, SYNTHETIC, 0, digest(name of p)))[i];  r = 2*u - 1 in float
      weight: r*sqrt(6/fan_in)   bias, beta: r*0.1   gamma: 1 + r*0.2        each operation rounded to float
  pixels of step s: u32(key(SEED, SYNTHETIC, 1 + s, 0)) & 255 in N,H,W,C order; labels: u32(key(.., 1 + s, 1)) % 10
  input = (pixel - 127.5)/64

PyTorch computes in double here, and the head of the file says how far its float32 run ends from that. The learning rate
is small because of it: activations that cross ReLU's kink by rounding make two correct float runs drift apart, at rate
0.05 by 1e-2 in ten steps. The weight decay is large so that leaving it out would show.
"""
import sys

import numpy as np
import torch
import torch.nn.functional as F

from streams import SEED, key, signed, u32

STEPS, BATCH, SIZE, CLASSES, SAMPLES = 10, 16, 32, 10, 96
LR, MOMENTUM, DECAY, EPS, BN_MOMENTUM = 0.001, 0.9, 0.05, 1e-3, 0.01


class Net:
    """Parameters by Octet's names and in Octet's layouts; `dtype` of the arithmetic."""

    def __init__(self, dtype):
        self.dtype, self.params, self.buffers = dtype, {}, {}
        self.conv("stem/conv", 3, 16, 3)
        self.norm("stem/bn", 16)
        channels = 16
        for s, filters in enumerate([16, 32, 64], 1):
            self.conv(f"stage{s}/conv1", channels, filters, 3)
            self.norm(f"stage{s}/bn1", filters)
            self.conv(f"stage{s}/conv2", filters, filters, 3)
            self.norm(f"stage{s}/bn2", filters)
            if filters != channels:
                self.conv(f"stage{s}/shortcut/conv", channels, filters, 1)
            channels = filters
        self.weight("head/weight", (CLASSES, 64), 64)
        self.vector("head/bias", CLASSES, 0, 0.1)

    def put(self, name, values):
        self.params[name] = torch.tensor(values, dtype=self.dtype, requires_grad=True)

    def weight(self, name, shape, fan_in):
        scale = np.float32(np.sqrt(np.float64(6) / fan_in))
        self.put(name, (signed(name, int(np.prod(shape))) * scale).reshape(shape))

    def vector(self, name, count, base, spread):
        self.put(name, np.float32(base) + signed(name, count) * np.float32(spread))

    def conv(self, name, inputs, outputs, k):
        self.weight(name + "/weight", (outputs, k, k, inputs), k * k * inputs)
        self.vector(name + "/bias", outputs, 0, 0.1)

    def norm(self, name, channels):
        self.vector(name + "/gamma", channels, 1, 0.2)
        self.vector(name + "/beta", channels, 0, 0.1)
        self.buffers[name + "/mean"] = torch.zeros(channels, dtype=self.dtype)
        self.buffers[name + "/var"] = torch.ones(channels, dtype=self.dtype)

    def run_conv(self, name, x, stride=1):
        w = self.params[name + "/weight"].permute(0, 3, 1, 2)
        k = w.shape[2]
        size = x.shape[2]
        total = max((-(-size // stride) - 1) * stride + k - size, 0)  # TensorFlow's "same"
        before = total // 2
        x = F.pad(x, (before, total - before, before, total - before))
        return F.conv2d(x, w, self.params[name + "/bias"], stride)

    def run_norm(self, name, x):
        b, p = self.buffers, self.params
        return F.batch_norm(x, b[name + "/mean"], b[name + "/var"], p[name + "/gamma"], p[name + "/beta"], True,
                            BN_MOMENTUM, EPS)

    def forward(self, x):
        x = F.relu(self.run_norm("stem/bn", self.run_conv("stem/conv", x)))
        for s in (1, 2, 3):
            p, stride = f"stage{s}/", 1 if s == 1 else 2
            y = F.relu(self.run_norm(p + "bn1", self.run_conv(p + "conv1", x, stride)))
            y = self.run_norm(p + "bn2", self.run_conv(p + "conv2", y))
            x = F.relu(y + (x if s == 1 else self.run_conv(p + "shortcut/conv", x, stride)))
        return F.linear(x.mean((2, 3)), self.params["head/weight"], self.params["head/bias"])


def batch(step, dtype):
    pixels = u32(key(1 + step, 0), BATCH * SIZE * SIZE * 3) & np.uint32(255)
    labels = u32(key(1 + step, 1), BATCH) % np.uint32(CLASSES)
    x = (pixels.astype(np.float32) - np.float32(127.5)) * np.float32(1 / 64)
    x = torch.tensor(x.reshape(BATCH, SIZE, SIZE, 3), dtype=dtype).permute(0, 3, 1, 2).contiguous()
    return x, torch.tensor(labels.astype(np.int64))


def train(dtype):
    net, losses = Net(dtype), []
    optimizer = torch.optim.SGD(net.params.values(), lr=LR, momentum=MOMENTUM, weight_decay=DECAY)
    for step in range(STEPS):
        x, label = batch(step, dtype)
        optimizer.zero_grad()
        loss = F.cross_entropy(net.forward(x), label)
        loss.backward()
        optimizer.step()
        losses.append(loss.item())
    tensors = {name: t.detach().double().numpy().reshape(-1) for name, t in {**net.params, **net.buffers}.items()}
    return losses, tensors


def main():
    torch.set_num_threads(1)
    float_losses, floats = train(torch.float32)
    losses, tensors = train(torch.float64)
    worst = max(np.abs(tensors[n] - floats[n]).max() / np.abs(tensors[n]).max() for n in tensors)
    worst_loss = max(abs(a / b - 1) for a, b in zip(float_losses, losses))
    print("# Written by tests/golden/gen/resnet8_steps.py: see there for what the numbers are.")
    print(f"# python {sys.version.split()[0]}, torch {torch.__version__}, numpy {np.__version__}, seed {SEED}")
    print(f"# float32 against float64 in PyTorch: losses {worst_loss:.1e}, tensors {worst:.1e} of their magnitude")
    print(f"steps {STEPS} batch {BATCH} size {SIZE} seed {SEED}")
    for loss in losses:
        print(f"loss {loss:.9g}")
    for name, t in tensors.items():
        stride = -(-t.size // SAMPLES)
        print(f"tensor {name} {t.size} {stride} {np.abs(t).max():.9g} {(t * t).sum():.12g}")
        print(" ".join(f"{v:.9g}" for v in t[::stride]))


if __name__ == "__main__":
    main()
