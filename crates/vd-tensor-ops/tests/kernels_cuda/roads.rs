//! A layer by libtorch's operations, and by kernels that an emulator of a GPU runs.

use std::ffi::c_void;
use std::sync::{Arc, Mutex};

use tch::{Device, Kind, Tensor};
use vd_tensor_ops::Params;
use vd_tensor_ops::kernels::cuda::{self, Machine, Unit};
use vd_tensor_ops::kernels::{Precision, with};
use vd_tensor_ops::torch::cuda::Launch;
use vd_tensor_ops::torch::{Autocast, autocast};

use crate::{device, draw, emulator, off};

/// Notes which kernels run.
#[derive(Debug, Default)]
pub(crate) struct Noting {
    pub(crate) kernels: Mutex<Vec<String>>,
    pub(crate) broken: bool,
}

impl Noting {
    pub(crate) fn seen(&self) -> Vec<String> {
        std::mem::take(&mut *self.kernels.lock().unwrap())
    }
}

impl Machine for Noting {
    fn multiprocessors(&self) -> u32 {
        2
    }

    fn prepare(&self, _unit: Unit) -> vd_tensor_ops::torch::Result<()> {
        let why = "broken".to_owned();
        let error = vd_tensor_ops::torch::Error::Driver { what: "a machine".to_owned(), why };
        if self.broken { Err(error) } else { Ok(()) }
    }

    unsafe fn run(
        &self,
        unit: Unit,
        kernel: &str,
        launch: Launch,
        params: *const c_void,
    ) -> vd_tensor_ops::torch::Result<()> {
        self.kernels.lock().unwrap().push(kernel.to_owned());
        // SAFETY: the caller's.
        unsafe { emulator::machine().run(unit, kernel, launch, params) }
    }
}

/// Away from what they start with, where norms have gains of 1 and projections of 0.
pub(crate) fn shake(params: &Params, seed: u64) {
    for (name, param) in params.iter() {
        if param.tensor.requires_grad() {
            let like = draw(seed ^ name.len() as u64, &param.tensor.size()) * 0.2;
            let _ = tch::no_grad(|| param.tensor.shallow_clone().g_add_(&like));
        }
    }
}

pub(crate) type Build<'a> = &'a dyn Fn(&mut Params) -> Box<dyn Fn(&[Tensor]) -> Tensor>;

/// The outputs and all gradients of both roads, libtorch's in f64 first.
pub(crate) fn both(
    seed: u64,
    inputs: &[Tensor],
    build: impl Fn(&mut Params) -> Box<dyn Fn(&[Tensor]) -> Tensor>,
) -> (Vec<Tensor>, Vec<Tensor>, Vec<String>) {
    both_in(Autocast::Off, seed, inputs, &build)
}

/// The same with products in half precision on the second road, inputs and output too.
pub(crate) fn both_in(
    cast: Autocast,
    seed: u64,
    inputs: &[Tensor],
    build: Build<'_>,
) -> (Vec<Tensor>, Vec<Tensor>, Vec<String>) {
    let machine = Arc::new(Noting::default());
    let run = |kind: Kind| {
        let mut params = Params::new(7, kind, device());
        let layer = build(&mut params);
        shake(&params, seed);
        let leaves: Vec<Tensor> =
            inputs.iter().map(|t| t.copy().to_kind(kind).set_requires_grad(true)).collect();
        let cast = if kind == Kind::Double { Autocast::Off } else { cast };
        let forward = || {
            let own = cast.kind().unwrap_or(kind);
            let inputs: Vec<Tensor> = leaves.iter().map(|t| t.to_kind(own)).collect();
            let y = autocast(device(), cast, || layer(&inputs)).unwrap();
            assert_eq!(y.kind(), own);
            // Not by a kernel that would be noted.
            let weights = with(Precision::Reference, || draw(seed ^ 77, &y.size()));
            (&y * weights).sum(kind).backward();
            y
        };
        let y = if kind == Kind::Double {
            with(Precision::Reference, forward)
        } else if device() == Device::Cpu {
            cuda::imitated(machine.clone(), forward)
        } else {
            forward()
        };
        let mut all = vec![y.detach()];
        let leaves = leaves.iter().map(Tensor::grad);
        let own = params.iter().filter(|(_, p)| p.tensor.requires_grad());
        all.extend(leaves.chain(own.map(|(_, p)| p.tensor.grad())));
        all
    };
    (run(Kind::Double), run(Kind::Float), machine.seen())
}

/// Whether they ran on a GPU, where nobody notes which.
pub(crate) fn of_gpu((want, _, kernels): &(Vec<Tensor>, Vec<Tensor>, Vec<String>)) -> bool {
    want[0].device() != Device::Cpu && kernels.is_empty()
}

pub(crate) fn compare((want, got, _): &(Vec<Tensor>, Vec<Tensor>, Vec<String>), bound: f64) {
    assert_eq!(want.len(), got.len());
    for (i, (want, got)) in want.iter().zip(got).enumerate() {
        assert!(off(got, want) < bound, "number {i} is off by {:e}", off(got, want));
    }
}
