//! What the demo shows: GIFs, a contact sheet and the loss curve.

use std::path::Path;

use anyhow::Result;
use vd_data::{
    Clip, Colour, Line, LinePlot, SheetRow, write_contact_sheet, write_gif, write_line_plot,
};

use crate::measure::Metrics;

/// How many generated clips of each prompt the sheet shows.
const SHOWN: usize = 2;
/// Height of a frame on the sheet, about.
const FRAME_PIXELS: usize = 96;
/// Steps over which the curve is averaged.
const WINDOW: usize = 25;

/// Writes everything into `out`.
pub(crate) fn write(
    out: &Path,
    metrics: &Metrics,
    real: &[(Colour, Clip)],
    generated: &[(Colour, Clip)],
) -> Result<()> {
    let mut rows = Vec::new();
    for colour in Colour::ALL {
        let row = |what: &str, clip| SheetRow::Clip {
            label: format!("a {} firework ({what})", colour.name()),
            clip,
        };
        rows.extend(of(real, colour).take(1).map(|clip| row("real", clip)));
        rows.extend(of(generated, colour).take(SHOWN).map(|clip| row("generated", clip)));
        if let Some(first) = of(generated, colour).next() {
            write_gif(&out.join(format!("{}.gif", colour.name())), first)?;
        }
    }
    let height = generated.first().map_or(1, |(_, clip)| clip.h);
    let scale = (FRAME_PIXELS / height).max(1);
    write_contact_sheet(&out.join("sheet.png"), &rows, scale, 8)?;
    write_line_plot(&out.join("loss.svg"), &curve(&metrics.losses))?;
    Ok(())
}

/// The clips that should have a colour.
fn of(clips: &[(Colour, Clip)], colour: Colour) -> impl Iterator<Item = &Clip> {
    clips.iter().filter(move |(wanted, _)| *wanted == colour).map(|(_, clip)| clip)
}

fn curve(losses: &[(f64, f64)]) -> LinePlot {
    let width = WINDOW.min(losses.len()).max(1);
    let mean = |window: &[(f64, f64)]| {
        let sum: f64 = window.iter().map(|(_, loss)| loss).sum();
        (window[window.len() - 1].0, sum / window.len() as f64)
    };
    let points = losses.windows(width).map(mean).collect();
    LinePlot {
        title: "Training loss".to_owned(),
        x_label: "step".to_owned(),
        y_label: format!("mean squared error of v, mean of {width} steps"),
        lines: vec![Line { name: String::new(), points }],
        ..Default::default()
    }
}
