//! The noise levels of a whole batch.

use tch::{Device, Kind, Tensor};
use vd_tensor_ops::torch::upload;

use crate::{Error, NoiseLevel, Result, Schedule};

/// The noise levels of a batch: one for the whole batch, one per sample, or one per frame.
#[derive(Debug, Clone, PartialEq)]
pub struct Levels {
    values: Vec<NoiseLevel>,
    /// Empty, b, or b f.
    shape: Vec<i64>,
}

impl From<NoiseLevel> for Levels {
    fn from(level: NoiseLevel) -> Self {
        Levels { values: vec![level], shape: Vec::new() }
    }
}

impl Levels {
    /// One level per sample.
    ///
    /// # Shapes
    /// `levels`: b. Functions that combine these levels with a batch of another length return an
    /// error.
    pub fn per_sample(levels: Vec<NoiseLevel>) -> Levels {
        Levels { shape: vec![levels.len() as i64], values: levels }
    }

    /// The levels of a schedule at these times.
    ///
    /// # Shapes
    /// `t`: b, or b f for one level per frame. A frame at t = 0 is clean (alpha = 1, sigma = 0),
    /// even if the schedule has a little noise there.
    ///
    /// # Errors
    /// A `t` of another rank or with values outside [0, 1]; a whole sample without noise.
    pub fn at_times(schedule: &dyn Schedule, t: &Tensor) -> Result<Levels> {
        let shape = t.size();
        if !matches!(shape.len(), 1 | 2) {
            return Err(Error::tensor("times t", "shape b or b f", format!("{shape:?}")));
        }
        let values = host_values(t)?
            .into_iter()
            .map(|t| {
                if !(0.0..=1.0).contains(&t) {
                    return Err(Error::value("time t", "a number from 0 to 1", t));
                }
                if t == 0.0 && shape.len() == 2 {
                    return Ok(NoiseLevel { t, alpha: 1.0, sigma: 0.0 });
                }
                let level = schedule.at(t);
                if level.sigma > 0.0 {
                    return Ok(level);
                }
                Err(Error::value("time t", "a time at which there is noise to remove", t))
            })
            .collect::<Result<Vec<_>>>()?;
        Ok(Levels { values, shape })
    }

    /// The level of every sample (or frame), in row-major order.
    pub fn values(&self) -> &[NoiseLevel] {
        &self.values
    }

    /// x_t = alpha x0 + sigma eps.
    ///
    /// # Shapes
    /// `x0`, `eps`: b ..., with frames as the third axis where the levels are per frame
    ///
    /// # Errors
    /// Levels that do not fit the batch or its frames.
    pub fn noised(&self, x0: &Tensor, eps: &Tensor) -> Result<Tensor> {
        self.mix(x0, eps, |at| Ok((at.alpha, at.sigma)))
    }

    /// The log-SNR of every level, f64 on the CPU; infinite for clean frames.
    ///
    /// # Shapes
    /// Result: scalar, b, or b f
    pub fn log_snr(&self) -> Tensor {
        let values: Vec<f64> = self.values.iter().map(|at| at.log_snr()).collect();
        Tensor::from_slice(&values).view(self.shape.as_slice())
    }

    /// 1 where there is noise to remove and 0 where a frame is clean, f64 on the CPU, in a shape
    /// that broadcasts to `x`; `None` if no frame is clean.
    pub(crate) fn noisy(&self, x: &Tensor) -> Result<Option<Tensor>> {
        if self.values.iter().all(|at| at.sigma > 0.0) {
            return Ok(None);
        }
        let shape = self.broadcast(x)?;
        let noisy: Vec<f64> =
            self.values.iter().map(|at| if at.sigma > 0.0 { 1.0 } else { 0.0 }).collect();
        Ok(Some(Tensor::from_slice(&noisy).view(shape.as_slice())))
    }

    /// One value per level (scalar, b, or b f), in a shape that broadcasts to `x`.
    pub(crate) fn spread_over(&self, x: &Tensor, values: &Tensor) -> Result<Tensor> {
        Ok(values.f_view(self.broadcast(x)?.as_slice())?)
    }

    /// Whether there is one level per frame.
    pub(crate) fn is_per_frame(&self) -> bool {
        self.shape.len() == 2
    }

    /// `x` times a factor that depends on the level.
    pub(crate) fn scaled(&self, x: &Tensor, factor: impl Fn(NoiseLevel) -> f64) -> Result<Tensor> {
        let shape = self.broadcast(x)?;
        let factors: Vec<f64> = self.values.iter().map(|at| factor(*at)).collect();
        match factors[..] {
            [only] if shape.is_empty() => Ok(x.f_mul_scalar(only)?),
            _ => Ok(x.f_mul(&to_device(&factors, &shape, x))?),
        }
    }

    /// The network's time input: the schedule's `time_input` of every level.
    ///
    /// # Shapes
    /// Result: b, or b f
    pub(crate) fn time_input(&self, schedule: &dyn Schedule, b: i64, like: &Tensor) -> Tensor {
        let inputs: Vec<f64> = self.values.iter().map(|at| schedule.time_input(at.t)).collect();
        match inputs[..] {
            [only] if self.shape.is_empty() => {
                Tensor::full([b], only, (like.kind(), like.device()))
            }
            _ => to_device(&inputs, &self.shape, like),
        }
    }

    /// a x + c y with coefficients that depend on the level.
    pub(crate) fn mix(
        &self,
        x: &Tensor,
        y: &Tensor,
        coefficients: impl Fn(NoiseLevel) -> Result<(f64, f64)>,
    ) -> Result<Tensor> {
        if x.size() != y.size() {
            let (expected, got) = (format!("shape {:?}", x.size()), format!("{:?}", y.size()));
            return Err(Error::tensor("tensor of the batch", expected, got));
        }
        let shape = self.broadcast(x)?;
        let pairs = self.values.iter().map(|at| coefficients(*at)).collect::<Result<Vec<_>>>()?;
        // If the target is `y` itself, return it without a pass over the data.
        if pairs.iter().all(|pair| *pair == (0.0, 1.0)) {
            return Ok(y.shallow_clone());
        }
        if pairs.iter().all(|pair| *pair == (1.0, 0.0)) {
            return Ok(x.shallow_clone());
        }
        if let [(a, c)] = pairs[..]
            && shape.is_empty()
        {
            return Ok(x.f_mul_scalar(a)?.f_add(&y.f_mul_scalar(c)?)?);
        }
        let (a, c): (Vec<f64>, Vec<f64>) = pairs.into_iter().unzip();
        let a = to_device(&a, &shape, x);
        let c = to_device(&c, &shape, x);
        Ok(x.f_mul(&a)?.f_add(&y.f_mul(&c)?)?)
    }

    /// The shape in which the levels broadcast against `x`; empty if one level holds for the whole
    /// batch.
    fn broadcast(&self, x: &Tensor) -> Result<Vec<i64>> {
        if self.shape.is_empty() {
            return Ok(Vec::new());
        }
        let size = x.size();
        let fits = match self.shape[..] {
            [b] => size.first() == Some(&b),
            [b, f] => size.first() == Some(&b) && size.get(2) == Some(&f),
            _ => false,
        };
        if !fits {
            let expected = match self.shape[..] {
                [b, f] => format!("shape [{b}, c, {f}, ..], one noise level per frame"),
                _ => format!("shape [{}, ..], one noise level per sample", self.values.len()),
            };
            return Err(Error::tensor("batch", expected, format!("{size:?}")));
        }
        let mut shape = vec![1; size.len()];
        shape[0] = size[0];
        if self.shape.len() == 2 {
            shape[2] = size[2];
        }
        Ok(shape)
    }
}

impl Levels {
    /// One level per frame, the same in each of `b` samples.
    ///
    /// # Shapes
    /// `levels`: f. Functions that combine these levels with a batch or clips of another length
    /// return an error.
    ///
    /// # Range
    /// `b` <= 0 means no samples.
    pub fn per_frame(b: i64, levels: Vec<NoiseLevel>) -> Levels {
        let b = usize::try_from(b).unwrap_or(0);
        Levels { shape: vec![b as i64, levels.len() as i64], values: levels.repeat(b) }
    }

    /// The level of the whole batch, if there is only one.
    pub fn shared(&self) -> Option<NoiseLevel> {
        let first = self.values.first().copied()?;
        self.values.iter().all(|level| *level == first).then_some(first)
    }

    /// The noisiest level; `None` if there are no levels.
    pub fn noisiest(&self) -> Option<NoiseLevel> {
        let noisier = |a: &NoiseLevel, b: &NoiseLevel| b.log_snr().total_cmp(&a.log_snr());
        self.values.iter().copied().max_by(noisier)
    }

    /// The levels of a batch that holds `times` consecutive copies of this one.
    pub(crate) fn repeat(&self, times: usize) -> Levels {
        let mut shape = self.shape.clone();
        let Some(b) = shape.first_mut() else {
            return self.clone();
        };
        *b *= times as i64;
        Levels { values: self.values.repeat(times), shape }
    }

    /// The levels of every frame of a batch, with those of some frames replaced.
    ///
    /// # Shapes
    /// `size`: shape of the batch, b c f ...
    ///
    /// # Errors
    /// Levels that do not fit the batch or its frames.
    pub(crate) fn with_frames(
        &self,
        size: &[i64],
        frames: &[i64],
        level: NoiseLevel,
    ) -> Result<Levels> {
        let &[b, _, f, ..] = size else {
            return Err(Error::tensor("batch", "shape [b, c, f, ..]", format!("{size:?}")));
        };
        let spread = |each: i64| -> Vec<NoiseLevel> {
            self.values.iter().flat_map(|at| vec![*at; each as usize]).collect()
        };
        let mut values = match self.shape[..] {
            [] => spread(b * f),
            [own] if own == b => spread(f),
            [own, of_frames] if own == b && of_frames == f => self.values.clone(),
            _ => {
                let expected = format!("levels for the shape {size:?}");
                return Err(Error::tensor("noise levels", expected, format!("{:?}", self.shape)));
            }
        };
        for row in values.chunks_mut(f.max(1) as usize) {
            for frame in frames {
                if let Some(value) = usize::try_from(*frame).ok().and_then(|i| row.get_mut(i)) {
                    *value = level;
                }
            }
        }
        Ok(Levels { values, shape: vec![b, f] })
    }
}

/// The values of a tensor, on the host, in row-major order.
fn host_values(t: &Tensor) -> Result<Vec<f64>> {
    let flat = t.f_to_device(Device::Cpu)?.f_to_kind(Kind::Double)?.f_reshape([-1])?;
    Ok(Vec::<f64>::try_from(&flat)?)
}

fn to_device(values: &[f64], shape: &[i64], like: &Tensor) -> Tensor {
    let host = Tensor::from_slice(values).view(shape).to_kind(like.kind());
    // Fallback for devices without this kind of upload: an ordinary copy.
    upload(&host, like.device()).unwrap_or_else(|_| host.to_device(like.device()))
}
