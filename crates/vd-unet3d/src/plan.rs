//! The blocks and attentions of a network, derived from its config.

use crate::{Skips, UNet3dConfig};

/// Attention over the positions of a frame.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Spatial {
    Linear,
    Full,
}

/// A residual block and the attentions after it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Unit {
    /// Its resolution, 0 the finest.
    pub(crate) level: usize,
    /// Channels of its input, including those of a skip.
    pub(crate) inputs: i64,
    pub(crate) outputs: i64,
    pub(crate) spatial: Option<Spatial>,
    pub(crate) temporal: bool,
}

impl Unit {
    /// Whether any attention, including cross-attention, follows the block.
    pub(crate) fn attends(&self) -> bool {
        self.spatial.is_some() || self.temporal
    }
}

/// The units of a network, level by level.
#[derive(Debug)]
pub(crate) struct Plan {
    /// From the finest level to the coarsest.
    pub(crate) downs: Vec<Vec<Unit>>,
    pub(crate) middle: Vec<Unit>,
    /// From the coarsest level to the finest.
    pub(crate) ups: Vec<Vec<Unit>>,
    /// Whether each unit of the upsampling path has a skip, rather than only the first of each
    /// level.
    pub(crate) each: bool,
    /// Channels at the end of the upsampling path.
    pub(crate) last: i64,
}

impl Plan {
    pub(crate) fn new(config: &UNet3dConfig) -> Plan {
        let last = config.dim_mults.len().saturating_sub(1);
        let coarsest = config.level_channels().last().map_or(0, |(_, after)| *after);
        let bare = Unit {
            level: last,
            inputs: coarsest,
            outputs: coarsest,
            spatial: None,
            temporal: false,
        };
        let attended = Unit { spatial: Some(Spatial::Full), temporal: true, ..bare };
        let middle = vec![attended, bare];
        match config.skips {
            Skips::Level => Plan { middle, ..by_level(config) },
            Skips::Block => Plan { middle, ..by_block(config) },
        }
    }

    /// All units.
    pub(crate) fn units(&self) -> impl Iterator<Item = &Unit> {
        self.downs.iter().chain([&self.middle]).chain(&self.ups).flatten()
    }
}

/// Whether a temporal attention follows the first convolution.
pub(crate) fn first_temporal(config: &UNet3dConfig) -> bool {
    config.attention_levels.is_none()
}

/// The attentions of a level.
fn attentions(config: &UNet3dConfig, level: usize) -> (Option<Spatial>, bool) {
    let linear = config.use_sparse_linear_attn.then_some(Spatial::Linear);
    match &config.attention_levels {
        None => (linear, true),
        Some(levels) if levels.contains(&level) => (Some(Spatial::Full), true),
        Some(_) => (linear, linear.is_some()),
    }
}

/// A skip and attentions at the end of each level.
fn by_level(config: &UNet3dConfig) -> Plan {
    let channels = config.level_channels();
    let units = |level: usize, inputs: i64, outputs: i64| -> Vec<Unit> {
        (1..=config.blocks)
            .map(|block| {
                let (spatial, temporal) = match block == config.blocks {
                    true => attentions(config, level),
                    false => (None, false),
                };
                let inputs = if block == 1 { inputs } else { outputs };
                Unit { level, inputs, outputs, spatial, temporal }
            })
            .collect()
    };
    let levels = || channels.iter().copied().enumerate();
    Plan {
        downs: levels().map(|(level, (before, after))| units(level, before, after)).collect(),
        middle: Vec::new(),
        ups: levels().rev().map(|(i, (before, after))| units(i, 2 * after, before)).collect(),
        each: false,
        last: config.first_channels(),
    }
}

/// A skip and attentions for each block.
fn by_block(config: &UNet3dConfig) -> Plan {
    let after: Vec<i64> = config.level_channels().into_iter().map(|(_, after)| after).collect();
    let mut channels = config.first_channels();
    let mut skips = vec![channels];
    let mut downs = Vec::new();
    let unit = |level: usize, inputs: i64, outputs: i64| {
        let (spatial, temporal) = attentions(config, level);
        Unit { level, inputs, outputs, spatial, temporal }
    };
    for (level, &outputs) in after.iter().enumerate() {
        let mut units = Vec::new();
        for _ in 0..config.blocks {
            units.push(unit(level, channels, outputs));
            channels = outputs;
            skips.push(channels);
        }
        downs.push(units);
        if level + 1 < after.len() {
            skips.push(channels);
        }
    }
    let mut skips = skips.into_iter().rev();
    let mut ups = Vec::new();
    for (level, &outputs) in after.iter().enumerate().rev() {
        // One for each block of the downsampling path that it mirrors, and one for the layer before
        // these.
        let count = config.blocks as usize + 1;
        let own = skips.by_ref().take(count).map(|skip| {
            let inputs = channels + skip;
            channels = outputs;
            unit(level, inputs, outputs)
        });
        ups.push(own.collect());
    }
    Plan { downs, middle: Vec::new(), ups, each: true, last: channels }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_units_of_0_7_are_two_a_level_with_the_attentions_behind_the_second() {
        let config = UNet3dConfig { dim: 8, dim_mults: vec![1, 3], ..UNet3dConfig::default() };
        let plan = Plan::new(&config);
        let shapes = |levels: &[Vec<Unit>]| -> Vec<Vec<(i64, i64)>> {
            let level = |units: &Vec<Unit>| units.iter().map(|u| (u.inputs, u.outputs)).collect();
            levels.iter().map(level).collect()
        };
        assert_eq!(shapes(&plan.downs), [[(8, 8), (8, 8)], [(8, 24), (24, 24)]]);
        assert_eq!(shapes(&plan.ups), [[(48, 8), (8, 8)], [(16, 8), (8, 8)]]);
        for units in plan.downs.iter().chain(&plan.ups) {
            assert!(!units[0].attends() && units[1].temporal);
            assert_eq!(units[1].spatial, Some(Spatial::Linear));
        }
        assert_eq!(plan.middle[0].spatial, Some(Spatial::Full));
        assert!(plan.middle[0].temporal && !plan.middle[1].attends());
    }

    /// Counted by hand from `guided-diffusion`: 3 levels of 2 blocks, skips 8 | 8 8 8 | 16 16 16 |
    /// 24 24.
    #[test]
    fn a_skip_for_every_block_goes_up_to_one_block_more() {
        let config = UNet3dConfig {
            dim: 8,
            dim_mults: vec![1, 2, 3],
            skips: Skips::Block,
            attention_levels: Some(vec![1]),
            use_sparse_linear_attn: false,
            ..UNet3dConfig::default()
        };
        let plan = Plan::new(&config);
        let inputs = |units: &[Unit]| units.iter().map(|unit| unit.inputs).collect::<Vec<_>>();
        assert_eq!(
            plan.downs.iter().map(|units| inputs(units)).collect::<Vec<_>>(),
            [[8, 8], [8, 16], [16, 24]]
        );
        assert_eq!(
            plan.ups.iter().map(|units| inputs(units)).collect::<Vec<_>>(),
            [[24 + 24, 24 + 24, 24 + 16], [24 + 16, 16 + 16, 16 + 8], [16 + 8, 8 + 8, 8 + 8]]
        );
        for (level, units) in plan.downs.iter().enumerate() {
            let full = (level == 1).then_some(Spatial::Full);
            assert!(units.iter().all(|u| u.spatial == full && u.temporal == (level == 1)));
        }
        assert_eq!((plan.last, plan.units().count()), (8, 6 + 2 + 9));
    }
}
