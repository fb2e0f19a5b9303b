//! The parameters of a whole network are initialised as in PyTorch.

#![allow(clippy::unwrap_used, clippy::expect_used)]

#[path = "../../vd-tensor-ops/tests/oracle/mod.rs"]
mod oracle;
mod small;

use tch::{Device, Kind, Tensor};
use vd_unet3d::ops::Params;
use vd_unet3d::ops::layers::NormKind;
use vd_unet3d::{TokensConfig, UNet3d, UNet3dConfig};

/// Number of inputs of each output value, as in `torch.nn.init._calculate_fan_in_and_fan_out`.
fn fan_in(weight: &Tensor) -> i64 {
    weight.size()[1..].iter().product()
}

/// Initial values of a parameter with this name: a constant, uniform within a bound, or normal.
#[derive(Debug)]
enum Start {
    Const(f64),
    Uniform(f64),
    Normal,
}

fn start(name: &str, params: &Params) -> Start {
    let silent = name.starts_with("signals.") && !name.contains(".mlp.0.");
    if silent || name.contains("cross_") && name.ends_with(".to_out.weight") {
        return Start::Const(0.0);
    }
    if name == "text.null_token" || name.ends_with(".queries") {
        return Start::Normal;
    }
    let norm = name.ends_with(".gamma") || name.ends_with(".norm.weight");
    if norm {
        return Start::Const(1.0);
    }
    if name.ends_with(".norm.bias") {
        return Start::Const(0.0);
    }
    if name == "null_cond_emb" || name.ends_with("relative_attention_bias.weight") {
        return Start::Normal;
    }
    // A bias has the same bound as its weight.
    let weight = format!("{}weight", name.trim_end_matches("weight").trim_end_matches("bias"));
    let weight = &params.get(&weight).unwrap().tensor;
    Start::Uniform(1.0 / (fan_in(weight) as f64).sqrt())
}

#[test]
fn every_parameter_has_the_bound_and_the_moments_of_its_kind() {
    let plain = UNet3dConfig {
        dim: 32,
        dim_mults: vec![1, 2, 4],
        cond_dim: Some(96),
        ..UNet3dConfig::default()
    };
    let mut signals = small::signals().to_vec();
    signals.retain(|(name, _)| name != "low" && name != "known");
    let told = UNet3dConfig {
        tokens: Some(TokensConfig { dim: 48, memory: 6, ..small::everything().tokens.unwrap() }),
        signals: signals.into_iter().collect(),
        spatial_bias: true,
        ..plain.clone()
    };
    let group = UNet3dConfig { norm: NormKind::Group { groups: 8 }, ..plain.clone() };
    for config in [plain, group, told] {
        let mut params = Params::new(7, Kind::Float, Device::Cpu);
        UNet3d::new(&config, &mut params.root()).unwrap();
        let mut uniform = 0;
        for (name, tensor) in params.trainable() {
            let x = tensor.detach().to_kind(Kind::Double);
            let n = x.numel() as f64;
            let moment = |p: f64| x.pow_tensor_scalar(p).mean(Kind::Double).double_value(&[]);
            let largest = x.abs().max().double_value(&[]);
            // Five standard errors of the mean and of the mean square.
            let near = |p: f64, expected: f64, variance: f64| {
                let got = moment(p);
                let allowed = 5.0 * (variance / n).sqrt();
                assert!((got - expected).abs() <= allowed, "{name}: moment {p} is {got:e}");
            };
            match start(name, &params) {
                Start::Const(value) => assert!(x.eq(value).all().int64_value(&[]) == 1, "{name}"),
                Start::Normal => {
                    near(1.0, 0.0, 1.0);
                    near(2.0, 1.0, 2.0);
                    assert!(largest > 1.5 && largest < 6.0, "{name}: {largest}");
                }
                Start::Uniform(bound) => {
                    uniform += 1;
                    near(1.0, 0.0, bound.powi(2) / 3.0);
                    near(2.0, bound.powi(2) / 3.0, bound.powi(4) * 4.0 / 45.0);
                    assert!(largest <= bound * (1.0 + 1e-7), "{name}: {largest} over {bound}");
                    assert!(largest >= bound * (1.0 - 20.0 / n), "{name}: {largest} of {bound}");
                }
            }
        }
        assert!(uniform > 100, "{uniform} uniform parameters");
    }
}

#[test]
fn parameters_of_equal_shape_start_differently() {
    let config = UNet3dConfig { dim: 8, dim_mults: vec![1, 2], ..UNet3dConfig::default() };
    let mut params = Params::new(7, Kind::Float, Device::Cpu);
    UNet3d::new(&config, &mut params.root()).unwrap();
    let drawn: Vec<_> = params
        .trainable()
        .into_iter()
        .filter(|(name, _)| !matches!(start(name, &params), Start::Const(_)))
        .collect();
    for (i, (name, a)) in drawn.iter().enumerate() {
        for (other, b) in &drawn[i + 1..] {
            assert!(a.size() != b.size() || *a != *b, "{name} and {other} are equal");
        }
    }
}
