// AdamW on gradients times a factor, and the moving average of the parameters, of many tensors.

const u32 MOST = 512;
const u32 STEPS = 4;

// Mirrored in Rust.
struct Numbers {
  float shrink;
  // 1 - lr times decay.
  float keep;
  float beta1;
  float beta2;
  // lr / (1 - beta1^t), 1 / sqrt(1 - beta2^t).
  float rate;
  float root;
  float eps;
  // 1 - decay of the average.
  float follow;
};

struct Entry {
  void* param;
  const void* grad;
  void* exp_avg;
  void* exp_avg_sq;
  // Or null.
  void* average;
  u64 count;
};

struct AdamW {
  // Where the numbers are in device memory; those here where null.
  const Numbers* live;
  Numbers numbers;
  u32 tensors;
  // The first block of each tensor.
  u32 begin[MOST];
  Entry entries[MOST];
};

// `COUNT` entries from `at` on.
template <class T, int COUNT>
struct Some {
  static __device__ inline void load(const void* from, u64 at, float* to) {
    if (COUNT == 1) {
      *to = wide(((const T*)from)[at]);
    } else {
      Vector<T>::load((const T*)from + at, to);
    }
  }
  static __device__ inline void store(const float* from, u64 at, void* to) {
    if (COUNT == 1) {
      narrow(*from, (T*)to + at);
    } else {
      Vector<T>::store(from, (T*)to + at);
    }
  }
};

template <class T, int COUNT>
__device__ inline void adamw_some(const Numbers& n, const Entry& of, u64 at) {
  float p[8], g[8], m[8], v[8];
  Some<T, COUNT>::load(of.param, at, p);
  Some<T, COUNT>::load(of.grad, at, g);
  Some<T, COUNT>::load(of.exp_avg, at, m);
  Some<T, COUNT>::load(of.exp_avg_sq, at, v);
#pragma unroll
  for (int i = 0; i < COUNT; ++i) {
    const float grad = g[i] * n.shrink;
    m[i] += (1.0f - n.beta1) * (grad - m[i]);
    v[i] = n.beta2 * v[i] + (1.0f - n.beta2) * grad * grad;
    p[i] = p[i] * n.keep - n.rate * (m[i] / (sqrtf(v[i]) * n.root + n.eps));
  }
  Some<T, COUNT>::store(m, at, of.exp_avg);
  Some<T, COUNT>::store(v, at, of.exp_avg_sq);
  Some<T, COUNT>::store(p, at, of.param);
  if (of.average != 0) {
    Some<T, COUNT>::load(of.average, at, g);
#pragma unroll
    for (int i = 0; i < COUNT; ++i) g[i] += n.follow * (p[i] - g[i]);
    Some<T, COUNT>::store(g, at, of.average);
  }
}

template <class T>
__device__ inline void adamw(const AdamW& p) {
  // The last tensor that begins at this block or before it.
  u32 low = 0, high = p.tensors;
  while (high - low > 1) {
    const u32 middle = (low + high) / 2;
    if (p.begin[middle] <= blockIdx.x) {
      low = middle;
    } else {
      high = middle;
    }
  }
  const Entry of = p.entries[low];
  const Numbers n = p.live == 0 ? p.numbers : *p.live;
  const u32 W = Vector<T>::N, each = THREADS * STEPS * W;
  const u64 from = (u64)(blockIdx.x - p.begin[low]) * each;
  const u64 all = (u64)of.param | (u64)of.grad | (u64)of.exp_avg | (u64)of.exp_avg_sq | (u64)of.average;
  const bool aligned = all % 16 == 0;
#pragma unroll
  for (u32 i = 0; i < STEPS; ++i) {
    const u64 at = from + (u64)(i * THREADS + threadIdx.x) * W;
    if (aligned && at + W <= of.count) {
      adamw_some<T, Vector<T>::N>(n, of, at);
    } else {
      for (u64 one = at; one < at + W && one < of.count; ++one) adamw_some<T, 1>(n, of, one);
    }
  }
}

KERNEL(adamw_f32, AdamW, THREADS, adamw<float>)
KERNEL(adamw_bf16, AdamW, THREADS, adamw<bf16>)
