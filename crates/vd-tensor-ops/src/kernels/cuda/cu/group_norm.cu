// y = silu(norm(x) gain + shift) + residual, where norm(x) has mean 0 and variance 1 over groups of
// channels, all frames and positions of a sample: one pass for the sums, and one for the rest.

const double EPSILON = 1e-5;

// Sums of x minus the sample's first position, and of its square: without this shift, the squares
// of a large mean would swamp the variance.
template <class T, int N>
__device__ inline void group_sums(const Norm& p) {
  const Rows<T, N> rows(p);
  const int E = Rows<T, N>::E;
  float pivot[E], sums[E], squares[E];
#pragma unroll
  for (int e = 0; e < E; ++e) pivot[e] = sums[e] = squares[e] = 0.0f;
#pragma unroll
  for (int n = 0; n < N; ++n) {
    const u32 k = rows.channel(n);
    const u64 first = (u64)rows.segment * p.positions * p.c;
    if (k < p.c) Vector<T>::load((const T*)p.x + first + k, pivot + n * Rows<T, N>::W);
  }
  for (u32 from = rows.start; from < p.positions; from += rows.step) {
    float x[E];
    rows.read(p.x, from, x);
    const float there = rows.there(from) ? 1.0f : 0.0f;
#pragma unroll
    for (int e = 0; e < E; ++e) {
      const float off = there * (x[e] - pivot[e]);
      sums[e] += off;
      squares[e] += off * off;
    }
  }
  rows.reduce_both(sums, squares);
}

// Both halves of a sample's 2 c numbers, summed over `count` blocks.
__device__ inline void added_up(const float* partials, u32 count, u32 c, u32 k, double* to) {
  to[0] = to[1] = 0.0;
  for (u32 i = 0; i < count; ++i) {
    to[0] += (double)partials[(u64)i * 2 * c + k];
    to[1] += (double)partials[(u64)i * 2 * c + c + k];
  }
}

// One block per sample; here a segment is the whole sample. Shared memory: 2 c f64.
template <class T>
__device__ inline void group_statistics(const Norm& p) {
  const u32 sample = blockIdx.x, c = p.c, each = c / p.groups;
  const double n = (double)p.positions;
  double* mean = (double*)shared();
  double* within = mean + c;
  const float* partials = p.partials + (u64)sample * p.chunks * 2 * c;
  const T* pivot = (const T*)p.x + (u64)sample * p.positions * c;
  for (u32 k = threadIdx.x; k < c; k += blockDim.x) {
    double sums[2];
    added_up(partials, p.chunks, c, k, sums);
    within[k] = sums[1] - sums[0] * sums[0] / n;
    mean[k] = sums[0] / n + (double)wide(pivot[k]);
  }
  __syncthreads();
  for (u32 k = threadIdx.x; k < c; k += blockDim.x) {
    const u32 first = k / each * each;
    double middle = 0.0, squares = 0.0;
    for (u32 i = first; i < first + each; ++i) middle += mean[i] / each;
    for (u32 i = first; i < first + each; ++i) {
      const double off = mean[i] - middle;
      squares += within[i] + n * off * off;
    }
    float* to = p.statistics + (u64)sample * 2 * c;
    to[k] = (float)middle;
    to[c + k] = (float)(1.0 / sqrt(squares / (n * each) + EPSILON));
  }
}

template <class T, int N>
__device__ inline void group_forward(const Norm& p) {
  const Rows<T, N> rows(p);
  const int E = Rows<T, N>::E;
  float mean[E], gain[E], shift[E];
  const float* statistics = p.statistics + (u64)rows.sample() * 2 * p.c;
  rows.channels(statistics + p.c, 0.0f, mean);
  rows.gains(gain);
#pragma unroll
  for (int e = 0; e < E; ++e) gain[e] *= mean[e];
  rows.channels(statistics, 0.0f, mean);
  rows.shifts(shift);
  for (u32 from = rows.start; from < p.positions; from += rows.step) {
    float x[E];
    rows.read(p.x, from, x);
#pragma unroll
    for (int e = 0; e < E; ++e) x[e] = silu((x[e] - mean[e]) * gain[e] + shift[e]);
    rows.add_residual(from, x);
    rows.write(x, from, p.out);
  }
}

// Replaces x by the norm of a position, and its gradient by that before the SiLU.
template <class T, int N>
__device__ inline void before_silu(const Rows<T, N>& rows, float* x, float* d) {
  const int E = Rows<T, N>::E;
  if (E > 16) READ_ANEW();
  float a[E], b[E];
  const float* statistics = rows.p.statistics + (u64)rows.sample() * 2 * rows.p.c;
  rows.channels(statistics, 0.0f, a);
  rows.channels(statistics + rows.p.c, 0.0f, b);
#pragma unroll
  for (int e = 0; e < E; ++e) x[e] = (x[e] - a[e]) * b[e];
  rows.gains(a);
  rows.shifts(b);
#pragma unroll
  for (int e = 0; e < E; ++e) d[e] *= silu_slope(x[e] * a[e] + b[e]);
}

// Each block's sums for the gradients of gain and shift, which also give the two means below.
template <class T, int N>
__device__ inline void group_backward_sums(const Norm& p) {
  const Rows<T, N> rows(p);
  const int E = Rows<T, N>::E;
  float gains[E], shifts[E];
#pragma unroll
  for (int e = 0; e < E; ++e) gains[e] = shifts[e] = 0.0f;
  for (u32 from = rows.start; from < p.positions; from += rows.step) {
    float x[E], d[E];
    rows.read(p.x, from, x);
    rows.read(p.grad, from, d);
    before_silu(rows, x, d);
#pragma unroll
    for (int e = 0; e < E; ++e) {
      shifts[e] += d[e];
      gains[e] += d[e] * x[e];
    }
  }
  rows.reduce_both(gains, shifts);
}

// Means over each group of the norm's gradient, and of that gradient times the norm. One block per
// sample. Shared memory: 2 c f64.
__device__ inline void means_of_groups(const Norm& p) {
  const u32 sample = blockIdx.x, c = p.c, each = c / p.groups, per_sample = p.segments_per_sample;
  double* along = (double*)shared();
  double* ones = along + c;
  for (u32 k = threadIdx.x; k < c; k += blockDim.x) {
    along[k] = ones[k] = 0.0;
    for (u32 segment = sample * per_sample; segment < (sample + 1) * per_sample; ++segment) {
      double sums[2];
      added_up(p.partials + (u64)segment * p.chunks * 2 * c, p.chunks, c, k, sums);
      const double gain = (double)p.gain[(u64)(segment / p.segments_per_row) * c + k];
      along[k] += gain * sums[0];
      ones[k] += gain * sums[1];
    }
  }
  __syncthreads();
  const double n = (double)p.positions * per_sample * each;
  for (u32 k = threadIdx.x; k < c; k += blockDim.x) {
    const u32 first = k / each * each;
    double sums[2] = {0.0, 0.0};
    for (u32 i = first; i < first + each; ++i) sums[0] += ones[i], sums[1] += along[i];
    float* to = p.means + (u64)sample * 2 * c;
    to[k] = (float)(sums[0] / n);
    to[c + k] = (float)(sums[1] / n);
  }
}

template <class T, int N>
__device__ inline void group_backward(const Norm& p) {
  const Rows<T, N> rows(p);
  const int E = Rows<T, N>::E;
  const float* means = p.means + (u64)rows.sample() * 2 * p.c;
  const float* factors = p.statistics + ((u64)rows.sample() * 2 + 1) * p.c;
  for (u32 from = rows.start; from < p.positions; from += rows.step) {
    float x[E], d[E], row[E];
    rows.read(p.x, from, x);
    rows.read(p.grad, from, d);
    before_silu(rows, x, d);
    rows.gains(row);
#pragma unroll
    for (int e = 0; e < E; ++e) d[e] *= row[e];
    rows.channels(means, 0.0f, row);
#pragma unroll
    for (int e = 0; e < E; ++e) d[e] -= row[e];
    rows.channels(means + p.c, 0.0f, row);
#pragma unroll
    for (int e = 0; e < E; ++e) d[e] -= x[e] * row[e];
    rows.channels(factors, 0.0f, row);
#pragma unroll
    for (int e = 0; e < E; ++e) d[e] *= row[e];
    rows.write(d, from, p.out);
  }
}

FOR_ROWS(group_sums)
FOR_ROWS(group_forward)
FOR_ROWS(group_backward_sums)
FOR_ROWS(group_backward)
KERNEL(group_statistics_f32, Norm, THREADS, group_statistics<float>)
KERNEL(group_statistics_bf16, Norm, THREADS, group_statistics<bf16>)
KERNEL(group_means, Norm, THREADS, means_of_groups)
