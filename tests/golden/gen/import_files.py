# SPDX-License-Identifier: BSD-2-Clause
"""Writes the small .pth and .safetensors files of tests/golden/import, which tests/test_import_files.c reads.

Values follow one formula, value(i) = (i * 37 % 101 - 50) / 8, exact in every float type; integers have no division.
Needs torch and safetensors (made with torch 2.13, safetensors 0.8).
    python tests/golden/gen/import_files.py tests/golden/import
"""
import argparse
import collections
import os
import sys

import torch
from safetensors.torch import save_file

folder = sys.argv[1]
os.makedirs(folder, exist_ok=True)


def value(shape, dtype=torch.float32):
    count = 1
    for n in shape:
        count *= n
    k = torch.arange(count, dtype=torch.int64) * 37 % 101 - 50
    k = (k.double() / 8 if dtype.is_floating_point else k).to(dtype)
    return k.reshape(shape)


def typed():
    d = collections.OrderedDict()
    d["f32"] = value((2, 3, 2, 2))
    d["f16"] = value((3, 5), torch.float16)
    d["bf16"] = value((3, 5), torch.bfloat16)
    d["f64"] = value((7,), torch.float64)
    d["i64"] = value((4,), torch.int64)
    d["i32"] = value((4,), torch.int32)
    d["i16"] = value((4,), torch.int16)
    d["i8"] = value((4,), torch.int8)
    d["u8"] = torch.arange(250, 256, dtype=torch.uint8)
    d["bool"] = torch.tensor([True, False, True])
    d["empty"] = torch.zeros(0, 3)
    d["scalar"] = torch.tensor(-6.25)
    return d


def viewed():
    d = typed()
    base = value((4, 3, 2, 2))
    d["base"] = base
    d["slice"] = base[1:3]
    d["transposed"] = base.permute(2, 3, 1, 0)
    d["channels_last"] = value((2, 3, 2, 2)).contiguous(memory_format=torch.channels_last)
    d["parameter"] = torch.nn.Parameter(value((2, 2)))
    d["note"] = "texts are not tensors"
    return d


class Evil:
    def __reduce__(self):
        return os.system, ("touch /tmp/octet-was-here",)


def save(name, what, **options):
    torch.save(what, os.path.join(folder, name), **options)


save("typed.pth", viewed())
save("protocol4.pth", viewed(), pickle_protocol=4)
save("legacy.pth", viewed(), _use_new_zipfile_serialization=False)
save("nested.pth", {
    "epoch": 3, "best": 71.25, "args": argparse.Namespace(lr=0.1, name="run"),
    "optimizer": {"state": {0: {"exp_avg": value((2,))}}, "param_groups": [{"lr": 0.1, "betas": (0.9, 0.999)}]},
    "model": {"module.fc.weight": value((2, 3)), "module.fc.bias": value((2,))},
})
save("ambiguous.pth", {"teacher": {"w": value((2,))}, "student": {"w": value((2,))}})
save("module.pth", torch.nn.Linear(2, 2))
save("evil.pth", {"w": value((2,)), "x": Evil()})
save("evil_legacy.pth", {"w": value((2,)), "x": Evil()}, _use_new_zipfile_serialization=False)
torch.jit.save(torch.jit.script(torch.nn.Identity()), os.path.join(folder, "script.pt"))
save_file(dict(typed()), os.path.join(folder, "typed.safetensors"), metadata={"format": "pt"})
