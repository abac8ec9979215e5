# SPDX-License-Identifier: BSD-2-Clause
"""The networks of Octet's zoo (layers/models_net.c) in PyTorch, by the same names: "resnet8", "mobilenetv2:form=cifar".

Parameters, shapes and multiply-accumulates are Octet's; the scripts check them against what bin/bench reports.
One thing is done in the way that costs PyTorch least: where Octet pads like TensorFlow (resnet8, mobilenetv1; one
row and column at the far side for stride 2), these pad evenly, which needs no operation of its own in PyTorch and
no other arithmetic.
"""
import math

import torch
from torch import nn

TINY = {"eps": 1e-3, "momentum": 0.01}  # batch norm of MLPerf Tiny's models
PLAIN = {"eps": 1e-5, "momentum": 0.1}


def conv_bn(inputs, outputs, kernel, stride=1, act=nn.ReLU, depthwise=False, bias=False, norm=None):
    layers = [nn.Conv2d(inputs, outputs, kernel, stride, kernel // 2, groups=inputs if depthwise else 1, bias=bias),
              nn.BatchNorm2d(outputs, **(norm or PLAIN))]
    return nn.Sequential(*layers, *([act()] if act else []))


class Residual(nn.Module):
    """relu(conv bn relu conv bn + shortcut); tiny: biases, and no batch norm on the shortcut."""

    def __init__(self, inputs, outputs, stride, tiny):
        super().__init__()
        more = {"bias": True, "norm": TINY} if tiny else {}
        self.first = conv_bn(inputs, outputs, 3, stride, **more)
        self.second = conv_bn(outputs, outputs, 3, act=None, **more)
        if stride == 1 and inputs == outputs:
            self.shortcut = nn.Identity()
        elif tiny:
            self.shortcut = nn.Conv2d(inputs, outputs, 1, stride)
        else:
            self.shortcut = conv_bn(inputs, outputs, 1, stride, act=None)
        self.relu = nn.ReLU()

    def forward(self, x):
        return self.relu(self.second(self.first(x)) + self.shortcut(x))


class Inverted(nn.Module):
    """1x1 expansion, 3x3 depthwise, linear 1x1 projection; plus x where the shape stays."""

    def __init__(self, inputs, outputs, stride, expansion, act):
        super().__init__()
        hidden = inputs * expansion
        self.add = stride == 1 and inputs == outputs
        self.body = nn.Sequential(*([conv_bn(inputs, hidden, 1, act=act)] if expansion != 1 else []),
                                  conv_bn(hidden, hidden, 3, stride, act, depthwise=True),
                                  conv_bn(hidden, outputs, 1, act=None))

    def forward(self, x):
        return x + self.body(x) if self.add else self.body(x)


def scaled(channels, width):
    """The nearest multiple of 8, at least 8 and at least 0.9 of channels * width."""
    wanted = channels * width
    rounded = max(8, int(wanted + 4) // 8 * 8)
    return rounded + 8 if rounded < 0.9 * wanted else rounded


def residual_network(widths, blocks, stem, tiny=False):
    more = {"bias": True, "norm": TINY} if tiny else {}
    layers, channels = [conv_bn(3, widths[0], *stem, **more)], widths[0]
    if stem[1] == 2:
        layers.append(nn.MaxPool2d(3, 2, 1))
    for stage, width in enumerate(widths):
        for block in range(blocks):
            layers.append(Residual(channels, width, 2 if stage and not block else 1, tiny))
            channels = width
    return layers, channels


def mobilenetv1(width, small, act):
    blocks = [(64, 1), (128, 1 if small else 2), (128, 1), (256, 2), (256, 1), (512, 2), *[(512, 1)] * 5, (1024, 2),
              (1024, 1)]
    channels = scaled(32, width)
    layers = [conv_bn(3, channels, 3, 1 if small else 2, act, bias=True, norm=TINY)]
    for filters, stride in blocks:
        filters = scaled(filters, width)
        layers.append(conv_bn(channels, channels, 3, stride, act, depthwise=True, bias=True, norm=TINY))
        layers.append(conv_bn(channels, filters, 1, 1, act, bias=True, norm=TINY))
        channels = filters
    return layers, channels


def mobilenetv2(width, small, act):
    stages = [(1, 16, 1, 1), (6, 24, 2, 1 if small else 2), (6, 32, 3, 2), (6, 64, 4, 2), (6, 96, 3, 1), (6, 160, 3, 2),
              (6, 320, 1, 1)]
    channels = scaled(32, width)
    layers = [conv_bn(3, channels, 3, 1 if small else 2, act)]
    for expansion, filters, blocks, stride in stages:
        for block in range(blocks):
            layers.append(Inverted(channels, scaled(filters, width), 1 if block else stride, expansion, act))
            channels = scaled(filters, width)
    last = scaled(1280, max(1.0, width))
    return [*layers, conv_bn(channels, last, 1, act=act)], last


def drop_cancelled_biases(model):
    """Removes the biases that a batch norm subtracts again: the same function, less to do."""
    for sequence in model.modules():
        if not isinstance(sequence, nn.Sequential):
            continue
        for layer, after in zip(sequence, list(sequence)[1:]):
            if isinstance(layer, nn.Conv2d) and isinstance(after, nn.BatchNorm2d):
                layer.bias = None


def build(spec, size, classes):
    """The network that Octet builds for `--model spec --size size --classes classes`, without the softmax."""
    name, _, text = spec.partition(":")
    options = dict(part.split("=") for part in text.split(",")) if text else {}
    small = options.get("form", "cifar" if size <= 64 else "imagenet") == "cifar"
    width = float(options.get("width", 1))
    act = {"relu": nn.ReLU, "relu6": nn.ReLU6}[options.get("act", "relu6" if name == "mobilenetv2" else "relu")]
    if name == "resnet8":
        layers, channels = residual_network((16, 32, 64), 1, (3, 1), tiny=True)
    elif name == "resnet20":
        layers, channels = residual_network((16, 32, 64), 3, (3, 1))
    elif name == "resnet18":
        layers, channels = residual_network((64, 128, 256, 512), 2, (3, 1) if small else (7, 2))
    else:
        layers, channels = {"mobilenetv1": mobilenetv1, "mobilenetv2": mobilenetv2}[name](width, small, act)
    return nn.Sequential(*layers, nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(channels, classes))


def measure(model, size):
    """parameters, macs of a forward, macs of a backward (the first layer's input wants no gradient); per image."""
    macs = []

    def count(module, _, output):
        weight = module.weight
        macs.append(weight.numel() * math.prod(output.shape[2:]))

    hooks = [m.register_forward_hook(count) for m in model.modules() if isinstance(m, (nn.Conv2d, nn.Linear))]
    training = model.training
    with torch.no_grad():
        model.eval()(torch.zeros(1, 3, size, size))
    model.train(training)
    for hook in hooks:
        hook.remove()
    return {"parameters": sum(p.numel() for p in model.parameters()), "macs": sum(macs),
            "backward_macs": 2 * sum(macs) - macs[0]}
