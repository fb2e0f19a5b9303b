#!/usr/bin/env bash
# Tests, benches and the comparison with the peer on a machine that has Python with torch 2.11.0.
set -u

usage() {
    cat <<'END'
Usage: run.sh --out DIR [--device cuda|cpu] [--seconds N] [--only STAGES] [--python FILE]

Needs Python 3 with torch 2.11.0, whose libtorch everything runs on; nothing else is installed and no
network is used. Writes doctor.json, tests.json, tests.log, benches.json, benches.log, peer.json,
peer.log and summary.txt into DIR, and prints the summary last.

  --device   what everything computes on (cuda)
  --seconds  what all stages may take together (570)
  --only     of tests, benches, peer: the stages that run, with commas between them (all)
  --python   the interpreter that has torch (python3)
END
    exit "$1"
}

out='' device=cuda seconds=570 only=tests,benches,peer python=python3
while [ $# -gt 0 ]; do
    case "$1" in
    --help | -h) usage 0 ;;
    --out | --device | --seconds | --only | --python)
        [ $# -ge 2 ] || usage 2
        declare "${1#--}=$2"
        shift 2
        ;;
    *) usage 2 ;;
    esac
done
[ -n "$out" ] || usage 2
case "$device" in cpu | cuda | cuda:*) ;; *) usage 2 ;; esac

begun=$SECONDS
here=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
mkdir -p "$out" && out=$(cd "$out" && pwd) || exit 1

# Not imported: that takes seconds, and only the folder is asked for.
lib=$("$python" - <<'END'
import importlib.util, pathlib, re, sys
spec = importlib.util.find_spec("torch")
if spec is None:
    sys.exit("run.sh: this Python has no torch; give another with --python")
root = pathlib.Path(spec.origin).parent
version = re.search(r"__version__ = '([^']*)'", (root / "version.py").read_text()).group(1)
if version.split("+")[0] != "2.11.0":
    sys.exit(f"run.sh: this Python has torch {version}, but 2.11.0 is needed; give another with --python")
print(root / "lib")
END
) || exit 1

work=$(mktemp -d) || exit 1
trap 'rm -rf "$work"' EXIT
"$python" -c 'import sys, tarfile; tarfile.open(sys.argv[1]).extractall(sys.argv[2])' \
    "$here/payload.tar.xz" "$work" || exit 1

export LD_LIBRARY_PATH="$lib${LD_LIBRARY_PATH:+:$LD_LIBRARY_PATH}"
export VD_BUNDLE="$work" VD_BUNDLE_OUT="$out" VD_BUNDLE_DEVICE="$device"
export VD_TEST_DEVICE="$device" PYTHONUNBUFFERED=1 VD_KERNEL_CACHE="$work/kernels"
if [ "$device" = cpu ]; then export VD_CUDA=off; else export VD_CUDA=require; fi

# Compiles the kernels, too, so that no stage waits for that.
timeout -k 5 120 "$work/bin/vd" doctor --json >"$out/doctor.json" || echo "run.sh: doctor ended with $?"
left() { echo $((seconds - (SECONDS - begun))); }
# NAME and the share of what is left, in percent, that the stage may take.
stage() {
    case ",$only," in *",$1,"*) ;; *) return ;; esac
    local most=$(($(left) * $2 / 100))
    [ "$most" -gt 10 ] || { echo "run.sh: no time left for $1"; return; }
    echo "run.sh: $1, at most $most s"
    # What a stage has found by then it has written; its own limit is a little lower.
    timeout -k 5 "$most" "$python" "$work/gpu/bundle.py" "$1" $((most - 5)) || echo "run.sh: $1 ended with $?"
}
# What is not asked for leaves its time to those behind it.
stage tests 30
stage benches 25
stage peer 98
# A stage that was killed may have left what it was writing.
rm -f "$out"/.*.part
"$python" "$work/gpu/bundle.py" summary 0
