//! Line plots.
#![allow(clippy::unwrap_used, clippy::expect_used)]

use vd_data::{Line, LinePlot, write_line_plot};

fn plot() -> LinePlot {
    let points = (0..200).map(|k| (f64::from(k), 1.0 / (1.0 + f64::from(k) * 0.1)));
    LinePlot {
        title: "Training loss".to_owned(),
        x_label: "step".to_owned(),
        y_label: "loss".to_owned(),
        log_y: false,
        lines: vec![Line { name: "loss".to_owned(), points: points.collect() }],
    }
}

#[test]
fn a_plot_has_title_labels_ticks_and_its_curve() {
    for log_y in [false, true] {
        let svg = LinePlot { log_y, ..plot() }.to_svg().unwrap();
        assert!(svg.starts_with("<svg") && svg.trim_end().ends_with("</svg>"));
        for text in ["Training loss", "step", "loss", "150"] {
            assert!(svg.contains(text), "{text}");
        }
        assert!(svg.contains("<polyline"));
    }
}

#[test]
fn labels_cannot_break_the_document() {
    let title = "a < b & \"c\"".to_owned();
    let svg = LinePlot { title, ..plot() }.to_svg().unwrap();
    assert!(svg.contains("a &lt; b &amp; "), "{svg}");
}

#[test]
fn values_without_a_place_are_left_out_and_none_is_an_error() {
    let mut plot = plot();
    plot.lines[0].points.push((200.0, f64::NAN));
    plot.lines[0].points.push((f64::INFINITY, 1.0));
    assert!(!plot.to_svg().unwrap().contains("NaN"));
    plot.lines[0].points = vec![(3.0, 2.0)];
    assert!(plot.to_svg().is_ok());
    plot.lines[0].points = vec![(3.0, -2.0)];
    plot.log_y = true;
    assert!(plot.to_svg().is_err());
    plot.lines.clear();
    assert!(write_line_plot(std::path::Path::new("none.svg"), &plot).is_err());
}
