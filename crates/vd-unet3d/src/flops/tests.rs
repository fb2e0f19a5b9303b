//! Counts compared with those of other programs and with explicit products.

use super::*;
use crate::{EmbeddingConfig, SignalConfig, TimeEmbedding, TokensConfig, Wrap};

#[test]
fn counts_are_those_of_pytorchs_own_counter_on_the_python_network() {
    // torch.utils.flop_counter.FlopCounterMode on video-diffusion-pytorch 0.7.0
    let base = || UNet3dConfig { dim: 8, dim_mults: vec![1, 2, 4], ..Default::default() };
    let odd = UNet3dConfig {
        dim_mults: vec![2, 3],
        cond_dim: Some(5),
        attn_heads: 3,
        attn_dim_head: 20,
        init_kernel_size: 5,
        channels: 1,
        out_dim: Some(2),
        ..base()
    };
    let flat =
        UNet3dConfig { dim: 12, dim_mults: vec![1], use_sparse_linear_attn: false, ..base() };
    let shape = Shape { b: 2, f: 3, h: 16, w: 24, tokens: 9 };
    assert_eq!(forward(&base(), shape), 603_087_872);
    assert_eq!(forward(&odd, shape), 361_683_840);
    assert_eq!(forward(&flat, Shape { b: 1, f: 5, h: 8, w: 8, tokens: 0 }), 81_657_984);
}

/// One level of 8 channels, 2 heads of 4 over time and of 32 over space, 6 positions of 5 frames of
/// 2 samples; 3 tokens of width 7.
#[test]
fn a_text_adds_what_its_products_take() {
    let plain = || UNet3dConfig {
        dim: 8,
        dim_mults: vec![1],
        attn_heads: 2,
        attn_dim_head: 4,
        ..UNet3dConfig::default()
    };
    let shape = Shape { b: 2, f: 5, h: 2, w: 3, tokens: 3 };
    let more = |cross: Vec<Axes>, memory, pool| {
        let tokens = Some(TokensConfig { dim: 7, cross, memory, pool });
        forward(&UNet3dConfig { tokens, ..plain() }, shape) - forward(&plain(), shape)
    };
    let product = |rows: u64, inner: u64, columns: u64| 2 * rows * inner * columns;
    let (positions, seen) = (2 * 5 * 6, 4);
    // Queries and output projection, keys and values of the tokens, scores and sums; down, up,
    // middle.
    let cross = |inner: u64| {
        product(positions, 8, inner)
            + product(positions, inner, 8)
            + product(2 * seen, 7, 2 * inner)
            + 2 * product(positions, inner, seen)
    };
    assert_eq!(more(vec![Axes::Space], 0, false), 3 * cross(64));
    assert_eq!(more(vec![Axes::Time], 0, false), 3 * cross(8));
    // The embedding of the tokens, and 7 more inputs for the scales and shifts of six blocks.
    let queries = |count: u64, length: u64, inner: u64| {
        product(2 * length, 7, 2 * inner)
            + 2 * product(2 * count, inner, length)
            + product(2 * count, inner, 7)
    };
    let film = 6 * product(2, 7, 16);
    assert_eq!(more(vec![], 0, true), queries(1, 3, 64) + film);
    // Five memory tokens: four temporal attentions, one spatial, two linear ones.
    let heads = |inner: u64| product(2 * 5, 7, 2 * inner);
    let time = 4 * (heads(8) + 2 * product(positions, 8, 5));
    let space = heads(64) + 2 * product(positions, 64, 5);
    let linear = 2 * (heads(64) + product(2 * 5, 5, 2 * 32 * 32));
    assert_eq!(more(vec![], 5, false), queries(5, seen, 64) + time + space + linear);
    let signals = [("low".to_owned(), SignalConfig::Video { channels: 2 })].into();
    let shown = forward(&UNet3dConfig { signals, ..plain() }, shape);
    assert_eq!(shown - forward(&plain(), shape), product(positions, 49 * 3, 8));
}

/// Two levels of 8 and 24 channels, one block each, heads of 16; 6 and 2 positions, of 5 frames of 2
/// samples.
#[test]
fn the_papers_form_costs_what_its_products_take() {
    let config = UNet3dConfig {
        dim: 8,
        dim_mults: vec![1, 3],
        blocks: 1,
        attention_levels: Some(vec![1]),
        attn_dim_head: 16,
        spatial_dim_head: Some(16),
        embedding: EmbeddingConfig { kind: EmbeddingKind::Add, width: Some(10), layers: 3 },
        tokens: None,
        ..UNet3dConfig::paper_text_small()
    };
    let shape = Shape { b: 2, f: 5, h: 4, w: 6, tokens: 3 };
    let product = |rows: u64, inner: u64, columns: u64| 2 * rows * inner * columns;
    let (fine, coarse) = (2 * 5 * 24, 2 * 5 * 6);
    let block = |positions: u64, inputs: u64, outputs: u64| {
        let beside = if inputs == outputs { 0 } else { product(positions, inputs, outputs) };
        product(2, 10, outputs)
            + product(positions, 9 * inputs, outputs)
            + product(positions, 9 * outputs, outputs)
            + beside
    };
    // 24 channels give one head of 16; three projections and the output projection, then scores and
    // sums.
    let projections = 4 * product(coarse, 24, 16);
    let space = projections + 2 * product(coarse, 16, 6);
    // Keys, vectors of keys, values, vectors of values.
    let time = projections + 4 * product(coarse, 16, 5);
    let mlp = product(2, 8, 10) + 2 * product(2, 10, 10);
    let down = block(fine, 8, 8) + product(coarse, 16 * 8, 8) + block(coarse, 8, 24);
    let middle = 2 * block(coarse, 24, 24);
    let up = block(coarse, 24 + 24, 24)
        + block(coarse, 24 + 8, 24)
        + product(coarse, 16 * 24, 24)
        + block(fine, 24 + 8, 8)
        + block(fine, 8 + 8, 8);
    let ends = product(fine, 9 * 3, 8) + product(fine, 9 * 8, 3);
    // One on the downsampling path, one in the middle, two on the upsampling path.
    let attentions = 4 * (space + time);
    let all = mlp + down + middle + up + ends + attentions;
    assert_eq!(forward(&config, shape), all);

    // A text: pooled by one head of 16, mapped into the embedding.
    let tokens = Some(TokensConfig { dim: 7, cross: vec![], memory: 0, pool: true });
    let told = forward(&UNet3dConfig { tokens, ..config.clone() }, shape) - all;
    let pool = product(2 * 3, 7, 2 * 16) + 2 * product(2, 16, 3) + product(2, 16, 7);
    assert_eq!(told, pool + product(2, 7, 10));

    // A temporal convolution after each spatial one: two of 8 channels per block, and so on.
    let taps = |positions: u64, c: u64| product(positions, 3 * c, c);
    let timed = forward(&UNet3dConfig { temporal_kernel: Some(3), ..config.clone() }, shape) - all;
    let blocks = 2 * (3 * taps(fine, 8) + 5 * taps(coarse, 24));
    let others = taps(fine, 8) + taps(coarse, 8) + taps(fine, 24) + taps(fine, 3);
    assert_eq!(timed, blocks + others);

    // Options that change no matrix product change no count.
    let same = UNet3dConfig {
        dropout: 0.5,
        zero_init: false,
        time: TimeEmbedding::Step,
        wrap: Wrap { height: true, width: true },
        ..config.clone()
    };
    assert_eq!(forward(&same, shape), all);
}

/// torch.utils.flop_counter.FlopCounterMode on the network of tests/parameters/flops.py.
#[test]
fn counts_of_the_papers_models_are_those_of_pytorchs_own_counter() {
    let of = |config: &UNet3dConfig, [b, f, h, w]: [u64; 4]| {
        forward(config, Shape { b, f, h, w, tokens: 0 })
    };
    let small = UNet3dConfig { dim: 48, ..UNet3dConfig::paper_ucf101() };
    let clip = [1, 16, 64, 64];
    assert_eq!(of(&UNet3dConfig::paper_ucf101(), clip), 6_384_187_867_136);
    assert_eq!(of(&UNet3dConfig::paper_bair(), clip), 1_499_805_253_632);
    assert_eq!(of(&UNet3dConfig::paper_kinetics600(), [2, 16, 64, 64]), 12_768_367_345_664);
    assert_eq!(of(&small, [3, 5, 16, 24]), 19_061_379_072);
}

#[test]
fn images_behind_a_clip_cost_as_much_as_they_are_many() {
    let tokens = TokensConfig { dim: 7, cross: vec![Axes::Space], memory: 3, pool: true };
    for config in [
        UNet3dConfig { dim: 8, dim_mults: vec![1, 2, 4], ..Default::default() },
        UNet3dConfig { tokens: Some(tokens), ..Default::default() },
    ] {
        let shape = Shape { b: 2, f: 16, h: 32, w: 24, tokens: 9 };
        let cost = |images| joint(&config, shape, images);
        assert_eq!(cost(0), forward(&config, shape));
        let one = cost(1) - cost(0);
        for images in [2, 4, 8, 64] {
            assert_eq!(cost(images) - cost(0), images * one);
        }
        // Less than as many additional frames of the clip, as images attend to no other frame.
        let longer = forward(&config, Shape { f: 24, ..shape });
        assert!(cost(8) < longer, "{} {longer}", cost(8));
    }
}
