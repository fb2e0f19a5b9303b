//! Line plots as SVG.

use std::path::Path;

use plotters::prelude::*;

use super::write_file;
use crate::{Error, Result};

/// One curve.
#[derive(Debug, Clone, PartialEq)]
pub struct Line {
    /// Its name in the legend; no legend is drawn if all names are empty.
    pub name: String,
    /// Its points from left to right; points that are not finite are left out.
    pub points: Vec<(f64, f64)>,
}

/// Curves over one pair of axes.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct LinePlot {
    /// The title above the plot.
    pub title: String,
    /// The label below the horizontal axis.
    pub x_label: String,
    /// The label beside the vertical axis.
    pub y_label: String,
    /// Whether the vertical axis is logarithmic; non-positive values are then left out.
    pub log_y: bool,
    /// The curves.
    pub lines: Vec<Line>,
}

const SIZE: (u32, u32) = (960, 540);
const COLOURS: [RGBColor; 4] =
    [RGBColor(178, 190, 210), RGBColor(24, 90, 188), RGBColor(196, 60, 32), RGBColor(30, 130, 70)];

impl LinePlot {
    /// Draws the plot as an SVG document.
    ///
    /// # Errors
    /// When no point can be drawn.
    pub fn to_svg(&self) -> Result<String> {
        let lines: Vec<Line> = self.lines.iter().map(|line| self.drawable(line)).collect();
        let points = || lines.iter().flat_map(|line| line.points.iter().copied());
        if points().next().is_none() {
            return Err(Error::clip(
                "a plot of at least one finite point (positive on a logarithmic axis)",
                format!("none in {} lines", lines.len()),
            ));
        }
        let x = extent(points().map(|p| p.0), 0.0);
        let y = extent(points().map(|p| p.1), 0.05);
        let mut svg = String::new();
        self.draw(&mut svg, &lines, x, y)
            .map_err(|e| Error::clip("a plot that can be drawn", e))?;
        Ok(svg)
    }

    /// The points that can be drawn; on a logarithmic axis values are replaced by their logarithms.
    fn drawable(&self, line: &Line) -> Line {
        let points = line.points.iter().copied();
        let points = points.map(|(x, y)| (x, if self.log_y { y.log10() } else { y }));
        Line {
            name: line.name.clone(),
            points: points.filter(|(x, y)| x.is_finite() && y.is_finite()).collect(),
        }
    }

    fn draw(
        &self,
        svg: &mut String,
        lines: &[Line],
        x: std::ops::Range<f64>,
        y: std::ops::Range<f64>,
    ) -> std::result::Result<(), String> {
        let root = SVGBackend::with_string(svg, SIZE).into_drawing_area();
        root.fill(&WHITE).map_err(text)?;
        let mut chart = ChartBuilder::on(&root)
            .caption(&self.title, ("sans-serif", 26))
            .margin(16)
            .x_label_area_size(52)
            .y_label_area_size(84)
            .build_cartesian_2d(x, y.clone())
            .map_err(text)?;
        let digits = decimals(y.end - y.start);
        let value = |v: &f64| {
            if self.log_y { significant(10f64.powf(*v)) } else { format!("{v:.digits$}") }
        };
        chart
            .configure_mesh()
            .light_line_style(TRANSPARENT)
            .bold_line_style(BLACK.mix(0.12))
            .x_desc(&self.x_label)
            .y_desc(&self.y_label)
            .x_label_formatter(&|v| format!("{v:.0}"))
            .y_label_formatter(&value)
            .label_style(("sans-serif", 17))
            .axis_desc_style(("sans-serif", 19))
            .draw()
            .map_err(text)?;
        for (line, colour) in lines.iter().zip(COLOURS.iter().cycle()) {
            let style = colour.stroke_width(2);
            let drawn = chart
                .draw_series(LineSeries::new(line.points.iter().copied(), style))
                .map_err(text)?;
            if !line.name.is_empty() {
                drawn.label(&line.name).legend(move |(x, y)| {
                    PathElement::new(vec![(x, y), (x + 24, y)], colour.stroke_width(3))
                });
            }
        }
        if lines.iter().any(|line| !line.name.is_empty()) {
            chart
                .configure_series_labels()
                .position(SeriesLabelPosition::UpperRight)
                .legend_area_size(34)
                .background_style(WHITE.mix(0.85))
                .border_style(BLACK.mix(0.3))
                .label_font(("sans-serif", 17))
                .draw()
                .map_err(text)?;
        }
        root.present().map_err(text)
    }
}

/// Writes a [`LinePlot`] as SVG.
///
/// # Errors
/// When no point can be drawn or the file cannot be written.
pub fn write_line_plot(path: &Path, plot: &LinePlot) -> Result<()> {
    write_file(path, plot.to_svg()?.as_bytes())
}

/// The range from the minimum to the maximum, widened by the fraction `part`; never empty.
fn extent(values: impl Iterator<Item = f64>, part: f64) -> std::ops::Range<f64> {
    let (low, high) =
        values.fold((f64::INFINITY, f64::NEG_INFINITY), |(low, high), v| (low.min(v), high.max(v)));
    let width = high - low;
    if width > 0.0 && width.is_finite() {
        low - part * width..high + part * width
    } else {
        let half = (0.05 * low.abs()).max(0.5);
        low - half..low + half
    }
}

/// How many decimals distinguish the ticks of an axis of this length; there are about ten ticks.
fn decimals(length: f64) -> usize {
    (1.0 - length.max(1e-12).log10()).ceil().clamp(0.0, 12.0) as usize
}

/// A positive number with two significant digits.
fn significant(value: f64) -> String {
    if (1e-3..1e4).contains(&value) {
        // rounding may put a power of ten just below itself
        let decimals = (1.0 - (value.log10() + 1e-9).floor()).max(0.0) as usize;
        format!("{value:.decimals$}")
    } else {
        format!("{value:.1e}")
    }
}

fn text(error: impl std::fmt::Display) -> String {
    error.to_string()
}
