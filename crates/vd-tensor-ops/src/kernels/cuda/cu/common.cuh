// Shared by all kernels. Nothing is included: NVRTC knows these names without headers, so none has
// to be found on the machine, and the emulator of the tests brings its own.
typedef unsigned long long u64;
typedef unsigned int u32;
typedef unsigned short u16;
typedef unsigned char u8;

#ifndef EMULATED
// A kernel takes one struct, which Rust mirrors.
#define KERNEL(name, Params, threads, ...)                                                     \
  extern "C" __global__ void __launch_bounds__(threads) name(const __grid_constant__ Params p) { \
    __VA_ARGS__(p);                                                                              \
  }
// The same, with registers limited so that a multiprocessor holds `blocks` blocks at a time.
#define RESIDENT_KERNEL(name, Params, threads, blocks, ...)                             \
  extern "C" __global__ void __launch_bounds__(threads, blocks) name(                   \
      const __grid_constant__ Params p) {                                               \
    __VA_ARGS__(p);                                                                     \
  }
extern __shared__ float4 shared_memory[];
__device__ inline void* shared() { return shared_memory; }
#endif

// Threads per block of the row-wise kernels.
const u32 THREADS = 256;

// Keeps the compiler from holding in registers what is reread in every iteration of a loop.
#define READ_ANEW() asm volatile("" ::: "memory")

struct bf16 {
  u16 bits;
};

__device__ inline float wide(float x) { return x; }
__device__ inline float wide(bf16 x) { return __uint_as_float((u32)x.bits << 16); }

// Two values, rounded to nearest even; the first one lies first.
__device__ inline u32 pair_of(float first, float second) {
#ifdef __CUDA_ARCH__
  u32 both;
  asm("cvt.rn.bf16x2.f32 %0, %1, %2;" : "=r"(both) : "f"(second), "f"(first));
  return both;
#else
  const float values[2] = {first, second};
  u32 both = 0;
  for (int i = 0; i < 2; ++i) {
    const u32 bits = __float_as_uint(values[i]);
    const u32 rounded = values[i] == values[i] ? (bits + 0x7fffu + ((bits >> 16) & 1u)) >> 16 : 0x7fffu;
    both |= rounded << (16 * i);
  }
  return both;
#endif
}

__device__ inline void narrow(float x, float* to) { *to = x; }
__device__ inline void narrow(float x, bf16* to) { to->bits = (u16)pair_of(x, 0.0f); }

// 16 bytes of memory as f32.
template <class T>
struct Vector;

template <>
struct Vector<float> {
  static const int N = 4;
  static __device__ inline void load(const float* from, float* to) {
    const float4 v = *(const float4*)from;
    to[0] = v.x, to[1] = v.y, to[2] = v.z, to[3] = v.w;
  }
  static __device__ inline void store(const float* from, float* to) {
    float4 v;
    v.x = from[0], v.y = from[1], v.z = from[2], v.w = from[3];
    *(float4*)to = v;
  }
};

template <>
struct Vector<bf16> {
  static const int N = 8;
  static __device__ inline void split(u32 both, float* to) {
    to[0] = __uint_as_float(both << 16), to[1] = __uint_as_float(both & 0xffff0000u);
  }
  static __device__ inline void load(const bf16* from, float* to) {
    const uint4 v = *(const uint4*)from;
    split(v.x, to), split(v.y, to + 2), split(v.z, to + 4), split(v.w, to + 6);
  }
  static __device__ inline void store(const float* from, bf16* to) {
    uint4 v;
    v.x = pair_of(from[0], from[1]), v.y = pair_of(from[2], from[3]);
    v.z = pair_of(from[4], from[5]), v.w = pair_of(from[6], from[7]);
    *(uint4*)to = v;
  }
};

// The sum over `lanes` neighbouring lanes, a power of two; called by all lanes of the warp.
__device__ inline float sum_of_lanes(float x, u32 lanes) {
  for (u32 off = lanes / 2; off > 0; off /= 2) x += __shfl_xor_sync(~0u, x, off);
  return x;
}

// The sum over the lanes of a warp that are `lanes` apart.
__device__ inline float sum_across(float x, u32 lanes) {
  for (u32 off = lanes; off < 32; off *= 2) x += __shfl_xor_sync(~0u, x, off);
  return x;
}

// The dot product of x and a row of D.
template <int D>
__device__ inline float product(const float* x, const float* row) {
  float sums[4] = {0.0f, 0.0f, 0.0f, 0.0f};
#pragma unroll
  for (int d = 0; d < D; d += 4) {
    float y[4];
    Vector<float>::load(row + d, y);
#pragma unroll
    for (int i = 0; i < 4; ++i) sums[i] += x[d + i] * y[i];
  }
  return (sums[0] + sums[1]) + (sums[2] + sums[3]);
}

__device__ inline float logistic(float z) { return __fdividef(1.0f, 1.0f + __expf(-z)); }
__device__ inline float silu(float z) { return z * logistic(z); }
__device__ inline float silu_slope(float z) {
  const float s = logistic(z);
  return s * (1.0f + z * (1.0f - s));
}
