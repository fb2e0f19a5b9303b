//! Three plots side by side as SVG: time, memory and operations, all axes logarithmic.

use std::fmt::Write;

use crate::point::Measured;

/// Forward passes and training steps: the growing quantity, and the cost.
pub(crate) type Curves = [Vec<(f64, Measured)>; 2];

const NAMES: [&str; 2] = ["forward", "training step"];
const COLOURS: [&str; 2] = ["#185abc", "#c43c20"];
/// Height of the figure, and width of each of its plots.
const HEIGHT: f64 = 340.0;
const WIDTH: f64 = 320.0;
/// Distances between the edges of a plot and its axes.
const LEFT: f64 = 62.0;
const RIGHT: f64 = 18.0;
const TOP: f64 = 84.0;
const BOTTOM: f64 = 52.0;

/// A quantity: title of its plot, and its value.
type Quantity = (&'static str, fn(&Measured) -> f64);

const QUANTITIES: [Quantity; 3] = [
    ("time, ms", |measured| measured.milliseconds),
    ("peak above the loaded network, MiB", |measured| measured.peak as f64 / 1_048_576.0),
    ("operations, GFLOP", |measured| measured.flops as f64 / 1e9),
];

/// The figure for one axis.
pub(crate) fn figure(title: &str, axis: &str, curves: &Curves) -> String {
    let width = WIDTH * QUANTITIES.len() as f64;
    let mut svg = format!(
        "<svg xmlns=\"http://www.w3.org/2000/svg\" viewBox=\"0 0 {width} {HEIGHT}\" \
         width=\"{width}\" height=\"{HEIGHT}\" font-family=\"sans-serif\" font-size=\"12\">\n\
         <rect width=\"{width}\" height=\"{HEIGHT}\" fill=\"#fff\"/>\n\
         <text x=\"{}\" y=\"26\" font-size=\"16\" text-anchor=\"middle\">{title}</text>\n",
        width / 2.0,
    );
    for (i, (name, colour)) in NAMES.iter().zip(COLOURS).enumerate() {
        let x = width / 2.0 - 110.0 + 110.0 * i as f64;
        let _ = writeln!(
            svg,
            "<rect x=\"{x}\" y=\"40\" width=\"18\" height=\"4\" fill=\"{colour}\"/>\
             <text x=\"{}\" y=\"46\">{name}</text>",
            x + 24.0,
        );
    }
    for (i, quantity) in QUANTITIES.iter().enumerate() {
        let _ = writeln!(svg, "<g transform=\"translate({} 0)\">", WIDTH * i as f64);
        plot(&mut svg, axis, curves, quantity);
        svg.push_str("</g>\n");
    }
    svg + "</svg>\n"
}

fn plot(svg: &mut String, axis: &str, curves: &Curves, (label, value): &Quantity) {
    let points = || curves.iter().flatten();
    let values: Vec<f64> = points().map(|(_, measured)| value(measured)).collect();
    let at: Vec<f64> = curves[0].iter().map(|(at, _)| *at).collect();
    let across = Scale::new(&at, LEFT, WIDTH - RIGHT);
    let ticks = decades(&values);
    let up = Scale::new(&[&values[..], &ticks[..]].concat(), HEIGHT - BOTTOM, TOP);
    let (low, high) = (HEIGHT - BOTTOM, WIDTH - RIGHT);
    let _ = writeln!(svg, "<text x=\"{LEFT}\" y=\"{}\">{label}</text>", TOP - 14.0);
    for tick in &ticks {
        let y = up.place(*tick);
        let _ = writeln!(
            svg,
            "<path d=\"M{LEFT} {y:.1}H{high}\" stroke=\"#ddd\"/><text x=\"{}\" y=\"{:.1}\" \
             text-anchor=\"end\">{tick}</text>",
            LEFT - 7.0,
            y + 4.0,
        );
    }
    for tick in &at {
        let x = across.place(*tick);
        let _ = writeln!(
            svg,
            "<path d=\"M{x:.1} {TOP}V{low}\" stroke=\"#eee\"/><text x=\"{x:.1}\" y=\"{}\" \
             text-anchor=\"middle\">{tick}</text>",
            low + 18.0,
        );
    }
    let middle = f64::midpoint(LEFT, high);
    let _ = writeln!(
        svg,
        "<path d=\"M{LEFT} {TOP}V{low}H{high}\" stroke=\"#444\" fill=\"none\"/>\
         <text x=\"{middle}\" y=\"{}\" text-anchor=\"middle\">{axis}</text>",
        low + 38.0,
    );
    for (curve, colour) in curves.iter().zip(COLOURS) {
        let places = curve.iter().map(|(at, m)| (across.place(*at), up.place(value(m))));
        let line: Vec<String> = places.clone().map(|(x, y)| format!("{x:.1},{y:.1}")).collect();
        let _ = writeln!(
            svg,
            "<polyline points=\"{}\" fill=\"none\" stroke=\"{colour}\" stroke-width=\"2\"/>",
            line.join(" "),
        );
        for (x, y) in places {
            let _ =
                writeln!(svg, "<circle cx=\"{x:.1}\" cy=\"{y:.1}\" r=\"3\" fill=\"{colour}\"/>");
        }
    }
}

/// 1, 2 and 5 times powers of ten from at or below the least value to at or above the largest; only
/// the powers if the range is wide.
fn decades(values: &[f64]) -> Vec<f64> {
    let (least, most) = extent(values);
    let steps: &[f64] = if most / least > 200.0 { &[1.0] } else { &[1.0, 2.0, 5.0] };
    let first = least.log10().floor() as i32;
    let all = (first..=first + 12).flat_map(|n| steps.iter().map(move |step| step * 10f64.powi(n)));
    let all: Vec<f64> = all.collect();
    let from = all.iter().rposition(|tick| *tick <= least).unwrap_or(0);
    let to = all.iter().position(|tick| *tick >= most).unwrap_or(all.len() - 1);
    all[from..=to].to_vec()
}

fn extent(values: &[f64]) -> (f64, f64) {
    values.iter().fold((f64::INFINITY, 0.0), |(least, most), v| (v.min(least), v.max(most)))
}

/// Maps logarithms of values to positions in the figure.
struct Scale {
    from: f64,
    each: f64,
    start: f64,
}

impl Scale {
    fn new(values: &[f64], start: f64, end: f64) -> Self {
        let (least, most) = extent(values);
        let from = least.ln();
        Scale { from, each: (end - start) / (most.ln() - from), start }
    }

    fn place(&self, value: f64) -> f64 {
        self.start + (value.ln() - self.from) * self.each
    }
}
