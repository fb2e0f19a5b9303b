//! The end of a step, from gradients to weights and their average, computed by a GPU without the
//! host.

use std::sync::Arc;

use tch::{Device, Kind, Tensor};
use vd_tensor_ops::Params;
use vd_tensor_ops::kernels::cuda::{self, Gradients, Live, Machine, Verdict};
use vd_torch::graphs::Fixed;
use vd_torch::{Error, mark_changed, upload};

use crate::Result;
use crate::landing::Landing;
use crate::optimizer::AdamW;

/// The maximum number of recordings: if the gradients' addresses keep changing, the last one is
/// enough.
const MOST: usize = 4;

/// The part of a step that concerns one optimiser.
#[derive(Debug)]
pub struct Share<'a> {
    /// The optimiser whose parameters are changed, and which counts the step.
    pub optimizer: &'a mut AdamW,
    /// The learning rate.
    pub lr: f64,
    /// The moving average of the parameters by name, and its decay.
    pub follow: Option<(&'a Params, f64)>,
}

/// Asynchronous steps of AdamW: a GPU computes the norm of the gradients, scales them, and updates
/// weights, moments and average, or changes nothing from the first step on that is not finite.
///
/// Loss, learning rates and decays are in the device's memory. So the whole step is recorded as a
/// CUDA graph as soon as the gradients have the same addresses as in the step before, which those
/// of a recorded network have, and is replayed from then on.
#[derive(Debug)]
pub struct DeviceStep {
    device: Device,
    graphs: bool,
    loss: Tensor,
    /// [`cuda::adamw_numbers`] of each share.
    numbers: Tensor,
    /// 1 from the first bad step on.
    halted: Tensor,
    verdict: Verdict,
    landing: Landing,
    /// The addresses of everything that the last step has read and written.
    places: Vec<usize>,
    recorded: Option<Fixed>,
    recordings: usize,
    replayed: u64,
    refused: Option<String>,
}

impl DeviceStep {
    /// The machine that can make such steps with these gradients, if there is one: a GPU with the
    /// project's kernels. Each optimiser comes with its moving average; its gradients follow those
    /// of the optimiser before it.
    ///
    /// # Errors
    /// An average of other parameters.
    pub fn machine(
        optimizers: &[(&AdamW, Option<&Params>)],
        grads: &[Tensor],
    ) -> Result<Option<Arc<dyn Machine>>> {
        let mut rest = grads;
        for (optimizer, average) in optimizers {
            let count = optimizer.params().len();
            if count > rest.len() || !optimizer.launches(&rest[..count], *average)? {
                return Ok(None);
            }
            rest = &rest[count..];
        }
        Ok(if rest.is_empty() { cuda::judge_fits(grads) } else { None })
    }

    /// Prepares steps for this number of optimisers and gradients. `graphs`: whether they are
    /// recorded.
    ///
    /// # Errors
    /// Out of memory.
    pub fn new(
        (optimizers, gradients): (usize, usize),
        device: Device,
        graphs: bool,
    ) -> Result<Self> {
        Ok(DeviceStep {
            device,
            graphs: graphs && Fixed::can_record(device),
            loss: Tensor::f_zeros([1], (Kind::Double, device))?,
            numbers: Tensor::f_zeros([optimizers as i64, 8], (Kind::Float, device))?,
            halted: Tensor::f_zeros([1], (Kind::Int, device))?,
            verdict: Verdict::new(gradients, device)?,
            landing: Landing::default(),
            places: Vec::new(),
            recorded: None,
            recordings: 0,
            replayed: 0,
            refused: None,
        })
    }

    /// Why steps that should be recorded are not.
    pub fn refused(&self) -> Option<&str> {
        self.refused.as_deref()
    }

    /// How many steps were replayed.
    pub fn replayed(&self) -> u64 {
        self.replayed
    }

    /// Launches a step on the device, which changes nothing if this step or an earlier one is bad,
    /// and returns the [report](Verdict::report), which the next step overwrites. `clip`: the
    /// maximum norm of the gradients of the first share, 0 for no clipping.
    ///
    /// # Shapes
    /// `loss`: a scalar, f64; `grads`: for each parameter of each share, in this order
    /// # Errors
    /// An error of the device, after which some weights may be a step ahead. Gradients that do not
    /// fit the parameters.
    pub fn step(
        &mut self,
        on: &Arc<dyn Machine>,
        (loss, grads): (&Tensor, &[Tensor]),
        clip: f64,
        shares: &mut [Share<'_>],
    ) -> Result<&Tensor> {
        let numbers: Vec<f32> = shares.iter().flat_map(Share::numbers).collect();
        let numbers = Tensor::from_slice(&numbers).f_view([-1, 8])?;
        self.numbers.f_copy_(&upload(&numbers, self.device)?)?;
        self.loss.f_copy_(&loss.f_reshape([1])?)?;
        let grads = match self.graphs && self.refused.is_none() {
            true => self.landing.settle(grads)?,
            false => grads.iter().map(Tensor::shallow_clone).collect(),
        };
        self.launch_or_replay(on, &grads, clip, shares)?;
        for share in shares.iter_mut() {
            share.optimizer.count(share.optimizer.counted() + 1);
            mark_changed(share.changed())?;
        }
        Ok(&self.verdict.report)
    }

    fn launch_or_replay(
        &mut self,
        on: &Arc<dyn Machine>,
        grads: &[Tensor],
        clip: f64,
        shares: &[Share<'_>],
    ) -> Result<()> {
        let here = [&self.loss, &self.numbers, &self.halted, &self.verdict.report].map(own);
        let [loss, numbers, halted, report] = here;
        let verdict = Verdict { gates: own(&self.verdict.gates), report: own(&report) };
        let clipped = shares.first().map_or(0, |share| share.optimizer.params().len());
        let mut launch = || -> vd_torch::Result<()> {
            let all = Gradients { all: grads, clipped, clip };
            cuda::judge(&**on, &loss, all, &halted, &verdict)?;
            let mut rest = grads;
            for (i, Share { optimizer, follow, .. }) in shares.iter().enumerate() {
                let (of, others) = rest.split_at(optimizer.params().len());
                rest = others;
                let (numbers, gate) =
                    (numbers.f_get(i as i64)?, verdict.gates.f_get(i.min(1) as i64)?);
                let live = Live { numbers: &numbers, gate: &gate };
                let average = follow.map(|(average, _)| average);
                let launched = optimizer.launch(on, of, live, average);
                launched.map_err(|error| Error::Torch(error.to_string()))?;
            }
            Ok(())
        };
        if self.is_as_before(grads, clip, shares) && self.recorded.is_none() {
            self.record(&mut launch);
        }
        match &mut self.recorded {
            Some(recorded) => {
                self.replayed += 1;
                Ok(recorded.replay(&mut launch)?)
            }
            None => Ok(launch()?),
        }
    }

    /// Whether all addresses are those of the step before; if not, any recording is dropped.
    fn is_as_before(&mut self, grads: &[Tensor], clip: f64, shares: &[Share<'_>]) -> bool {
        if !self.graphs || self.refused.is_some() {
            return false;
        }
        let place = |t: &Tensor| t.data_ptr() as usize;
        let mut places: Vec<usize> = grads.iter().map(place).collect();
        for share in shares {
            places.extend(share.changed().chain(share.optimizer.moments()).map(place));
        }
        places.push(clip.to_bits() as usize);
        if places == self.places {
            return true;
        }
        self.places = places;
        self.recorded = None;
        false
    }

    /// Records a step, and compares the report of a dry-run replay, which changes nothing, with
    /// that of the step itself.
    fn record(&mut self, launch: &mut dyn FnMut() -> vd_torch::Result<()>) {
        if self.recordings == MOST {
            return;
        }
        self.recordings += 1;
        let mut closed = || -> vd_torch::Result<Fixed> {
            let before = self.halted.f_detach_copy()?;
            let _: Tensor = self.halted.f_fill_(1)?;
            let recorded = recorded(self.device, &self.verdict.report, launch);
            self.halted.f_copy_(&before)?;
            recorded
        };
        match closed() {
            Ok(recorded) => self.recorded = Some(recorded),
            Err(error) => self.refused = Some(error.to_string()),
        }
    }
}

impl Share<'_> {
    fn numbers(&self) -> [f32; 8] {
        self.optimizer.live(self.lr, self.follow.map_or(1.0, |(_, decay)| decay))
    }

    /// The tensors changed by a step that other code reads.
    fn changed(&self) -> impl Iterator<Item = &Tensor> {
        let average = self.follow.map(|(average, _)| average);
        let averages = average.into_iter().flat_map(|average| {
            let of = |name: &String| average.get(name).map(|parameter| &parameter.tensor);
            self.optimizer.names().iter().filter_map(of)
        });
        self.optimizer.params().iter().chain(averages)
    }
}

fn own(t: &Tensor) -> Tensor {
    t.shallow_clone()
}

fn recorded(
    device: Device,
    report: &Tensor,
    launch: &mut dyn FnMut() -> vd_torch::Result<()>,
) -> vd_torch::Result<Fixed> {
    launch()?;
    let expected = bits(report)?;
    let mut recorded = Fixed::record(device, launch)?;
    let _: Tensor = report.shallow_clone().f_fill_(f64::MIN)?;
    recorded.replay(launch)?;
    if bits(report)? != expected {
        let what = "a replay of the optimiser's step does not reproduce the step's own results";
        return Err(Error::Torch(what.to_owned()));
    }
    Ok(recorded)
}

/// The numbers as bits, so that NaNs can be compared.
fn bits(report: &Tensor) -> vd_torch::Result<Vec<u64>> {
    let numbers: Vec<f64> = Vec::try_from(&report.f_to_device(Device::Cpu)?)?;
    Ok(numbers.into_iter().map(f64::to_bits).collect())
}
