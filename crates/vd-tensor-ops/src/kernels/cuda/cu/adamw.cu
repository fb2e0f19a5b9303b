// AdamW on scaled gradients, and the moving average of the parameters, for many tensors; and the
// norms of all gradients that decide on the step.

const u32 MOST = 512;
const u32 STEPS = 4;

// Mirrored in Rust.
struct Numbers {
  float shrink;
  // 1 - lr * decay.
  float keep;
  // 1 - beta, of both moments.
  float fresh1;
  float fresh2;
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

// The decision on the gradients. Mirrored in Rust.
struct Gate {
  // Additional factor of the gradients.
  float shrink;
  // 0 if nothing may change.
  float open;
};

struct AdamW {
  // The numbers in device memory; if null, those in this struct are used.
  const Numbers* live;
  // Or null.
  const Gate* gate;
  Numbers numbers;
  u32 tensors;
  // The first block of each tensor.
  u32 begin[MOST];
  Entry entries[MOST];
};

// `COUNT` entries starting at `at`.
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
    m[i] += n.fresh1 * (grad - m[i]);
    v[i] += n.fresh2 * (grad * grad - v[i]);
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

// The tensor of a block: the last one that begins at it or before.
__device__ inline u32 tensor_of(const u32* begin, u32 tensors) {
  u32 low = 0, high = tensors;
  while (high - low > 1) {
    const u32 middle = (low + high) / 2;
    if (begin[middle] <= blockIdx.x) {
      low = middle;
    } else {
      high = middle;
    }
  }
  return low;
}

template <class T>
__device__ inline void adamw(const AdamW& p) {
  const u32 low = tensor_of(p.begin, p.tensors);
  const Entry of = p.entries[low];
  Numbers n = p.live == 0 ? p.numbers : *p.live;
  if (p.gate != 0) {
    if (p.gate->open == 0.0f) return;
    n.shrink *= p.gate->shrink;
  }
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

// Sums of squares of many tensors, first per block, then per tensor.
struct Squares {
  double* of_blocks;
  // Norms of whole tensors.
  double* norms;
  u32 tensors;
  // The first block of each tensor, and one past the last block.
  u32 begin[MOST + 1];
  const void* values[MOST];
  u64 counts[MOST];
};

// The sum over all threads of a block, in the same order every time.
__device__ inline double sum_of_block(double own) {
  double* all = (double*)shared();
  all[threadIdx.x] = own;
  __syncthreads();
  for (u32 half = THREADS / 2; half > 0; half /= 2) {
    if (threadIdx.x < half) all[threadIdx.x] += all[threadIdx.x + half];
    __syncthreads();
  }
  const double sum = all[0];
  __syncthreads();
  return sum;
}

// In f64: the square of an f32 may overflow or underflow f32.
template <class T>
__device__ inline void squares(const Squares& p) {
  const u32 low = tensor_of(p.begin, p.tensors), W = Vector<T>::N;
  const T* values = (const T*)p.values[low];
  const u64 count = p.counts[low], from = (u64)(blockIdx.x - p.begin[low]) * THREADS * STEPS * W;
  const bool aligned = (u64)values % 16 == 0;
  double sum = 0.0;
#pragma unroll
  for (u32 i = 0; i < STEPS; ++i) {
    const u64 at = from + (u64)(i * THREADS + threadIdx.x) * W;
    if (aligned && at + W <= count) {
      float some[8];
      Vector<T>::load(values + at, some);
#pragma unroll
      for (u32 k = 0; k < W; ++k) sum += (double)some[k] * (double)some[k];
    } else {
      for (u64 one = at; one < at + W && one < count; ++one) {
        const double value = wide(values[one]);
        sum += value * value;
      }
    }
  }
  sum = sum_of_block(sum);
  if (threadIdx.x == 0) p.of_blocks[blockIdx.x] = sum;
}

// One block per tensor.
__device__ inline void tensor_norms(const Squares& p) {
  double sum = 0.0;
  for (u32 i = p.begin[blockIdx.x] + threadIdx.x; i < p.begin[blockIdx.x + 1]; i += THREADS) {
    sum += p.of_blocks[i];
  }
  sum = sum_of_block(sum);
  if (threadIdx.x == 0) p.norms[blockIdx.x] = sqrt(sum);
}

// The decision whether a step is made.
struct Verdict {
  const double* loss;
  // Status of the step, its loss, the norm of the clipped gradients, and then the norm of each
  // tensor; the last are there already.
  double* report;
  // For the clipped tensors, and for the rest.
  Gate* gates;
  // 1 from the first bad step on.
  u32* halted;
  // The maximum norm; 0 means no clipping.
  double clip;
  // The number of clipped tensors, which come first, and of all.
  u32 clipped;
  u32 tensors;
};

// Neither infinite nor NaN; written so that no compiler option removes it.
__device__ inline bool is_finite(double x) { return fabs(x) <= 1.7976931348623157e308; }

// One block.
__device__ inline void judge(const Verdict& p) {
  double clipped = 0.0, others = 0.0;
  for (u32 i = threadIdx.x; i < p.tensors; i += THREADS) {
    const double norm = p.report[3 + i];
    (i < p.clipped ? clipped : others) += norm * norm;
  }
  const double norm = sqrt(sum_of_block(clipped)), rest = sqrt(sum_of_block(others));
  if (threadIdx.x != 0) return;
  const double loss = *p.loss;
  const bool before = *p.halted != 0, good = is_finite(loss) && is_finite(norm) && is_finite(rest);
  if (!good) *p.halted = 1;
  const float open = good && !before ? 1.0f : 0.0f;
  p.gates[0].shrink = p.clip > 0.0 && norm > p.clip ? (float)(p.clip / norm) : 1.0f;
  p.gates[1].shrink = 1.0f;
  p.gates[0].open = p.gates[1].open = open;
  p.report[0] = before ? 2.0 : good ? 0.0 : 1.0;
  p.report[1] = loss;
  p.report[2] = norm;
}

KERNEL(squares_f32, Squares, THREADS, squares<float>)
KERNEL(squares_bf16, Squares, THREADS, squares<bf16>)
KERNEL(norms, Squares, THREADS, tensor_norms)
KERNEL(verdict, Verdict, THREADS, judge)
KERNEL(adamw_f32, AdamW, THREADS, adamw<float>)
KERNEL(adamw_bf16, AdamW, THREADS, adamw<bf16>)
