#!/usr/bin/env python3
# SPDX-License-Identifier: BSD-2-Clause
"""PyTorch's observers on data that tests/test_observer.c makes again: no data is stored.

usage: observers.py > tests/golden/observers.txt        (needs torch)

Stream s: x[i] = u*|u|^p * scale of batch b, u = 2*lcg/2^31 - 1 with lcg <- (1103515245*lcg + 12345) mod 2^31 from seed
s + 1; every operation in double, rounded once to float. relu: max(x, 0). One line per case:
  name  minmax lo hi  average lo hi (c = 0.01)  histogram lo hi  search lo hi  counts of 16 groups of 128 bins
"""
import warnings

import torch
from torch.ao.quantization.observer import HistogramObserver, MinMaxObserver, MovingAverageMinMaxObserver

warnings.filterwarnings("ignore")
CASES = [  # name, power, relu, batch scales, batch size
    ("flat", 0, 0, [1.0], 20000),
    ("grow", 0, 0, [0.5, 1.0, 0.75, 3.0], 5000),
    ("tail", 9, 0, [8.0, 8.0, 8.0], 10000),
    ("relu", 4, 1, [2.0, 4.0, 3.0, 4.5], 10000),
    ("rare", 40, 0, [1.0, 50.0, 1.0], 20000),
]


def batches(case, seed):
    name, power, relu, scales, n = case
    state = seed + 1
    for scale in scales:
        out = []
        for _ in range(n):
            state = (1103515245 * state + 12345) % (1 << 31)
            u = 2.0 * state / (1 << 31) - 1.0
            x = u
            for _ in range(power):
                x *= abs(u)
            x *= scale
            out.append(max(x, 0.0) if relu else x)
        yield torch.tensor(out, dtype=torch.float64).float()


for seed, case in enumerate(CASES):
    observers = [MinMaxObserver(), MovingAverageMinMaxObserver(averaging_constant=0.01), HistogramObserver()]
    for batch in batches(case, seed):
        for o in observers:
            o(batch)
    h = observers[2]
    lo, hi = h._non_linear_param_search()
    values = [float(v) for o in observers for v in (o.min_val, o.max_val)] + [float(lo), float(hi)]
    groups = h.histogram.double().reshape(16, 128).sum(1).tolist()
    print(case[0], *("%.9g" % v for v in values), *("%.8g" % v for v in groups))
