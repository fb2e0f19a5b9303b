//! The kernel texts.

/// Kernels that are compiled together.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Unit {
    /// Name of the text.
    pub name: &'static str,
    parts: &'static [&'static str],
}

const COMMON: &str = include_str!("cu/common.cuh");
const ROWS: &str = include_str!("cu/rows.cuh");

impl Unit {
    /// RMS norm and the operations after it.
    pub const RMS_NORM: Unit =
        Unit { name: "rms_norm", parts: &[COMMON, ROWS, include_str!("cu/rms_norm.cu")] };
    /// Layer norm.
    pub const LAYER_NORM: Unit =
        Unit { name: "layer_norm", parts: &[COMMON, ROWS, include_str!("cu/layer_norm.cu")] };
    /// Group norm and the operations after it.
    pub const GROUP_NORM: Unit =
        Unit { name: "group_norm", parts: &[COMMON, ROWS, include_str!("cu/group_norm.cu")] };
    /// Attention along time, between its projections.
    pub const TEMPORAL: Unit = Unit {
        name: "temporal",
        parts: &[COMMON, include_str!("cu/temporal.cuh"), include_str!("cu/temporal.cu")],
    };
    /// Linear attention over space, between its projections.
    pub const LINEAR: Unit = Unit {
        name: "linear",
        parts: &[COMMON, include_str!("cu/linear.cuh"), include_str!("cu/linear.cu")],
    };
    /// The optimiser step.
    pub const ADAMW: Unit = Unit { name: "adamw", parts: &[COMMON, include_str!("cu/adamw.cu")] };
    /// Random numbers.
    pub const NOISE: Unit = Unit { name: "noise", parts: &[COMMON, include_str!("cu/noise.cu")] };
    /// Dropout.
    pub const DROPOUT: Unit =
        Unit { name: "dropout", parts: &[COMMON, include_str!("cu/dropout.cu")] };
    /// Rows of conditioning with placeholders.
    pub const STAND_IN: Unit =
        Unit { name: "stand_in", parts: &[COMMON, include_str!("cu/stand_in.cu")] };

    /// All units.
    pub const ALL: [Unit; 9] = [
        Unit::RMS_NORM,
        Unit::LAYER_NORM,
        Unit::GROUP_NORM,
        Unit::TEMPORAL,
        Unit::LINEAR,
        Unit::ADAMW,
        Unit::NOISE,
        Unit::DROPOUT,
        Unit::STAND_IN,
    ];

    /// The whole text, which includes nothing.
    pub fn text(&self) -> String {
        self.parts.concat()
    }
}
