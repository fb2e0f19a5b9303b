//! Every kind, by name.
#![allow(clippy::unwrap_used, clippy::expect_used)]

use std::fmt::Debug;
use std::str::FromStr;

use serde::Serialize;
use serde_json::Value;
use vd_diffusion::{
    Downscale, Error, FrameTimes, GuidanceConfig, LossKind, Parameterization, SamplerConfig,
    ScheduleConfig, Spacing, Threshold, TimeSampling, Weighting,
};

/// The name of a config in its written form.
fn written(config: &impl Serialize) -> String {
    match serde_json::to_value(config).unwrap() {
        Value::String(name) => name,
        table => table["kind"].as_str().unwrap().to_owned(),
    }
}

/// A config that is determined by its name can be parsed from it.
fn comes_back<T>(config: T, name: &str)
where
    T: FromStr<Err = Error> + Serialize + PartialEq + Debug,
{
    assert_eq!(name, written(&config));
    assert_eq!(name.parse::<T>().unwrap(), config);
}

macro_rules! come_back {
    ($($config:expr),* $(,)?) => {$({
        let config = $config;
        let name = config.name();
        comes_back(config, name);
    })*};
}

#[test]
fn every_kind_with_defaults_is_read_from_its_name() {
    for config in SamplerConfig::all() {
        assert_eq!(config.name(), config.facts().name);
        come_back!(config);
    }
    ScheduleConfig::all().into_iter().for_each(|config| come_back!(config));
    Spacing::all().into_iter().for_each(|config| come_back!(config));
    GuidanceConfig::all().into_iter().for_each(|config| come_back!(config));
    come_back!(Threshold::None, Threshold::Static, Threshold::dynamic());
    come_back!(Parameterization::Epsilon, Parameterization::X0, Parameterization::V);
    come_back!(Parameterization::Flow, Parameterization::Edm { sigma_data: 0.5 });
    come_back!(Weighting::Uniform, Weighting::Snr, Weighting::TruncatedSnr);
    come_back!(Weighting::MinSnr { gamma: 5.0 }, Weighting::P2 { k: 1.0, gamma: 1.0 });
    come_back!(Weighting::Edm { sigma_data: 0.5 }, Weighting::Sigmoid { bias: 2.0 });
    come_back!(LossKind::L1, LossKind::L2, LossKind::Huber { delta: 1.0 });
    come_back!(TimeSampling::Uniform, TimeSampling::Stratified);
    come_back!(TimeSampling::LogNormal { mean: -1.2, std: 1.2 });
    come_back!(TimeSampling::LogitNormal { mean: 0.0, std: 1.0 });
    come_back!(TimeSampling::Mode { scale: 1.29 });
    come_back!(FrameTimes::Shared, FrameTimes::Independent, FrameTimes::Context { frames: 1 });
    come_back!(Downscale::None, Downscale::Area { factor: 2 }, Downscale::Bilinear { factor: 2 });
    assert_eq!("eps".parse::<Parameterization>().unwrap(), Parameterization::Epsilon);
    assert_eq!("ddpm".parse::<SamplerConfig>().unwrap().name(), "ddpm-small");
}

#[test]
fn kinds_that_need_settings_have_a_name_too() {
    let betas = ScheduleConfig::betas(vec![0.5]);
    for config in [betas.clone().shifted(1.0), betas] {
        assert_eq!(config.name(), written(&config));
    }
    let spacing = Spacing::Explicit { t: vec![1.0, 0.0] };
    assert_eq!(spacing.name(), written(&spacing));
}

#[test]
fn names_that_are_not_known_are_refused_with_those_that_are() {
    fn refused<T: FromStr<Err = Error> + Debug>(name: &str) -> String {
        name.parse::<T>().unwrap_err().to_string()
    }
    for (message, parts) in [
        (refused::<SamplerConfig>("hein"), ["sampler: unknown variant `hein`", "`heun`"]),
        (refused::<ScheduleConfig>("edn"), ["schedule: unknown variant `edn`", "`edm`"]),
        (refused::<ScheduleConfig>("betas"), ["schedule: missing field", "`values`"]),
        (refused::<Spacing>("Karras"), ["spacing: unknown variant `Karras`", "`karras`"]),
        (refused::<GuidanceConfig>("cfg"), ["guidance rule: unknown", "`classifier-free`"]),
        (refused::<Threshold>(""), ["threshold: unknown variant ``", "`static`"]),
        (refused::<Parameterization>("x_0"), ["parameterization: unknown", "`x0`"]),
        (refused::<Weighting>("min_snr"), ["weighting: unknown", "`min-snr`"]),
    ] {
        assert!(parts.iter().all(|part| message.contains(part)), "{message}");
    }
}
