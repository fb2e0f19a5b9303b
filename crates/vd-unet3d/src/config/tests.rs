//! Configs as written in files.
#![allow(clippy::unwrap_used)]

use super::*;

#[test]
fn a_preset_is_changed_by_the_other_keys_and_written_out_in_full() {
    let text = "preset = \"video-diffusion-pytorch-0.5\"\ndim = 32\ndim_mults = [1, 2]\n\
                norm = { kind = \"group\", groups = 4 }";
    let config: UNet3dConfig = toml::from_str(text).unwrap();
    assert!(config.skip_before_temporal && config.dim == 32);
    assert_eq!(config.norm, NormKind::Group { groups: 4 });
    let written = toml::to_string(&config).unwrap();
    assert!(!written.contains("preset"), "{written}");
    assert_eq!(toml::from_str::<UNet3dConfig>(&written).unwrap(), config);
}

#[test]
fn unknown_keys_are_refused_with_the_known_ones() {
    let message = toml::from_str::<UNet3dConfig>("dims = 3").unwrap_err().to_string();
    assert!(message.contains("dims") && message.contains("dim_mults"), "{message}");
}

#[test]
fn every_option_is_read_as_it_was_written() {
    let text = "token_shift = [\"space\", \"time\"]\nspatial_bias = true\nblocks = 3\n\
                attention_levels = [1, 3]\nskips = \"block\"\nspatial_dim_head = 16\n\
                heads_by_channels = true\ntime = \"log-snr\"\ndropout = 0.25\n\
                zero_init = true\ntemporal_kernel = 5\n\
                [tokens]\ndim = 12\ncross = [\"time\"]\nmemory = 6\npool = true\n\
                [signals.weather]\nkind = \"class\"\nclasses = [\"sun\", \"rain\"]\n\
                [signals.speed]\nkind = \"scalar\"\nmean = 3.5\nstd = 0.25\n\
                [signals.plain]\nkind = \"scalar\"\n\
                [signals.path]\nkind = \"series\"\nwidth = 7\n\
                [signals.low]\nkind = \"video\"\nchannels = 3\n\
                [embedding]\nkind = \"add\"\nlayers = 3\n[wrap]\nwidth = true\n\
                [time_positions]\nkind = \"shaw\"\ndistance = 9\n";
    let config: UNet3dConfig = toml::from_str(text).unwrap();
    config.validate().unwrap();
    assert_eq!(config.signals["plain"], SignalConfig::Scalar { mean: 0.0, std: 1.0 });
    assert_eq!((config.pooled_width(), config.extra_channels()), (Some(12), 4));
    assert_eq!(config.attention_levels, Some(vec![1, 3]));
    assert_eq!(config.time_positions, TimePositions::Shaw { distance: 9 });
    assert_eq!((config.time_width(), config.embedding_width()), (256, 256));
    let written = toml::to_string(&config).unwrap();
    assert_eq!(toml::from_str::<UNet3dConfig>(&written).unwrap(), config);
    let json = serde_json::to_string(&config).unwrap();
    assert_eq!(serde_json::from_str::<UNet3dConfig>(&json).unwrap(), config);
    for (wrong, known) in [
        ("[tokens]\ndim = 3\nmemori = 4", "memory"),
        ("[signals.a]\nkind = \"series\"\nwith = 3", "width"),
        ("[signals.a]\nkind = \"colour\"", "scalar"),
        ("token_shift = [\"up\"]", "space"),
        ("skips = \"long\"", "block"),
        ("time_positions = \"rotary\"", "shaw"),
        ("embedding = { kind = \"add\", depth = 3 }", "layers"),
        ("wrap = { depth = true }", "width"),
    ] {
        let message = toml::from_str::<UNet3dConfig>(wrong).unwrap_err().to_string();
        assert!(message.contains(known), "{message}");
    }
}

#[test]
fn what_a_peers_preset_writes_has_none_of_the_newer_keys() {
    let known = [
        "attn_dim_head",
        "attn_heads",
        "channels",
        "dim",
        "dim_mults",
        "init_kernel_size",
        "mask_first_temporal",
        "norm",
        "skip_before_temporal",
        "use_sparse_linear_attn",
    ];
    for preset in &Preset::ALL[..3] {
        let written = toml::Table::try_from(preset.config()).unwrap();
        assert!(written.keys().eq(known), "{written}");
    }
    let named: UNet3dConfig = toml::from_str("time_positions = \"bias\"").unwrap();
    assert_eq!(named, UNet3dConfig::default());
}
