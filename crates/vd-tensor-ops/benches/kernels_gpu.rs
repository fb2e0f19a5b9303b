//! The kernels for GPUs that memory bounds, forward and backward: which part of the rate of a copy on
//! the same device they reach, at the sizes of two networks' levels.
//!
//! Bytes are the least that a kernel has to move: each of its tensors once, in or out. Those that come
//! by a tensor twice (statistics first, the rest after) are measured against the same. Inputs take
//! turns, and outputs are kept, so that what is read or written does not lie in a cache. Launches are
//! queued behind products that take longer than it takes to queue them, and the device itself tells
//! when it begins and ends them: what the host does between two kernels is not in their time; `host`
//! says what it is.
//!
//! `VD_TEST_DEVICE` names the device; on a CPU its stand-in runs tiny sizes, whose times say nothing.
//! `--json FILE` writes a report.

#![allow(clippy::unwrap_used, clippy::expect_used)]
#![allow(clippy::print_stdout, clippy::print_stderr, missing_docs, reason = "what it is for")]

#[path = "kernels_gpu/cases.rs"]
mod cases;
#[path = "../tests/kernels_cuda/emulator.rs"]
mod emulator;

use std::time::Instant;

use tch::{Device, Kind, Tensor};
use vd_tensor_ops::kernels::cuda;
use vd_tensor_ops::torch::testing::device;
use vd_tensor_ops::torch::{self, Moment};

use cases::Case;

/// The part of the rate of a copy that every kernel should reach.
const TARGET: f64 = 0.75;
/// Times that a case is measured; the median counts.
const TURNS: usize = 5;
/// Bytes that the calls of a turn move together at most, and how many calls there are.
const TURN: u64 = 12_000_000_000;
const CALLS: (u64, u64) = (4, 64);

/// Seconds of a call, and of the host alone for one.
struct Took {
    call: f64,
    host: f64,
}

/// Something that takes the device a while.
struct Plug {
    matrix: Tensor,
    /// About how long.
    seconds: f64,
}

impl Plug {
    /// None on a CPU, where nothing is queued.
    fn new() -> Option<Plug> {
        if device() == Device::Cpu {
            return None;
        }
        let matrix = cases::draw(&[4096, 4096], Kind::BFloat16);
        let mut plug = Plug { matrix, seconds: 0.0 };
        for _ in 0..2 {
            let begun = waited();
            plug.push(50);
            plug.seconds = (waited() - begun).as_secs_f64() / 50.0;
        }
        Some(plug)
    }

    fn push(&self, times: usize) {
        for _ in 0..times {
            let _ = self.matrix.matmul(&self.matrix);
        }
    }
}

/// When the device has done all that it was given.
fn waited() -> Instant {
    torch::synchronize(device()).unwrap();
    Instant::now()
}

fn median(mut values: Vec<f64>) -> f64 {
    values.sort_by(f64::total_cmp);
    values[values.len() / 2]
}

fn measure(case: &Case, plug: Option<&Plug>) -> Took {
    let count = if plug.is_some() { (TURN / case.bytes).clamp(CALLS.0, CALLS.1) } else { 1 };
    let turn = |plugs: usize| {
        let calls: Vec<_> = (0..count as usize).map(|i| (case.call)(i)).collect();
        waited();
        if let Some(plug) = plug {
            plug.push(plugs);
        }
        let (begun, queued) = (Moment::mark(device()).unwrap(), Instant::now());
        let kept: Vec<_> = calls.into_iter().map(|call| call()).collect();
        let host = queued.elapsed().as_secs_f64();
        let took = Moment::mark(device()).unwrap().since(&begun).unwrap();
        drop(kept);
        (host, took.as_secs_f64())
    };
    // The first turn finds memory and machine code, the second tells how long queueing takes.
    let turns = if plug.is_some() { TURNS } else { 1 };
    if plug.is_some() {
        turn(0);
    }
    let (host, _) = turn(0);
    // As many as are still under way when the last call has been queued.
    let plugs = plug.map_or(0, |plug| (2.0 * host / plug.seconds).ceil() as usize);
    let each = (0..turns).map(|_| turn(plugs).1 / count as f64);
    Took { call: median(each.collect()), host: host / count as f64 }
}

/// The rate at which the device copies, read and written bytes together.
fn copy_rate(plug: Option<&Plug>) -> f64 {
    let case = cases::copy();
    case.bytes as f64 / measure(&case, plug).call
}

fn report(all: &[(Case, Took)], copied: f64) -> serde_json::Value {
    let rows = all.iter().map(|(case, took)| {
        let rate = case.bytes as f64 / took.call;
        serde_json::json!({
            "kernel": case.kernel,
            "way": case.way,
            "dtype": case.dtype(),
            "shape": case.shape,
            "us": 1e6 * took.call,
            "host_us": 1e6 * took.host,
            "bytes": case.bytes,
            "bytes_per_s": rate,
            "of_copy": rate / copied,
        })
    });
    serde_json::json!({
        "device": format!("{:?}", device()),
        "copy_bytes_per_s": copied,
        "target": TARGET,
        "kernels": rows.collect::<Vec<_>>(),
    })
}

fn run() {
    let plug = Plug::new();
    let copied = copy_rate(plug.as_ref());
    println!("a copy: {:.0} GB/s, read and written", copied / 1e9);
    println!(
        "{:<22} {:<8} {:<4} {:<18} {:>9} {:>9} {:>9} {:>8} {:>6}",
        "kernel", "way", "kind", "shape", "us", "host us", "MB", "GB/s", "%"
    );
    let mut all = Vec::new();
    for make in cases::all() {
        for case in make() {
            let took = measure(&case, plug.as_ref());
            let rate = case.bytes as f64 / took.call;
            println!(
                "{:<22} {:<8} {:<4} {:<18} {:>9.1} {:>9.1} {:>9.1} {:>8.0} {:>6.1}",
                case.kernel,
                case.way,
                case.dtype(),
                case.shape,
                1e6 * took.call,
                1e6 * took.host,
                case.bytes as f64 / 1e6,
                rate / 1e9,
                100.0 * rate / copied
            );
            all.push((case.measured(), took));
        }
        if let Some(file) = json() {
            std::fs::write(file, report(&all, copied).to_string()).unwrap();
        }
    }
    let below = all.iter().filter(|(case, took)| (case.bytes as f64 / took.call) < TARGET * copied);
    println!("{} of {} below {:.0} %", below.count(), all.len(), 100.0 * TARGET);
}

/// Where the report goes.
fn json() -> Option<String> {
    let mut arguments = std::env::args().skip_while(|argument| argument != "--json");
    arguments.nth(1)
}

fn main() {
    torch::init().unwrap();
    match device() {
        Device::Cpu => cuda::imitated(emulator::machine(), run),
        gpu => {
            // Without its kernels there is nothing to measure.
            if let Err(why) = cuda::state(gpu) {
                eprintln!("{why}");
                std::process::exit(1);
            }
            run();
        }
    }
}
