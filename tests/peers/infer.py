#!/usr/bin/env python3
# SPDX-License-Identifier: BSD-2-Clause
"""int8 inference of Octet against ONNX Runtime, OpenVINO and LiteRT on the same networks, in turns within one run.

Every runtime lives in a process of its own per network, batch and thread count and is asked for a block of
inferences per round; Octet's bin/bench runs once per round. Times are medians of the rounds' medians, ratios are
medians of the ratios within one round. `spread` is largest minus smallest round, relative to the median. The models
are made on first use in build/peers (random weights, QDQ ONNX); LiteRT reads the MLPerf Tiny .tflite files. See
--help; run it on an otherwise idle machine.
"""
import argparse
import collections
import json
import pathlib
import subprocess
import sys

sys.dont_write_bytecode = True  # the source tree stays as it is
from common import (ROOT, Bench, Octet, Peer, PeerError, judged, machine, median, note, print_judged, ratio, spread,
                    switches)
from models import onnx_files

# Targets: ratio to the best int8 runtime for each of SETTINGS.
Row = collections.namedtuple("Row", "title model size classes tflite targets")
ROWS = {
    "resnet8": Row("ResNet-8", "resnet8", 32, 10, "pretrainedResnet_quant.tflite", (1.3, 1.3, 1.3)),
    "mobilenetv1": Row("MobileNetV1 0.25 @96", "mobilenetv1:width=0.25", 96, 2, "vww_96_int8.tflite",
                       (1.5, 1.5, 1.5)),
    "mobilenetv2": Row("MobileNetV2 1.0 @224", "mobilenetv2", 224, 1000, None, (1.6, 1.6, 1.3)),
}
Setting = collections.namedtuple("Setting", "title threads batch")
SETTINGS = [Setting("1 thread, batch 1", 1, 1), Setting("2 threads, batch 1", 2, 1),
            Setting("2 threads, batch 64", 2, 64)]
INT8_OVER_FLOAT, INT8_OVER_FLOAT_AVX2 = 3.5, 1.5   # Octet's int8 rate over its own float rate
FLOAT_OVER_ONNX = 0.9                              # Octet's float rate over ONNX Runtime's

OCTET = {"Octet int8": [], "Octet float": ["--float"]}
RUNTIMES = {"ONNX Runtime int8": "ONNX Runtime", "OpenVINO int8": "OpenVINO", "LiteRT int8": "LiteRT",
            "ONNX Runtime float": "ONNX Runtime"}
INT8 = [name for name in RUNTIMES if name.endswith("int8")]


def inference(octet, row, setting, flags):
    arguments = ["infer", "--model", row.model, "--size", row.size, "--classes", row.classes, "--batch-size",
                 setting.batch, "--threads", setting.threads, *flags]
    return Bench(octet, arguments, (5, 3), lambda steps: max(3, steps // 10))


# --- models ---


def run_models(*arguments):
    """models.py in a process of its own: what it imports would stay in this one."""
    command = [sys.executable, "-B", str(pathlib.Path(__file__).with_name("models.py")), *map(str, arguments)]
    run = subprocess.run(command, capture_output=True, text=True)
    if run.returncode:
        raise PeerError((run.stderr.strip().splitlines() or ["models.py failed"])[-1][:300])
    return run.stdout


def model_files(row, options, failed):
    """{variant: file} of all that can be had; the others get their reason in `failed`."""
    files = {}
    plain, qdq, facts = onnx_files(row.model, row.size)
    try:
        if not facts.exists():
            note(f"{row.title}: making {plain.name} and {qdq.name}")
            run_models(row.model, row.size, row.classes)
        files = {"ONNX Runtime int8": qdq, "OpenVINO int8": qdq, "ONNX Runtime float": plain}
    except PeerError as error:
        failed.update({name: f"no model: {error}" for name in RUNTIMES if name != "LiteRT int8"})
    tflite = pathlib.Path(options.tflite) / (row.tflite or f"{row.model}.tflite")
    if tflite.exists():
        files["LiteRT int8"] = tflite
    else:
        failed["LiteRT int8"] = f"no {tflite.name} in {options.tflite}"
    return files


def check_same(row, files, octet_facts):
    """The peers' networks have Octet's multiply-accumulates."""
    macs = octet_facts.get("macs")
    found = {}
    if "ONNX Runtime int8" in files:
        found["ONNX"] = json.loads(onnx_files(row.model, row.size)[2].read_text(encoding="utf-8"))["macs"]
    if "LiteRT int8" in files:
        found["LiteRT"] = int(run_models(files["LiteRT int8"]))
    for name, count in found.items():
        if macs and count != macs:
            raise SystemExit(f"{row.title}: {name}'s model has {count} MACs, Octet's {macs}")
    return macs


# --- measurement ---


def start_peers(row, setting, files, failed, options):
    peers = {}
    for name, file in files.items():
        settings = {"runtime": RUNTIMES[name], "file": str(file), "threads": setting.threads, "batch": setting.batch,
                    "size": row.size}
        env = switches(setting.threads, amx=options.amx)
        try:
            peers[name] = Peer("runtime_worker.py", f"{row.title} {name}", settings, env)
        except PeerError as error:
            failed[name] = str(error)
    return peers


def run_rounds(octets, peers, options, failed):
    """{variant: [ms per round]}; a variant that fails goes to `failed`."""
    results = collections.defaultdict(list)
    for number in range(options.rounds):
        names = [*octets, *peers]
        names = names[number % len(names):] + names[:number % len(names)]
        for name in names:
            if name in octets:
                results[name].append(octets[name].block(options.seconds)["ms_median"])
            elif name not in failed:
                try:
                    results[name].append(median(peers[name].ask({"seconds": options.seconds})["ms"]))
                except PeerError as error:
                    failed[name] = str(error)
                    results.pop(name, None)
    return results


def best_int8(ms):
    found = [name for name in INT8 if name in ms]
    return min(found, key=lambda name: median(ms[name])) if found else None


def judge(ms, target, avx2):
    records = []
    best = best_int8(ms)
    if best:
        records.append(judged(f"Octet int8 / {best}", ratio(ms[best], ms["Octet int8"]), target))
    records.append(judged("Octet int8 / Octet float", ratio(ms["Octet float"], ms["Octet int8"]),
                          INT8_OVER_FLOAT_AVX2 if avx2 else INT8_OVER_FLOAT))
    if "ONNX Runtime float" in ms:
        records.append(judged("Octet float / ONNX Runtime float", ratio(ms["ONNX Runtime float"], ms["Octet float"]),
                              FLOAT_OVER_ONNX))
    return records


def measure_setting(row, setting, target, files, failed, octet, options):
    octets = {name: inference(octet, row, setting, flags) for name, flags in OCTET.items()}
    failed, peers = dict(failed), {}
    try:
        peers = start_peers(row, setting, files, failed, options)
        ms = run_rounds(octets, peers, options, failed)
        for name, peer in peers.items():
            if peer.idle > 0.1 * options.seconds:
                note(f"{row.title}: {name} used the processors for {peer.idle:.2f} s while others were measured")
    finally:
        for peer in peers.values():
            peer.close()
    ms = {name: ms[name] for name in [*OCTET, *RUNTIMES] if name in ms}
    return ms, failed, judge(ms, target, options.avx2) if ms else []


# --- output ---


def print_setting(setting, ms, failed, records, macs, peaks):
    print(f"\n  {setting.title}")
    print(f"  {'':22} {'ms':>9} {'spread':>7} {'img/s':>8} {'GOP/s':>8} {'of peak':>8}")
    for name, rounds in ms.items():
        rate = 1e3 * setting.batch / median(rounds)
        peak = peaks[setting.threads]["fp32_peak_gflops" if name.endswith("float") else "int8_peak_gops"]
        giga = 2e-9 * (macs or 0) * rate
        print(f"  {name:22} {median(rounds):9.4f} {100 * spread(rounds):5.0f} % {rate:8.0f} {giga:8.0f} "
              f"{100 * giga / peak:6.0f} %")
    for name, reason in failed.items():
        print(f"  {name:22}   failed: {reason}")
    print_judged(records)
    sys.stdout.flush()


def figure(setting, rounds):
    if not rounds:
        return "-"
    return f"{median(rounds):.3f} ms" if setting.batch == 1 else f"{1e3 * setting.batch / median(rounds):.0f} /s"


def print_summary(done):
    names = ["Octet int8", *INT8]
    print(f"\n{'':22} {'':20}" + "".join(f" {name.removesuffix(' int8'):>13}" for name in names) +
          f" {'ratio':>6} {'target':>7}")
    for row, setting, ms, records in done:
        figures = [figure(setting, ms.get(name)) for name in names]
        against = [r for r in records if r["what"].startswith("Octet int8 / ") and "Octet float" not in r["what"]]
        tail = f" {against[0]['value']:6.2f} {against[0]['target']:7g} {against[0]['verdict']}" if against else ""
        print(f"{row.title:22} {setting.title:20}" + "".join(f" {text:>13}" for text in figures) + tail)
    verdicts = [r["verdict"] for *_, records in done for r in records]
    print(f"{verdicts.count('PASS')} of {len(verdicts)} targets reached")


# --- command line ---


def parse():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("bin", nargs="?", default=str(ROOT / "bin"), help="folder of Octet's programs (default bin)")
    parser.add_argument("--rows", default=",".join(ROWS), help=f"of {', '.join(ROWS)}")
    parser.add_argument("--settings", default="1,2,3",
                        help="; ".join(f"{i + 1}: {s.title}" for i, s in enumerate(SETTINGS)))
    parser.add_argument("--rounds", type=int, default=3, help="default 3; 0 makes the models and measures nothing")
    parser.add_argument("--seconds", type=float, default=1, help="length of a block, default 1")
    parser.add_argument("--tflite", default=str(ROOT.parent / "shared" / "models" / "mlperf-tiny"),
                        help="folder of int8 .tflite files")
    parser.add_argument("--avx2", action="store_true", help="Octet alone, held to AVX2: int8 against float")
    parser.add_argument("--no-amx", dest="amx", action="store_false",
                        help="OpenVINO held to AVX-512 VNNI (ONNX Runtime and LiteRT have no such switch)")
    parser.add_argument("--json", action="store_true", help="one JSON object per network and setting")
    options = parser.parse_args()
    options.rows = options.rows.split(",")
    unknown = [name for name in options.rows if name not in ROWS]
    if unknown:
        parser.error(f"unknown row {unknown[0]}; known: {', '.join(ROWS)}")
    options.settings = [int(text) - 1 for text in options.settings.split(",")]
    return options


def missing_runtimes():
    missing = []
    for name in ("torch", "onnxruntime", "openvino", "ai_edge_litert"):
        probe = subprocess.run([sys.executable, "-c", f"import importlib.util, sys; "
                                f"sys.exit(importlib.util.find_spec('{name}') is None)"])
        if probe.returncode:
            missing.append(name)
    return missing


def measure_row(row, octet, peaks, options):
    failed = {}
    files = {} if options.avx2 else model_files(row, options, failed)
    facts = octet.bench("infer", "--model", row.model, "--size", row.size, "--classes", row.classes, "--float",
                        "--steps", 1, "--warmup", 0)
    macs = check_same(row, files, facts)
    if not options.rounds:
        return []
    if not options.json:
        print(f"\n{row.title}: {(macs or 0) / 1e6:.2f} MMAC")
    done = []
    for index in options.settings:
        setting = SETTINGS[index]
        ms, failures, records = measure_setting(row, setting, row.targets[index], files, failed, octet, options)
        if options.json:
            print(json.dumps({"row": row.title, "setting": setting.title, "threads": setting.threads,
                              "batch": setting.batch, "avx2": options.avx2, "macs": macs, "ms": ms,
                              "failed": failures, "ratios": records}), flush=True)
        else:
            print_setting(setting, ms, failures, records, macs, peaks)
        done.append((row, setting, ms, records))
    return done


def main():
    options = parse()
    octet = Octet(options.bin, options.avx2)
    missing = [] if options.avx2 else missing_runtimes()
    if missing:
        print(f"infer.py: this Python has no {', '.join(missing)}; give one that has: "
              "make bench-peers PEERS=path/to/python")
        return
    try:
        peaks = {threads: octet.events("bench", "peak", "--threads", threads)[-1] for threads in (1, 2)}
        if not options.json:
            print(f"{machine()}\n{options.rounds} rounds of {options.seconds:g} s"
                  f"{', AVX2 only' if options.avx2 else ''}; peaks of 2 threads: "
                  f"fp32 {peaks[2]['fp32_peak_gflops']:.0f} GFLOP/s ({peaks[2]['fp32_level']}), "
                  f"int8 {peaks[2]['int8_peak_gops']:.0f} GOP/s ({peaks[2]['int8_level']})")
        done = []
        for name in options.rows:
            try:
                done += measure_row(ROWS[name], octet, peaks, options)
            except PeerError as error:
                print(json.dumps({"row": name, "error": str(error)}) if options.json else f"\n{name}: failed: {error}")
        if done and not options.json:
            print_summary(done)
    except PeerError as error:
        sys.exit(f"infer.py: {error}")
    except FileNotFoundError as error:
        sys.exit(f"infer.py: {error}; build first: make")


if __name__ == "__main__":
    main()
