//! Every layer that maps a video to a video, under one roof.

use tch::{Kind, Tensor};
use vd_tensor_ops::layers::{
    AttentionPool, CrossAttention, GroupNorm, HeadShape, LayerNorm, Linear, Memory, MemoryHeads,
    MemoryProjection, RelativeBias, RelativeBias2d, RmsNorm, SpaceConv, SpaceDown, SpaceUp,
    SpatialAttention, SpatialLinearAttention, TemporalAttention, TemporalConv, Wrap,
};
use vd_tensor_ops::torch::testing::device;
use vd_tensor_ops::{FrameMask, Init, Params};

use super::draw::{one_thread, perturb};

/// A layer with its parameters, moved away from their start.
pub struct Animal {
    pub name: &'static str,
    pub params: Params,
    pub forward: Box<dyn Fn(&Tensor) -> Tensor>,
}

impl Animal {
    pub fn keeps_its_shape(&self) -> bool {
        let other = ["linear", "linear without a bias", "pointwise", "convolution"];
        !other.contains(&self.name) && !["strided down", "transposed up"].contains(&self.name)
    }
}

impl std::fmt::Debug for Animal {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(self.name)
    }
}

type Build = fn(&mut Params, i64) -> Box<dyn Fn(&Tensor) -> Tensor>;

/// Two heads of six features.
const SHAPE: HeadShape = HeadShape { heads: 2, dim: 6 };

fn temporal(
    params: &mut Params,
    c: i64,
    mask: fn(i64) -> FrameMask,
) -> Box<dyn Fn(&Tensor) -> Tensor> {
    let bias = RelativeBias::new(&mut params.root().sub("bias"), SHAPE.heads, 32).unwrap();
    let layer = TemporalAttention::new(&mut params.root(), c, SHAPE).unwrap();
    Box::new(move |x| {
        let (b, f) = (x.size()[0], x.size()[1]);
        let forbidden = mask(b).forbidden(f, x.device());
        layer.forward(x, Some(&bias.forward(f)), forbidden.as_ref())
    })
}

/// Every second sample.
fn focus(b: i64) -> FrameMask {
    let mask: Vec<bool> = (0..b).map(|k| k % 2 == 0).collect();
    FrameMask::Focus(Tensor::from_slice(&mask).to_device(device()))
}

/// Tokens of four samples (4 3 5), trained as parameters are, so that they have gradients, and
/// weights of them; the second sample has none.
fn text(params: &mut Params) -> (Tensor, Tensor) {
    let tokens = params.root().param("tokens", &[4, 3, 5], Init::Normal).unwrap();
    let weight = [1.0, 0.0, 2.5, 0.0, 0.0, 0.0, 0.3, 1.0, 1.7, 0.0, 0.6, 0.0f32];
    (tokens, Tensor::from_slice(&weight).to_device(device()).view([4, 3]))
}

/// The same for as many samples as a video has, with weights that differ from frame to frame.
fn text_of(x: &Tensor, (tokens, weight): &(Tensor, Tensor)) -> (Tensor, Tensor) {
    let (b, f) = (x.size()[0], x.size()[1]);
    let fade = Tensor::arange(f, (Kind::Float, device())).view([1, f, 1]) + 0.5;
    (tokens.narrow(0, 0, b), weight.narrow(0, 0, b).unsqueeze(1) * fade)
}

/// Two memory tokens of a text, for all frames or for each.
fn memory(params: &mut Params, per_frame: bool) -> Box<dyn Fn(&Tensor) -> Memory> {
    let text = text(params);
    let mut root = params.root();
    let projection = MemoryProjection::new(&mut root.sub("memory"), 2, 5, 4, SHAPE).unwrap();
    let heads = MemoryHeads::new(&mut root.sub("heads"), 4, SHAPE).unwrap();
    Box::new(move |x| {
        let (tokens, weight) = text_of(x, &text);
        let weight = if per_frame { weight } else { weight.select(1, 0) };
        heads.forward(&projection.forward(&tokens, &weight))
    })
}

const BUILDS: [(&str, Build); 26] = [
    ("linear", |p, c| {
        let layer = Linear::new(&mut p.root(), c, 5).unwrap();
        Box::new(move |x| layer.forward(x))
    }),
    ("linear without a bias", |p, c| {
        let layer = Linear::without_bias(&mut p.root(), c, 5).unwrap();
        Box::new(move |x| layer.forward(x))
    }),
    ("pointwise", |p, c| {
        let layer = Linear::pointwise(&mut p.root(), c, 5, 3, true).unwrap();
        Box::new(move |x| layer.forward(x))
    }),
    ("convolution", |p, c| {
        let layer = SpaceConv::new(&mut p.root(), c, 5, 3).unwrap();
        Box::new(move |x| layer.forward(x))
    }),
    ("strided down", |p, c| {
        let layer = SpaceDown::new(&mut p.root(), c).unwrap();
        Box::new(move |x| layer.forward(x))
    }),
    ("transposed up", |p, c| {
        let layer = SpaceUp::new(&mut p.root(), c).unwrap();
        Box::new(move |x| layer.forward(x))
    }),
    ("convolution of a ring", |p, c| {
        let wrap = Wrap { height: true, width: false };
        let layer = SpaceConv::new(&mut p.root(), c, c, 5).unwrap().wrapped(wrap);
        Box::new(move |x| layer.forward(x))
    }),
    ("down and up on a torus", |p, c| {
        let wrap = Wrap { height: true, width: true };
        let down = SpaceDown::new(&mut p.root().sub("down"), c).unwrap().wrapped(wrap);
        let up = SpaceUp::new(&mut p.root().sub("up"), c).unwrap().wrapped(wrap);
        Box::new(move |x| down.forward(&up.forward(x)))
    }),
    ("convolution along time", |p, c| {
        let layer = TemporalConv::new(&mut p.root(), c, 3).unwrap();
        Box::new(move |x| {
            let forbidden = focus(x.size()[0]).forbidden(x.size()[1], x.device());
            layer.forward(x, forbidden.as_ref())
        })
    }),
    ("RMS norm", |p, c| {
        let layer = RmsNorm::new(&mut p.root(), c).unwrap();
        Box::new(move |x| layer.forward(x))
    }),
    ("layer norm", |p, c| {
        let layer = LayerNorm::new(&mut p.root(), c).unwrap();
        Box::new(move |x| layer.forward(x))
    }),
    ("group norm", |p, c| {
        let layer = GroupNorm::new(&mut p.root(), c, 2).unwrap();
        Box::new(move |x| layer.forward(x))
    }),
    ("temporal attention", |p, c| temporal(p, c, |_| FrameMask::All)),
    ("temporal attention, some samples arrested", |p, c| temporal(p, c, focus)),
    ("temporal attention, clip and images", |p, c| {
        temporal(p, c, |_| FrameMask::ClipAndImages { clip: 2 })
    }),
    ("temporal attention with distances", |p, c| {
        let layer = TemporalAttention::shaw(&mut p.root(), c, SHAPE, 2).unwrap();
        Box::new(move |x| {
            let mask = FrameMask::ClipAndImages { clip: x.size()[1] - 1 };
            layer.forward(x, None, mask.forbidden(x.size()[1], x.device()).as_ref())
        })
    }),
    ("temporal attention with distances and memory", |p, c| {
        let memory = memory(p, true);
        let layer = TemporalAttention::shaw(&mut p.root(), c, SHAPE, 1).unwrap();
        Box::new(move |x| layer.forward_with(x, None, None, Some(&memory(x))))
    }),
    ("spatial attention", |p, c| {
        let layer = SpatialAttention::new(&mut p.root(), c, SHAPE).unwrap();
        Box::new(move |x| layer.forward(x))
    }),
    ("spatial linear attention", |p, c| {
        let layer = SpatialLinearAttention::new(&mut p.root(), c, SHAPE).unwrap();
        Box::new(move |x| layer.forward(x))
    }),
    ("cross-attention", |p, c| {
        let text = text(p);
        let layer = CrossAttention::new(&mut p.root(), c, 5, SHAPE).unwrap();
        Box::new(move |x| {
            let (tokens, weight) = text_of(x, &text);
            layer.forward(x, &tokens, &weight.select(1, 0))
        })
    }),
    ("cross-attention, weights of frames", |p, c| {
        let text = text(p);
        let layer = CrossAttention::new(&mut p.root(), c, 5, SHAPE).unwrap();
        Box::new(move |x| {
            let (tokens, weight) = text_of(x, &text);
            layer.forward(x, &tokens, &weight)
        })
    }),
    ("attention pool", |p, c| {
        let text = text(p);
        let layer = AttentionPool::new(&mut p.root(), 5, c, SHAPE).unwrap();
        Box::new(move |x| {
            let (tokens, weight) = text_of(x, &text);
            x * layer.forward(&tokens, &weight).unsqueeze(2).unsqueeze(2)
        })
    }),
    ("temporal attention with memory", |p, c| {
        let memory = memory(p, true);
        let bias = RelativeBias::new(&mut p.root().sub("bias"), SHAPE.heads, 32).unwrap();
        let layer = TemporalAttention::new(&mut p.root(), c, SHAPE).unwrap();
        Box::new(move |x| {
            let (b, f) = (x.size()[0], x.size()[1]);
            let forbidden = focus(b).forbidden(f, x.device());
            layer.forward_with(x, Some(&bias.forward(f)), forbidden.as_ref(), Some(&memory(x)))
        })
    }),
    ("spatial attention with memory", |p, c| {
        let memory = memory(p, false);
        let layer = SpatialAttention::new(&mut p.root(), c, SHAPE).unwrap();
        Box::new(move |x| layer.forward_with(x, None, Some(&memory(x))))
    }),
    ("spatial attention with a bias and memory", |p, c| {
        let memory = memory(p, true);
        let bias = RelativeBias2d::new(&mut p.root().sub("bias"), SHAPE.heads, 32).unwrap();
        let layer = SpatialAttention::new(&mut p.root(), c, SHAPE).unwrap();
        Box::new(move |x| {
            let bias = bias.forward(x.size()[2], x.size()[3]);
            layer.forward_with(x, Some(&bias), Some(&memory(x)))
        })
    }),
    ("spatial linear attention with memory", |p, c| {
        let memory = memory(p, true);
        let layer = SpatialLinearAttention::new(&mut p.root(), c, SHAPE).unwrap();
        Box::new(move |x| layer.forward_with(x, Some(&memory(x))))
    }),
];

/// All layers for `c` channels (an even number), in f64.
pub fn zoo(seed: u64, c: i64) -> Vec<Animal> {
    zoo_of(Kind::Double, seed, c)
}

/// All layers for `c` channels (an even number), with the parameters of [`zoo`] in a kind.
pub fn zoo_of(kind: Kind, seed: u64, c: i64) -> Vec<Animal> {
    one_thread();
    let animal = |(name, build): (&'static str, Build)| {
        let mut params = Params::new(seed, kind, device());
        let forward = build(&mut params, c);
        perturb(&params, seed ^ 1);
        Animal { name, params, forward }
    };
    BUILDS.into_iter().map(animal).collect()
}
