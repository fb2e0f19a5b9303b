//! What runs kernels: a GPU or, in tests, an emulator.

use std::cell::RefCell;
use std::collections::HashMap;
use std::ffi::c_void;
use std::fmt;
use std::sync::{Arc, Mutex, OnceLock, PoisonError};

use tch::{Device, Kind, Tensor};
use vd_torch::cuda::{self, Arch, Gpu, Launch, Module};

use super::Unit;
use crate::kernels::{Precision, precision};

/// Runs kernels on the memory of some device.
pub trait Machine: fmt::Debug + Send + Sync {
    /// Where the tensors lie that its kernels read: what stands in for a GPU takes those of the CPU.
    fn device(&self) -> Device {
        Device::Cpu
    }

    /// How many blocks it runs at the same time at least.
    fn multiprocessors(&self) -> u32;

    /// Makes the kernels of a unit ready to run.
    ///
    /// # Errors
    /// They are not available; later calls return the same result.
    fn prepare(&self, unit: Unit) -> vd_torch::Result<()>;

    /// Runs a kernel.
    ///
    /// # Errors
    /// As [`Machine::prepare`]; no kernel of this name; any error of the machine.
    /// # Safety
    /// `params` is the struct that the kernel takes, and what it points to is on this machine's
    /// device, as large as the kernel expects, and accessed in the order of libtorch's stream.
    unsafe fn run(
        &self,
        unit: Unit,
        kernel: &str,
        launch: Launch,
        params: *const c_void,
    ) -> vd_torch::Result<()>;
}

type Loaded = std::result::Result<Arc<Module>, String>;

/// Runs a kernel whose parameter struct is `P`.
///
/// # Safety
/// As [`Machine::run`].
pub(super) unsafe fn run<P>(
    on: &dyn Machine,
    unit: Unit,
    kernel: &str,
    launch: Launch,
    params: &P,
) -> vd_torch::Result<()> {
    // SAFETY: guaranteed by the caller.
    unsafe { on.run(unit, kernel, launch, std::ptr::from_ref(params).cast()) }
}

/// Whether kernels for a kind are there.
pub(super) fn has_kind(kind: Kind) -> bool {
    [Kind::Float, Kind::BFloat16].contains(&kind)
}

/// # Panics
/// Tensors that are not on the machine's device; a first one of a kind that no kernel takes.
#[track_caller]
pub(super) fn check_operands(on: &dyn Machine, what: &str, tensors: &[&Tensor]) {
    let device = on.device();
    for t in tensors {
        assert!(
            t.device() == device,
            "{what}: expected tensors on {device:?}, got one on {:?} of shape {:?}",
            t.device(),
            t.size()
        );
    }
    if let Some(first) = tensors.first() {
        check_kind(what, first);
    }
}

/// # Panics
/// A kind that no kernel takes.
#[track_caller]
pub(super) fn check_kind(what: &str, x: &Tensor) {
    let kind = x.kind();
    assert!(has_kind(kind), "{what}: expected f32 or bf16, got {kind:?} of shape {:?}", x.size());
}

/// A number as kernels take it.
///
/// # Panics
/// A number that kernels have no room for.
#[track_caller]
pub(super) fn number(what: &str, n: i64) -> u32 {
    match u32::try_from(n) {
        Ok(n) if n < u32::MAX => n,
        _ => panic!("{what}: expected less than {} of them, got {n}", u32::MAX),
    }
}

/// One of this computer's GPUs.
#[derive(Debug)]
struct OwnGpu {
    number: usize,
    gpu: Gpu,
    arch: Arch,
    multiprocessors: u32,
    modules: Mutex<HashMap<&'static str, Loaded>>,
}

impl OwnGpu {
    fn new(number: usize) -> vd_torch::Result<Self> {
        let gpu = Gpu::new(number)?;
        let (arch, multiprocessors) = (gpu.arch()?, gpu.multiprocessors()?);
        Ok(OwnGpu { number, gpu, arch, multiprocessors, modules: Mutex::default() })
    }

    /// Makes all units ready. They are compiled in parallel: one after the other they take a
    /// minute.
    fn prepare_all(&self) -> vd_torch::Result<()> {
        let mut modules = self.modules.lock().unwrap_or_else(PoisonError::into_inner);
        let missing = Unit::ALL.into_iter().filter(|unit| !modules.contains_key(unit.name));
        let made: Vec<_> = std::thread::scope(|scope| {
            let compile = |unit: Unit| (unit, scope.spawn(move || self.cubin(unit)));
            let all: Vec<_> = missing.map(compile).collect();
            all.into_iter().filter_map(|(unit, made)| Some((unit, made.join().ok()?))).collect()
        });
        for (unit, cubin) in made {
            modules.insert(unit.name, self.load(cubin));
        }
        drop(modules);
        Unit::ALL.into_iter().try_for_each(|unit| self.prepare(unit))
    }

    fn cubin(&self, unit: Unit) -> vd_torch::Result<Vec<u8>> {
        cuda::cubin(unit.name, &unit.text(), self.arch)
    }

    fn load(&self, cubin: vd_torch::Result<Vec<u8>>) -> Loaded {
        let module = cubin.and_then(|cubin| Module::load(self.gpu, &cubin));
        module.map(Arc::new).map_err(|error| error.to_string())
    }

    fn module(&self, unit: Unit) -> vd_torch::Result<Arc<Module>> {
        let mut modules = self.modules.lock().unwrap_or_else(PoisonError::into_inner);
        let module = modules.entry(unit.name).or_insert_with(|| self.load(self.cubin(unit)));
        let why = |why: &String| vd_torch::Error::Driver {
            what: format!("kernels `{}`", unit.name),
            why: why.clone(),
        };
        module.as_ref().map(Arc::clone).map_err(why)
    }
}

impl Machine for OwnGpu {
    fn device(&self) -> Device {
        Device::Cuda(self.number)
    }

    fn multiprocessors(&self) -> u32 {
        self.multiprocessors
    }

    fn prepare(&self, unit: Unit) -> vd_torch::Result<()> {
        self.module(unit).map(|_| ())
    }

    unsafe fn run(
        &self,
        unit: Unit,
        kernel: &str,
        launch: Launch,
        params: *const c_void,
    ) -> vd_torch::Result<()> {
        let function = self.module(unit)?.function(kernel, launch.shared)?;
        // SAFETY: guaranteed by the caller.
        unsafe { function.launch(launch, params) }
    }
}

type Found = std::result::Result<Arc<OwnGpu>, String>;

fn gpu(number: usize) -> Found {
    static GPUS: OnceLock<Mutex<HashMap<usize, Found>>> = OnceLock::new();
    let gpus = GPUS.get_or_init(Mutex::default);
    let mut gpus = gpus.lock().unwrap_or_else(PoisonError::into_inner);
    let found = gpus
        .entry(number)
        .or_insert_with(|| OwnGpu::new(number).map(Arc::new).map_err(|error| error.to_string()));
    found.clone()
}

thread_local! {
    static IMITATION: RefCell<Option<Arc<dyn Machine>>> = const { RefCell::new(None) };
}

/// Runs `f` with CPU tensors of this thread treated as tensors on a GPU that `machine` emulates:
/// layers make the same choices as on a GPU.
pub fn imitated<R>(machine: Arc<dyn Machine>, f: impl FnOnce() -> R) -> R {
    struct Restore(Option<Arc<dyn Machine>>);
    impl Drop for Restore {
        fn drop(&mut self) {
            let before = self.0.take();
            IMITATION.with(|now| now.replace(before));
        }
    }
    let _restore = Restore(IMITATION.with(|now| now.replace(Some(machine))));
    f()
}

/// Whether CPU tensors are treated as GPU tensors.
pub(crate) fn imitating() -> bool {
    IMITATION.with(|machine| machine.borrow().is_some())
}

/// The machine that runs kernels on a device; None on a CPU, on a GPU whose driver cannot be
/// queried, and with [`Precision::Reference`].
pub fn machine(device: Device) -> Option<Arc<dyn Machine>> {
    if precision() == Precision::Reference {
        return None;
    }
    match device {
        Device::Cpu => IMITATION.with(|machine| machine.borrow().clone()),
        Device::Cuda(number) => gpu(number).ok().map(|gpu| gpu as Arc<dyn Machine>),
        _ => None,
    }
}

/// Whether a device is a GPU, or treated as one on this thread.
pub fn takes(device: Device) -> bool {
    match device {
        Device::Cpu => imitating(),
        device => device.is_cuda(),
    }
}

/// Whether a kernel may apply to this tensor: a cheap check before any operand is prepared.
pub fn may_run(x: &Tensor) -> bool {
    takes(x.device()) && precision() != Precision::Reference
}

/// The machine that runs a unit's kernels on these tensors, if any: all on one device, the first of
/// f32 or bf16.
pub(crate) fn machine_of(unit: Unit, tensors: &[&Tensor]) -> Option<Arc<dyn Machine>> {
    let first = tensors.first()?;
    if !has_kind(first.kind()) || tensors.iter().any(|t| t.device() != first.device()) {
        return None;
    }
    machine_with(unit, first.device())
}

/// The machine that runs a unit's kernels on a device.
pub(crate) fn machine_with(unit: Unit, device: Device) -> Option<Arc<dyn Machine>> {
    machine(device).filter(|machine| machine.prepare(unit).is_ok())
}

/// The architecture of a device that runs the kernels, such as `sm_90`, and the kernels that it
/// does not run, if only some.
///
/// # Errors
/// Why it runs none.
pub fn generation(device: Device) -> vd_torch::Result<String> {
    let failed = |why| vd_torch::Error::Driver { what: format!("kernels on {device:?}"), why };
    let Device::Cuda(number) = device else { return Err(failed("it is no GPU".to_owned())) };
    let gpu = gpu(number).map_err(failed)?;
    let lacks = |unit: &Unit| gpu.prepare(*unit).is_err();
    let lacking: Vec<&str> = Unit::ALL.iter().filter(|u| lacks(u)).map(|unit| unit.name).collect();
    match lacking.as_slice() {
        [] => Ok(gpu.arch.to_string()),
        some if some.len() < Unit::ALL.len() => {
            Ok(format!("{} without {}", gpu.arch, some.join(" and ")))
        }
        _ => state(device).map(|()| gpu.arch.to_string()),
    }
}

/// Whether a device runs the kernels; compiles them for it if necessary.
///
/// # Errors
/// Why it does not, so that libtorch's operations are used.
pub fn state(device: Device) -> vd_torch::Result<()> {
    let failed = |why| vd_torch::Error::Driver { what: format!("kernels on {device:?}"), why };
    match device {
        Device::Cuda(number) => gpu(number).map_err(failed)?.prepare_all(),
        _ => Err(failed("it is no GPU".to_owned())),
    }
}
