// CUDA graphs through libtorch's own class, since its allocator and its generators must know of a
// recording. A separate library without link dependencies: it is opened after libtorch_cuda, if
// that is present, and its symbols are resolved then.
#include "shim.h"

#include <ATen/core/CachingHostAllocator.h>
#include <ATen/cuda/CUDAGraph.h>
#include <c10/cuda/CUDACachingAllocator.h>

#include <cstdint>
#include <memory>

namespace {
using at::cuda::CUDAGraph;
namespace allocator = c10::cuda::CUDACachingAllocator;

CUDAGraph* graph_of(void* graph) { return static_cast<CUDAGraph*>(graph); }
c10::MempoolId_t pool_of(const std::uint64_t* pool) { return {pool[0], pool[1]}; }

void begin(CUDAGraph& graph, c10::MempoolId_t pool) {
  // Thread-local mode: other threads, which prepare data, continue meanwhile. The thread of the
  // backward, whose kernels belong to the recording, is another one too.
  graph.capture_begin(pool, cudaStreamCaptureModeThreadLocal);
}

template <typename Body>
bool succeeds(Body body) {
  try {
    body();
    return true;
  } catch (...) {
    return false;
  }
}

// After an aborted recording the allocators still allocate from its pool, since capture_end throws
// before it notifies them.
void let_go(const CUDAGraph& graph, c10::DeviceIndex device, c10::MempoolId_t pool) {
  auto& ended = const_cast<CUDAGraph&>(graph);
  if (succeeds([&] { ended.pool(); })) return;  // its destructor does the rest
  auto* host = at::getHostAllocator(at::kCUDA);
  if (succeeds([&] { allocator::endAllocateToPool(device, pool); })) {
    succeeds([&] { allocator::releasePool(device, pool); });
  }
  if (succeeds([&] { host->end_allocate_to_pool(pool); })) {
    succeeds([&] { host->release_pool(pool); });
  }
}
}  // namespace

extern "C" {

// A memory pool for recordings that share it: two numbers.
int vd_graph_pool(std::uint64_t* pool, char** error) {
  return guarded(error, [&] {
    const auto id = at::cuda::graph_pool_handle();
    pool[0] = id.first;
    pool[1] = id.second;
  });
}

int vd_graph_new(void** graph, char** error) {
  return guarded(error, [&] { *graph = std::make_unique<CUDAGraph>().release(); });
}

int vd_graph_begin(void* graph, const std::uint64_t* pool, char** error) {
  return guarded(error, [&] { begin(*graph_of(graph), pool_of(pool)); });
}

int vd_graph_end(void* graph, char** error) {
  return guarded(error, [&] { graph_of(graph)->capture_end(); });
}

// Cleans up after vd_graph_begin or vd_graph_end has failed, on the stream of the recording.
// `scratch`: any tensor of the device, which is cleared.
int vd_graph_abandon(void* graph, int device, const std::uint64_t* pool, at::Tensor* scratch,
                     char** error) {
  return guarded(error, [&] {
    const auto index = index_of(device);
    let_go(*graph_of(graph), index, pool_of(pool));
    // The default generator remains in capture mode until a recording ends successfully.
    const auto own = at::cuda::graph_pool_handle();
    CUDAGraph small;
    const bool done = succeeds([&] {
      begin(small, own);
      scratch->zero_();
    });
    if (!succeeds([&] { small.capture_end(); }) || !done) let_go(small, index, own);
  });
}

int vd_graph_replay(void* graph, char** error) {
  return guarded(error, [&] { graph_of(graph)->replay(); });
}

void vd_graph_free(void* graph) { delete graph_of(graph); }
}
