#!/usr/bin/env python3
# SPDX-License-Identifier: BSD-2-Clause
"""Training steps of Octet against PyTorch on the same networks and shapes, in turns within one run.

Every PyTorch variant lives in a process of its own, is set up once and then asked for a block of steps per round;
Octet's bin/bench runs once per round and mode. Rates are medians over all rounds, ratios are medians of the ratios
within one round: the machine's speed drifts, so only what was measured in turns compares. `spread` is largest minus
smallest round, relative to the median. Memory is peak resident minus resident once model and batch exist, on both
sides. See --help; run it on an otherwise idle machine.
"""
import argparse
import collections
import json
import math
import os
import pathlib
import shutil
import sys

sys.dont_write_bytecode = True  # the source tree stays as it is
from common import (GENERATED, ROOT, Bench, Octet, Peer, PeerError, judged, machine, median, note, print_judged,
                    ratio, spread, switches)

# Targets: ratios to the best PyTorch variant; QAT's is to PyTorch's QAT; `time` is QAT's step over the float step's.
Row = collections.namedtuple("Row", "model size classes batch float stretch qat qat_stretch time small")
ROWS = {
    "resnet8": Row("resnet8", 32, 10, 128, 1.35, 1.6, 3.5, 4, 0.9, True),
    "resnet20": Row("resnet20", 32, 10, 128, 1.2, 1.35, 2.8, 3.2, 0.9, True),
    "mobilenetv1": Row("mobilenetv1:width=0.25", 96, 2, 32, 2, None, 4, None, 0.9, True),
    "mobilenetv2": Row("mobilenetv2:form=cifar", 32, 10, 64, 2.5, None, 5, None, 0.9, True),
    "resnet18": Row("resnet18", 32, 10, 64, 1.05, None, 2, None, 0.85, False),
    # ReLU, which PyTorch fuses into its quantized convolutions, in place of ReLU6, which it does not: on request.
    "mobilenetv2-relu": Row("mobilenetv2:form=cifar,act=relu", 32, 10, 64, 2.5, None, 5, None, 0.9, True),
}
DEFAULT_ROWS = [name for name in ROWS if name != "mobilenetv2-relu"]
AVX2_SMALL = 1.2        # float, networks marked small, both sides held to AVX2
MEMORY = 0.6            # Octet's float peak over PyTorch's
QAT_ACTIVATIONS = 0.5   # QAT's activations over float's
TWO_THREADS = 1.85      # rate with two threads over one
LOADER = 0.95           # rate with a data set over the rate with synthetic batches

OCTET = {"Octet float": [], "Octet QAT": ["--quantize"]}
OCTET_FLOAT, OCTET_QAT = OCTET
FLOAT = {"PyTorch float NCHW": {}, "PyTorch float channels-last": {"channels_last": True},
         "PyTorch float compiled": {"channels_last": True, "compile": True}}
QAT = {"PyTorch QAT NCHW": {"qat": True}, "PyTorch QAT channels-last": {"qat": True, "channels_last": True}}
QAT_COMPILED = {"PyTorch QAT compiled": {"qat": True, "compile": True, "channels_last": True}}


def training(octet, row, flags, threads):
    arguments = ["train", "--model", row.model, "--size", row.size, "--classes", row.classes, "--batch-size", row.batch,
                 "--threads", threads, *flags]
    return Bench(octet, arguments, (3, 2), lambda steps: 3)


# --- the tables against PyTorch ---


def start_peers(row, options, failed):
    peers = {}
    for name, variant in {**FLOAT, **QAT, **(QAT_COMPILED if options.qat_compiled else {})}.items():
        settings = {"model": row.model, "size": row.size, "classes": row.classes, "batch": row.batch,
                    "threads": options.threads, "avx2": options.avx2, "lean": options.lean, "channels_last": False,
                    "compile": False, "qat": False, **variant}
        note(f"{row.model}: starting {name}")
        try:
            peers[name] = Peer("torch_worker.py", f"{row.model} {name}", settings,
                               switches(options.threads, options.avx2, keep_memory=options.keep_memory))
        except PeerError as error:
            failed[name] = str(error)
    return peers


def check_same(facts, peers, lean):
    for name, peer in peers.items():
        for key in ("macs", "backward_macs") + (() if lean else ("parameters",)):
            if peer.facts[key] != facts.get(key, peer.facts[key]):
                raise SystemExit(f"{name}: {key} {peer.facts[key]}, but Octet's network has {facts[key]}")


def run_rounds(octets, peers, options, failed):
    """{variant: [(ms, peak bytes) per round]}; a variant that fails goes to `failed` with its reason."""
    results = collections.defaultdict(list)
    for number in range(options.rounds):
        names = [*octets, *peers]
        names = names[number % len(names):] + names[:number % len(names)]  # none always follows the same other
        for name in names:
            if name in octets:
                r = octets[name].block(options.seconds)
                results[name].append((r["ms_median"], r["peak_bytes"]))
            elif name not in failed:
                try:
                    r = peers[name].ask({"seconds": options.seconds})
                    results[name].append((median(r["ms"]), r["peak_bytes"]))
                except PeerError as error:
                    failed[name] = str(error)
                    results.pop(name, None)
    return results


def summarize(row, results, facts, peaks):
    """Figures of each variant; the shares say what part of a step the arithmetic alone takes at the machine's peak."""
    table = {}
    forward, backward = (2e-9 * row.batch * facts["Octet float"][k] for k in ("macs", "backward_macs"))
    fp32, int8 = peaks["fp32_peak_gflops"], peaks["int8_peak_gops"]
    for name, rounds in results.items():
        ms = [r[0] for r in rounds]
        seconds = median(ms) / 1e3
        table[name] = {"images_per_second": row.batch / seconds, "ms": 1e3 * seconds, "spread": spread(ms),
                       "rounds_ms": ms, "fp32_share": (forward + backward) / fp32 / seconds,
                       "peak_bytes": median(r[1] for r in rounds)}
        if name == "Octet QAT":
            table[name]["peaks_share"] = (forward / int8 + backward / fp32) / seconds
    return table


def best(table, names):
    found = [name for name in names if name in table]
    return max(found, key=lambda name: table[name]["images_per_second"]) if found else None


def judge(row, table, facts, options):
    def ms(name):
        return table[name]["rounds_ms"]

    def memory(name):
        return table["Octet float"]["peak_bytes"] / max(1, table[name]["peak_bytes"])

    records = []
    fast, fast_qat = best(table, FLOAT), best(table, {**QAT, **QAT_COMPILED})
    target = (AVX2_SMALL if row.small else None) if options.avx2 else row.float
    if fast:
        records.append(judged(f"Octet float / {fast}", ratio(ms(fast), ms("Octet float")), target,
                              stretch=None if options.avx2 else row.stretch))
    if fast_qat:
        records.append(judged(f"Octet QAT / {fast_qat}", ratio(ms(fast_qat), ms("Octet QAT")),
                              None if options.avx2 else row.qat, stretch=None if options.avx2 else row.qat_stretch))
    records.append(judged("time of a QAT step / float step", ratio(ms("Octet QAT"), ms("Octet float")),
                          None if options.avx2 else row.time, at_least=False))
    if fast:
        records.append(judged(f"memory, Octet float / {fast}", memory(fast), MEMORY, at_least=False))
        smallest = min((n for n in FLOAT if n in table), key=lambda n: table[n]["peak_bytes"])
        records.append(judged(f"memory, Octet float / {smallest} (least)", memory(smallest), None))
    if "activation_bytes" in facts["Octet float"]:
        records.append(judged("kept activations, QAT / float", facts["Octet QAT"]["activation_bytes"] /
                              facts["Octet float"]["activation_bytes"], QAT_ACTIVATIONS, at_least=False))
    return records


def print_row(name, row, table, failed, facts, records):
    f = facts["Octet float"]
    print(f"\n{name}: {row.model}, {row.size}x{row.size}, batch {row.batch}; {f['parameters']} parameters, "
          f"{f['macs'] / 1e6:.2f} MMAC forward, {f['backward_macs'] / 1e6:.2f} backward")
    print(f"  {'':30} {'img/s':>8} {'spread':>7} {'ms/step':>9} {'of fp32 peak':>13} {'peak MB':>8}")
    for variant, t in table.items():
        both = f"   {100 * t['peaks_share']:.0f} % of what the int8 and fp32 peaks allow" if "peaks_share" in t else ""
        print(f"  {variant:30} {t['images_per_second']:8.0f} {100 * t['spread']:5.0f} % {t['ms']:9.2f} "
              f"{100 * t['fp32_share']:11.0f} % {t['peak_bytes'] / 1e6:8.1f}{both}")
    for variant, reason in failed.items():
        print(f"  {variant:30}   failed: {reason}")
    parts = [f"{n} {f['plan_bytes'] / 1e6:.1f} MB, of that kept activations {f['activation_bytes'] / 1e6:.1f}"
             for n, f in facts.items() if "plan_bytes" in f and "activation_bytes" in f]
    if parts:
        print("  plan: " + "; ".join(parts))
    print_judged(records)
    sys.stdout.flush()


def measure_row(name, octet, peaks, options):
    row, failed, peers = ROWS[name], {}, {}
    octets = {variant: training(octet, row, flags, options.threads) for variant, flags in OCTET.items()}
    facts = {variant: bench.facts for variant, bench in octets.items()}
    try:
        peers = start_peers(row, options, failed)
        check_same(facts["Octet float"], peers, options.lean)
        results = run_rounds(octets, peers, options, failed)
        busy = {variant: peer.idle for variant, peer in peers.items() if peer.idle > 0.2}
    finally:
        for peer in peers.values():
            peer.close()
    if not options.rounds:
        for variant, reason in failed.items():
            print(f"{name}: {variant} failed: {reason}")
        return None
    order = [variant for variant in [*OCTET, *FLOAT, *QAT, *QAT_COMPILED] if variant in results]
    table = summarize(row, {variant: results[variant] for variant in order}, facts, peaks)
    records = judge(row, table, facts, options)
    for variant, seconds in busy.items():
        note(f"{name}: {variant} used the processors for {seconds:.1f} s while others were measured")
    if options.json:
        print(json.dumps({"row": name, "model": row.model, "batch": row.batch, "threads": options.threads,
                          "avx2": options.avx2, "variants": table, "failed": failed, "octet": facts,
                          "ratios": records}), flush=True)
    else:
        print_row(name, row, table, failed, facts, records)
    return table, records


def short_name(variant):
    return (variant or "failed").removeprefix("PyTorch ").removeprefix("float ").removeprefix("QAT ")


def print_summary(done):
    print(f"\n{'':18} {'float':>7} {'QAT':>7} {'best PyTorch':>24} {'best PyTorch QAT':>24} {'float/':>7} {'QAT/':>6} "
          f"{'QAT/float':>10}")
    print(f"{'':18} {'img/s':>7} {'img/s':>7} {'img/s':>24} {'img/s':>24} {'PyTorch':>7} {'QAT':>6} {'time':>10}")
    for name, (table, _) in done.items():
        fast, fast_qat = best(table, FLOAT), best(table, {**QAT, **QAT_COMPILED})
        rate = {k: f"{short_name(k)} {table[k]['images_per_second']:.0f}" if k else "failed" for k in (fast, fast_qat)}
        ms = {k: t["rounds_ms"] for k, t in table.items()}
        print(f"{name:18} {table[OCTET_FLOAT]['images_per_second']:7.0f} {table[OCTET_QAT]['images_per_second']:7.0f} "
              f"{rate[fast]:>24} {rate[fast_qat]:>24} "
              f"{f'{ratio(ms[fast], ms[OCTET_FLOAT]):.2f}' if fast else '-':>7} "
              f"{f'{ratio(ms[fast_qat], ms[OCTET_QAT]):.2f}' if fast_qat else '-':>6} "
              f"{ratio(ms[OCTET_QAT], ms[OCTET_FLOAT]):10.2f}")
    verdicts = [r["verdict"] for _, records in done.values() for r in records if r["target"]]
    print(f"{verdicts.count('PASS')} of {len(verdicts)} targets reached")


# --- Octet alone ---


def scaling(octet, options):
    """Two threads against one, in turns."""
    for name in options.rows:
        row = ROWS[name]
        for variant, flags in OCTET.items():
            benches = {threads: training(octet, row, flags, threads) for threads in (1, 2)}
            ms = {1: [], 2: []}
            for _ in range(max(1, options.rounds)):
                for threads, bench in benches.items():
                    ms[threads].append(bench.block(options.seconds)["ms_median"])
            record = judged(f"{name}, {variant}: rate of 2 threads / 1 thread", ratio(ms[1], ms[2]), TWO_THREADS)
            if options.json:
                print(json.dumps({"row": name, "variant": variant, "ms": ms, "ratio": record}), flush=True)
            else:
                print(f"{name}, {variant}: {1e3 * row.batch / median(ms[1]):.0f} img/s with 1 thread "
                      f"(spread {100 * spread(ms[1]):.0f} %), {1e3 * row.batch / median(ms[2]):.0f} with 2 "
                      f"({100 * spread(ms[2]):.0f} %)")
                print_judged([record])


def train_epochs(octet, row, flags, images, options):
    """Rates of two epochs of `images` images from the data set; the first counts: statistics freeze in the second."""
    folder = GENERATED / "loader"
    events = octet.events("train", *flags, "--data", options.loader, "--size", row.size, "--batch-size", row.batch,
                          "--epochs", 2, "--epoch-size", images, "--threads", options.threads, "--output", folder,
                          "--overwrite", "--lr", 0.001)
    return [e["images_per_second"] for e in events if e["event"] == "epoch"]


def loader(octet, options):
    """bin/train with a folder of JPEG files against bin/bench with synthetic batches, in turns."""
    pretrained = GENERATED / "loader-float.h5"
    for name in options.rows:
        row = ROWS[name]
        for variant, flags in OCTET.items():
            model = ["--model", row.model] if not flags else [*flags, "--pretrained", pretrained,
                                                              "--calibration-batches", 2]
            bench = training(octet, row, flags, options.threads)
            images = row.batch * max(10, math.ceil(1e3 * options.seconds / bench.facts["ms_median"]))
            synthetic, first, second = [], [], []
            for _ in range(max(1, options.rounds)):
                synthetic.append(1e3 * row.batch / bench.block(options.seconds)["ms_median"])
                a, b = train_epochs(octet, row, model, images, options)
                first.append(a)
                second.append(b)
            if not flags:
                shutil.copyfile(GENERATED / "loader" / "last.h5", pretrained)
            record = judged(f"{name}, {variant}: rate with data / synthetic", ratio(first, synthetic), LOADER)
            if options.json:
                print(json.dumps({"row": name, "variant": variant, "synthetic": synthetic, "first_epoch": first,
                                  "second_epoch": second, "ratio": record}), flush=True)
            else:
                print(f"{name}, {variant}: {median(synthetic):.0f} img/s synthetic, {median(first):.0f} in the first "
                      f"epoch of {images} images, {median(second):.0f} in the second")
                print_judged([record])


# --- command line ---


def parse():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("bin", nargs="?", default=str(ROOT / "bin"), help="folder of Octet's programs (default bin)")
    parser.add_argument("--rows", default=",".join(DEFAULT_ROWS), help=f"of {', '.join(ROWS)}")
    parser.add_argument("--rounds", type=int, default=3, help="default 3; 0 sets up (compiles) and measures nothing")
    parser.add_argument("--seconds", type=float, default=2, help="length of a block of steps, default 2")
    parser.add_argument("--threads", type=int, default=len(os.sched_getaffinity(0)))
    parser.add_argument("--avx2", action="store_true", help="both sides held to AVX2")
    parser.add_argument("--lean", action="store_true",
                        help="PyTorch's networks without the biases that a batch norm cancels (resnet8, mobilenetv1)")
    parser.add_argument("--keep-memory", action="store_true",
                        help="PyTorch with a C library told to keep freed memory (MALLOC_TRIM_THRESHOLD_ and others)")
    parser.add_argument("--qat-compiled", action="store_true", help="torch.compile of PyTorch's QAT, too")
    parser.add_argument("--scaling", action="store_true", help="Octet alone: two threads against one")
    parser.add_argument("--loader", metavar="DATA", help="Octet alone: steps with a data set against synthetic ones")
    parser.add_argument("--json", action="store_true", help="one JSON object per row")
    options = parser.parse_args()
    options.rows = options.rows.split(",")
    unknown = [name for name in options.rows if name not in ROWS]
    if unknown:
        parser.error(f"unknown row {unknown[0]}; known: {', '.join(ROWS)}")
    return options


def compare(octet, options):
    try:
        import torch
    except ImportError:
        print("train.py: this Python has no PyTorch; give one that has: make bench-peers PEERS=path/to/python")
        return
    peaks = octet.events("bench", "peak", "--threads", options.threads)[-1]
    if not options.json:
        print(f"{machine()}\nPyTorch {torch.__version__}, {options.threads} threads, {options.rounds} rounds of "
              f"{options.seconds:g} s{', AVX2 only' if options.avx2 else ''}"
              f"{', PyTorch keeps freed memory' if options.keep_memory else ''}"
              f"{', PyTorch without cancelled biases' if options.lean else ''}; peaks: "
              f"fp32 {peaks['fp32_peak_gflops']:.0f} GFLOP/s ({peaks['fp32_level']}), "
              f"int8 {peaks['int8_peak_gops']:.0f} GOP/s ({peaks['int8_level']})")
    done = {}
    for name in options.rows:
        try:
            result = measure_row(name, octet, peaks, options)
        except PeerError as error:
            print(json.dumps({"row": name, "error": str(error)}) if options.json else f"\n{name}: failed: {error}")
            continue
        if result:
            done[name] = result
    if done and not options.json:
        print_summary(done)


def main():
    options = parse()
    octet = Octet(pathlib.Path(options.bin), options.avx2)
    try:
        if options.scaling:
            scaling(octet, options)
        elif options.loader:
            loader(octet, options)
        else:
            compare(octet, options)
    except PeerError as error:
        sys.exit(f"train.py: {error}")
    except FileNotFoundError as error:
        sys.exit(f"train.py: {error}; build first: make")


if __name__ == "__main__":
    main()
