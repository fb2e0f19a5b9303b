//! What all guidance rules share: signals, noise ranges, separate levels, configs.
#![allow(clippy::unwrap_used, clippy::expect_used)]

mod guided;
mod known;

use guided::{SIZE, apart, apg, cond, diffusion, signal};
use known::{Toy, largest, random};
use vd_diffusion::tch::{Kind, Tensor};
use vd_diffusion::{
    Autoguided, Denoiser, FrameMask, GuidanceConfig, Levels, NoiseRange, Parameterization,
    Progress, Signals,
};

#[test]
fn several_signals_add_up_side_by_side_or_one_on_the_other() {
    let diffusion = diffusion(Parameterization::V);
    let (x, at) = (random(16, &SIZE, Kind::Double), diffusion.schedule().at(0.55));
    let (first, null) = apart(&diffusion, &cond(17), &x, at);
    let (second, _) = apart(&diffusion, &cond(18), &x, at);
    let toy = Toy::conditional();
    let got = |scales: [f64; 2], signals: Signals| {
        let (rescale, within) = Default::default();
        let rule = GuidanceConfig::ClassifierFree { rescale, signals, within };
        let both = vec![signal(17, scales[0]), signal(18, scales[1])];
        let guided = diffusion.guided_by(&toy, both, FrameMask::All, &rule).unwrap();
        guided.denoise(&x, at).unwrap()
    };
    for [a, b] in [[3.0, 1.5], [1.0, 0.0], [0.0, 0.0], [0.5, -2.0]] {
        let expected = &null + (&first - &null) * a + (&second - &null) * b;
        assert!(largest(&(got([a, b], Signals::Independent) - expected)) < 1e-12);
        let expected = &null + (&first - &null) * a + (&second - &first) * b;
        assert!(largest(&(got([a, b], Signals::Chained) - expected)) < 1e-12);
    }
    // Two signals and null make one batch of three.
    assert_eq!(toy.batches(), [9; 8]);
    assert_eq!(got([1.0, 1.0], Signals::Chained), second);
    assert_eq!(toy.batches().last(), Some(&3));
}

#[test]
fn outside_its_range_guidance_is_off_and_costs_nothing() {
    let diffusion = diffusion(Parameterization::V);
    let x = random(19, &SIZE, Kind::Double);
    let at = |t: f64| diffusion.schedule().at(t);
    let ranges =
        [NoiseRange::T([0.3, 0.6]), NoiseRange::LogSnr([at(0.6).log_snr(), at(0.3).log_snr()])];
    for rule in GuidanceConfig::all() {
        for within in ranges {
            let toy = Toy::conditional();
            let guided = |rule: GuidanceConfig| {
                diffusion.guided_by(&toy, vec![signal(20, 3.0)], FrameMask::All, &rule).unwrap()
            };
            let (limited, always) = (guided(rule.limited(within)), guided(rule));
            for t in [0.1, 0.7] {
                let (given, _) = apart(&diffusion, &cond(20), &x, at(t));
                assert_eq!(limited.denoise(&x, at(t)).unwrap(), given);
                assert_eq!(toy.batches().last(), Some(&3));
            }
            let inside = limited.denoise(&x, at(0.45)).unwrap();
            assert_eq!(inside, always.denoise(&x, at(0.45)).unwrap(), "{rule:?}");
            // In a batch with separate levels, each sample follows its own level.
            let levels = [0.7, 0.45, 0.1].map(at);
            let mixed = limited.denoise_levels(&x, &Levels::per_sample(levels.to_vec())).unwrap();
            assert_eq!(toy.batches().last(), Some(&6));
            let (given, _) = apart(&diffusion, &cond(20), &x, at(0.1));
            assert!(largest(&(mixed.get(2) - given.get(2))) < 1e-13);
            assert!(largest(&(mixed.get(1) - inside.get(1))) < 1e-13);
        }
    }
}

#[test]
fn samples_and_frames_at_their_own_levels_are_denoised_as_they_are_apart() {
    let diffusion = diffusion(Parameterization::V);
    let x = random(21, &SIZE, Kind::Double);
    let toy = Toy::conditional();
    let at = |t: f64| diffusion.schedule().at(t);
    let plain = diffusion.guided(&toy, cond(22), FrameMask::All, 2.5).unwrap();
    // The toy network does not mix frames, so each frame is denoised as in a clip with only its
    // level.
    let times = [0.2, 0.9, 0.4, 0.6];
    let levels = Levels::per_frame(3, times.map(at).to_vec());
    let mixed = plain.denoise_levels(&x, &levels).unwrap();
    let with_rule = |rule: GuidanceConfig| {
        diffusion.guided_by(&toy, vec![signal(22, 2.5)], FrameMask::All, &rule).unwrap()
    };
    for (f, t) in times.into_iter().enumerate() {
        let whole = plain.denoise(&x, at(t)).unwrap();
        let f = f as i64;
        assert!(largest(&(mixed.select(2, f) - whole.select(2, f))) < 1e-13);
    }
    let samples = Levels::per_sample([0.2, 0.5, 0.8].map(at).to_vec());
    for rule in GuidanceConfig::all() {
        let mixed = with_rule(rule).denoise_levels(&x, &samples).unwrap();
        for (k, level) in samples.values().iter().enumerate() {
            let whole = with_rule(rule).denoise(&x, *level).unwrap();
            let k = k as i64;
            assert!(largest(&(mixed.get(k) - whole.get(k))) < 1e-12, "{rule:?}");
        }
    }
}

#[test]
fn autoguidance_goes_away_from_the_guide() {
    let diffusion = diffusion(Parameterization::V);
    let x = random(23, &SIZE, Kind::Double);
    let (main, guide) = (Toy::conditional(), Toy::default());
    let denoiser = |toy| diffusion.denoiser(toy, cond(24), FrameMask::All);
    let at = diffusion.schedule().at(0.5);
    let within = NoiseRange::T([0.4, 1.0]);
    let guided = |scale| Autoguided::new(denoiser(&main), denoiser(&guide), scale, within).unwrap();
    let (good, bad) =
        (denoiser(&main).denoise(&x, at).unwrap(), denoiser(&guide).denoise(&x, at).unwrap());
    let expected = &bad + (&good - &bad) * 2.5;
    assert!(largest(&(guided(2.5).denoise(&x, at).unwrap() - &expected)) < 1e-13);
    let levels = Levels::per_sample(vec![at, diffusion.schedule().at(0.2), at]);
    let mixed = guided(2.5).denoise_levels(&x, &levels).unwrap();
    assert!(largest(&(mixed.get(2) - expected.get(2))) < 1e-13);
    let asked = guide.batches().len();
    assert_eq!(guided(1.0).denoise(&x, at).unwrap(), good);
    let outside = diffusion.schedule().at(0.2);
    let off = guided(2.5).denoise(&x, outside).unwrap();
    assert_eq!(off, denoiser(&main).denoise(&x, outside).unwrap());
    assert!(largest(&(mixed.get(1) - off.get(1))) < 1e-13);
    assert_eq!(guide.batches().len(), asked);
}

#[test]
fn rules_read_and_write_and_refuse_what_they_do_not_know() {
    #[derive(Debug, PartialEq, serde::Serialize, serde::Deserialize)]
    struct Sampling {
        guidance: GuidanceConfig,
    }
    let read = |text: &str| toml::from_str::<Sampling>(text);
    assert_eq!(GuidanceConfig::all_names(), ["classifier-free", "cfg-zero-star", "apg"]);
    for (rule, name) in GuidanceConfig::all().into_iter().zip(GuidanceConfig::all_names()) {
        assert_eq!(read(&format!("guidance = \"{name}\"")).unwrap().guidance, rule);
        let rule = Sampling { guidance: rule.limited(NoiseRange::LogSnr([-3.0, 2.5])) };
        assert_eq!(read(&toml::to_string(&rule).unwrap()).unwrap(), rule);
    }
    let text = "guidance = { kind = \"apg\", eta = 0.5, within = { t = [0.2, 0.8] } }";
    assert_eq!(read(text).unwrap().guidance, apg(0.5, 0.0, 0.0).limited(NoiseRange::T([0.2, 0.8])));
    let message = read("guidance = { kind = \"apg\", eat = 0.5 }").unwrap_err().to_string();
    assert!(message.contains("`eat`") && message.contains("`eta`"), "{message}");
}

#[test]
fn settings_out_of_range_are_refused_by_name() {
    let diffusion = diffusion(Parameterization::V);
    let toy = Toy::conditional();
    let star = GuidanceConfig::CfgZeroStar { zero_init: 0, within: NoiseRange::default() };
    let (signals, within) = Default::default();
    for (rule, many, part) in [
        (apg(1.5, 0.0, 0.0), 1, "apg: eta"),
        (apg(0.5, -1.0, 0.0), 1, "apg: norm_threshold"),
        (apg(0.5, 0.0, 1.0), 1, "apg: momentum"),
        (GuidanceConfig::ClassifierFree { rescale: -0.1, signals, within }, 1, "rescale"),
        (star.limited(NoiseRange::T([0.6, 0.2])), 1, "in increasing order, got 0.6 to 0.2"),
        (star.limited(NoiseRange::T([f64::NAN, 0.2])), 1, "within"),
        (star, 2, "cfg-zero-star: expected one signal"),
        (star, 0, "at least one signal"),
    ] {
        let signals = (0..many).map(|seed| signal(seed, 2.0)).collect();
        let refused = diffusion.guided_by(&toy, signals, FrameMask::All, &rule).unwrap_err();
        assert!(refused.to_string().contains(part), "{refused}");
    }
    let plain = || diffusion.denoiser(&toy, cond(1), FrameMask::All);
    let refused = Autoguided::new(plain(), plain(), f64::INFINITY, within).unwrap_err();
    assert!(refused.to_string().contains("autoguidance scale"), "{refused}");
}

#[test]
fn outside_its_range_zero_init_holds_nothing() {
    let diffusion = diffusion(Parameterization::V);
    let (toy, x) = (Toy::conditional(), random(30, &SIZE, Kind::Double));
    let within = NoiseRange::T([0.0, 0.8]);
    let rule = GuidanceConfig::CfgZeroStar { zero_init: 2, within };
    let guided = diffusion.guided_by(&toy, vec![signal(6, 3.0)], FrameMask::All, &rule).unwrap();
    guided.follow(Progress::Sampling { steps: 3 });
    let [above, below] = [0.9, 0.7].map(|t| diffusion.schedule().at(t));
    let (given, _) = apart(&diffusion, &cond(6), &x, above);
    assert_eq!(guided.denoise(&x, above).unwrap(), given);
    let still = |x: &Tensor, x0: &Tensor| largest(&(below.eps(x, x0) - x0)) < 1e-13;
    assert!(still(&x, &guided.denoise(&x, below).unwrap()));
    let levels = Levels::per_sample(vec![above, below, above]);
    let mixed = guided.denoise_levels(&x, &levels).unwrap();
    assert_eq!(mixed.get(0), given.get(0));
    assert!(still(&x.get(1), &mixed.get(1)));
}
