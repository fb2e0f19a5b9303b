"""The stages of the bundle's run.sh: tests, benches, and the summary of all; ``peer.py`` is the
comparison. The environment says where things are: VD_BUNDLE (what was unpacked), VD_BUNDLE_OUT
(where results go) and VD_BUNDLE_DEVICE.
"""

import concurrent.futures
import json
import os
import pathlib
import re
import subprocess
import sys
import threading
import time

ROOT = pathlib.Path(os.environ["VD_BUNDLE"])
OUT = pathlib.Path(os.environ["VD_BUNDLE_OUT"])
DEVICE = os.environ["VD_BUNDLE_DEVICE"]
# Programs of tests at a time: each starts CUDA anew, which takes seconds of one core.
TOGETHER = 4 if DEVICE != "cpu" else 1
# Tests that say most come first, in case time runs out.
FIRST = ["parity", "kernels_cuda", "recordings", "graphs", "behind", "device_step"]
# What each test program may take of the cores, for its sums on the CPU.
THREADS = 2
# Left out: what needs no GPU, and takes minutes of a core.
NEEDLESS = {"kernels_cuda": ["--skip", "compiled::"]}
# The program that measures the kernels for GPUs, which is none of criterion's.
KERNELS = "kernels_gpu"
# Of them the summary names so many that are furthest from their target, and so many of the other
# benches that take longest.
WORST, LONGEST = 10, 20
RESULT = re.compile(r"test result: \w+\. (\d+) passed; (\d+) failed; (\d+) ignored")
FAILED = re.compile(r"^test (\S+) \.\.\. FAILED$", re.MULTILINE)


def write(name, value):
    """In one piece: the stage may be killed at any time."""
    scratch = OUT / f".{name}.part"
    scratch.write_text(json.dumps(value, indent=1) + "\n")
    scratch.replace(OUT / name)


def read(name):
    try:
        return json.loads((OUT / name).read_text())
    except (OSError, ValueError):
        return None


def programs(kind):
    """Programs below bin/KIND, each with the package that it belongs to."""
    return sorted((path.parent.name, path) for path in (ROOT / "bin" / kind).glob("*/*"))


def run(package, command, limit, **more):
    """Output, exit code (None where it ran out of time) and seconds of one program."""
    folder = ROOT / "crates" / package
    folder.mkdir(parents=True, exist_ok=True)
    environment = {**os.environ, "CARGO_MANIFEST_DIR": str(folder), **more}
    begun = time.monotonic()
    try:
        done = subprocess.run(
            command, cwd=folder, env=environment, timeout=max(1, limit), stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, errors="replace",
        )
        said, code = done.stdout, done.returncode
    except subprocess.TimeoutExpired as late:
        said, code = (late.stdout or b"").decode(errors="replace"), None
    return said, code, time.monotonic() - begun


def tests(end):
    rows, lock = [], threading.Lock()
    log = open(OUT / "tests.log", "w")

    def one(package, path):
        left = end - time.monotonic()
        if left < 3:
            row = {"package": package, "test": path.name, "ended": "not begun"}
        else:
            command = [str(path), *NEEDLESS.get(path.name, [])]
            said, code, seconds = run(package, command, left, OMP_NUM_THREADS=str(THREADS))
            found = RESULT.findall(said)
            passed, failed, ignored = (sum(int(row[i]) for row in found) for i in range(3))
            ended = {None: "out of time", 0: "passed"}.get(code, f"exit code {code}")
            names = FAILED.findall(said)
            row = {"package": package, "test": path.name, "ended": ended, "passed": passed,
                   "failed": failed, "ignored": ignored, "names": names, "seconds": seconds}
        with lock:
            rows.append(row)
            if row["ended"] != "not begun":
                log.write(f"==== {package} {path.name}: {row['ended']}\n{said}\n")
                log.flush()
            write("tests.json", {"device": DEVICE, "tests": rows})

    def turn(program):
        name = program[1].name
        return FIRST.index(name) if name in FIRST else len(FIRST)

    with concurrent.futures.ThreadPoolExecutor(TOGETHER) as pool:
        for done in [pool.submit(one, *program) for program in sorted(programs("tests"), key=turn)]:
            done.result()


def kernels(package, path, left, log):
    """What the kernels for GPUs reach of the rate of a copy; the program writes as it goes on."""
    report = ROOT / "kernels.json"
    said, code, seconds = run(package, [str(path), "--json", str(report)], left)
    log.write(f"==== {package} {path.name}: exit code {code}, {seconds:.0f} s\n{said}\n")
    log.flush()
    try:
        return json.loads(report.read_text())
    except (OSError, ValueError):
        last = (said.strip().splitlines() or ["it said nothing"])[-1]
        return {"error": f"exit code {code}: {last}"[:200]}
    finally:
        report.unlink(missing_ok=True)


def benches(end):
    rows, found = [], None
    log = open(OUT / "benches.log", "w")
    # What the kernels reach comes first, in case time runs out.
    for package, path in sorted(programs("benches"), key=lambda of: of[1].name != KERNELS):
        left = end - time.monotonic()
        if left < 3:
            break
        if path.name == KERNELS:
            found = kernels(package, path, left, log)
            write("benches.json", {"device": DEVICE, "kernels": found, "benches": rows})
            continue
        home = ROOT / "criterion" / package / path.name
        quick = ["--bench", "--noplot", "--sample-size", "10", "--warm-up-time", "0.2",
                 "--measurement-time", "0.5"]
        said, code, seconds = run(package, [str(path), *quick], left, CRITERION_HOME=str(home))
        log.write(f"==== {package} {path.name}: exit code {code}, {seconds:.0f} s\n{said}\n")
        log.flush()
        for file in sorted(home.glob("**/new/estimates.json")):
            about = json.loads((file.parent / "benchmark.json").read_text())
            median = json.loads(file.read_text())["median"]
            interval = median["confidence_interval"]
            rows.append({"package": package, "bench": about["full_id"],
                         "median_ms": median["point_estimate"] / 1e6,
                         "from_ms": interval["lower_bound"] / 1e6,
                         "to_ms": interval["upper_bound"] / 1e6})
        write("benches.json", {"device": DEVICE, "kernels": found, "benches": rows})


def gigabytes(count):
    return f"{count / 1e9:.2f}" if count else "-"


def of_doctor():
    doctor = read("doctor.json") or {}
    cuda = doctor.get("cuda") or {}
    lines = [f"device: {DEVICE}"]
    for gpu in (cuda.get("driver") or {}).get("devices") or []:
        lines.append(f"  {gpu['name']}, {gigabytes(gpu['memory_bytes'])} GB")
    for one in cuda.get("kernels") or []:
        lines.append(f"  {one['device']}: kernels {'ready' if one['ready'] else one['reason']}"[:160])
    return lines


def of_tests():
    rows = (read("tests.json") or {}).get("tests", [])
    if not rows:
        return ["tests: not run"]
    good = [row for row in rows if row["ended"] == "passed"]
    passed = sum(row.get("passed", 0) for row in rows)
    lines = [f"tests: {len(good)} of {len(rows)} programs pass, {passed} tests"]
    for row in rows:
        if row["ended"] != "passed":
            names = " ".join(row.get("names", []))
            lines.append(f"  {row['package']} {row['test']}: {row['ended']} {names}"[:160])
    return lines


def of_benches():
    found = read("benches.json")
    if found is None:
        return ["benches: not run"]
    kernels, lines = found.get("kernels") or {}, []
    if "error" in kernels:
        lines.append(f"kernels: {kernels['error']}")
    elif kernels:
        rows = sorted(kernels["kernels"], key=lambda row: row["of_copy"])
        least, copied = kernels["target"], kernels["copy_bytes_per_s"] / 1e9
        good = sum(row["of_copy"] >= least for row in rows)
        lines.append(f"kernels: {good} of {len(rows)} reach {100 * least:.0f} % of a copy's "
                     f"{copied:.0f} GB/s; those that reach least, in us and %")
        for row in rows[:WORST]:
            lines.append(f"  {row['kernel']:<24} {row['way']:<8} {row['dtype']:<4} {row['shape']:<18} "
                         f"{row['us']:10.1f} {100 * row['of_copy']:6.1f}")
    rows = sorted(found.get("benches", []), key=lambda row: -row["median_ms"])
    lines.append(f"benches: {len(rows)}; those that take longest, medians in ms")
    rows = rows[:LONGEST]
    return lines + [f"  {row['bench'][:60]:<60} {row['median_ms']:10.3f}" for row in rows]


def of_peer():
    peer = read("peer.json") or {}
    measured, lines = peer.get("ceilings") or {}, []
    if measured:
        lines.append(f"measured: {measured['copy_bytes_per_s'] / 1e12:.2f} TB/s copied, products in Tflop/s: "
                     + ", ".join(f"{kind} {measured[f'{kind}_flops_per_s'] / 1e12:.0f}"
                                 for kind in ("bf16", "tf32", "f32")))
    lines.append("comparison: ms, times ours, times the floor by layers, GB taken of the device")
    for case in peer.get("cases", []):
        ours, floors = case.get("ours_ms"), case.get("floors_ms")
        head = f"  {case['work']} {case['dtype']}"
        if floors:
            head += (f": floors {floors['memory']:.2f} of memory, {floors['arithmetic']:.2f} of arithmetic, "
                     f"{floors['larger']:.2f} by layers")
        lines.append(head)
        for side in case["sides"]:
            if "median_ms" not in side:
                lines.append(f"    {side['side']:<39} {side.get('error', 'not run')}"[:120])
                continue
            own = side["median_ms"]
            times = f"{own / ours:.2f}" if ours else "-"
            above = f"{own / floors['larger']:.1f}" if floors else "-"
            still = "  compiled while it was timed" if side.get("compiled_while_timed") else ""
            lines.append(f"    {side['side']:<39} {own:9.2f} {times:>6} {above:>6} "
                         f"{gigabytes(side.get('peak_reserved')):>7}{still}")
    return lines


def summary(_):
    lines = of_doctor() + of_tests() + of_benches() + of_peer()
    (OUT / "summary.txt").write_text("\n".join(lines) + "\n")
    print("\n".join(lines))


def peer(end):
    sys.path[:0] = [str(ROOT / "gpu"), str(ROOT / "site")]
    import peer as comparison

    with open(OUT / "peer.log", "w") as log:
        comparison.run(end, log, ROOT, DEVICE, lambda value: write("peer.json", value))


def main():
    stage, seconds = sys.argv[1], float(sys.argv[2])
    stages = {"tests": tests, "benches": benches, "peer": peer, "summary": summary}
    stages[stage](time.monotonic() + seconds)


if __name__ == "__main__":
    main()
