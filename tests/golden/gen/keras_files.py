#!/usr/bin/env python3
# SPDX-License-Identifier: BSD-2-Clause
"""Keras files and what Keras and LiteRT make of them, for tests/test_import_keras.c.

usage: keras_files.py SHARED_MODELS FOLDER        (needs keras with the torch backend, torch, h5py, ai_edge_litert)

Writes into FOLDER (tests/golden/keras):
  layers.h5       Keras 3, Functional: every layer of convolutional networks that the reader knows
  functions.h5    Keras 3, Functional: activations, and layers that need ops of their own: padding in front of a pool,
                  resizing, vectors as images, softmax and rescaling inside
  nested.h5       Keras 3, Sequential of a Reshape, a Functional model called twice in a Functional one, and a head; (8, 8)
  chunked.h5      the network of nested.h5 written by hand in Keras 2's layout: names with ":0" and without the models
                  around them, batch_input_shape in the first layer, layer_names, weight_names and model_config in pieces
  weights.h5      chunked.h5 without its network
  reference.txt   class probabilities: for these files by Keras, for MLPerf Tiny's pretrainedResnet by LiteRT from its
                  .tflite, for vww_96.h5 (input pixel/255) by Keras; float32

Pixels of image n are not stored: (x*(1 + n%5) + y*(1 + n%7) + c*(17 + n) + ((x//4) ^ (y//4))*(n%11)*9) & 255.
"""
import json
import os
import sys

os.environ["KERAS_BACKEND"] = "torch"
import h5py  # noqa: E402
import keras  # noqa: E402
import numpy as np  # noqa: E402
from ai_edge_litert.interpreter import Interpreter  # noqa: E402
from keras import layers  # noqa: E402


def images(count, height, width, channels):
    n, y, x, c = np.meshgrid(*(np.arange(k) for k in (count, height, width, channels)), indexing="ij")
    return ((x * (1 + n % 5) + y * (1 + n % 7) + c * (17 + n) + ((x // 4) ^ (y // 4)) * (n % 11) * 9) & 255).astype(np.float32)


def all_layers():
    x = image = keras.Input((13, 11, 3), name="image")
    x = layers.Rescaling([1 / 127.5, 1 / 64, 1 / 100], [-1, -0.5, 0.25])(x)
    x = layers.ZeroPadding2D(((0, 1), (2, 1)))(x)
    x = layers.Conv2D(8, 3, strides=2, padding="valid", use_bias=False, name="stem")(x)
    x = layers.BatchNormalization(epsilon=2e-3, momentum=0.9)(x)
    x = a = layers.ReLU(6.0)(x)
    x = layers.ZeroPadding2D(1)(x)
    x = layers.MaxPooling2D(3, strides=1)(x)
    x = layers.DepthwiseConv2D(3, padding="same", depth_multiplier=2, activation="relu")(x)
    x = layers.Conv2D(8, (1, 3), padding="same", groups=4, dilation_rate=(1, 2))(x)
    x = layers.BatchNormalization(scale=False)(x)
    b = layers.Activation("relu")(x)
    c = layers.DepthwiseConv2D((3, 2), padding="same")(a)
    c = layers.BatchNormalization(center=False)(c)
    x = layers.Add()([a, b, c])
    x = layers.Multiply()([x, layers.Activation("relu6")(c)])
    x = layers.Concatenate()([x, a])
    x = layers.SeparableConv2D(6, 3, strides=2, padding="same", depth_multiplier=2, activation="relu")(x)
    x = layers.Conv2D(8, 1, groups=2, activation=layers.ReLU(max_value=4.0))(x)
    x = layers.AveragePooling2D(2, strides=1, padding="same")(x)
    x = layers.Dense(7, name="loss")(x)
    x = layers.Dropout(0.25)(x)
    d = layers.Flatten()(x)
    d = layers.Dense(5, activation="relu")(d)
    x = layers.GlobalAveragePooling2D(keepdims=True)(x)
    x = layers.Conv2D(5, 1)(x)
    x = layers.Reshape((-1,))(x)
    x = layers.Add()([x, d])
    x = layers.BatchNormalization()(x)
    x = layers.Dense(4)(x)
    return keras.Model(image, layers.Softmax()(x), name="all_layers")


def functions():
    x = image = keras.Input((6, 5, 3), name="image")
    x = layers.Rescaling(1 / 255)(x)
    x = layers.Conv2D(4, 3, padding="same", activation="silu")(x)
    x = layers.UpSampling2D((2, 3))(x)
    x = layers.Conv2D(4, 3, strides=2)(x)
    x = layers.LeakyReLU(negative_slope=0.1)(x)
    x = layers.UpSampling2D(2, interpolation="bilinear")(x)
    x = layers.ReLU(max_value=1.5, negative_slope=0.25)(x)
    x = layers.ZeroPadding2D((1, 2))(x)
    x = layers.AveragePooling2D(2)(x)
    x = layers.PReLU(shared_axes=[1, 2])(x)
    x = layers.ZeroPadding2D(1)(x)
    x = layers.Conv2D(6, 3, padding="same", activation="gelu")(x)
    a = layers.Softmax()(x)
    b = layers.Rescaling(0.5, -0.25)(x)
    x = layers.Subtract()([layers.Multiply()([a, b]), layers.Activation("tanh")(b)])
    x = layers.MaxPooling2D(3)(layers.ELU(0.5)(x))
    x = layers.Flatten()(x)
    x = layers.Dense(24, activation="sigmoid")(x)
    x = layers.Reshape((2, 3, 4))(x)
    x = layers.Conv2D(4, 2, activation="hard_silu")(x)
    x = layers.Activation("leaky_relu")(x)
    x = layers.Flatten()(x)
    return keras.Model(image, layers.Dense(3)(x), name="functions")


def nested():
    x = inner_in = keras.Input((4, 4, 4))
    x = layers.Conv2D(4, 3, padding="same", name="conv")(x)
    x = layers.BatchNormalization(name="norm")(x)
    inner = keras.Model(inner_in, layers.ReLU(name="relu")(x), name="inner")
    x = outer_in = keras.Input((8, 8, 1))
    x = layers.Conv2D(4, 3, strides=2, padding="same", name="stem")(x)
    x = layers.Add(name="sum")([inner(inner(x)), x])
    outer = keras.Model(outer_in, x, name="outer")
    return keras.Sequential([keras.Input((8, 8)), layers.Reshape((8, 8, 1), name="reshape"),
                             layers.Rescaling(1 / 128, -1, name="rescaling"), outer,
                             layers.GlobalAveragePooling2D(name="pool"), layers.Dense(3, activation="softmax", name="scores")],
                            name="nested")


def randomize(model, seed):
    r = np.random.default_rng(seed)
    for w in model.weights:
        if "variance" in w.path:
            value = r.uniform(0.5, 2, w.shape)
        else:
            value = r.normal(1 if "gamma" in w.path else 0, 0.3, w.shape)
        w.assign((np.round(value * 256) / 256).astype(np.float32))


def copy(old, new, fixed):
    for k, v in old.attrs.items():
        if k != "training_config":
            if fixed and isinstance(v, str):
                v = np.bytes_(v)
            elif fixed and len(v):
                v = np.array([t.encode() for t in v], "S")
            new.attrs[k] = v
    for k, v in old.items():
        if isinstance(v, h5py.Dataset):
            new.create_dataset(k, data=v[()])
        elif k != "optimizer_weights":
            copy(v, new.create_group(k), fixed)


def compact(source, target, fixed):
    """The same content with HDF5's newer, smaller groups; fixed: texts of fixed length, as other
    versions write them."""
    with h5py.File(source) as old, h5py.File(target, "w", libver=("v108", "v108")) as new:
        copy(old, new, fixed)
    os.remove(source)


def save(model, path, fixed):
    model.save(path + ".tmp.h5")
    compact(path + ".tmp.h5", path, fixed)


def config_2(model):
    """A model's configuration as Keras 2 writes it."""
    entries = []
    for layer in model.layers:
        if isinstance(layer, (keras.Model, keras.Sequential)):
            entry = config_2(layer)
        else:
            c = layer.get_config()
            c["dtype"] = "float32"
            if "batch_shape" in c:
                c["batch_input_shape"] = c.pop("batch_shape")
            for k in ("activation",):
                if k in c and not isinstance(c[k], str):
                    c[k] = c[k]["config"]
            entry = {"class_name": type(layer).__name__, "config": c}
        entry["name"] = layer.name
        entries.append(entry)
    if isinstance(model, keras.Sequential):
        entries[0]["config"]["batch_input_shape"] = [None, *model.input_shape[1:]]
        return {"class_name": "Sequential", "config": {"name": model.name, "layers": entries}}
    config = model.get_config()
    for entry, full in zip(entries, config["layers"]):
        entry["inbound_nodes"] = []
        for node in full["inbound_nodes"]:
            tensors = node["args"][0] if isinstance(node["args"][0], (list, tuple)) else node["args"]
            entry["inbound_nodes"].append([])
            for t in tensors:
                name, call, tensor = t["config"]["keras_history"]
                call += isinstance(model.get_layer(name), keras.Model) # the call that made an inner model counts, too
                entry["inbound_nodes"][-1].append([name, call, tensor, {}])
    end = {k: [config[k]] if isinstance(config[k][0], str) else config[k] for k in ("input_layers", "output_layers")}
    return {"class_name": "Functional", "config": {"name": model.name, "layers": entries, **end}}


def in_pieces(attrs, name, values, count):
    for i in range(count):
        attrs[f"{name}{i}"] = np.array(values[i * len(values) // count:(i + 1) * len(values) // count], dtype="S")


def save_2(model, path, with_network):
    with h5py.File(path, "w", libver=("v108", "v108")) as f:
        group = f.create_group("model_weights") if with_network else f
        if with_network:
            text = json.dumps(config_2(model))
            for i in range(3):
                f.attrs[f"model_config{i}"] = text[i * len(text) // 3:(i + 1) * len(text) // 3]
        in_pieces(group.attrs, "layer_names", [layer.name.encode() for layer in model.layers], 2)
        for layer in model.layers:
            g = group.create_group(layer.name)
            names = ["/".join(w.path.split("/")[-2:]) + ":0" for w in layer.weights]
            if len(names) > 4:
                in_pieces(g.attrs, "weight_names", [n.encode() for n in names], 3)
            else:
                g.attrs["weight_names"] = np.array([n.encode() for n in names])
            for n, w in zip(names, layer.weights):
                if w.shape == (3, 3, 4, 4): # compressed files are read, too
                    g.create_dataset(n, data=keras.ops.convert_to_numpy(w), compression="gzip", shuffle=True)
                else:
                    g.create_dataset(n, data=keras.ops.convert_to_numpy(w))


def write(out, name, probabilities):
    print(f"{name} {probabilities.shape[0]} {probabilities.shape[1]}", file=out)
    for row in probabilities:
        print(" ".join(f"{p:.7f}".lstrip("0") for p in row), file=out)


def run(model, x):
    return keras.ops.convert_to_numpy(model(x, training=False))


class DepthwiseConv2D(layers.DepthwiseConv2D):
    def __init__(self, groups=1, **kwargs): # Keras 3 does not know the attribute that Keras 2.4 wrote
        super().__init__(**kwargs)


def run_litert(path, x):
    interpreter = Interpreter(path)
    interpreter.resize_tensor_input(interpreter.get_input_details()[0]["index"], x.shape)
    interpreter.allocate_tensors()
    interpreter.set_tensor(interpreter.get_input_details()[0]["index"], x)
    interpreter.invoke()
    return interpreter.get_tensor(interpreter.get_output_details()[0]["index"])


def main():
    shared, folder = sys.argv[1:]
    first, second, third = all_layers(), nested(), functions()
    randomize(first, 1)
    randomize(second, 2)
    randomize(third, 3)
    save(first, f"{folder}/layers.h5", True)
    save(second, f"{folder}/nested.h5", False)
    save(third, f"{folder}/functions.h5", True)
    save_2(second, f"{folder}/chunked.h5", True)
    save_2(second, f"{folder}/weights.h5", False)
    vww = keras.models.load_model(f"{shared}/vww_96.h5", compile=False, custom_objects={"DepthwiseConv2D": DepthwiseConv2D})
    with open(f"{folder}/reference.txt", "w") as out:
        print("# made by tests/golden/gen/keras_files.py", file=out)
        write(out, "layers", run(first, images(8, 13, 11, 3)))
        write(out, "nested", run(second, images(8, 8, 8, 1)[..., 0]))
        write(out, "functions", keras.ops.convert_to_numpy(keras.ops.softmax(run(third, images(8, 6, 5, 3)))))
        write(out, "pretrainedResnet", run_litert(f"{shared}/pretrainedResnet.tflite", images(40, 32, 32, 3)))
        write(out, "vww_96", run(vww, images(100, 96, 96, 3) / np.float32(255)))


if __name__ == "__main__":
    main()
