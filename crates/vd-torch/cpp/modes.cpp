// libtorch settings that tch does not bind: autocast per device and dtype, TF32, and the statistics
// of a device's allocator.
#include "shim.h"

#include <ATen/Context.h>
#include <c10/core/CachingDeviceAllocator.h>
#include <c10/core/impl/VirtualGuardImpl.h>

#include <cstdint>

// Declared as in ATen/autocast_mode.h, since that header would include every operator.
namespace at::autocast {
TORCH_API bool is_autocast_enabled(at::DeviceType device_type);
TORCH_API void set_autocast_enabled(at::DeviceType device_type, bool enabled);
TORCH_API at::ScalarType get_autocast_dtype(at::DeviceType device_type);
TORCH_API void set_autocast_dtype(at::DeviceType device_type, at::ScalarType dtype);
TORCH_API void clear_cache();
TORCH_API bool is_autocast_cache_enabled();
TORCH_API void set_autocast_cache_enabled(bool enabled);
TORCH_API int increment_nesting();
TORCH_API int decrement_nesting();
}  // namespace at::autocast

namespace {
at::DeviceType type_of(int cuda) { return cuda ? at::kCUDA : at::kCPU; }
}  // namespace

extern "C" {

// The previous state, for vd_autocast_leave.
struct VdAutocast {
  int cuda;
  int enabled;
  int dtype;
};

int vd_autocast_enter(int cuda, int half, VdAutocast* before, char** error) {
  return guarded(error, [&] {
    const auto type = type_of(cuda);
    *before = {cuda, at::autocast::is_autocast_enabled(type),
               static_cast<int>(at::autocast::get_autocast_dtype(type))};
    at::autocast::set_autocast_dtype(type, half ? at::kHalf : at::kBFloat16);
    at::autocast::set_autocast_enabled(type, true);
    at::autocast::increment_nesting();
  });
}

void vd_autocast_leave(const VdAutocast* before) noexcept {
  const auto type = type_of(before->cuda);
  // The outermost one clears the cached casts of weights, which change before the next.
  if (at::autocast::decrement_nesting() == 0) at::autocast::clear_cache();
  at::autocast::set_autocast_enabled(type, before->enabled != 0);
  at::autocast::set_autocast_dtype(type, static_cast<at::ScalarType>(before->dtype));
}

// Whether autocast on this thread keeps the casts of weights until it is left; returns what was set
// before. Those that it has kept go where it is to keep none: other threads find them too.
int vd_autocast_keeps(int keep) noexcept {
  const bool before = at::autocast::is_autocast_cache_enabled();
  at::autocast::set_autocast_cache_enabled(keep != 0);
  if (!keep) at::autocast::clear_cache();
  return before ? 1 : 0;
}

int vd_allow_tf32(int allow, char** error) {
  return guarded(error, [&] {
    at::globalContext().setAllowTF32CuBLAS(allow != 0);
    at::globalContext().setAllowTF32CuDNN(allow != 0);
  });
}

int vd_restart_tf32(char** error) {
  return guarded(error, [&] {
    at::globalContext().setAllowTF32CuBLAS(false);
    at::globalContext().setAllowTF32CuDNN(true);
  });
}

int vd_deterministic_convolutions(int only, char** error) {
  return guarded(error, [&] { at::globalContext().setDeterministicCuDNN(only != 0); });
}

int vd_search_convolutions(int search, char** error) {
  return guarded(error, [&] { at::globalContext().setBenchmarkCuDNN(search != 0); });
}

// Whether libtorch may take cuDNN's attention; returns what was set before.
int vd_cudnn_attention(int allow) noexcept {
  const bool before = at::globalContext().userEnabledCuDNNSDP();
  at::globalContext().setSDPUseCuDNN(allow != 0);
  return before ? 1 : 0;
}

int vd_synchronize(int index, char** error) {
  return guarded(error, [&] {
    const auto device = index_of(index);
    c10::impl::VirtualGuardImpl(at::kCUDA).synchronizeDevice(device);
  });
}

// In bytes: allocated now and at most, reserved from the device now and at most.
int vd_device_memory(int index, std::int64_t* figures, char** error) {
  return guarded(error, [&] {
    const auto device = index_of(index);
    auto stats = c10::getDeviceAllocator(at::kCUDA)->getDeviceStats(device);
    const auto& used = stats.allocated_bytes[0];
    const auto& taken = stats.reserved_bytes[0];
    figures[0] = used.current;
    figures[1] = used.peak;
    figures[2] = taken.current;
    figures[3] = taken.peak;
  });
}

int vd_restart_device_peak(int index, char** error) {
  return guarded(error, [&] {
    const auto device = index_of(index);
    c10::getDeviceAllocator(at::kCUDA)->resetPeakStats(device);
  });
}
}
