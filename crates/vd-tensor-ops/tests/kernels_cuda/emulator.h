// CUDA on a CPU, as far as the kernels go: blocks one after the other, the threads of a block as
// fibers that run from one meeting point to the next. Threads take turns in an order that changes
// with the block, so that a meeting that is missing shows; shared memory ends at a closed page and
// starts as NaNs; lanes of a warp that wait for different things, and threads that end while others
// wait, are errors.
#define EMULATED
#include <csetjmp>
#include <cstdint>
#include <cstdio>
#include <cstring>
#include <functional>
#include <memory>
#include <vector>

#include <math.h>
#include <sys/mman.h>
#include <ucontext.h>

#define __device__
#define __global__
#define __forceinline__ inline

struct alignas(8) float2 { float x, y; };
struct alignas(16) float4 { float x, y, z, w; };
struct alignas(16) uint4 { unsigned x, y, z, w; };
struct Place3 { unsigned x, y, z; };

namespace emulator {
enum Wait { RUNS, AT_WARP, AT_BLOCK, DONE };

struct Fiber {
  jmp_buf at;
  ucontext_t start;
  std::unique_ptr<char[]> stack;
  Wait wait;
  bool begun;
};

thread_local std::vector<std::unique_ptr<Fiber>> fibers;
thread_local std::vector<float> lanes;
thread_local jmp_buf scheduler;
thread_local ucontext_t outside;
thread_local unsigned now;
thread_local const std::function<void()>* body;
thread_local char* memory;

inline void rest(Wait wait) {
  Fiber& self = *fibers[now];
  self.wait = wait;
  if (!_setjmp(self.at)) _longjmp(scheduler, 1);
}

inline void fiber_main() {
  for (;;) {
    (*body)();
    rest(DONE);
  }
}
}  // namespace emulator

thread_local Place3 threadIdx, blockIdx, blockDim, gridDim;

inline void* shared() { return emulator::memory; }
inline void __syncthreads() {
  emulator::rest(emulator::AT_BLOCK);
}
inline float __shfl_xor_sync(unsigned, float x, unsigned off) {
  const unsigned own = emulator::now;
  emulator::lanes[own] = x;
  emulator::rest(emulator::AT_WARP);
  const float got = emulator::lanes[own ^ off];
  emulator::rest(emulator::AT_WARP);
  return got;
}
inline float __uint_as_float(unsigned bits) { float x; memcpy(&x, &bits, 4); return x; }
inline unsigned __float_as_uint(float x) { unsigned bits; memcpy(&bits, &x, 4); return bits; }
inline float __expf(float x) { return expf(x); }
inline float __fdividef(float a, float b) { return a / b; }
inline float rsqrtf(float x) { return 1.0f / sqrtf(x); }

namespace emulator {
// Runs one fiber until it rests.
inline void resume(unsigned number) {
  now = number;
  threadIdx = {number, 0, 0};
  Fiber& fiber = *fibers[number];
  if (_setjmp(scheduler)) return;
  if (fiber.begun) _longjmp(fiber.at, 1);
  fiber.begun = true;
  setcontext(&fiber.start);
}

inline void prepare(unsigned threads) {
  const size_t size = 64 << 10;
  while (fibers.size() < threads) {
    auto fiber = std::make_unique<Fiber>();
    fiber->stack.reset(new char[size]);
    fiber->begun = false;
    getcontext(&fiber->start);
    fiber->start.uc_stack.ss_sp = fiber->stack.get();
    fiber->start.uc_stack.ss_size = size;
    fiber->start.uc_link = nullptr;
    makecontext(&fiber->start, fiber_main, 0);
    fibers.push_back(std::move(fiber));
  }
  lanes.resize(threads);
  for (unsigned i = 0; i < threads; ++i) fibers[i]->wait = RUNS;
}

// What the threads from..to all wait for; -1 where they differ.
inline int common(unsigned from, unsigned to) {
  for (unsigned i = from + 1; i < to; ++i) {
    if (fibers[i]->wait != fibers[from]->wait) return -1;
  }
  return fibers[from]->wait;
}

inline const char* block(unsigned threads) {
  for (unsigned i = 0; i < threads; ++i) fibers[i]->wait = RUNS;
  for (;;) {
    const bool backwards = blockIdx.x % 2, turned = blockIdx.x % 4 > 1;
    for (unsigned i = 0; i < threads; ++i) {
      unsigned number = turned ? (i * 33 + 7) % threads : i;
      if (turned && threads % 3 == 0) number = i;
      if (backwards) number = threads - 1 - number;
      if (fibers[number]->wait == RUNS) resume(number);
    }
    bool moved = false;
    for (unsigned warp = 0; warp < threads; warp += 32) {
      const int wait = common(warp, warp + 32);
      if (wait == AT_WARP) {
        for (unsigned i = warp; i < warp + 32; ++i) fibers[i]->wait = RUNS;
        moved = true;
      } else if (wait < 0) {
        for (unsigned i = warp; i < warp + 32; ++i) {
          if (fibers[i]->wait == AT_WARP) return "lanes of a warp wait for different things";
        }
      }
    }
    if (moved) continue;
    const int wait = common(0, threads);
    if (wait == DONE) return nullptr;
    if (wait != AT_BLOCK) return "threads end while others of their block wait";
    for (unsigned i = 0; i < threads; ++i) fibers[i]->wait = RUNS;
  }
}

// grid, threads, bytes of shared memory; null, or what went wrong.
inline const char* run(const unsigned* launch, const std::function<void()>& kernel) {
  const unsigned grid = launch[0], threads = launch[1], bytes = launch[2];
  if (threads == 0 || threads % 32 != 0 || threads > 1024) return "not whole warps";
  if (grid == 0 || bytes % 16 != 0) return "no blocks, or shared memory that is no vectors";
  const size_t page = 4096, size = (bytes + page - 1) / page * page;
  char* mapped = (char*)mmap(nullptr, size + page, PROT_READ | PROT_WRITE,
                             MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
  if (mapped == MAP_FAILED) return "no memory";
  mprotect(mapped + size, page, PROT_NONE);
  memory = mapped + size - bytes;
  body = &kernel;
  blockDim = {threads, 1, 1};
  gridDim = {grid, 1, 1};
  prepare(threads);
  const char* wrong = nullptr;
  for (unsigned i = 0; i < grid && wrong == nullptr; ++i) {
    blockIdx = {i, 0, 0};
    memset(memory, 0xff, bytes);
    wrong = block(threads);
  }
  // Fibers that were left waiting are of no more use.
  if (wrong != nullptr) fibers.clear();
  munmap(mapped, size + page);
  return wrong;
}
}  // namespace emulator

#define KERNEL(name, Params, threads, ...)                                          \
  extern "C" const char* name(const void* params, const unsigned* launch) {         \
    if (launch[1] > threads) return "more threads than the kernel was compiled for"; \
    return emulator::run(launch, [&] { __VA_ARGS__(*(const Params*)params); });      \
  }
#define RESIDENT_KERNEL(name, Params, threads, blocks, ...) KERNEL(name, Params, threads, __VA_ARGS__)
