//! The inputs of an evaluation as a list of tensors and everything else, for which a graph is
//! recorded.

use std::collections::BTreeMap;

use tch::{Device, Tensor};
use vd_tensor_ops::FrameMask;
use vd_tensor_ops::kernels::Precision;
use vd_tensor_ops::torch::Autocast;

use crate::cond::Tokens;
use crate::{Cond, Given};

/// Everything that an output depends on besides the input tensors and the weights.
#[derive(Debug, PartialEq)]
pub(super) struct Form {
    parts: Parts,
    frames: Frames,
    /// The network's precision settings.
    pub(super) how: (Precision, Autocast, usize),
}

/// Which parts of a conditioning are present.
#[derive(Debug, PartialEq)]
struct Parts {
    pooled: bool,
    tokens: bool,
    group: bool,
    null: bool,
    /// Name, and whether it has a null mask.
    signals: Vec<(String, bool)>,
}

#[derive(Debug, PartialEq)]
enum Frames {
    All,
    Focus,
    Clip(i64),
}

/// The inputs of an evaluation, taken apart.
#[derive(Debug)]
pub(super) struct Question {
    pub(super) form: Form,
    pub(super) tensors: Vec<Tensor>,
}

impl Question {
    /// Takes the inputs apart; their tensors are on `device`, except for a focus mask, which is
    /// moved there.
    pub(super) fn new(
        (x, t): (&Tensor, &Tensor),
        cond: &Cond,
        frames: &FrameMask,
        how: (Precision, Autocast, usize),
        device: Device,
    ) -> Self {
        let mut tensors = vec![x.shallow_clone(), t.shallow_clone()];
        tensors.extend(cond.pooled.as_ref().map(Tensor::shallow_clone));
        if let Some(Tokens { values, weight }) = &cond.tokens {
            tensors.extend([values, weight].map(Tensor::shallow_clone));
        }
        let more = [&cond.group, &cond.null].into_iter().flatten();
        tensors.extend(more.map(Tensor::shallow_clone));
        for Given { value, null } in cond.signals.values() {
            tensors.push(value.shallow_clone());
            tensors.extend(null.as_ref().map(Tensor::shallow_clone));
        }
        let frames = match frames {
            FrameMask::All => Frames::All,
            FrameMask::Focus(focus) => {
                tensors.push(focus.to_device(device));
                Frames::Focus
            }
            FrameMask::ClipAndImages { clip } => Frames::Clip(*clip),
        };
        let signals = cond.signals.iter();
        let parts = Parts {
            pooled: cond.pooled.is_some(),
            tokens: cond.tokens.is_some(),
            group: cond.group.is_some(),
            null: cond.null.is_some(),
            signals: signals.map(|(name, given)| (name.clone(), given.null.is_some())).collect(),
        };
        Question { form: Form { parts, frames, how }, tensors }
    }
}

impl Form {
    /// The inputs of this form with these tensors: video, noise levels, conditioning, frames.
    pub(super) fn with(&self, tensors: &[Tensor]) -> (Tensor, Tensor, Cond, FrameMask) {
        let mut tensors = tensors.iter().map(Tensor::shallow_clone);
        let mut one = || tensors.next().unwrap_or_else(Tensor::new);
        let (x, t) = (one(), one());
        let mut maybe = |there: bool| there.then(&mut one);
        let parts = &self.parts;
        let pooled = maybe(parts.pooled);
        let tokens = maybe(parts.tokens).zip(maybe(parts.tokens));
        let tokens = tokens.map(|(values, weight)| Tokens { values, weight });
        let (group, null) = (maybe(parts.group), maybe(parts.null));
        let mut signals = BTreeMap::new();
        for (name, nulled) in &parts.signals {
            if let Some(value) = maybe(true) {
                signals.insert(name.clone(), Given { value, null: maybe(*nulled) });
            }
        }
        let frames = match self.frames {
            Frames::All => FrameMask::All,
            Frames::Focus => maybe(true).map_or(FrameMask::All, FrameMask::Focus),
            Frames::Clip(clip) => FrameMask::ClipAndImages { clip },
        };
        (x, t, Cond { pooled, tokens, group, null, signals }, frames)
    }
}
