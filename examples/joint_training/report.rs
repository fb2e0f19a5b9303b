//! Tables and a plot of what was measured.

use std::fmt::Write;

use anyhow::{Context, Result};
use vd_data::{Line, LinePlot};
use vd_train::RunConfig;
use vd_unet3d::flops::{self, Shape};

use crate::spread::Spread;
use crate::{BESIDE, Run};

/// A run with the losses of all held-out clips along it, those of its average weights, and at the
/// end those of its weights themselves.
pub(crate) struct Curve {
    pub(crate) run: Run,
    pub(crate) looks: Vec<(u64, Vec<f64>)>,
    pub(crate) raw: Vec<f64>,
    pub(crate) seconds: Option<f64>,
}

/// All that was measured.
pub(crate) struct Report<'a> {
    pub(crate) config: &'a RunConfig,
    pub(crate) curves: &'a [Curve],
    pub(crate) spreads: &'a [(u64, usize, Spread)],
}

impl Report<'_> {
    fn of(&self, images: usize) -> impl Iterator<Item = &Curve> {
        self.curves.iter().filter(move |curve| curve.run.images == images)
    }

    /// The losses of all clips at a look, the mean over the seeds.
    fn clips(&self, images: usize, losses: impl Fn(&Curve) -> &[f64]) -> Vec<f64> {
        let curves: Vec<_> = self.of(images).collect();
        let clips = curves.first().map_or(0, |curve| losses(curve).len());
        let mean = |clip: usize| curves.iter().map(|curve| losses(curve)[clip]).sum::<f64>();
        (0..clips).map(|clip| mean(clip) / curves.len() as f64).collect()
    }

    pub(crate) fn tables(&self) -> Result<String> {
        let mut text = String::new();
        self.along(&mut text)?;
        self.at_the_end(&mut text)?;
        self.gradients(&mut text)?;
        Ok(text)
    }

    fn along(&self, text: &mut String) -> Result<()> {
        let heads = BESIDE.map(|k| format!("{k} images"));
        writeln!(text, "| steps | {} |\n|---|---|---|---|", heads.join(" | "))?;
        let steps = self.curves.first().map(|curve| &curve.looks).context("no run")?;
        for (look, (step, _)) in steps.iter().enumerate() {
            let means = BESIDE.map(|k| mean(&self.clips(k, |curve| &curve.looks[look].1)));
            writeln!(text, "| {step} | {} |", means.map(|m| format!("{m:.4}")).join(" | "))?;
        }
        writeln!(text)?;
        Ok(())
    }

    fn at_the_end(&self, text: &mut String) -> Result<()> {
        writeln!(
            text,
            "| images | loss of each seed | loss less that without images, in % | the same, trained \
             weights | time of a step | operations |\n|---|---|---|---|---|---|"
        )?;
        let data = &self.config.data;
        let [f, h, w] = [data.frames, data.size[0], data.size[1]].map(|n| n as u64);
        let shape = Shape { b: 1, f, h, w, tokens: 0 };
        let cost = |k: usize| flops::joint(&self.config.model, shape, k as u64) as f64;
        let last = |curve: &Curve| curve.looks.last().map_or(0.0, |(_, clips)| mean(clips));
        for k in BESIDE {
            let seeds: Vec<_> = self.of(k).map(|curve| format!("{:.4}", last(curve))).collect();
            let average = |curve: &Curve| curve.looks.last().map(|(_, clips)| clips.clone());
            let gains = [
                self.gain(k, |curve| average(curve).unwrap_or_default()),
                self.gain(k, |curve| curve.raw.clone()),
            ];
            let seconds: Vec<f64> = self.of(k).filter_map(|curve| curve.seconds).collect();
            writeln!(
                text,
                "| {k} | {} | {} | {} | {:.2} s | {:.2} |",
                seeds.join(", "),
                gains[0],
                gains[1],
                mean(&seconds),
                cost(k) / cost(0),
            )?;
        }
        writeln!(text)?;
        Ok(())
    }

    /// How much less the loss is than without images, with the standard error over pairs of clips;
    /// and the same of each seed.
    fn gain(&self, images: usize, losses: impl Fn(&Curve) -> Vec<f64>) -> String {
        if images == 0 {
            return "-".to_owned();
        }
        let mean_of = |k: usize| -> Vec<Vec<f64>> { self.of(k).map(&losses).collect() };
        let (with, without) = (mean_of(images), mean_of(0));
        let each: Vec<f64> =
            with.iter().zip(&without).map(|(a, b)| 100.0 * (mean(b) - mean(a)) / mean(b)).collect();
        let clips = with.first().map_or(0, Vec::len);
        let seeds = with.len() as f64;
        let of_clip =
            |rows: &[Vec<f64>], clip: usize| rows.iter().map(|row| row[clip]).sum::<f64>() / seeds;
        let base = mean(&(0..clips).map(|clip| of_clip(&without, clip)).collect::<Vec<_>>());
        let pairs: Vec<f64> = (0..clips)
            .map(|clip| 100.0 * (of_clip(&without, clip) - of_clip(&with, clip)) / base)
            .collect();
        let each: Vec<_> = each.iter().map(|gain| format!("{gain:.1}")).collect();
        format!("{:.1} ± {:.1} ({})", mean(&pairs), error(&pairs), each.join(", "))
    }

    fn gradients(&self, text: &mut String) -> Result<()> {
        writeln!(
            text,
            "| weights of step | images | relative spread | at equal operations | length of the mean \
             |\n|---|---|---|---|---|"
        )?;
        let data = &self.config.data;
        let [f, h, w] = [data.frames, data.size[0], data.size[1]].map(|n| n as u64);
        let shape = Shape { b: 1, f, h, w, tokens: 0 };
        let cost = |k: usize| flops::joint(&self.config.model, shape, k as u64) as f64;
        for (step, k, Spread { relative, error, length }) in self.spreads {
            let equal = relative * (cost(*k) / cost(0)).sqrt();
            writeln!(
                text,
                "| {step} | {k} | {relative:.2} ± {error:.2} | {equal:.2} | {length:.2e} |"
            )?;
        }
        Ok(())
    }

    pub(crate) fn plot(&self) -> LinePlot {
        let line = |images: usize| {
            let looks = self.of(images).next().map_or(0, |curve| curve.looks.len());
            let step = |look: usize| self.curves[0].looks[look].0 as f64;
            let point =
                |look: usize| (step(look), mean(&self.clips(images, |curve| &curve.looks[look].1)));
            Line { name: format!("{images} images"), points: (0..looks).map(point).collect() }
        };
        LinePlot {
            title: "Loss on held-out clips".to_owned(),
            x_label: "optimiser steps".to_owned(),
            y_label: "mean squared error of the noise".to_owned(),
            log_y: true,
            lines: BESIDE.map(line).into(),
        }
    }
}

fn mean(values: &[f64]) -> f64 {
    values.iter().sum::<f64>() / values.len().max(1) as f64
}

/// The standard error of the mean.
fn error(values: &[f64]) -> f64 {
    let (n, mean) = (values.len() as f64, mean(values));
    let around = values.iter().map(|x| (x - mean).powi(2)).sum::<f64>();
    (around / (n - 1.0).max(1.0) / n).sqrt()
}
