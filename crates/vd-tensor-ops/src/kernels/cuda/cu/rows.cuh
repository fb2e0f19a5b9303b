// Norms over adjacent channels: the distribution of channels over lanes.

// Mirrored in Rust.
struct Norm {
  const void* x;
  // The gradient of y.
  const void* grad;
  // Added at the end, or null.
  const void* residual;
  // y, or the gradient of x.
  void* out;
  // Rows of c; no shift if null.
  const float* gain;
  const float* shift;
  // Per sample, for each channel's group: the mean and 1 / deviation, 2 c.
  float* statistics;
  // Per sample, the means that are projected out of the gradient of x, along ones and along x: 2 c.
  float* means;
  // Sums of each block, 2 c.
  float* partials;
  // Positions per segment; a segment belongs to one sample and one row of gains.
  u32 positions;
  u32 c;
  // Lanes that share a position, a power of two up to 32.
  u32 lanes;
  // Blocks per segment.
  u32 chunks;
  u32 segments_per_row;
  u32 segments_per_sample;
  u32 groups;
};

// Neighbouring lanes share a position and hold N vectors each; a block processes several positions
// at a time.
template <class T, int N>
struct Rows {
  static const int W = Vector<T>::N;
  // Channels per lane.
  static const int E = N * W;

  const Norm& p;
  u32 segment, lane, member, step, start;

  __device__ inline explicit Rows(const Norm& norm) : p(norm) {
    const u32 together = blockDim.x / p.lanes;
    segment = blockIdx.x / p.chunks;
    lane = threadIdx.x % p.lanes;
    member = threadIdx.x / p.lanes;
    step = together * p.chunks;
    start = together * (blockIdx.x % p.chunks);
  }

  __device__ inline u32 channel(int n) const { return (n * p.lanes + lane) * W; }
  __device__ inline u32 row() const { return segment / p.segments_per_row; }
  __device__ inline u32 sample() const { return segment / p.segments_per_sample; }
  __device__ inline bool there(u32 from) const { return from + member < p.positions; }
  __device__ inline u64 at(u32 from, u32 k) const {
    return ((u64)segment * p.positions + from + member) * p.c + k;
  }

  // The lane's channels of a position, zeros for channels that it does not have.
  __device__ inline void read(const void* tensor, u32 from, float* to) const {
#pragma unroll
    for (int n = 0; n < N; ++n) {
      const u32 k = channel(n);
      if (there(from) && k < p.c) {
        Vector<T>::load((const T*)tensor + at(from, k), to + n * W);
      } else {
#pragma unroll
        for (int i = 0; i < W; ++i) to[n * W + i] = 0.0f;
      }
    }
  }

  __device__ inline void write(const float* values, u32 from, void* tensor) const {
#pragma unroll
    for (int n = 0; n < N; ++n) {
      const u32 k = channel(n);
      if (there(from) && k < p.c) Vector<T>::store(values + n * W, (T*)tensor + at(from, k));
    }
  }

  __device__ inline void add_residual(u32 from, float* to) const {
    if (p.residual == 0) return;
    float residual[E];
    read(p.residual, from, residual);
#pragma unroll
    for (int e = 0; e < E; ++e) to[e] += residual[e];
  }

  // The lane's channels of a row of f32; `none` if there is no row.
  __device__ inline void channels(const float* row, float none, float* to) const {
#pragma unroll
    for (int n = 0; n < N; ++n) {
      const u32 k = channel(n);
#pragma unroll
      for (int i = 0; i < W; i += 4) {
        if (row != 0 && k < p.c) {
          Vector<float>::load(row + k + i, to + n * W + i);
        } else {
#pragma unroll
          for (int j = 0; j < 4; ++j) to[n * W + i + j] = none;
        }
      }
    }
  }

  __device__ inline void gains(float* to) const { channels(p.gain + (u64)row() * p.c, 0.0f, to); }
  __device__ inline void shifts(float* to) const {
    channels(p.shift == 0 ? p.shift : p.shift + (u64)row() * p.c, 0.0f, to);
  }

  // Writes the block's sums over its lanes, one number for each channel, in the order of the warps.
  // Shared memory: a row of c for each warp.
  __device__ inline void reduce(float* sums, float* to) const {
    float* rows = (float*)shared();
    const u32 warp = threadIdx.x / 32, warps = blockDim.x / 32;
#pragma unroll
    for (int e = 0; e < E; ++e) sums[e] = sum_across(sums[e], p.lanes);
#pragma unroll
    for (int n = 0; n < N; ++n) {
      const u32 k = channel(n);
      if (threadIdx.x % 32 < p.lanes && k < p.c) {
#pragma unroll
        for (int i = 0; i < W; ++i) rows[warp * p.c + k + i] = sums[n * W + i];
      }
    }
    __syncthreads();
    for (u32 k = threadIdx.x; k < p.c; k += blockDim.x) {
      float sum = 0.0f;
      for (u32 w = 0; w < warps; ++w) sum += rows[w * p.c + k];
      to[k] = sum;
    }
    __syncthreads();
  }

  __device__ inline void reduce_both(float* first, float* second) const {
    float* to = p.partials + (u64)blockIdx.x * 2 * p.c;
    reduce(first, to);
    reduce(second, to + p.c);
  }
};

// Every number of vectors that a lane may hold; with 32 lanes up to 1024 channels.
#define FOR_ROWS_OF(name, Params)                        \
  KERNEL(name##_f32_1, Params, THREADS, name<float, 1>)  \
  KERNEL(name##_f32_2, Params, THREADS, name<float, 2>)  \
  KERNEL(name##_f32_4, Params, THREADS, name<float, 4>)  \
  KERNEL(name##_f32_8, Params, THREADS, name<float, 8>)  \
  KERNEL(name##_bf16_1, Params, THREADS, name<bf16, 1>)  \
  KERNEL(name##_bf16_2, Params, THREADS, name<bf16, 2>)  \
  KERNEL(name##_bf16_4, Params, THREADS, name<bf16, 4>)
#define FOR_ROWS(name) FOR_ROWS_OF(name, Norm)
