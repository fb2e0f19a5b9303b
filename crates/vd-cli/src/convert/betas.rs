//! The schedule of a converted checkpoint.

use anyhow::{Result, bail};
use vd_diffusion::{CosineDiscrete, ScheduleConfig, betas_from_f32};

/// Default steps, if neither the file nor the command line gives them: those of the package.
const TIMESTEPS: usize = 1000;

/// The schedule for the betas in a file, or the package's default if there are none.
///
/// Betas that equal the package's cosine table in every bit of their f32 become that schedule; any
/// others are kept as a table.
pub(crate) fn schedule(betas: Option<&[f32]>, timesteps: Option<usize>) -> Result<ScheduleConfig> {
    let Some(betas) = betas else {
        let steps = timesteps.unwrap_or(TIMESTEPS);
        let from = if timesteps.is_some() { "--timesteps" } else { "the package's default" };
        tracing::info!("no betas in the file: the cosine schedule of {steps} steps ({from})");
        return Ok(ScheduleConfig::cosine_discrete(steps));
    };
    let steps = betas.len();
    if let Some(asked) = timesteps.filter(|asked| *asked != steps) {
        bail!("--timesteps {asked}: the file has the betas of {steps} steps; omit it");
    }
    let is_cosine = |cosine: &CosineDiscrete| {
        cosine.betas().iter().zip(betas).all(|(ours, file)| *ours as f32 == *file)
    };
    if CosineDiscrete::new(steps).is_ok_and(|cosine| is_cosine(&cosine)) {
        tracing::info!("betas in the file: the cosine schedule of {steps} steps");
        return Ok(ScheduleConfig::cosine_discrete(steps));
    }
    tracing::info!("betas in the file: a table of {steps} steps of its own, kept as it is");
    let schedule = ScheduleConfig::betas(betas_from_f32(betas));
    schedule.build()?;
    Ok(schedule)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    fn cosine(steps: usize) -> Vec<f32> {
        CosineDiscrete::new(steps).unwrap().betas().iter().map(|beta| *beta as f32).collect()
    }

    #[test]
    fn the_cosine_table_is_known_and_one_bit_makes_another() {
        for steps in [20, 1000] {
            let mut betas = cosine(steps);
            let same = schedule(Some(&betas), None).unwrap();
            assert_eq!(same, ScheduleConfig::cosine_discrete(steps));
            betas[7] = f32::from_bits(betas[7].to_bits() + 1);
            let ScheduleConfig::Betas { values, .. } = schedule(Some(&betas), None).unwrap() else {
                panic!("a changed table was taken for the cosine");
            };
            let back: Vec<f32> = values.iter().map(|beta| *beta as f32).collect();
            assert_eq!(back, betas);
        }
    }

    #[test]
    fn the_flag_is_for_files_without_betas() {
        let made = ScheduleConfig::cosine_discrete;
        assert_eq!(schedule(None, None).unwrap(), made(1000));
        assert_eq!(schedule(None, Some(250)).unwrap(), made(250));
        assert_eq!(schedule(Some(&cosine(20)), Some(20)).unwrap(), made(20));
        let message = schedule(Some(&cosine(20)), Some(250)).unwrap_err().to_string();
        assert!(message.contains("--timesteps 250") && message.contains("20 steps"), "{message}");
    }

    #[test]
    fn betas_that_are_no_schedule_are_refused() {
        assert!(schedule(Some(&[0.5, -0.5]), None).is_err());
        assert!(schedule(Some(&[0.5, f32::NAN]), None).is_err());
    }
}
