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
            said, code, seconds = run(package, [str(path)], left)
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

    with concurrent.futures.ThreadPoolExecutor(TOGETHER) as pool:
        for done in [pool.submit(one, *program) for program in programs("tests")]:
            done.result()


def benches(end):
    rows = []
    log = open(OUT / "benches.log", "w")
    for package, path in programs("benches"):
        left = end - time.monotonic()
        if left < 3:
            break
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
        write("benches.json", {"device": DEVICE, "benches": rows})


def gigabytes(count):
    return f"{count / 1e9:.2f}" if count else "-"


def summary(_):
    lines = [f"device: {DEVICE}"]
    doctor = read("doctor.json") or {}
    gpus = ((doctor.get("cuda") or {}).get("driver") or {}).get("devices") or []
    lines += [f"  {gpu['name']}, {gigabytes(gpu['memory_bytes'])} GB" for gpu in gpus]
    rows = (read("tests.json") or {}).get("tests", [])
    good = [row for row in rows if row["ended"] == "passed"]
    passed = sum(row.get("passed", 0) for row in rows)
    lines.append(f"tests: {len(good)} of {len(rows)} programs pass, {passed} tests")
    for row in rows:
        if row["ended"] != "passed":
            names = " ".join(row.get("names", []))
            lines.append(f"  {row['package']} {row['test']}: {row['ended']} {names}"[:160])
    rows = (read("benches.json") or {}).get("benches", [])
    lines.append(f"benches: {len(rows)}, medians in ms")
    lines += [f"  {row['bench'][:60]:<60} {row['median_ms']:10.3f}" for row in rows]
    peer = read("peer.json") or {}
    lines.append("comparison: ms, times ours, GB at most, floor of the arithmetic in ms")
    for case in peer.get("cases", []):
        ours = case.get("ours_ms")
        floor = case.get("floor_ms")
        head = f"  {case['work']} {case['dtype']}, floor {floor:.2f}" if floor else f"  {case['work']} {case['dtype']}"
        lines.append(head)
        for side in case["sides"]:
            if "median_ms" not in side:
                lines.append(f"    {side['side']:<28} {side.get('error', 'not run')}"[:120])
                continue
            times = f"{side['median_ms'] / ours:.2f}" if ours else "-"
            lines.append(f"    {side['side']:<28} {side['median_ms']:9.2f} {times:>6} "
                         f"{gigabytes(side.get('peak_allocated')):>7}")
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
