// The streams of libtorch's own kernels, through c10 alone: no CUDA library is linked, so that one
// binary serves machines with and without one.
#include "shim.h"

#include <c10/core/CachingDeviceAllocator.h>
#include <c10/core/Event.h>
#include <c10/core/Stream.h>
#include <c10/core/impl/VirtualGuardImpl.h>

#include <cstdint>
#include <map>
#include <mutex>

namespace {
constexpr auto cuda = c10::DeviceType::CUDA;

// The stream for recordings, one for each device: workspaces of matrix products are kept per
// stream.
c10::Stream beside(const c10::impl::VirtualGuardImpl& of, c10::Device device) {
  static std::mutex mutex;
  static std::map<c10::DeviceIndex, c10::Stream> streams;
  std::lock_guard<std::mutex> lock(mutex);
  const auto found = streams.find(device.index());
  if (found != streams.end()) return found->second;
  return streams.emplace(device.index(), of.getStreamFromGlobalPool(device)).first->second;
}

// Makes `waiting` wait for all work queued on `stream` so far.
void wait(const c10::Stream& waiting, const c10::Stream& stream) {
  c10::Event event(cuda);
  event.record(stream);
  event.block(waiting);
}
}  // namespace

extern "C" {

// A cudaStream_t, which the driver calls CUstream.
int vd_current_stream(int device, void** stream, char** error) {
  return guarded(error, [&] {
    const c10::Device on(cuda, index_of(device));
    *stream = c10::impl::VirtualGuardImpl(cuda).getStream(on).native_handle();
  });
}

// The previous device and stream, for vd_stream_leave.
struct VdStream {
  std::int64_t stream;
  int device;
  int current;
};

// Makes the stream for recordings current, and its device.
int vd_stream_enter(int device, VdStream* before, char** error) {
  return guarded(error, [&] {
    const c10::Device on(cuda, index_of(device));
    const c10::impl::VirtualGuardImpl of(cuda);
    const auto now = of.getStream(on);
    const auto side = beside(of, on);
    *before = {now.id(), device, of.getDevice().index()};
    of.setDevice(on);
    wait(side, now);
    of.exchangeStream(side);
  });
}

int vd_stream_leave(const VdStream* before, char** error) {
  return guarded(error, [&] {
    const c10::impl::VirtualGuardImpl of(cuda);
    const c10::Device on(cuda, index_of(before->device));
    const c10::Stream to(c10::Stream::UNSAFE, on, before->stream);
    const auto side = of.exchangeStream(to);
    of.setDevice(c10::Device(cuda, index_of(before->current)));
    wait(to, side);
  });
}

// Returns unused memory to the device.
int vd_empty_cache(char** error) {
  return guarded(error, [&] { c10::getDeviceAllocator(at::kCUDA)->emptyCache(); });
}
}
