//! The output of diffusers.py and k_diffusion.py, and our samplers on the same density, levels,
//! start and noise.
#![allow(dead_code, reason = "each test file uses its own part")]

use std::ops::ControlFlow;
use std::path::Path;

use tch::{Device, Kind, Tensor};
use vd_diffusion::{
    BetaTable, CosineDiscrete, Denoiser, Edm, Flow, Levels, Noise, NoiseLevel, Parameterization,
    Result, Sampler, Schedule, StepTaken, sample,
};
use vd_unet3d::ops::Weights;
use vd_unet3d::ops::torch::testing::folder as crate_folder;

use crate::common::generator::unit;

/// The scheduler of a file, and its settings.
#[derive(serde::Deserialize)]
struct About {
    scheduler: String,
    kind: String,
    predictions: Vec<String>,
    runs: Vec<Run>,
}

/// One run of a scheduler, to be compared with ours.
#[derive(serde::Deserialize)]
pub(crate) struct Run {
    pub(crate) table: String,
    pub(crate) spacing: String,
    /// As many as the scheduler was given.
    pub(crate) steps: usize,
    /// The steps whose states are in the file.
    kept: Vec<usize>,
    /// Difference between the scheduler in f32 and in f64.
    rounding: f64,
    #[serde(skip)]
    pub(crate) levels: Vec<NoiseLevel>,
    #[serde(skip)]
    pub(crate) times: Vec<f64>,
    /// p k 4 5
    #[serde(skip)]
    states: Option<Tensor>,
    /// The same in f64, where f32 deviates by more than the required accuracy.
    #[serde(skip)]
    exact: Option<Tensor>,
    #[serde(skip)]
    predictions: Vec<String>,
}

/// The runs of a scheduler of diffusers.
pub(crate) fn runs(name: &str) -> Vec<Run> {
    runs_in("diffusers", name)
}

/// The sources of a folder's files.
pub(crate) fn schedulers(folder: &str) -> Vec<String> {
    let folder = crate_folder(env!("CARGO_MANIFEST_DIR")).join("tests/golden").join(folder);
    let about = |path: &Path| -> About {
        let file = Weights::read(path, Device::Cpu).unwrap();
        serde_json::from_str(&file.metadata["golden"]).unwrap()
    };
    let files = std::fs::read_dir(folder).unwrap();
    files.map(|file| about(&file.unwrap().path()).scheduler).collect()
}

/// The runs of a file.
pub(crate) fn runs_in(folder: &str, name: &str) -> Vec<Run> {
    let folder = crate_folder(env!("CARGO_MANIFEST_DIR")).join("tests/golden").join(folder);
    let file = Weights::read(&folder.join(format!("{name}.safetensors")), Device::Cpu).unwrap();
    let about: About = serde_json::from_str(&file.metadata["golden"]).unwrap();
    let numbers = |key: String| -> Vec<f64> {
        Vec::try_from(file.tensors[&key].to_kind(Kind::Double).reshape([-1])).unwrap()
    };
    let fill = |mut run: Run| {
        let key = run.name();
        let schedule = schedule(&run.table);
        run.levels = numbers(format!("{key}/levels"))
            .chunks_exact(1 + usize::from(about.kind == "pair"))
            .map(|value| level(&about.kind, value, &*schedule))
            .collect();
        run.times = numbers(format!("{key}/times"));
        let states = |name| {
            let states = file.tensors.get(&format!("{key}/{name}"));
            states.map(|states| states.to_kind(Kind::Double))
        };
        (run.states, run.exact) = (states("states"), states("exact"));
        assert!(run.exact.is_some() || run.allowed() <= run.asked(), "{name} {key}");
        run.predictions.clone_from(&about.predictions);
        run
    };
    about.runs.into_iter().map(fill).collect()
}

/// The meaning of a number that gives a level: KINDS of the script.
fn level(kind: &str, value: &[f64], schedule: &dyn Schedule) -> NoiseLevel {
    let (alpha, sigma) = match (kind, value) {
        ("ratio", [ratio]) => (1.0 / 1f64.hypot(*ratio), ratio / 1f64.hypot(*ratio)),
        ("alpha-bar", [square]) => (square.sqrt(), (1.0 - square).sqrt()),
        ("flow", [sigma]) => (1.0 - sigma, *sigma),
        ("edm", [sigma]) => (1.0, *sigma),
        ("pair", [alpha, sigma]) => (*alpha, *sigma),
        _ => unreachable!("no kind {kind}"),
    };
    let level = NoiseLevel { t: 0.0, alpha, sigma };
    NoiseLevel { t: schedule.t_at(level.log_snr()), ..level }
}

/// The betas of a table, in f64.
pub(crate) fn betas(table: &str) -> Vec<f64> {
    let table = match table {
        "linear" => BetaTable::linear(1000, 1e-4, 0.02),
        "scaled-linear" => BetaTable::scaled_linear(1000, 0.00085, 0.012),
        "cosine" => {
            // diffusers clips the cosine at 0.999, as its paper does; the peer and this crate clip
            // at 0.9999.
            let cosine = CosineDiscrete::new(1000).unwrap();
            return cosine.betas().iter().map(|beta| beta.min(0.999)).collect();
        }
        _ => unreachable!("no table {table}"),
    };
    table.unwrap().betas().to_vec()
}

/// The schedule of a run's table.
pub(crate) fn schedule(table: &str) -> Box<dyn Schedule> {
    match table {
        "edm" => Box::new(Edm::new(0.002, 80.0).unwrap()),
        "flow" => Box::new(Flow::new(1.0).unwrap()),
        _ => Box::new(BetaTable::new(&betas(table)).unwrap()),
    }
}

/// The noise given to the scheduler: call k is the stream "noise/k".
#[derive(Debug)]
struct Replay {
    calls: usize,
}

impl Noise for Replay {
    fn normal(&mut self, like: &Tensor) -> Tensor {
        let values = unit(&format!("noise/{}", self.calls), &like.size());
        self.calls += 1;
        values.to_kind(like.kind())
    }

    fn uniform(&mut self, _: &Tensor) -> Tensor {
        unreachable!("sampling draws normal values only")
    }
}

/// Draws no noise: the run is deterministic.
#[derive(Debug)]
pub(crate) struct Silent;

impl Noise for Silent {
    fn normal(&mut self, _: &Tensor) -> Tensor {
        unreachable!("nothing random is due")
    }

    fn uniform(&mut self, _: &Tensor) -> Tensor {
        unreachable!("nothing random is due")
    }
}

/// The mixture of the script, as a network of some parameterisation.
#[derive(Debug)]
pub(crate) struct Density {
    says: Parameterization,
}

impl Denoiser for Density {
    fn denoise(&self, x: &Tensor, at: NoiseLevel) -> Result<Tensor> {
        const PARTS: [(f64, f64, f64); 2] = [(0.3, -1.0, 0.4), (0.7, 0.8, 0.5)];
        let x0 = |x: f64| {
            let (mut shares, mut means) = (0.0, 0.0);
            for (weight, mean, std) in PARTS {
                let variance = (at.alpha * std).powi(2) + at.sigma.powi(2);
                let off = x - at.alpha * mean;
                let share = weight / variance.sqrt() * (-0.5 * off * off / variance).exp();
                shares += share;
                means += share * (mean + at.alpha * std * std / variance * off);
            }
            means / shares
        };
        let values: Vec<f64> = Vec::try_from(x.reshape([-1])).unwrap();
        let values: Vec<f64> = values.into_iter().map(x0).collect();
        let x0 = Tensor::from_slice(&values).view(x.size().as_slice());
        let levels = Levels::from(at);
        let out = self.says.target(&x0, &at.eps(x, &x0), &levels)?;
        self.says.to_x0(x, &out, &levels)
    }
}

/// The deviation of our state from theirs after one of their steps.
#[derive(Debug)]
pub(crate) struct Off {
    pub(crate) prediction: String,
    /// Step of the scheduler, from 1.
    pub(crate) step: usize,
    /// Relative to the largest value of the state.
    pub(crate) raw: f64,
    /// In units of the allowed deviation: more than 1 is a difference.
    pub(crate) of_allowed: f64,
}

/// Our states, each with the number of the corresponding step of theirs.
type Walk = Vec<(usize, Tensor)>;

impl Run {
    /// Table, spacing and steps.
    pub(crate) fn name(&self) -> String {
        format!("{}/{}/{}", self.table, self.spacing, self.steps)
    }

    /// Whether the scheduler visits the levels that it lists.
    pub(crate) fn is_walked(&self) -> bool {
        self.states.is_some()
    }

    /// The allowed deviation of the scheduler from ours: twice that of its f32, where that
    /// suffices.
    pub(crate) fn allowed(&self) -> f64 {
        2.0 * self.rounding + 5e-7
    }

    /// The accuracy required of every scheduler: 1e-5 on linear tables, else 1e-4.
    pub(crate) fn asked(&self) -> f64 {
        if self.table == "linear" { 1e-5 } else { 1e-4 }
    }

    /// Our sampler over a grid.
    pub(crate) fn sampled(&self, sampler: &dyn Sampler, grid: &[NoiseLevel]) -> Vec<Off> {
        self.walked(grid[0], &|density, schedule, x| {
            let mut states = Vec::new();
            let mut keep = |taken: &StepTaken<'_>| {
                states.push((taken.index + 1, taken.step.x.copy()));
                ControlFlow::Continue(())
            };
            let mut noise = Replay { calls: 0 };
            let _ = sample(sampler, density, schedule, grid, x, &mut noise, &mut keep).unwrap();
            states
        })
    }

    /// Any way to get from the start to the end, for each prediction type.
    pub(crate) fn walked(
        &self,
        from: NoiseLevel,
        walk: &dyn Fn(&Density, &dyn Schedule, Tensor) -> Walk,
    ) -> Vec<Off> {
        let states = self.states.as_ref().expect("a scheduler that visits its levels");
        let schedule = schedule(&self.table);
        let mut offs = Vec::new();
        for (row, prediction) in self.predictions.iter().enumerate() {
            let density = Density { says: parameterization(prediction) };
            let start = unit("start", &[4, 5]).to_kind(Kind::Double);
            for (step, ours) in walk(&density, &*schedule, start * from.alpha.hypot(from.sigma)) {
                let Some(k) = self.kept.iter().position(|kept| *kept == step) else { continue };
                let relative = |theirs: &Tensor| {
                    let theirs = theirs.get(row as i64).get(k as i64);
                    let off = (&ours - &theirs).abs().max() / theirs.abs().max();
                    off.double_value(&[])
                };
                let raw = relative(states);
                // f32 storage alone is 6e-8.
                let exact = self.exact.as_ref().map_or(0.0, |exact| relative(exact) / 2e-7);
                let of_allowed = f64::max(raw / self.allowed(), exact);
                offs.push(Off { prediction: prediction.clone(), step, raw, of_allowed });
            }
        }
        offs
    }
}

fn parameterization(prediction: &str) -> Parameterization {
    match prediction {
        "eps" => Parameterization::Epsilon,
        "v" => Parameterization::V,
        "flow" => Parameterization::Flow,
        // The networks of EDM are used as if they predicted x0-hat.
        "x0" | "edm-eps" | "edm-v" => Parameterization::X0,
        _ => unreachable!("no prediction type {prediction}"),
    }
}
