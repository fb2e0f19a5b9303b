// Asynchronous copies between the host and a CUDA device, through c10 and the dispatcher alone.
#include "shim.h"

#include <c10/core/Event.h>
#include <c10/core/impl/VirtualGuardImpl.h>

#include <memory>

namespace {
const auto CUDA = c10::DeviceType::CUDA;

at::Tensor moved(const at::Tensor& x, c10::Device to) {
  return x.to(to, x.scalar_type(), /*non_blocking=*/true, /*copy=*/false, std::nullopt);
}
}  // namespace

extern "C" {

// Both copies use pinned memory of libtorch's caching host allocator, which notes the stream of
// each asynchronous copy and reuses a buffer only when its copies have run; one that was allocated
// while a graph was captured is never reused (ATen/core/CachingHostAllocator.h).
int vd_upload(const at::Tensor* from, int device, at::Tensor** to, char** error) {
  return guarded(error, [&] {
    const auto index = index_of(device);
    *to = new at::Tensor(moved(from->pin_memory(), c10::Device(CUDA, index)));
  });
}

// An asynchronous copy to the host uses pinned memory by itself.
int vd_download(const at::Tensor* from, at::Tensor** to, void** fence, char** error) {
  return guarded(error, [&] {
    at::Tensor there = moved(*from, c10::Device(c10::DeviceType::CPU));
    auto event = std::make_unique<c10::Event>(CUDA);
    event->record(c10::impl::VirtualGuardImpl(CUDA).getStream(from->device()));
    *to = new at::Tensor(std::move(there));
    *fence = event.release();
  });
}

// With timing enabled, unlike the events after copies.
int vd_moment(int device, void** to, char** error) {
  return guarded(error, [&] {
    const c10::Device of(CUDA, index_of(device));
    auto event = std::make_unique<c10::Event>(CUDA, c10::EventFlag::BACKEND_DEFAULT);
    event->record(c10::impl::VirtualGuardImpl(CUDA).getStream(of));
    *to = event.release();
  });
}

int vd_elapsed(const void* from, const void* to, double* milliseconds, char** error) {
  return guarded(error, [&] {
    const auto* end = static_cast<const c10::Event*>(to);
    end->synchronize();
    *milliseconds = static_cast<const c10::Event*>(from)->elapsedTime(*end);
  });
}

int vd_fence_wait(const void* fence, char** error) {
  return guarded(error, [&] { static_cast<const c10::Event*>(fence)->synchronize(); });
}

void vd_fence_drop(void* fence) { delete static_cast<c10::Event*>(fence); }
}
