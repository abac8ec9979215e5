# SPDX-License-Identifier: BSD-2-Clause
"""One inference runtime with one model, batch and thread count, a peer of infer.py. Each runtime is called in its
fastest way: tensors bound or set before, nothing copied that need not be."""
import os

from common import block, serve


def onnxruntime_run(settings, shape):
    import numpy as np
    import onnxruntime
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = settings["threads"]
    options.inter_op_num_threads = 1
    session = onnxruntime.InferenceSession(settings["file"], options, providers=["CPUExecutionProvider"])
    x = onnxruntime.OrtValue.ortvalue_from_numpy(np.random.default_rng(1).standard_normal(shape, np.float32))
    binding = session.io_binding()
    binding.bind_ortvalue_input(session.get_inputs()[0].name, x)
    binding.bind_output(session.get_outputs()[0].name, "cpu")
    return lambda: session.run_with_iobinding(binding), onnxruntime.__version__, x


def openvino_run(settings, shape):
    import numpy as np
    import openvino
    core = openvino.Core()
    model = core.read_model(settings["file"])
    model.reshape(list(shape))
    hint = "LATENCY" if settings["batch"] == 1 else "THROUGHPUT"
    # One stream, whatever the hint: the threads share the batch, as they do in every other runtime.
    compiled = core.compile_model(model, "CPU", {"INFERENCE_NUM_THREADS": settings["threads"], "NUM_STREAMS": 1,
                                                 "PERFORMANCE_HINT": hint})
    request = compiled.create_infer_request()
    x = openvino.Tensor(np.random.default_rng(1).standard_normal(shape, np.float32))
    request.set_input_tensor(x)

    def run():
        request.start_async()
        request.wait()

    return run, openvino.__version__.split("-")[0], x


def litert_run(settings, _):
    import ai_edge_litert
    import numpy as np
    from ai_edge_litert.interpreter import Interpreter
    interpreter = Interpreter(model_path=settings["file"], num_threads=settings["threads"])
    given = interpreter.get_input_details()[0]
    shape = [settings["batch"], *given["shape"][1:]]
    interpreter.resize_tensor_input(given["index"], shape)
    interpreter.allocate_tensors()
    x = np.random.default_rng(1).integers(-128, 128, shape).astype(given["dtype"])
    interpreter.set_tensor(given["index"], x)
    return interpreter.invoke, getattr(ai_edge_litert, "__version__", ""), interpreter


RUNTIMES = {"ONNX Runtime": onnxruntime_run, "OpenVINO": openvino_run, "LiteRT": litert_run}


def prepare(settings):
    shape = (settings["batch"], 3, settings["size"], settings["size"])
    run, version, keep = RUNTIMES[settings["runtime"]](settings, shape)
    for _ in range(5):
        run()

    def answer(request):
        run()  # wakes the threads
        return {"ms": block(run, request["seconds"], 5), "alive": keep is not None}

    return {"version": version, "pid": os.getpid()}, answer


if __name__ == "__main__":
    serve(prepare)
