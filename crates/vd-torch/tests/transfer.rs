//! Copies to a device and back, and moments of its work; with `VD_TEST_DEVICE=cuda` on a GPU.
#![allow(clippy::unwrap_used)]

use tch::{Device, Kind, Tensor};
use vd_torch::testing::device;
use vd_torch::{Download, Moment, device_memory, restart_device_peak, synchronize, upload};

#[test]
fn what_goes_to_a_device_comes_back_as_it_was_in_the_layout_that_it_had() {
    let device = device();
    let bytes: Vec<u8> = (0..120).map(|i| (i * 37 % 251) as u8).collect();
    let x = Tensor::from_slice(&bytes).view([2, 5, 4, 3]).permute([0, 3, 1, 2]);
    // On a CPU nothing is copied on the way there.
    let (there, expected) = (upload(&x, device).unwrap(), x.copy());
    assert_eq!((there.device(), there.size(), there.stride()), (device, x.size(), x.stride()));
    let back = Download::begin(&there).unwrap();
    // What is done to it later does not show.
    let _ = there.shallow_clone().fill_(0);
    let back = back.wait().unwrap();
    assert_eq!((back.device(), back), (Device::Cpu, expected));
}

#[test]
fn a_device_that_is_not_there_is_an_error() {
    // Whoever asks libtorch for CUDA before the library is loaded is told no for good.
    let _ = device();
    let x = Tensor::from_slice(&[1.0, 2.0, 3.0]);
    // The first does not fit into libtorch's numbers of devices; the low bits of 4096 are those of 0.
    for device in [4096, 127].map(Device::Cuda) {
        assert!(upload(&x, device).is_err());
        assert!(Moment::mark(device).is_err());
        assert!(synchronize(device).is_err());
        assert!(device_memory(device).is_err());
        assert!(restart_device_peak(device).is_err());
    }
    let said = upload(&x, Device::Cuda(4096)).unwrap_err().to_string();
    assert!(said.contains("there is no CUDA device 4096"), "{said}");
}

#[test]
fn moments_come_in_the_order_in_which_they_are_marked() {
    let device = device();
    let x = Tensor::ones([256, 256], (Kind::Float, device));
    let begun = Moment::mark(device).unwrap();
    let y = x.matmul(&x);
    let between = Moment::mark(device).unwrap();
    let z = y.matmul(&x);
    let ended = Moment::mark(device).unwrap();
    let whole = ended.since(&begun).unwrap();
    let parts = between.since(&begun).unwrap() + ended.since(&between).unwrap();
    // A GPU tells half a microsecond apart.
    assert!(whole.as_secs_f64() > 0.0 && (whole.as_secs_f64() - parts.as_secs_f64()).abs() < 2e-6);
    assert_eq!(z.double_value(&[3, 5]), 65_536.0);
}
