#!/usr/bin/env python3
# SPDX-License-Identifier: BSD-2-Clause
"""Profile affine against PyTorch's quantization, for tests/test_affine.c.

usage: affine.py > tests/golden/affine.txt        (needs torch and numpy)

Every line is one case of floats in hexadecimal:
  observe N x...  ->  min max scale zero      MovingAverageMinMaxObserver(quint8), one batch after the other; "observe 0"
                                              begins a new one
  tensor scale zero N  (x y mask)...          fake_quantize_per_tensor_affine, 0..255, and its gradient
  channel O P  w... ; scale... ; code...      PerChannelMinMaxObserver(qint8, symmetric, -127..127) and
                                              fake_quantize_per_channel_affine
"""
import numpy as np
import torch
from torch.ao.quantization import MovingAverageMinMaxObserver, PerChannelMinMaxObserver

S3 = [[-.0590, 1.1674, .7119, -1.1270, -1.3974, .5077, -.5601, .0683, -.0929, .9473, .7159, -.4574],
      [-.0236, -.7599, 1.0290, .8914, -1.1727, -1.2556, -.2271, .9568, -.2500, 1.4579, 1.4707, .4043]]


def text(values):
    return " ".join(float(v).hex() for v in np.asarray(values, dtype=np.float32).ravel())


def observe(batches):
    observer = MovingAverageMinMaxObserver(averaging_constant=0.01, dtype=torch.quint8, qscheme=torch.per_tensor_affine)
    print("observe 0")
    for batch in batches:
        observer(torch.tensor(batch, dtype=torch.float32))
        scale, zero = observer.calculate_qparams()
        print(f"observe {len(batch)} {text(batch)} {text([observer.min_val.item(), observer.max_val.item(), scale.item()])} {int(zero)}")


def per_tensor(rng, scale, zero):
    scale = np.float32(scale)
    ties = (rng.integers(-300, 300, 12) + 0.5).astype(np.float32) * scale
    x = torch.tensor(np.concatenate([rng.normal(0, 60, 15).astype(np.float32) * scale, ties, [0, 1e30, -1e30]]),
                     dtype=torch.float32, requires_grad=True)
    y = torch.fake_quantize_per_tensor_affine(x, float(scale), zero, 0, 255)
    y.sum().backward()
    rows = " ".join(f"{text([a])} {text([b])} {int(m)}" for a, b, m in zip(x.detach(), y.detach(), x.grad))
    print(f"tensor {text([scale])} {zero} {len(x)} {rows}")


def per_channel(rng, outputs, per):
    w = torch.tensor(rng.normal(0, 1, (outputs, per)) * np.exp2(rng.integers(-6, 3, (outputs, 1))), dtype=torch.float32)
    w[0] = 0
    observer = PerChannelMinMaxObserver(ch_axis=0, dtype=torch.qint8, qscheme=torch.per_channel_symmetric, quant_min=-127,
                                        quant_max=127)
    observer(w)
    scale, zero = observer.calculate_qparams()
    y = torch.fake_quantize_per_channel_affine(w, scale, zero.int(), 0, -127, 127)
    codes = torch.round(y / scale[:, None]).int()
    print(f"channel {outputs} {per} {text(w)} ; {text(scale)} ; {' '.join(str(int(c)) for c in codes.ravel())}")


def main():
    rng = np.random.default_rng(7)
    observe(S3)
    observe([rng.normal(3, 1, 8).tolist() for _ in range(3)])      # all positive: 0 is added
    observe([(-rng.random(6)).tolist() for _ in range(4)])         # all negative
    observe([[0, 0], [0.5, -1e-9]])                                # nothing, then almost nothing
    for scale, zero in ((0.0123, 0), (0.0625, 128), (1.7, 255), (3e-5, 77)):
        per_tensor(rng, scale, zero)
    per_channel(rng, 6, 9)
    per_channel(rng, 3, 9)


main()
