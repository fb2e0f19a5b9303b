// y = silu((x + bias) / |x + bias| gain (1 + scale) + shift) + residual, position by position: one
// pass, reading x and writing y once.

const float SMALLEST = 1e-24f;
const u32 FOLD_THREADS = 512;

// Mirrored in Rust. Rows of `T` that depend on the embedding, `step` apart; gain and bias have one
// row for all.
struct Rms {
  Norm norm;
  const float* bias;
  const void* scale;
  const void* shift;
  u32 step;
  // Factor of the gain.
  float factor;
};

template <class T, int N>
struct RmsRows : Rows<T, N> {
  static const int W = Rows<T, N>::W;
  static const int E = Rows<T, N>::E;
  const Rms& of;

  __device__ inline explicit RmsRows(const Rms& rms) : Rows<T, N>(rms.norm), of(rms) {}

  // The lane's vector n of a row, or zeros if there is no row.
  __device__ inline void row(const float* from, int n, float* to) const {
    const u32 k = this->channel(n);
#pragma unroll
    for (int i = 0; i < W; i += 4) {
      if (from != 0 && k < this->p.c) {
        Vector<float>::load(from + k + i, to + i);
      } else {
#pragma unroll
        for (int j = 0; j < 4; ++j) to[i + j] = 0.0f;
      }
    }
  }
  __device__ inline void film(const void* rows, int n, float* to) const {
    const u32 k = this->channel(n);
    if (rows != 0 && k < this->p.c) {
      Vector<T>::load((const T*)rows + (u64)this->segment * of.step + k, to);
    } else {
#pragma unroll
      for (int i = 0; i < W; ++i) to[i] = 0.0f;
    }
  }
  __device__ inline void biases(int n, float* to) const { row(of.bias, n, to); }
  __device__ inline void gains_and_shifts(int n, float* gain, float* shift) const {
    film(of.scale, n, shift);
    row(this->p.gain, n, gain);
#pragma unroll
    for (int i = 0; i < W; ++i) gain[i] *= of.factor * (1.0f + shift[i]);
    film(of.shift, n, shift);
  }
};

template <class T, int N>
__device__ inline void rms_forward(const Rms& rms) {
  const RmsRows<T, N> rows(rms);
  const Norm& p = rms.norm;
  const int E = RmsRows<T, N>::E, W = RmsRows<T, N>::W;
  // Registers are scarce if a lane has many channels: its rows are then reread from the cache,
  // vector by vector.
  const bool KEPT = E <= 8;
  float gain[E], shift[E], bias[E];
#pragma unroll
  for (int n = 0; n < N && KEPT; ++n) {
    rows.gains_and_shifts(n, gain + n * W, shift + n * W);
    rows.biases(n, bias + n * W);
  }
  for (u32 from = rows.start; from < p.positions; from += rows.step) {
    float x[E], squares = 0.0f;
    rows.read(p.x, from, x);
    if (!KEPT) READ_ANEW();
#pragma unroll
    for (int n = 0; n < N; ++n) {
      if (!KEPT) rows.biases(n, bias + n * W);
#pragma unroll
      for (int e = n * W; e < (n + 1) * W; ++e) {
        x[e] += bias[e];
        squares += x[e] * x[e];
      }
    }
    const float unit = rsqrtf(fmaxf(sum_of_lanes(squares, p.lanes), SMALLEST));
#pragma unroll
    for (int n = 0; n < N; ++n) {
      if (!KEPT) rows.gains_and_shifts(n, gain + n * W, shift + n * W);
#pragma unroll
      for (int e = n * W; e < (n + 1) * W; ++e) x[e] = silu(x[e] * unit * gain[e] + shift[e]);
    }
    rows.add_residual(from, x);
    rows.write(x, from, p.out);
  }
}

// The gradient of x, and each block's sums for those of gain, shift and bias; the norm is
// recomputed.
template <class T, int N>
__device__ inline void rms_backward(const Rms& rms) {
  const RmsRows<T, N> rows(rms);
  const Norm& p = rms.norm;
  const int E = RmsRows<T, N>::E, W = RmsRows<T, N>::W;
  const bool KEPT = E <= 4;
  // With more channels there is no room for the sums of the bias: they are computed from the
  // result.
  const bool BIASES = E <= 16;
  float gain[E], shift[E], gains[E], shifts[E], biases[E];
#pragma unroll
  for (int e = 0; e < E; ++e) gains[e] = shifts[e] = biases[e] = 0.0f;
#pragma unroll
  for (int n = 0; n < N && KEPT; ++n) rows.gains_and_shifts(n, gain + n * W, shift + n * W);
  for (u32 from = rows.start; from < p.positions; from += rows.step) {
    float x[E], d[E], squares = 0.0f, along = 0.0f;
    rows.read(p.x, from, x);
    rows.read(p.grad, from, d);
    if (!KEPT) READ_ANEW();
#pragma unroll
    for (int n = 0; n < N; ++n) {
      float bias[W];
      rows.biases(n, bias);
#pragma unroll
      for (int i = 0; i < W; ++i) {
        const int e = n * W + i;
        x[e] += bias[i];
        squares += x[e] * x[e];
      }
    }
    squares = sum_of_lanes(squares, p.lanes);
    const float unit = rsqrtf(fmaxf(squares, SMALLEST));
#pragma unroll
    for (int n = 0; n < N; ++n) {
      if (!KEPT) rows.gains_and_shifts(n, gain + n * W, shift + n * W);
#pragma unroll
      for (int e = n * W; e < (n + 1) * W; ++e) {
        x[e] *= unit;
        d[e] *= silu_slope(x[e] * gain[e] + shift[e]);
        shifts[e] += d[e];
        gains[e] += d[e] * x[e];
        d[e] *= gain[e];
        along += d[e] * x[e];
      }
    }
    // Below the bound the length is a constant.
    along = squares > SMALLEST ? sum_of_lanes(along, p.lanes) : sum_of_lanes(0.0f, p.lanes);
#pragma unroll
    for (int e = 0; e < E; ++e) {
      d[e] = unit * (d[e] - x[e] * along);
      if (BIASES) biases[e] += d[e];
    }
    rows.write(d, from, p.out);
  }
  float* to = p.partials + (u64)blockIdx.x * 3 * p.c;
  rows.reduce(gains, to);
  rows.reduce(shifts, to + p.c);
  rows.reduce(biases, to + 2 * p.c);
}

// Mirrored in Rust.
struct Fold {
  // Sums of blocks, 3 c each, `chunks` for each of `rows`.
  const float* partials;
  const float* gain;
  // Rows of T, `step` apart, or null.
  const void* scale;
  // The gradients of scale and shift, 2 c for each row, in T; or null.
  void* film;
  // The gradients of gain and bias: 2 c.
  float* sums;
  u32 rows;
  u32 chunks;
  u32 c;
  u32 step;
  float factor;
};

// Reduces the sums of blocks to the gradients of gain, bias, scale and shift. A block has 32
// channels; its warps divide the rows among themselves or, if there are few, the chunks of a row.
// Shared memory: 2 floats per thread.
template <class T>
__device__ inline void rms_fold(const Fold& p) {
  const u32 warp = threadIdx.x / 32, warps = blockDim.x / 32, k = blockIdx.x * 32 + threadIdx.x % 32;
  const u32 team = p.rows < warps ? warps / p.rows : 1, together = warps / team;
  const u32 member = warp % team;
  float* room = (float*)shared();
  float gain = 0.0f, bias = 0.0f;
  for (u32 first = 0; first < p.rows; first += together) {
    const u32 row = first + warp / team;
    const bool there = k < p.c && warp / team < together && row < p.rows;
    float gains = 0.0f, shifts = 0.0f;
    for (u32 i = member; there && i < p.chunks; i += team) {
      const float* from = p.partials + ((u64)row * p.chunks + i) * 3 * p.c + k;
      gains += from[0];
      shifts += from[p.c];
      bias += from[2 * p.c];
    }
    room[threadIdx.x] = gains;
    room[blockDim.x + threadIdx.x] = shifts;
    __syncthreads();
    if (there && member == 0) {
      for (u32 i = 1; i < team; ++i) {
        gains += room[threadIdx.x + 32 * i];
        shifts += room[blockDim.x + threadIdx.x + 32 * i];
      }
      float scale = p.factor;
      if (p.scale != 0) scale *= 1.0f + wide(((const T*)p.scale)[(u64)row * p.step + k]);
      gain += gains * scale;
      if (p.film != 0) {
        T* to = (T*)p.film + (u64)row * 2 * p.c + k;
        narrow(gains * p.gain[k] * p.factor, to);
        narrow(shifts, to + p.c);
      }
    }
    __syncthreads();
  }
  room[threadIdx.x] = gain;
  room[blockDim.x + threadIdx.x] = bias;
  __syncthreads();
  if (warp == 0 && k < p.c) {
    for (u32 i = 1; i < warps; ++i) {
      gain += room[threadIdx.x + 32 * i];
      bias += room[blockDim.x + threadIdx.x + 32 * i];
    }
    p.sums[k] = gain;
    p.sums[p.c + k] = bias;
  }
}

FOR_ROWS_OF(rms_forward, Rms)
FOR_ROWS_OF(rms_backward, Rms)
KERNEL(rms_fold_f32, Fold, FOLD_THREADS, rms_fold<float>)
KERNEL(rms_fold_bf16, Fold, FOLD_THREADS, rms_fold<bf16>)
