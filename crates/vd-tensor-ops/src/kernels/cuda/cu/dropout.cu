// Dropout whose mask is a function of each value's position: the same masks as on the host.

const u32 MOST = 512;
const u32 STEPS = 4;

// Mirrored in Rust.
struct Drop {
  const void* x;
  void* y;
  // Values per frame.
  u64 each;
  u64 site;
  u32 frames;
  // Blocks per frame.
  u32 chunks;
  // How many of the 2^32 random numbers drop a value.
  u32 bound;
  float gain;
  // One seed per sample.
  u64 seeds[MOST];
};

// Steele, Lea & Flood 2014.
__device__ inline u64 mixed(u64 x) {
  x += 0x9E3779B97F4A7C15ull;
  x = (x ^ (x >> 30)) * 0xBF58476D1CE4E5B9ull;
  x = (x ^ (x >> 27)) * 0x94D049BB133111EBull;
  return x ^ (x >> 31);
}

// Wellons' lowbias32 with a key added before its multipliers and another in between.
__device__ inline u32 chance(u32 place, u64 key) {
  u32 x = place ^ (u32)key;
  x = (x ^ (x >> 16)) * 0x7FEB352Du + (u32)(key >> 32);
  x = (x ^ (x >> 15)) * 0x846CA68Bu;
  return x ^ (x >> 16);
}

template <class T>
__device__ inline void drop_out(const Drop& p) {
  const u32 frame = blockIdx.x / p.chunks, W = Vector<T>::N;
  u64 key = mixed(p.seeds[frame / p.frames]);
  key = mixed(mixed(key) ^ p.site);
  key = mixed(mixed(key) ^ (u64)(frame % p.frames));
  const T* x = (const T*)p.x + frame * p.each;
  T* y = (T*)p.y + frame * p.each;
  const u64 from = (u64)(blockIdx.x % p.chunks) * THREADS * STEPS * W;
  const bool aligned = p.each % W == 0;
#pragma unroll
  for (u32 i = 0; i < STEPS; ++i) {
    const u64 at = from + (u64)(i * THREADS + threadIdx.x) * W;
    if (aligned && at < p.each) {
      float some[8];
      Vector<T>::load(x + at, some);
#pragma unroll
      for (u32 k = 0; k < W; ++k) some[k] *= chance((u32)(at + k), key) < p.bound ? 0.0f : p.gain;
      Vector<T>::store(some, y + at);
    } else {
      for (u64 one = at; one < at + W && one < p.each; ++one) {
        narrow(wide(x[one]) * (chance((u32)one, key) < p.bound ? 0.0f : p.gain), y + one);
      }
    }
  }
}

KERNEL(drop_out_f32, Drop, THREADS, drop_out<float>)
KERNEL(drop_out_bf16, Drop, THREADS, drop_out<bf16>)
