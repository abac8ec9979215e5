# SPDX-License-Identifier: BSD-2-Clause
"""One PyTorch variant of a training step, a peer of train.py: whole steps (gradients cleared, forward, cross
entropy, backward, SGD with momentum 0.9 and weight decay 1e-4) of one batch."""
import ctypes
import gc
import warnings

from common import block, reset_peak, serve, status_bytes

warnings.filterwarnings("ignore")


def hold_inductor_to_avx2():
    from torch._inductor import config
    config.cpp.march = "haswell"  # else its compiler call says -march=native


def quantized(model, x):
    from torch.ao.quantization import get_default_qat_qconfig_mapping
    from torch.ao.quantization.quantize_fx import prepare_qat_fx
    return prepare_qat_fx(model, get_default_qat_qconfig_mapping("x86"), (x,))


def make_step(model, x, y, compiled):
    import torch
    from torch.nn.functional import cross_entropy
    # The fused update is the fastest PyTorch has here.
    optimizer = torch.optim.SGD(model.parameters(), lr=1e-4, momentum=0.9, weight_decay=1e-4, fused=True)
    forward = torch.compile(model) if compiled else model

    def step():
        optimizer.zero_grad(set_to_none=True)
        cross_entropy(forward(x), y).backward()
        optimizer.step()

    return step


def prepare(settings):
    import torch
    import networks
    torch.set_num_threads(settings["threads"])
    torch.manual_seed(1)
    size, classes, compiled = settings["size"], settings["classes"], settings["compile"]
    if settings["avx2"] and compiled:
        hold_inductor_to_avx2()
    layout = torch.channels_last if settings["channels_last"] else torch.contiguous_format

    def setup(batch):
        model = networks.build(settings["model"], size, classes).train()
        if settings["lean"]:
            networks.drop_cancelled_biases(model)
        x, y = torch.randn(batch, 3, size, size), torch.randint(0, classes, (batch,))
        if settings["qat"]:
            model = quantized(model, x)
        return model.to(memory_format=layout), x.to(memory_format=layout), y

    facts = networks.measure(networks.build(settings["model"], size, classes), size)
    facts.update(version=torch.__version__, capability=torch.backends.cpu.get_cpu_capability())
    # What the libraries load or make at their first use is no memory of a step: a small batch goes first.
    small = make_step(*setup(2), compiled)
    small()
    del small
    torch.compiler.reset()
    gc.collect()
    ctypes.CDLL(None).malloc_trim(0)  # freed memory would count as the model's, and hide what the steps take
    model, x, y = setup(settings["batch"])
    before = status_bytes("VmRSS:")
    step = make_step(model, x, y, compiled)
    for _ in range(3):  # compiles, makes the momenta, chooses kernels
        step()
    gc.collect()
    reset_peak()

    def answer(request):
        times = block(step, request["seconds"], 3)
        return {"ms": times, "peak_bytes": max(0, status_bytes("VmHWM:") - before)}

    return facts, answer


if __name__ == "__main__":
    serve(prepare)
