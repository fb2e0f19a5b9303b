//! Measures one shape: the sides are checked against one reference output, then take turns.

use std::thread;
use std::time::{Duration, Instant};

use super::machine::{self, Busy, TICKS};
use super::options::Precision;
use super::summary::{Errors, Measured, Outcome};
use super::worker::{Setting, Side, Worker};
use crate::error::{Error, Result, failed};

/// Turns of each side before the first that counts.
const WARM_UP: usize = 2;
/// Between turns: the threads of a side spin for some milliseconds after its turn.
const PAUSE: Duration = Duration::from_millis(30);

/// Checks every side in a separate process, so that its memory use does not count in the
/// measurement. torch.compile may fail, which is reported; any other failure ends the run.
pub(super) fn check(setting: &Setting, sides: &[Side]) -> Result<Vec<(Side, Errors)>> {
    let mut checked = Vec::new();
    for side in sides.iter().copied() {
        match errors(setting, side) {
            Ok(errors) => checked.push((side, errors)),
            Err(Error::Failed(why)) if side == Side::Compile => {
                eprintln!("xtask: {}: torch.compile is left out: {why}", setting.shape.name);
            }
            Err(other) => return Err(other),
        }
    }
    Ok(checked)
}

fn errors(setting: &Setting, side: Side) -> Result<Errors> {
    let (shape, name) = (setting.shape.name, side.name());
    let line = Worker::start(setting, side)?.ask("check")?;
    let Some(errors) = parse(&line, setting.train) else {
        return failed(format!("{name} answers `check` with `{line}`"));
    };
    eprintln!("xtask: {shape}: {name}: errors in relative L2: {line}");
    // NaN fails this comparison too.
    let agrees = |error: f64, most: f64| error <= most;
    let Precision { output, gradient, .. } = setting.precision;
    let gradients = errors.gradients.is_none_or(|all| all.iter().all(|e| agrees(*e, gradient)));
    if agrees(errors.output, output) && gradients {
        return Ok(errors);
    }
    failed(format!(
        "{shape}: {name} disagrees with the package ({line}; at most {output:e} and, for \
         gradients, {gradient:e}): networks that differ are not timed"
    ))
}

/// `output E`, and in training `gradients E worst E NAME`.
fn parse(line: &str, train: bool) -> Option<Errors> {
    let words: Vec<&str> = line.split_whitespace().collect();
    let number = |name: &str| {
        let at = words.iter().position(|word| *word == name)?;
        words.get(at + 1)?.parse::<f64>().ok()
    };
    let gradients = if train { Some([number("gradients")?, number("worst")?]) } else { None };
    Some(Errors { output: number("output")?, gradients })
}

/// Times sides that have been checked, this project's first; also returns the instruction set of
/// its kernels.
pub(super) fn time(
    setting: &Setting,
    checked: &[(Side, Errors)],
    pairs: usize,
    flops: f64,
) -> Result<(Outcome, String)> {
    let before = machine::load();
    let mut workers = Vec::new();
    for (side, _) in checked {
        workers.push(Worker::start(setting, *side)?);
    }
    let (isa, peak) = match workers.first_mut() {
        Some(ours) => limit(&ours.ask("peak")?)?,
        None => return failed("nobody takes part"),
    };
    for worker in &mut workers {
        for _ in 0..WARM_UP {
            worker.number("run")?;
        }
    }
    let mut turns = vec![Turns::default(); workers.len()];
    let mut busy = take_turns(&mut workers, &mut turns, pairs, setting.shape.name)?;
    busy.load[0] = before;
    let mut sides = Vec::new();
    for ((worker, turns), (side, errors)) in workers.iter_mut().zip(turns).zip(checked) {
        let memory = memory(&worker.ask("memory")?)?;
        let Turns { milliseconds, faults } = turns;
        sides.push(Measured { side: *side, errors: *errors, milliseconds, faults, memory });
    }
    let (shape, train) = (setting.shape.name, setting.train);
    Ok((Outcome { shape, run: 1, flops, train, peak, busy, sides }, isa))
}

/// The results of one side's turns, one number each.
#[derive(Debug, Clone, Default)]
struct Turns {
    milliseconds: Vec<f64>,
    faults: Vec<f64>,
}

/// Alternates the sides (A B A B): one turn of each, `pairs` times.
fn take_turns(
    workers: &mut [Worker],
    turns: &mut [Turns],
    pairs: usize,
    shape: &str,
) -> Result<Busy> {
    let used = |workers: &[Worker]| workers.iter().map(Worker::used).collect::<Vec<_>>();
    let (mut waiting, mut load) = (0, 0.0f64);
    let (start, busy, before) = (Instant::now(), machine::busy(), used(workers));
    let own = machine::used(std::process::id());
    for pair in 1..=pairs {
        let mut shown = Vec::new();
        for turn in 0..workers.len() {
            thread::sleep(PAUSE);
            let (at_start, faults) = (used(workers), workers[turn].faults());
            let taken = workers[turn].number("run")?;
            let (at_end, faults) = (used(workers), workers[turn].faults() - faults);
            let idle = at_start.iter().zip(&at_end).enumerate().filter(|(side, _)| *side != turn);
            waiting += idle.map(|(_, (start, end))| end - start).sum::<u64>();
            turns[turn].milliseconds.push(taken);
            turns[turn].faults.push(faults as f64);
            load = load.max(machine::load());
            shown.push(format!("{} {taken:.1} ms, {faults} faults", workers[turn].side.name()));
        }
        eprintln!("xtask: {shape}: turn {pair} of {pairs}: {}", shown.join("; "));
    }
    let by_sides: u64 = used(workers).iter().zip(&before).map(|(end, start)| end - start).sum();
    let by_sides = by_sides + (machine::used(std::process::id()) - own);
    let others = (machine::busy() - busy).saturating_sub(by_sides) as f64;
    let ticks = TICKS * start.elapsed().as_secs_f64();
    Ok(Busy { load: [0.0, load], others: others / ticks, waiting: waiting as f64 / ticks })
}

/// `avx2+fma 1.2e11`
fn limit(line: &str) -> Result<(String, f64)> {
    let parts = line.split_once(' ').and_then(|(isa, rate)| Some((isa, rate.parse().ok()?)));
    let (isa, rate) = parts
        .ok_or_else(|| Error::Failed(format!("`{line}` is not a measured limit of the cores")))?;
    Ok((isa.to_owned(), rate))
}

/// KiB after loading, and the peak from then on.
fn memory(line: &str) -> Result<[f64; 2]> {
    let parts = line.split_once(' ');
    let both = parts.and_then(|(loaded, peak)| Some([loaded.parse().ok()?, peak.parse().ok()?]));
    both.ok_or_else(|| Error::Failed(format!("`{line}` is not two sizes in memory")))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_sides_answer_is_read() {
        let plain = Errors { output: 1.5e-6, gradients: None };
        assert_eq!(parse("output 1.5e-6", false), Some(plain));
        let both = Errors { gradients: Some([2e-6, 3e-5]), ..plain };
        let line = "output 1.5e-06 gradients 2e-6 worst 3e-5 downs.0.0.block1.norm.gamma";
        assert_eq!(parse(line, true), Some(both));
        for line in ["", "output", "output x", "gradients 2e-6 worst 3e-5 a"] {
            assert_eq!(parse(line, false), None, "{line}");
        }
        assert_eq!(parse("output 1.5e-6", true), None);
        assert_eq!(limit("avx2+fma 1.2e11"), Ok(("avx2+fma".to_owned(), 1.2e11)));
        assert_eq!(memory("12 40"), Ok([12.0, 40.0]));
        assert!(limit("ready").is_err() && memory("12").is_err());
    }
}
