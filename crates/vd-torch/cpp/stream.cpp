// The stream that libtorch's own kernels go to, through c10 alone: no CUDA library is named, so that
// one binary serves machines with and without one.
#include "shim.h"

#include <c10/core/Stream.h>
#include <c10/core/impl/VirtualGuardImpl.h>

// A cudaStream_t, which the driver calls CUstream.
extern "C" int vd_current_stream(int device, void** stream, char** error) {
  return guarded(error, [&] {
    const auto cuda = c10::DeviceType::CUDA;
    const c10::impl::VirtualGuardImpl of(cuda);
    const auto index = static_cast<c10::DeviceIndex>(device);
    *stream = of.getStream(c10::Device(cuda, index)).native_handle();
  });
}
