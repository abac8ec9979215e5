# SPDX-License-Identifier: BSD-2-Clause
"""What train.py and infer.py share: Octet's programs, peers that live in processes of their own, and figures.

A peer answers one JSON line on its standard output for each JSON line on its standard input, so that it can be set
up (and compiled) once and be measured in alternation with all others. While it waits it must not compute; ask()
checks that and keeps the processor time it used meanwhile in `idle`.
"""
import json
import math
import os
import pathlib
import re
import select
import statistics
import subprocess
import sys
import time

ROOT = pathlib.Path(__file__).resolve().parents[2]
GENERATED = ROOT / "build" / "peers"
START_SECONDS, ANSWER_SECONDS = 1800, 300  # a compilation may take minutes; a block of steps does not
SETTLE_SECONDS = 0.05  # threads that wait for more work spin that long at most before they sleep


class PeerError(Exception):
    pass


def note(text):
    print(text, file=sys.stderr, flush=True)


# --- Octet ---


class Octet:
    def __init__(self, folder, avx2=False):
        self.folder = pathlib.Path(folder)
        self.env = dict(os.environ, **({"OCT_CPU": "avx2"} if avx2 else {}))
        self.env.pop("OMP_WAIT_POLICY", None)
        self.env.pop("GOMP_SPINCOUNT", None)

    def events(self, program, *arguments):
        command = [str(self.folder / program), *map(str, arguments), "--json", "--quiet"]
        run = subprocess.run(command, capture_output=True, text=True, env=self.env)
        if run.returncode:
            raise PeerError(f"{' '.join(command)}: {run.stderr.strip()[-400:]}")
        return [json.loads(line) for line in run.stdout.splitlines() if line.startswith("{")]

    def bench(self, *arguments):
        return self.events("bench", *arguments)[-1]


class Bench:
    """Runs of bin/bench: one process per block, as many steps as fill it."""

    def __init__(self, octet, arguments, first, warmup):
        """first: (steps, warm-up) of a first look, its steps being the fewest of a block; warmup: of a block's steps."""
        self.octet, self.arguments, self.least, self.warmup = octet, arguments, first[0], warmup
        self.facts = octet.bench(*arguments, "--steps", first[0], "--warmup", first[1])

    def block(self, seconds):
        steps = max(self.least, math.ceil(1e3 * seconds / self.facts["ms_median"]))
        return self.octet.bench(*self.arguments, "--steps", steps, "--warmup", self.warmup(steps))


# --- peers ---


def switches(threads, avx2=False, amx=True, keep_memory=False):
    """Environment that holds the peers' libraries to `threads` and to an instruction set; keep_memory: the C
    library keeps what was freed in place of giving it back to the system after every step."""
    env = dict(os.environ, PYTHONDONTWRITEBYTECODE="1", OMP_NUM_THREADS=str(threads), MKL_NUM_THREADS=str(threads),
               TORCHINDUCTOR_CACHE_DIR=str(GENERATED / ("inductor-avx2" if avx2 else "inductor")))
    for name in ("OMP_WAIT_POLICY", "GOMP_SPINCOUNT", "KMP_BLOCKTIME"):
        env.pop(name, None)
    if keep_memory:
        env.update(MALLOC_MMAP_THRESHOLD_=str(1 << 30), MALLOC_TRIM_THRESHOLD_=str(1 << 33),
                   MALLOC_TOP_PAD_=str(1 << 26))
    if avx2:
        env.update(ATEN_CPU_CAPABILITY="avx2", ONEDNN_MAX_CPU_ISA="AVX2", DNNL_MAX_CPU_ISA="AVX2",
                   MKL_ENABLE_INSTRUCTIONS="AVX2")
    elif not amx:
        env.update(ONEDNN_MAX_CPU_ISA="AVX512_CORE_VNNI", DNNL_MAX_CPU_ISA="AVX512_CORE_VNNI")
    return env


class Peer:
    """A worker process: started with `settings`, asked with requests; `facts` is what it says once it is ready."""

    def __init__(self, script, name, settings, env):
        self.name, self.idle, self.asked = name, 0.0, None
        GENERATED.mkdir(parents=True, exist_ok=True)
        self.log_path = GENERATED / (re.sub(r"[^\w.=-]+", "-", name) + ".log")
        with open(self.log_path, "w", encoding="utf-8") as log:
            self.process = subprocess.Popen([sys.executable, str(pathlib.Path(__file__).parent / script)], env=env,
                                            stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=log)
        try:
            self.facts = self._exchange(settings, START_SECONDS)
        except BaseException:
            self.close()
            raise

    def _line(self, seconds):
        end, data = time.monotonic() + seconds, b""
        fd = self.process.stdout.fileno()
        while not data.endswith(b"\n"):
            left = end - time.monotonic()
            if left <= 0 or not select.select([fd], [], [], left)[0]:
                raise PeerError(f"no answer within {seconds} s")
            part = os.read(fd, 1 << 16)
            if not part:
                lines = self.log_path.read_text(encoding="utf-8", errors="replace").strip().splitlines()
                raise PeerError("ended: " + (lines[-1][:300] if lines else f"status {self.process.wait()}"))
            data += part
        return json.loads(data)

    def _exchange(self, request, seconds):
        try:
            self.process.stdin.write(json.dumps(request).encode() + b"\n")
            self.process.stdin.flush()
        except OSError:
            pass  # the answer says why
        answer = self._line(seconds)
        if "error" in answer:
            raise PeerError(answer["error"])
        return answer

    def _processor_seconds(self):
        with open(f"/proc/{self.process.pid}/stat", encoding="ascii") as file:
            fields = file.read().rpartition(")")[2].split()
        return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")

    def ask(self, request):
        if self.asked is not None:
            self.idle = max(self.idle, self._processor_seconds() - self.asked)
        answer = self._exchange(request, ANSWER_SECONDS)
        time.sleep(SETTLE_SECONDS)
        self.asked = self._processor_seconds()
        return answer

    def close(self):
        self.process.stdin.close()
        try:
            self.process.wait(5)
        except subprocess.TimeoutExpired:
            self.process.kill()
            self.process.wait()
        self.process.stdout.close()


def serve(prepare):
    """The worker's side: prepare(settings) -> (facts, answer); answers requests until standard input ends."""
    channel = os.fdopen(os.dup(1), "w", encoding="utf-8")
    os.dup2(2, 1)  # what libraries print is no answer

    def reply(function, *arguments):
        try:
            result, value = function(*arguments)
        except Exception as error:  # the parent reports it
            import traceback
            traceback.print_exc()
            result, value = {"error": f"{type(error).__name__}: {error}"[:600]}, None
        channel.write(json.dumps(result) + "\n")
        channel.flush()
        return value

    answer = reply(prepare, json.loads(sys.stdin.readline()))
    if answer:
        for line in sys.stdin:
            reply(lambda request: (answer(request), None), json.loads(line))
    channel.flush()
    os._exit(0)  # the runtimes' own threads need no farewell


def block(run, seconds, least):
    """Milliseconds of each run() of a block that lasts `seconds`, at least `least` runs."""
    times, end = [], time.perf_counter() + seconds
    while len(times) < least or time.perf_counter() < end:
        start = time.perf_counter()
        run()
        times.append(1e3 * (time.perf_counter() - start))
    return times


def status_bytes(field):
    with open("/proc/self/status", encoding="ascii") as file:
        for line in file:
            if line.startswith(field):
                return int(line.split()[1]) * 1024
    return 0


def reset_peak():
    with open("/proc/self/clear_refs", "w", encoding="ascii") as file:
        file.write("5")


# --- figures ---


def median(values):
    return statistics.median(values)


def spread(values):
    """Largest minus smallest, relative to the median."""
    return (max(values) - min(values)) / median(values)


def ratio(over, under):
    """The median over the rounds of one round's ratio."""
    return median(a / b for a, b in zip(over, under))


def verdict(value, target, at_least=True):
    """PASS, or the factor that is missing."""
    factor = target / value if at_least else value / target
    return "PASS" if factor <= 1 else f"short, x{factor:.2f} to go"


def judged(label, value, target, at_least=True, stretch=None):
    """One line, and its record."""
    record = {"what": label, "value": round(value, 3), "target": target,
              "verdict": verdict(value, target, at_least) if target else "no target"}
    if stretch:
        record.update(stretch=stretch, stretch_verdict=verdict(value, stretch, at_least))
    return record


def print_judged(records):
    for r in records:
        text = f"  {r['what']:58} {r['value']:8.2f}"
        if r["target"]:
            text += f"   target {r['target']:<5g} {r['verdict']}"
        if "stretch" in r:
            text += f"   (stretch {r['stretch']:g} {r['stretch_verdict']})"
        print(text)


def machine():
    """Name of the processor and the instruction sets that matter here."""
    with open("/proc/cpuinfo", encoding="ascii", errors="replace") as file:
        text = file.read()
    name = re.search(r"^model name\s*:\s*(.*)$", text, re.M)
    flags = re.search(r"^flags\s*:\s*(.*)$", text, re.M)
    known = ("avx2", "avx512f", "avx_vnni", "avx512_vnni", "avx512_bf16", "amx_int8", "amx_bf16")
    found = [flag for flag in known if flags and flag in flags[1].split()]
    return f"{name[1] if name else 'unknown processor'}, {len(os.sched_getaffinity(0))} CPUs: {' '.join(found)}"
