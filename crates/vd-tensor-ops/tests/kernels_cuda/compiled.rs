//! The kernels by NVRTC, which needs no GPU. Without NVRTC there is nothing to see, which is said; with
//! `VD_REQUIRE_NVRTC=1` that is a failure.

use vd_tensor_ops::kernels::cuda::Unit;
use vd_tensor_ops::torch::cuda::{Arch, KernelReport, Nvrtc, cubin_in};

/// Ampere, Hopper, Blackwell.
const GENERATIONS: [Arch; 3] = [Arch(80), Arch(90), Arch(100)];
/// Bytes of local memory that a thread of any kernel may have, for spilled registers or otherwise: with
/// NVRTC 13.0 the worst has 48, of 1024 channels, which the assembler spills to have more warps.
const LOCAL_MEMORY: u32 = 64;

fn nvrtc() -> Option<&'static Nvrtc> {
    match Nvrtc::get() {
        Ok(nvrtc) => Some(nvrtc),
        Err(why) => {
            let required = std::env::var("VD_REQUIRE_NVRTC").is_ok_and(|word| word == "1");
            assert!(!required, "VD_REQUIRE_NVRTC=1: {why}");
            eprintln!("left out: {why}");
            None
        }
    }
}

fn of_generation(nvrtc: &Nvrtc, arch: Arch) -> Vec<(Arch, KernelReport)> {
    let mut all = Vec::new();
    for unit in Unit::ALL {
        let made = nvrtc.compile(unit.name, &unit.text(), arch).unwrap();
        assert!(made.cubin.starts_with(b"\x7fELF") && !made.kernels.is_empty(), "{unit:?}");
        all.extend(made.kernels.into_iter().map(|kernel| (arch, kernel)));
    }
    all
}

#[test]
fn every_kernel_compiles_for_every_generation_and_keeps_to_its_registers() {
    let Some(nvrtc) = nvrtc() else { return };
    let (major, minor) = nvrtc.version();
    println!("NVRTC {major}.{minor}: {}", nvrtc.file().display());
    let all: Vec<(Arch, KernelReport)> = std::thread::scope(|scope| {
        let threads = GENERATIONS.map(|arch| scope.spawn(move || of_generation(nvrtc, arch)));
        threads.into_iter().flat_map(|thread| thread.join().unwrap()).collect()
    });
    let mut worst = Vec::new();
    for (arch, kernel) in all {
        let KernelReport { name, registers, stack, spill_stores, spill_loads } = &kernel;
        assert!(*registers > 0, "nothing is known of {kernel:?}");
        println!("{arch} {name}: {registers} registers, {stack} bytes of local memory");
        let local = *stack.max(spill_stores).max(spill_loads);
        if local > LOCAL_MEMORY {
            worst.push(format!("{arch} {name}: {local} bytes"));
        }
    }
    assert!(worst.is_empty(), "more than {LOCAL_MEMORY} bytes of local memory: {worst:?}");
}

#[test]
fn what_is_wrong_with_a_text_is_told_with_its_line() {
    let Some(nvrtc) = nvrtc() else { return };
    let text = "extern \"C\" __global__ void k(float* x) {\n  x[0] = nobody(1);\n}";
    let error = nvrtc.compile("wrong", text, Arch(90)).unwrap_err().to_string();
    assert!(error.contains("wrong(2)") && error.contains("nobody"), "{error}");
    let error = nvrtc.compile("k", "int x;", Arch(7)).unwrap_err().to_string();
    assert!(error.contains("sm_7"), "{error}");
}

#[test]
fn machine_code_is_made_once_and_a_damaged_file_again() {
    let Some(nvrtc) = nvrtc() else { return };
    let dir = crate::emulator::folder().join(format!("cubin-{}", std::process::id()));
    let text = "extern \"C\" __global__ void k(float* x) { x[0] = 1; }";
    let made = cubin_in(&dir, "k", text, Arch(90)).unwrap();
    let files = || -> Vec<_> {
        std::fs::read_dir(&dir).unwrap().map(|entry| entry.unwrap().path()).collect()
    };
    let [file] = &files()[..] else { panic!("{:?}", files()) };
    assert_eq!(std::fs::read(file).unwrap(), made);
    // What is there is taken, whatever it holds, if it is machine code at all.
    std::fs::write(file, b"\x7fELF of another").unwrap();
    assert_eq!(cubin_in(&dir, "k", text, Arch(90)).unwrap(), b"\x7fELF of another");
    std::fs::write(file, b"half").unwrap();
    let again = cubin_in(&dir, "k", text, Arch(90)).unwrap();
    assert!(again.starts_with(b"\x7fELF") && again.len() == made.len());
    // Another generation or text is another file.
    cubin_in(&dir, "k", text, Arch(80)).unwrap();
    cubin_in(&dir, "k", &text.replace('1', "2"), Arch(90)).unwrap();
    assert_eq!(files().len(), 3);
    std::fs::remove_dir_all(&dir).unwrap();
    assert!(nvrtc.version().0 >= 12);
}
