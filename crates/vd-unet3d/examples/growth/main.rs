//! How the cost of the network grows with frames, side and batch: time, memory and operations of a
//! forward pass and of a training step, as JSON and as plots.
//!
//! `growth FOLDER [DIM]` writes `growth.json` and `growth-AXIS.svg` there; DIM is 64 by default,
//! multipliers are 1, 2, 4, 8. Every point is measured in a separate process, since allocated
//! memory is not returned: the program starts itself with `point`. VD_BENCH_THREADS sets the
//! threads (one per core by default).

#![allow(
    clippy::print_stdout,
    clippy::print_stderr,
    reason = "a process that measures one point answers on stdout; progress goes to stderr"
)]

mod plot;
mod point;

use std::error::Error;
use std::fs;
use std::path::Path;
use std::process::Command;

use serde_json::{Value, json};
use vd_unet3d::ops::kernels::{Precision, cpu::Isa, road};

use point::{Measured, Point};

type Result<T> = std::result::Result<T, Box<dyn Error>>;

/// The quantity that grows, and its values; the rest stays as in [`Point::new`].
struct Axis {
    name: &'static str,
    label: &'static str,
    values: &'static [u32],
    at: fn(&mut Point) -> &mut u32,
}

const AXES: [Axis; 3] = [
    Axis {
        name: "frames",
        label: "frames (of 32 x 32, batch 1)",
        values: &[4, 8, 16, 32, 64],
        at: |point| &mut point.frames,
    },
    Axis {
        name: "side",
        label: "height and width (of 8 frames, batch 1)",
        values: &[16, 32, 64, 128],
        at: |point| &mut point.side,
    },
    Axis {
        name: "batch",
        label: "batch (of 8 frames of 32 x 32)",
        values: &[1, 2, 4, 8],
        at: |point| &mut point.batch,
    },
];

fn main() -> Result<()> {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let words: Vec<&str> = arguments.iter().map(String::as_str).collect();
    match words[..] {
        ["point", ref numbers @ ..] => {
            println!("{}", point::measure(&Point::parse(numbers)?)?);
            Ok(())
        }
        [folder] => all(Path::new(folder), 64),
        [folder, dim] => all(Path::new(folder), dim.parse()?),
        _ => Err("usage: growth FOLDER [DIM]".into()),
    }
}

fn all(folder: &Path, dim: u32) -> Result<()> {
    fs::create_dir_all(folder)?;
    let load = load_average();
    let mut rows: Vec<Value> = Vec::new();
    for axis in &AXES {
        let mut curves = [Vec::new(), Vec::new()];
        for (train, curve) in [false, true].into_iter().zip(&mut curves) {
            for value in axis.values {
                let mut point = Point::new(dim, train);
                *(axis.at)(&mut point) = *value;
                let measured = apart(&point)?;
                eprintln!("growth: {point}: {measured}");
                rows.push(row(axis, &point, &measured));
                curve.push((f64::from(*value), measured));
                // Written after each point, so that a stopped run keeps its measurements.
                fs::write(folder.join("growth.json"), file(dim, load, &rows)?)?;
            }
        }
        let title = format!("Dim {dim}, {}", axis.label);
        let svg = plot::figure(&title, axis.name, &curves);
        fs::write(folder.join(format!("growth-{}.svg", axis.name)), svg)?;
    }
    eprintln!("growth: written to {}", folder.display());
    Ok(())
}

/// Measures in a separate process.
fn apart(point: &Point) -> Result<Measured> {
    let mut child = Command::new(std::env::current_exe()?);
    let output = child.arg("point").args(point.words()).output()?;
    if !output.status.success() {
        let said = String::from_utf8_lossy(&output.stderr);
        return Err(format!("{point}: {} ({})", said.trim(), output.status).into());
    }
    Measured::parse(String::from_utf8_lossy(&output.stdout).trim())
}

fn row(axis: &Axis, point: &Point, measured: &Measured) -> Value {
    json!({
        "axis": axis.name,
        "pass": point.pass(),
        "batch": point.batch,
        "frames": point.frames,
        "side": point.side,
        "median_ms": measured.milliseconds,
        "times": measured.times,
        "peak_above_loaded_bytes": measured.peak,
        "flops": measured.flops,
    })
}

fn file(dim: u32, load: f64, rows: &[Value]) -> Result<String> {
    let whole = json!({
        "cpu": cpu(),
        "isa": Isa::current().to_string(),
        "threads": point::threads()?,
        "precision": road(Precision::F32),
        "dim": dim,
        "multipliers": point::MULTIPLIERS,
        "load_average_at_start": load,
        "load_average_at_end": load_average(),
        "points": rows,
    });
    Ok(format!("{}\n", serde_json::to_string_pretty(&whole)?))
}

fn cpu() -> String {
    let text = fs::read_to_string("/proc/cpuinfo").unwrap_or_default();
    let name = text.lines().find_map(|line| line.strip_prefix("model name")?.split_once(": "));
    name.map_or(std::env::consts::ARCH, |(_, name)| name).to_owned()
}

/// Load average over one minute; 0 if it cannot be read.
fn load_average() -> f64 {
    let text = fs::read_to_string("/proc/loadavg").unwrap_or_default();
    text.split_whitespace().next().and_then(|first| first.parse().ok()).unwrap_or(0.0)
}
