//! Configs as users write them.
#![allow(clippy::unwrap_used, clippy::expect_used)]

use proptest::prelude::*;
use serde::{Deserialize, Serialize};
use vd_diffusion::{
    DiffusionConfig, FrameTimes, LossKind, Parameterization, SamplerConfig, ScheduleConfig,
    Spacing, Threshold, TimeInput, TimeSampling, Weighting,
};

#[test]
fn nothing_said_is_the_default() {
    let config: DiffusionConfig = toml::from_str("").unwrap();
    assert_eq!(config, DiffusionConfig::default());
    assert_eq!(config.schedule, ScheduleConfig::cosine_discrete(1000));
    assert_eq!(config.parameterization, Parameterization::Epsilon);
    assert_eq!((config.loss, config.times), (LossKind::L2, TimeSampling::Uniform));
    assert_eq!((config.weighting, config.frame_times), (Weighting::Uniform, FrameTimes::Shared));
}

#[test]
fn a_kind_is_a_name_or_a_table() {
    let read = |text: &str| toml::from_str::<DiffusionConfig>(text).unwrap();
    let config = read(
        r#"
        schedule = { kind = "cosine-discrete", steps = 20 }
        parameterization = "v"
        loss = { kind = "huber", delta = 0.5 }
        times = "stratified"
        "#,
    );
    assert_eq!(
        config,
        DiffusionConfig {
            schedule: ScheduleConfig::cosine_discrete(20),
            parameterization: Parameterization::V,
            loss: LossKind::Huber { delta: 0.5 },
            times: TimeSampling::Stratified,
            ..DiffusionConfig::default()
        }
    );
    // The name in formulas, and so in this crate's notation.
    let eps = read("parameterization = \"eps\"").parameterization;
    assert_eq!(eps, Parameterization::Epsilon);
    assert!(toml::to_string(&DiffusionConfig::default()).unwrap().contains("\"epsilon\""));
    let config = read("schedule = \"cosine\"\nloss = \"l1\"");
    assert_eq!(config.schedule, ScheduleConfig::cosine());
    assert_eq!(config.loss, LossKind::L1);
    assert_eq!(read("loss = { kind = \"l2\" }").loss, LossKind::L2);
    assert_eq!(read("loss = \"huber\"").loss, LossKind::Huber { delta: 1.0 });
    assert_eq!(read("weighting = \"min-snr\"").weighting, Weighting::MinSnr { gamma: 5.0 });
    assert_eq!(read("weighting = \"truncated-snr\"").weighting, Weighting::TruncatedSnr);
    let config = read("parameterization = \"edm\"\nweighting = \"edm\"\ntimes = \"log-normal\"");
    assert_eq!(config.parameterization, Parameterization::Edm { sigma_data: 0.5 });
    assert_eq!(config.weighting, Weighting::Edm { sigma_data: 0.5 });
    assert_eq!(config.times, TimeSampling::LogNormal { mean: -1.2, std: 1.2 });
    let config = read("times = { kind = \"mode\", scale = 0.5 }\nweighting = \"p2\"");
    assert_eq!(config.times, TimeSampling::Mode { scale: 0.5 });
    let config = read("frame_times = \"context\"\nweighting = \"p2\"");
    assert_eq!(config.frame_times, FrameTimes::Context { frames: 1 });
    assert_eq!(config.weighting, Weighting::P2 { k: 1.0, gamma: 1.0 });
    let config = read("[schedule]\nkind = \"cosine\"\nlog_snr_max = 15\ntime_input = \"log-snr\"");
    let time_input = TimeInput::LogSnr;
    let expected = ScheduleConfig::Cosine { log_snr_min: -20.0, log_snr_max: 15.0, time_input };
    assert!(expected.tells_log_snr() && expected.clone().shifted(1.0).tells_log_snr());
    assert_eq!(config.schedule, expected);
    assert!(!ScheduleConfig::all().iter().any(ScheduleConfig::tells_log_snr));
}

#[test]
fn what_is_not_known_is_refused_with_what_is() {
    for (text, parts) in [
        ("shedule = \"cosine\"", ["unknown field `shedule`", "`schedule`", "line 1"]),
        ("\nloss = \"l3\"", ["unknown variant `l3`", "`huber`", "line 2"]),
        ("loss = 2", ["the name of a loss", "integer `2`", "line 1"]),
        ("loss = { kind = \"l2\", delta = 1.0 }", ["`l2` has no settings", "kind", "line 1"]),
        ("loss = { delta = 1.0 }", ["missing field `kind`", "kind", "line 1"]),
        (
            "loss = { kind = \"huber\", delat = 1.0 }",
            ["unknown field `delat`", "`delta`", "line 1"],
        ),
        (
            "schedule = { kind = \"cosine-discrete\", step = 9 }",
            ["unknown field `step`", "`steps`", "line 1"],
        ),
        ("schedule = \"betas\"", ["missing field `values`", "values", "line 1"]),
        ("parameterization = \"noise\"", ["unknown variant `noise`", "`epsilon`", "line 1"]),
        ("times = \"even\"", ["unknown variant `even`", "`stratified`", "line 1"]),
    ] {
        let message = toml::from_str::<DiffusionConfig>(text).unwrap_err().to_string();
        assert!(parts.iter().all(|part| message.contains(part)), "{text}:\n{message}");
    }
}

/// A sampling config as a program using this crate may define it.
#[derive(Debug, PartialEq, Serialize, Deserialize)]
struct Sampling {
    sampler: SamplerConfig,
    threshold: Threshold,
    spacing: Spacing,
}

#[test]
fn sampling_configs_read_and_write() {
    let text = "sampler = \"ddpm\"\nthreshold = \"dynamic\"\nspacing = \"uniform-t\"";
    let config: Sampling = toml::from_str(text).unwrap();
    assert_eq!(config.sampler, SamplerConfig::DdpmSmall { gamma: 0.0 });
    assert_eq!(config.threshold, Threshold::Dynamic { percentile: 0.9 });
    assert_eq!(config.spacing, Spacing::UniformT);
    assert_eq!(toml::from_str::<Sampling>(&toml::to_string(&config).unwrap()).unwrap(), config);
    let bare = toml::to_string(&Sampling { threshold: Threshold::Static, ..config }).unwrap();
    assert!(bare.contains("threshold = \"static\""), "{bare}");
}

fn any_config() -> impl Strategy<Value = DiffusionConfig> {
    let schedule = prop_oneof![
        (1..5000usize).prop_map(ScheduleConfig::cosine_discrete),
        (any::<f64>(), any::<f64>(), any::<bool>()).prop_map(|(log_snr_min, log_snr_max, told)| {
            let time_input = if told { TimeInput::LogSnr } else { TimeInput::T1000 };
            ScheduleConfig::Cosine { log_snr_min, log_snr_max, time_input }
        }),
        prop::collection::vec(0.0..1.0f64, 1..9).prop_map(ScheduleConfig::betas),
    ];
    let loss = prop_oneof![
        Just(LossKind::L1),
        Just(LossKind::L2),
        any::<f64>().prop_map(|delta| LossKind::Huber { delta }),
    ];
    let number = any::<f64>();
    let parameterization = prop_oneof![
        Just(Parameterization::Epsilon),
        Just(Parameterization::X0),
        Just(Parameterization::V),
        Just(Parameterization::Flow),
        number.prop_map(|sigma_data| Parameterization::Edm { sigma_data }),
    ];
    let times = prop_oneof![
        Just(TimeSampling::Uniform),
        Just(TimeSampling::Stratified),
        (number, number).prop_map(|(mean, std)| TimeSampling::LogNormal { mean, std }),
        (number, number).prop_map(|(mean, std)| TimeSampling::LogitNormal { mean, std }),
        number.prop_map(|scale| TimeSampling::Mode { scale }),
    ];
    let weighting = prop_oneof![
        Just(Weighting::Uniform),
        Just(Weighting::Snr),
        Just(Weighting::TruncatedSnr),
        number.prop_map(|gamma| Weighting::MinSnr { gamma }),
        (number, number).prop_map(|(k, gamma)| Weighting::P2 { k, gamma }),
        number.prop_map(|sigma_data| Weighting::Edm { sigma_data }),
        number.prop_map(|bias| Weighting::Sigmoid { bias }),
    ];
    let frame_times = prop_oneof![
        Just(FrameTimes::Shared),
        Just(FrameTimes::Independent),
        (0..9usize).prop_map(|frames| FrameTimes::Context { frames }),
    ];
    (schedule, parameterization, loss, times, frame_times, weighting).prop_map(
        |(schedule, parameterization, loss, times, frame_times, weighting)| DiffusionConfig {
            schedule,
            parameterization,
            loss,
            times,
            frame_times,
            weighting,
        },
    )
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn configs_survive_toml(config in any_config()) {
        let text = toml::to_string(&config).unwrap();
        prop_assert_eq!(toml::from_str::<DiffusionConfig>(&text).unwrap(), config);
    }
}
