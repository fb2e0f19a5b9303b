//! Scratch.
#![allow(clippy::unwrap_used, clippy::print_stdout)]
use std::path::Path;
use std::time::Instant;
use vd_data::*;
fn main() {
    let noisy: Vec<_> = (0..720)
        .map(|k| {
            let x = k as f64;
            (x, 0.05 + 0.9 * (-x / 60.0).exp() + 0.02 * (x * 12.9898).sin().abs())
        })
        .collect();
    let smooth: Vec<_> =
        noisy.chunks(10).map(|c| (c[0].0, c.iter().map(|p| p.1).sum::<f64>() / 10.0)).collect();
    for log_y in [false, true] {
        write_line_plot(
            Path::new(&format!("/tmp/vdplot-{log_y}.svg")),
            &LinePlot {
                title: "Training loss".into(),
                x_label: "step".into(),
                y_label: "mean squared error".into(),
                log_y,
                lines: vec![
                    Line { name: "each step".into(), points: noisy.clone() },
                    Line { name: "mean of 10".into(), points: smooth.clone() },
                ],
            },
        )
        .unwrap();
    }
    let dir = Path::new("/tmp/vd-big");
    let _ = std::fs::remove_dir_all(dir);
    std::fs::create_dir_all(dir).unwrap();
    for k in 0..4 {
        let (c, _) = FireworksConfig::default().clip(1, k, 24, [240, 320], 3).unwrap();
        write_gif(&dir.join(format!("{k}.gif")), &c).unwrap();
    }
    let threads = || {
        std::fs::read_to_string("/proc/self/status")
            .unwrap()
            .lines()
            .find(|l| l.starts_with("Threads"))
            .unwrap()
            .to_owned()
    };
    println!("{}", threads());
    for workers in [0, 2] {
        let config = DataConfig {
            source: Source::Folder { path: dir.into() },
            size: [64, 64],
            workers,
            ..Default::default()
        };
        let mut l = Loader::new(&config, 8, Cursor::start(1)).unwrap();
        l.next().unwrap();
        let t = Instant::now();
        for _ in 0..4 {
            l.next().unwrap();
        }
        println!("workers {workers}: {:?} a clip, {}", t.elapsed() / 32, threads());
        let t = Instant::now();
        drop(l);
        println!("drop {:?}", t.elapsed());
    }
    println!("{}", inspect(dir).unwrap());
    println!("{}", inspect(Path::new("/tmp/vd-synth")).unwrap());
}
