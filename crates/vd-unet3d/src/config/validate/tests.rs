//! What is refused, and under which name.
#![allow(clippy::unwrap_used)]

use super::*;
use crate::EmbeddingConfig;

#[test]
fn every_field_out_of_range_is_named() {
    let base = UNet3dConfig::default;
    let cases = [
        ("dim", UNet3dConfig { dim: 7, ..base() }),
        ("dim_mults", UNet3dConfig { dim_mults: vec![], ..base() }),
        ("dim_mults", UNet3dConfig { dim_mults: vec![1, 0], ..base() }),
        ("channels", UNet3dConfig { channels: 0, ..base() }),
        ("init_kernel_size", UNet3dConfig { init_kernel_size: 4, ..base() }),
        ("attn_dim_head", UNet3dConfig { attn_dim_head: 5, ..base() }),
        ("cond_dim", UNet3dConfig { cond_dim: Some(0), ..base() }),
        ("norm", UNet3dConfig { norm: NormKind::Group { groups: 7 }, ..base() }),
        ("dim", UNet3dConfig { dim: i64::MAX - 1, ..base() }),
        ("dim", UNet3dConfig { dim: 65_536, dim_mults: vec![1024; 16], ..base() }),
        ("dim_mults", UNet3dConfig { dim_mults: vec![i64::MAX], ..base() }),
        ("init_dim", UNet3dConfig { init_dim: Some(i64::MAX), ..base() }),
        ("init_kernel_size", UNet3dConfig { init_kernel_size: 257, ..base() }),
        ("channels", UNet3dConfig { channels: 1 << 40, ..base() }),
        ("out_dim", UNet3dConfig { out_dim: Some(65_537), ..base() }),
        ("cond_dim", UNet3dConfig { cond_dim: Some(1 << 21), ..base() }),
        ("attn_heads", UNet3dConfig { attn_heads: 1025, ..base() }),
        ("attn_dim_head", UNet3dConfig { attn_dim_head: 4098, ..base() }),
        ("blocks", UNet3dConfig { blocks: 0, ..base() }),
        ("blocks", UNet3dConfig { blocks: 65, ..base() }),
        ("attention_levels", UNet3dConfig { attention_levels: Some(vec![4]), ..base() }),
        ("attention_levels", UNet3dConfig { attention_levels: Some(vec![1, 1]), ..base() }),
        (
            "skip_before_temporal",
            UNet3dConfig { skips: Skips::Block, skip_before_temporal: true, ..base() },
        ),
        ("spatial_dim_head", UNet3dConfig { spatial_dim_head: Some(0), ..base() }),
        ("embedding.width", with_embedding(Some(0), 2)),
        ("embedding.width", with_embedding(Some(i64::MAX), 2)),
        ("embedding.layers", with_embedding(None, 0)),
        ("embedding.layers", with_embedding(None, i64::MAX)),
        (
            "time_positions.distance",
            UNet3dConfig { time_positions: TimePositions::Shaw { distance: 0 }, ..base() },
        ),
        ("dropout", UNet3dConfig { dropout: 1.0, ..base() }),
        ("dropout", UNet3dConfig { dropout: -0.1, ..base() }),
        ("dropout", UNet3dConfig { dropout: f64::NAN, ..base() }),
        ("temporal_kernel", UNet3dConfig { temporal_kernel: Some(2), ..base() }),
        ("temporal_kernel", UNet3dConfig { temporal_kernel: Some(-1), ..base() }),
        ("temporal_kernel", UNet3dConfig { temporal_kernel: Some(257), ..base() }),
    ];
    for (field, config) in cases {
        let message = config.validate().unwrap_err().to_string();
        assert!(message.contains(&format!("`model.{field}`")), "{message}");
    }
    base().validate().unwrap();
    UNet3dConfig { dim: 1024, ..base() }.validate().unwrap();
}

fn with_embedding(width: Option<i64>, layers: i64) -> UNet3dConfig {
    let embedding = EmbeddingConfig { width, layers, ..EmbeddingConfig::default() };
    UNet3dConfig { embedding, ..UNet3dConfig::default() }
}

fn with_tokens(change: fn(&mut TokensConfig)) -> UNet3dConfig {
    let mut tokens = TokensConfig { dim: 6, cross: vec![], memory: 4, pool: false };
    change(&mut tokens);
    UNet3dConfig { tokens: Some(tokens), ..UNet3dConfig::default() }
}

fn with_signal(name: &str, signal: SignalConfig) -> UNet3dConfig {
    UNet3dConfig { signals: [(name.to_owned(), signal)].into(), ..UNet3dConfig::default() }
}

#[test]
fn every_way_of_telling_out_of_range_is_named() {
    let class = |names: &[&str]| SignalConfig::Class {
        classes: names.iter().map(|name| (*name).to_owned()).collect(),
    };
    let scalar = |mean, std| SignalConfig::Scalar { mean, std };
    let cases = [
        ("tokens.dim", with_tokens(|t| t.dim = 0)),
        ("tokens.dim", with_tokens(|t| t.dim = i64::MAX)),
        ("tokens.memory", with_tokens(|t| t.memory = 65)),
        ("tokens.memory", with_tokens(|t| t.memory = -1)),
        ("tokens.cross", with_tokens(|t| t.cross = vec![Axes::Time, Axes::Time])),
        ("tokens", with_tokens(|t| t.memory = 0)),
        (
            "token_shift",
            UNet3dConfig { token_shift: vec![Axes::Space; 2], ..UNet3dConfig::default() },
        ),
        ("signals", with_signal("", scalar(0.0, 1.0))),
        ("signals", with_signal("text", scalar(0.0, 1.0))),
        ("signals", with_signal("Rain", scalar(0.0, 1.0))),
        ("signals", with_signal("a.b", scalar(0.0, 1.0))),
        ("signals.rain.std", with_signal("rain", scalar(0.0, 0.0))),
        ("signals.rain.std", with_signal("rain", scalar(0.0, f64::NAN))),
        ("signals.rain.mean", with_signal("rain", scalar(f64::INFINITY, 1.0))),
        ("signals.kind.classes", with_signal("kind", class(&[]))),
        ("signals.kind.classes", with_signal("kind", class(&["a", ""]))),
        ("signals.kind.classes", with_signal("kind", class(&["a", "b", "a"]))),
        ("signals.s.width", with_signal("s", SignalConfig::Series { width: 0 })),
        ("signals.v.channels", with_signal("v", SignalConfig::Video { channels: i64::MAX })),
    ];
    for (field, config) in cases {
        let message = config.validate().unwrap_err().to_string();
        assert!(message.contains(&format!("`model.{field}`")), "{field}: {message}");
    }
    with_tokens(|_| ()).validate().unwrap();
    with_signal("wind_2", class(&["a", "b"])).validate().unwrap();
    let heavy = with_signal("s", SignalConfig::Series { width: MOST_WIDTH });
    let message = UNet3dConfig { dim: 65_536, ..heavy }.validate().unwrap_err().to_string();
    assert!(message.contains("parameters"), "{message}");
}
