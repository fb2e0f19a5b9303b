//! Checks common to all inputs of a network, apart from shapes.

use tch::{Device, Kind, Tensor};

use crate::{Error, Result};

const FLOATS: [Kind; 4] = [Kind::Float, Kind::Double, Kind::Half, Kind::BFloat16];

/// Floating-point values on the network's device.
pub(crate) fn floats(what: &str, x: &Tensor, device: Device) -> Result<()> {
    if !FLOATS.contains(&x.kind()) {
        let got = format!("{:?}", x.kind());
        return Err(Error::input(what, "floating-point values", got));
    }
    here(what, x, device)
}

/// Floating-point values, or integer step numbers, on the network's device.
pub(crate) fn steps(what: &str, x: &Tensor, device: Device) -> Result<()> {
    match x.kind() {
        Kind::Int64 | Kind::Int => here(what, x, device),
        _ => floats(what, x, device),
    }
}

/// On the network's device.
pub(crate) fn here(what: &str, x: &Tensor, device: Device) -> Result<()> {
    if x.device() == device {
        return Ok(());
    }
    let expected = format!("a tensor on {device:?}, where the network is");
    Err(Error::input(what, expected, format!("one on {:?}", x.device())))
}

/// A bool per sample or per frame, on the network's device.
pub(crate) fn null_mask(what: &str, mask: &Tensor, [b, f]: [i64; 2], device: Device) -> Result<()> {
    let size = mask.size();
    if (size != [b] && size != [b, f]) || mask.kind() != Kind::Bool {
        let got = format!("{:?} of shape {size:?}", mask.kind());
        let expected = format!("bool of shape [{b}], or [{b}, {f}] for one per frame");
        return Err(Error::input(what, expected, got));
    }
    here(what, mask, device)
}

/// A mask of samples (b) or of frames (b f), in a shape that broadcasts to b f d.
pub(crate) fn over_rows(mask: &Tensor) -> Tensor {
    if mask.dim() == 2 { mask.unsqueeze(-1) } else { mask.view([-1, 1, 1]) }
}
