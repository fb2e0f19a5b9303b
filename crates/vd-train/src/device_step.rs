//! The end of a step, from gradients to weights and their average, as a GPU makes it by itself.

use std::sync::Arc;

use tch::{Device, Kind, Tensor};
use vd_tensor_ops::Params;
use vd_tensor_ops::kernels::cuda::{self, Gradients, Live, Machine, Verdict};
use vd_torch::graphs::Fixed;
use vd_torch::{Error, mark_changed, upload};

use crate::Result;
use crate::landing::Landing;
use crate::optimizer::AdamW;

/// The most recordings: where gradients lie elsewhere again and again, the last one is enough.
const MOST: usize = 4;

/// What one optimiser does in a step.
#[derive(Debug)]
pub struct Share<'a> {
    /// Whose parameters are changed, and which counts the step.
    pub optimizer: &'a mut AdamW,
    /// The learning rate.
    pub lr: f64,
    /// The moving average of the parameters by name, and its decay.
    pub follow: Option<(&'a Params, f64)>,
}

/// Steps of AdamW that nobody waits for: a GPU finds the norm of the gradients, shrinks them, and changes
/// weights, moments and average, or nothing from the first step on that is not finite.
///
/// Loss, rates and decays lie in the device's memory, so that all of it is recorded as a CUDA graph as
/// soon as gradients lie where they lay a step ago, as those of a recorded network do, and is replayed
/// from then on.
#[derive(Debug)]
pub struct DeviceStep {
    device: Device,
    graphs: bool,
    loss: Tensor,
    /// [`cuda::adamw_numbers`] of each share.
    numbers: Tensor,
    /// 1 from a step on that could not be made.
    halted: Tensor,
    verdict: Verdict,
    landing: Landing,
    /// Where everything lies that the last step has read and written.
    places: Vec<usize>,
    recorded: Option<Fixed>,
    recordings: usize,
    replayed: u64,
    refused: Option<String>,
}

impl DeviceStep {
    /// What makes steps of these gradients, if anything does: a GPU with the project's kernels. With each
    /// optimiser comes the average that follows it; its gradients come after those of the one before.
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

    /// The first of steps with so many optimisers and gradients. `graphs`: whether they are recorded.
    ///
    /// # Errors
    /// Memory that runs out.
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

    /// Has the device make a step, or leave everything as it is where the step is bad or one before it
    /// was, and gives the [report](Verdict::report), which the next step writes over. `clip`: the largest norm
    /// of the gradients of the first share, 0 for none.
    ///
    /// # Shapes
    /// `loss`: a scalar, f64; `grads`: for each parameter of each share, in this order
    /// # Errors
    /// Whatever the device says: some weights may be a step ahead then. Gradients of other parameters.
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

    /// Whether a recording of the step before would do this one; if not, there is none any more.
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

    /// Records a step, and compares what a replay reports with what the step itself does, while nothing
    /// may be changed.
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

    /// What it changes that others read.
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

/// Numbers that may be none, to be compared.
fn bits(report: &Tensor) -> vd_torch::Result<Vec<u64>> {
    let numbers: Vec<f64> = Vec::try_from(&report.f_to_device(Device::Cpu)?)?;
    Ok(numbers.into_iter().map(f64::to_bits).collect())
}
