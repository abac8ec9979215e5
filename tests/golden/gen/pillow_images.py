#!/usr/bin/env python3
# SPDX-License-Identifier: BSD-2-Clause
"""What Pillow makes of small images given by a formula, for tests/test_transform.c.

usage: pillow_images.py > tests/golden/pillow_images.txt        (needs Pillow >= 13 and numpy)

  pixel (y, x, c) = low byte of  y*y*7 + x*x*3 + y*x*(c + 5) + 91*c, inverted where (y // 3 + x // 4) is odd
  resize FILTER CHANNELS H W to H W : bytes                      Image.resize
  evaluate FILTER H W SIZE RESIZE : bytes                        short side to RESIZE, centre crop, as torchvision
  brightness|contrast|saturation|hue FACTOR CHANNELS : bytes     of the 5 x 7 image, ImageEnhance; torchvision's hue
"""
import numpy as np
from PIL import Image, ImageEnhance

FILTERS = {"bilinear": Image.BILINEAR, "bicubic": Image.BICUBIC}


def image(height, width, channels):
    y, x, c = np.meshgrid(np.arange(height), np.arange(width), np.arange(channels), indexing="ij")
    v = (y * y * 7 + x * x * 3 + y * x * (c + 5) + 91 * c) & 255
    v = np.where((y // 3 + x // 4) % 2 == 1, 255 - v, v).astype(np.uint8)
    return Image.fromarray(v[:, :, 0] if channels == 1 else v)


def show(*head, result):
    print(*head, ":", np.asarray(result).tobytes().hex())


def evaluate(filter_name, height, width, size, side):
    im, short = image(height, width, 3), min(height, width)
    im = im.resize((side * width // short, side * height // short), FILTERS[filter_name])
    top, left = (int(round((n - size) / 2.0)) for n in (im.height, im.width))
    show("evaluate", filter_name, height, width, size, side, result=im.crop((left, top, left + size, top + size)))


print("# Pillow", Image.__version__)
for name, kind in FILTERS.items():
    for channels, h, w, out_h, out_w in (
        (1, 4, 4, 7, 9), (3, 5, 7, 5, 3), (3, 5, 7, 9, 7), (3, 37, 53, 6, 7), (1, 100, 3, 4, 9), (3, 3, 90, 8, 5),
        (3, 60, 41, 9, 8), (3, 61, 60, 1, 1), (3, 1, 1, 4, 3), (1, 300, 400, 7, 8), (3, 40, 12, 9, 11),
    ):
        result = image(h, w, channels).resize((out_w, out_h), kind)
        show("resize", name, channels, h, w, out_h, out_w, result=result)
for args in (
    ("bilinear", 41, 60, 8, 9), ("bicubic", 60, 41, 8, 11), ("bicubic", 30, 31, 7, 30), ("bilinear", 9, 12, 8, 11),
):
    evaluate(*args)
for channels in (1, 3):
    for factor in (0.0, 0.37, 1.0, 1.61):
        for name, enhance in (("brightness", ImageEnhance.Brightness), ("contrast", ImageEnhance.Contrast)):
            show(name, factor, channels, result=enhance(image(5, 7, channels)).enhance(factor))
for factor in (0.0, 0.37, 1.61):
    show("saturation", factor, 3, result=ImageEnhance.Color(image(5, 7, 3)).enhance(factor))
for shift in (-0.5, -0.13, 0.0, 0.29, 0.5):
    h, s, v = image(5, 7, 3).convert("HSV").split()
    h = Image.fromarray((np.asarray(h).astype(int) + int(shift * 255) & 255).astype(np.uint8))
    show("hue", shift, 3, result=Image.merge("HSV", (h, s, v)).convert("RGB"))
