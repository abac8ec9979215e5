#!/usr/bin/env python3
# SPDX-License-Identifier: BSD-2-Clause
"""Training steps of Octet against PyTorch, alternating in one run: images per second, peak memory, ratios.

usage: train.py BIN/bench [MODEL ...]      PyTorch (CPU) must be importable; OCTET_PEER_ROUNDS rounds (default 3)
Only ratios of one run mean something: absolute times drift with the machine. Each figure is the median of its rounds.
"""
import json
import os
import resource
import statistics
import subprocess
import sys
import time

MODELS = {"resnet8": (128, 32), "resnet20": (128, 32), "mobilenetv2:form=cifar": (64, 32)}


def octet(bench, model, batch, size, *flags):
    out = subprocess.run([bench, "train", "--model", model, "--batch-size", str(batch), "--size", str(size), "--json",
                          *flags], check=True, capture_output=True, text=True).stdout
    result = json.loads(out.strip().splitlines()[-1])
    return result["images_per_second"], result.get("peak_bytes", 0)


def torch_model(name):
    import torch.nn as nn

    def cbr(i, o, k, s=1, g=1, act=True):
        layers = [nn.Conv2d(i, o, k, s, k // 2, groups=g, bias=False), nn.BatchNorm2d(o)]
        return nn.Sequential(*layers, *([nn.ReLU()] if act else []))

    class Residual(nn.Module):
        def __init__(self, i, o, s):
            super().__init__()
            self.a, self.b, self.relu = cbr(i, o, 3, s), cbr(o, o, 3, act=False), nn.ReLU()
            self.skip = cbr(i, o, 1, s, act=False) if s != 1 or i != o else nn.Identity()

        def forward(self, x):
            return self.relu(self.b(self.a(x)) + self.skip(x))

    class Inverted(nn.Module):
        def __init__(self, i, o, s, t):
            super().__init__()
            h = i * t
            self.add = s == 1 and i == o
            self.body = nn.Sequential(*([cbr(i, h, 1)] if t != 1 else []), cbr(h, h, 3, s, h), cbr(h, o, 1, act=False))

        def forward(self, x):
            return x + self.body(x) if self.add else self.body(x)

    def head(layers, channels):
        return nn.Sequential(*layers, nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(channels, 10))

    if name.startswith("resnet"):
        repeats = {"resnet8": 1, "resnet20": 3}[name]
        layers, c = [cbr(3, 16, 3)], 16
        for stage, width in enumerate((16, 32, 64)):
            for block in range(repeats):
                layers.append(Residual(c, width, 2 if stage and not block else 1))
                c = width
        return head(layers, 64)
    layers, c = [cbr(3, 32, 3)], 32
    for t, o, n, s in [(1, 16, 1, 1), (6, 24, 2, 1), (6, 32, 3, 2), (6, 64, 4, 2), (6, 96, 3, 1), (6, 160, 3, 2), (6, 320, 1, 1)]:
        for block in range(n):
            layers.append(Inverted(c, o, s if not block else 1, t))
            c = o
    return head([*layers, cbr(c, 1280, 1)], 1280)


def pytorch(name, batch, size, steps=12):
    """One float variant, channels-last, in this process."""
    import torch
    import torch.nn.functional as F
    torch.set_num_threads(int(os.environ.get("OMP_NUM_THREADS", "2")))
    torch.manual_seed(0)
    model = torch_model(name).to(memory_format=torch.channels_last).train()
    x = torch.randn(batch, 3, size, size).to(memory_format=torch.channels_last)
    y = torch.randint(0, 10, (batch,))
    optimizer = torch.optim.SGD(model.parameters(), lr=1e-3, momentum=0.9, weight_decay=1e-4)
    before = int(open("/proc/self/statm").read().split()[1]) * resource.getpagesize()
    times = []
    for _ in range(steps + 3):
        start = time.perf_counter()
        optimizer.zero_grad(set_to_none=True)
        F.cross_entropy(model(x), y).backward()
        optimizer.step()
        times.append(time.perf_counter() - start)
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024 - before
    return batch / statistics.median(times[3:]), peak


def main():
    if sys.argv[1:2] == ["--torch"]:
        print(json.dumps(pytorch(sys.argv[2], int(sys.argv[3]), int(sys.argv[4]))))
        return
    bench, names = sys.argv[1], sys.argv[2:] or list(MODELS)
    rounds = int(os.environ.get("OCTET_PEER_ROUNDS", "3"))
    print(f"{'model':26} {'PyTorch':>9} {'float':>9} {'QAT':>9} {'float/PyTorch':>14} {'QAT/float time':>15} "
          f"{'memory PyTorch':>15} {'float':>8} {'QAT':>8}")
    for name in names:
        batch, size = MODELS[name]
        runs = {"torch": [], "float": [], "qat": []}
        for _ in range(rounds):
            out = subprocess.run([sys.executable, __file__, "--torch", name.split(":")[0], str(batch), str(size)],
                                 check=True, capture_output=True, text=True).stdout
            runs["torch"].append(json.loads(out))
            runs["float"].append(octet(bench, name, batch, size))
            runs["qat"].append(octet(bench, name, batch, size, "--quantize"))
        rate = {k: statistics.median(r[0] for r in v) for k, v in runs.items()}
        peak = {k: statistics.median(r[1] for r in v) / 1e6 for k, v in runs.items()}
        print(f"{name:26} {rate['torch']:9.0f} {rate['float']:9.0f} {rate['qat']:9.0f} {rate['float'] / rate['torch']:14.2f} "
              f"{rate['float'] / rate['qat']:15.2f} {peak['torch']:12.0f} MB {peak['float']:5.0f} MB {peak['qat']:5.0f} MB")


if __name__ == "__main__":
    main()
