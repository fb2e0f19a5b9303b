//! A plan as text for people to read.

use std::fmt::Write;
use std::path::Path;

use clap::ValueEnum;

use super::gpu::ASSUMED_SHARE;
use super::{Plan, Report};
use crate::output::{bytes, count, plural};

pub(super) fn text(report: &Report, config: &Path) -> String {
    let Report { parameters, batch, accumulate, frames, size: [h, w], .. } = report;
    let mut out = String::new();
    let clips = match accumulate {
        1 => plural(*batch, "clip"),
        n => format!("{n} times {}", plural(*batch, "clip")),
    };
    let _ = writeln!(
        out,
        "{}: {} parameters; a step is {clips} of {frames} frames at {h}x{w}, {:.3} Tflop",
        config.display(),
        count(*parameters),
        report.flops as f64 / 1e12
    );
    let _ = writeln!(
        out,
        "{}, {}, {}\n",
        report.device,
        plural(report.threads, "thread"),
        report.precision
    );
    plan(&mut out, &report.plan, report);
    if let Some(recomputed) = &report.recomputed {
        out.push('\n');
        plan(&mut out, recomputed, report);
    }
    let _ = writeln!(
        out,
        "\nof the memory: weights, gradients and moving average {} each, the optimiser {}",
        bytes(report.weight_bytes),
        bytes(report.optimizer_bytes)
    );
    gpus(&mut out, report);
    out
}

fn plan(out: &mut String, plan: &Plan, report: &Report) {
    let Plan { recompute, seconds_per_step, peak_bytes, activation_bytes, .. } = plan;
    let title = match recompute {
        0 => "activations kept".to_owned(),
        n => {
            format!("activations of {} recomputed (train.recompute = {n})", plural(*n, "level"))
        }
    };
    let [low, high] = plan.measured.batches;
    let _ = writeln!(out, "{title}; measured at batch {low} and {high}:");
    let whole = duration(seconds_per_step * report.steps as f64);
    let _ = writeln!(
        out,
        "  time     {} per step, {whole} for {}",
        duration(*seconds_per_step),
        plural(report.steps as usize, "step")
    );
    let _ = writeln!(
        out,
        "  memory   peak {}, of which {} grow with the batch",
        bytes(*peak_bytes),
        bytes(*activation_bytes)
    );
    if let Some(available) = report.available_bytes {
        let most = match plan.largest_batch {
            Some(most) => format!("at most {most}"),
            None => "not even 1".to_owned(),
        };
        let _ = writeln!(out, "  batch    {most} in the {} that are free", bytes(available));
        if let Some(warning) = too_large(report.batch, plan.largest_batch, available) {
            let _ = writeln!(out, "  warning: {warning}");
        }
    }
}

/// What to say of a batch that does not fit.
fn too_large(batch: usize, largest: Option<u64>, available: u64) -> Option<String> {
    (batch as u64 > largest.unwrap_or(0)).then(|| {
        format!("train.batch = {batch} does not fit in the {} that are free", bytes(available))
    })
}

fn gpus(out: &mut String, report: &Report) {
    if report.gpus.is_empty() {
        return;
    }
    let share = (ASSUMED_SHARE * 100.0).round();
    let _ = writeln!(
        out,
        "\nestimates, not measured: {share} % of the GPU's f32 rate, memory of libtorch's operations"
    );
    for on in &report.gpus {
        let name = on.gpu.to_possible_value().map_or(String::new(), |v| v.get_name().to_owned());
        let most =
            on.largest_batch.map_or("none fits".to_owned(), |n| format!("batch at most {n}"));
        let _ = writeln!(
            out,
            "  {name:<9}{} per step, {}, {most}",
            duration(on.seconds_per_step),
            bytes(on.peak_bytes)
        );
    }
}

/// A duration for people to read.
fn duration(seconds: f64) -> String {
    match seconds {
        s if s < 1e-5 => format!("{:.1} us", s * 1e6),
        s if s < 1e-2 => format!("{:.2} ms", s * 1e3),
        s if s < 1.0 => format!("{:.0} ms", s * 1e3),
        s if s < 120.0 => format!("{s:.1} s"),
        s if s < 7200.0 => format!("{:.0} min", s / 60.0),
        s if s < 172_800.0 => format!("{:.1} h", s / 3600.0),
        s => format!("{:.1} days", s / 86_400.0),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_batch_that_does_not_fit_is_named() {
        let said = too_large(20_000, Some(70), 24_600_000_000).unwrap_or_default();
        assert_eq!(said, "train.batch = 20000 does not fit in the 24.6 GB that are free");
        assert!(too_large(1, None, 8).is_some());
        assert_eq!(too_large(70, Some(70), 8), None);
    }

    #[test]
    fn short_times_have_digits() {
        let said = [2e-6, 2.5e-4, 0.25, 2.5].map(duration);
        assert_eq!(said, ["2.0 us", "0.25 ms", "250 ms", "2.5 s"]);
    }
}
