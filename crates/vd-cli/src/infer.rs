//! Infers a network's config from the shapes in its state dict.

use std::collections::BTreeMap;

use anyhow::{Context, Result, bail, ensure};
use vd_tensor_ops::layers::NormKind;
use vd_unet3d::{Preset, UNet3dConfig};

use crate::args::PeerVersion;

/// The default number of groups in a group norm: that of the package.
const RESNET_GROUPS: i64 = 8;

/// The shapes of a network's tensors, by the network's own names.
pub(crate) type Shapes = BTreeMap<String, Vec<i64>>;

/// The config of the network whose tensors have these shapes.
pub(crate) fn network(
    shapes: &Shapes,
    version: PeerVersion,
    resnet_groups: Option<i64>,
) -> Result<UNet3dConfig> {
    check_version(shapes, version)?;
    let dim = axis(shapes, "time_mlp.1.weight", 1)?;
    let heads = axis(shapes, "time_rel_pos_bias.relative_attention_bias.weight", 1)?;
    let inner = axis(shapes, "init_temporal_attn.fn.fn.fn.to_qkv.weight", 0)?;
    ensure!(
        heads > 0 && inner % (3 * heads) == 0,
        "`init_temporal_attn.fn.fn.fn.to_qkv.weight` has {inner} rows, which are not queries, keys \
         and values of {heads} heads (the columns of the relative bias): not a network of \
         video-diffusion-pytorch {version}"
    );
    let out_dim = axis(shapes, "final_conv.1.weight", 0)?;
    let cond_dim = match shapes.contains_key("null_cond_emb") {
        true => Some(axis(shapes, "null_cond_emb", 1)?),
        false => None,
    };
    let config = UNet3dConfig {
        dim,
        init_dim: Some(axis(shapes, "init_conv.weight", 0)?),
        init_kernel_size: axis(shapes, "init_conv.weight", 4)?,
        dim_mults: dim_mults(shapes, dim)?,
        channels: axis(shapes, "init_conv.weight", 1)?,
        out_dim: Some(out_dim),
        cond_dim,
        attn_heads: heads,
        attn_dim_head: inner / (3 * heads),
        use_sparse_linear_attn: shapes.keys().any(|name| name.starts_with("downs.0.2.")),
        norm: norm(version, resnet_groups)?,
        ..preset(version).config()
    };
    config.validate().with_context(|| match config.norm {
        NormKind::Group { groups } => {
            format!("the shapes with {groups} groups (--resnet-groups overrides it)")
        }
        NormKind::Rms => "the shapes".to_owned(),
    })?;
    Ok(config)
}

fn preset(version: PeerVersion) -> Preset {
    match version {
        PeerVersion::V0_5 => Preset::VideoDiffusionPytorch0_5,
        PeerVersion::V0_6 => Preset::VideoDiffusionPytorch0_6,
        PeerVersion::V0_7 => Preset::VideoDiffusionPytorch0_7,
    }
}

fn norm(version: PeerVersion, resnet_groups: Option<i64>) -> Result<NormKind> {
    match (version, resnet_groups) {
        (PeerVersion::V0_7, None) => Ok(NormKind::Rms),
        (PeerVersion::V0_7, Some(_)) => {
            bail!("--resnet-groups: networks of 0.7.0 have no group norm; omit it")
        }
        (_, groups) => Ok(NormKind::Group { groups: groups.unwrap_or(RESNET_GROUPS) }),
    }
}

/// Refuses a version whose tensor names are not in the file.
fn check_version(shapes: &Shapes, version: PeerVersion) -> Result<()> {
    let rms = shapes.contains_key("final_conv.0.block1.norm.gamma");
    let group = shapes.contains_key("final_conv.0.block1.norm.weight");
    match (version, rms, group) {
        (PeerVersion::V0_7, false, true) => bail!(
            "--version 0.7.0: this file has group norms (`...norm.weight` and `...norm.bias`), \
             which video-diffusion-pytorch has up to 0.6.3; convert it with --version 0.6.3, or \
             0.5.3 if that release trained it"
        ),
        (PeerVersion::V0_5 | PeerVersion::V0_6, true, false) => bail!(
            "--version {version}: this file has RMS norms (`...norm.gamma`), which \
             video-diffusion-pytorch has from 0.7.0 on; convert it with --version 0.7.0"
        ),
        (_, false, false) => bail!(
            "no `final_conv.0.block1.norm...`: this is not a Unet3D of video-diffusion-pytorch \
             0.5.3, 0.6.3 or 0.7.0"
        ),
        _ => {}
    }
    let dim = axis(shapes, "time_mlp.1.weight", 1)?;
    let inputs = axis(shapes, "final_conv.0.block1.proj.weight", 1)?;
    ensure!(
        inputs != dim,
        "the last block takes {dim} channels, not {}: this file is of a release before 0.5.2, whose \
         networks have no long skip; such files are not read",
        2 * dim
    );
    Ok(())
}

fn dim_mults(shapes: &Shapes, dim: i64) -> Result<Vec<i64>> {
    let mut mults = Vec::new();
    loop {
        let name = format!("downs.{}.0.block1.proj.weight", mults.len());
        if !mults.is_empty() && !shapes.contains_key(&name) {
            return Ok(mults);
        }
        let channels = axis(shapes, &name, 0)?;
        ensure!(
            dim > 0 && channels % dim == 0,
            "`{name}` gives {channels} channels, which is not a multiple of dim = {dim} \
             (`time_mlp.1.weight`)"
        );
        mults.push(channels / dim);
    }
}

/// The length of one axis of a tensor that every such network has.
fn axis(shapes: &Shapes, name: &str, axis: usize) -> Result<i64> {
    let shape = shapes.get(name).with_context(|| {
        format!("no tensor `{name}`: this is not a Unet3D of video-diffusion-pytorch")
    })?;
    shape.get(axis).copied().with_context(|| {
        format!("`{name}` has shape {shape:?}, expected at least {} axes", axis + 1)
    })
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use tch::{Device, Kind};
    use vd_tensor_ops::Params;
    use vd_unet3d::UNet3d;

    fn shapes(config: &UNet3dConfig) -> Shapes {
        let mut params = Params::new(0, Kind::Float, Device::Cpu);
        UNet3d::new(config, &mut params.root()).unwrap();
        params.iter().map(|(name, p)| (name.to_owned(), p.tensor.size())).collect()
    }

    fn tiny() -> UNet3dConfig {
        UNet3dConfig { dim: 8, dim_mults: vec![1, 2], ..UNet3dConfig::default() }
    }

    /// The config inferred from the file, with defaults filled in.
    fn told(config: &UNet3dConfig) -> UNet3dConfig {
        UNet3dConfig {
            init_dim: Some(config.first_channels()),
            out_dim: Some(config.out_channels()),
            ..config.clone()
        }
    }

    #[test]
    fn shapes_tell_all_that_makes_a_network() {
        let changes = [
            tiny(),
            UNet3dConfig { dim: 12, dim_mults: vec![2], channels: 1, ..tiny() },
            UNet3dConfig { dim_mults: vec![1, 3, 2], init_kernel_size: 3, ..tiny() },
            UNet3dConfig { init_dim: Some(6), out_dim: Some(5), ..tiny() },
            UNet3dConfig { cond_dim: Some(9), attn_heads: 3, attn_dim_head: 20, ..tiny() },
            UNet3dConfig { use_sparse_linear_attn: false, attn_dim_head: 48, ..tiny() },
        ];
        for config in changes {
            let got = network(&shapes(&config), PeerVersion::V0_7, None).unwrap();
            assert_eq!(got, told(&config));
        }
    }

    #[test]
    fn versions_with_equal_shapes_are_told_apart_by_the_flag_alone() {
        let norm = NormKind::Group { groups: 4 };
        let v0_6 = UNet3dConfig { norm, ..tiny() };
        let v0_5 = UNet3dConfig { skip_before_temporal: true, ..v0_6.clone() };
        assert_eq!(shapes(&v0_5), shapes(&v0_6));
        let got = |version| network(&shapes(&v0_6), version, Some(4)).unwrap();
        assert_eq!(got(PeerVersion::V0_5), told(&v0_5));
        assert_eq!(got(PeerVersion::V0_6), told(&v0_6));
        let default = network(&shapes(&v0_6), PeerVersion::V0_6, None).unwrap();
        assert_eq!(default.norm, NormKind::Group { groups: 8 });
    }

    #[test]
    fn a_version_that_cannot_be_is_refused_with_the_one_that_can() {
        let message = |config: &UNet3dConfig, version, groups| {
            network(&shapes(config), version, groups).unwrap_err().to_string()
        };
        let group = UNet3dConfig { norm: NormKind::Group { groups: 4 }, ..tiny() };
        assert!(message(&tiny(), PeerVersion::V0_6, None).contains("--version 0.7.0"));
        assert!(message(&group, PeerVersion::V0_7, None).contains("--version 0.6.3"));
        assert!(message(&tiny(), PeerVersion::V0_7, Some(8)).contains("--resnet-groups"));
    }

    #[test]
    fn what_is_no_such_network_is_refused_by_the_tensor_that_is_missing_or_odd() {
        let message = |change: fn(&mut Shapes)| {
            let mut shapes = shapes(&tiny());
            change(&mut shapes);
            format!("{:#}", network(&shapes, PeerVersion::V0_7, None).unwrap_err())
        };
        assert!(message(Shapes::clear).contains("final_conv.0.block1.norm"));
        let lost = message(|s| drop(s.remove("time_mlp.1.weight")));
        assert!(lost.contains("no tensor `time_mlp.1.weight`"), "{lost}");
        let odd = message(|s| drop(s.insert("init_conv.weight".to_owned(), vec![8, 3])));
        assert!(odd.contains("`init_conv.weight` has shape [8, 3]"), "{odd}");
        const CHANNELS: &str = "downs.1.0.block1.proj.weight";
        let odd = message(|s| drop(s.insert(CHANNELS.to_owned(), vec![13, 8, 1, 3, 3])));
        assert!(odd.contains("13 channels"), "{odd}");
        const LAST: &str = "final_conv.0.block1.proj.weight";
        let old = message(|s| drop(s.insert(LAST.to_owned(), vec![8, 8, 1, 3, 3])));
        assert!(old.contains("before 0.5.2"), "{old}");
    }
}
