// y = (x - mean) / deviation gain, position by position: one pass, reading x and writing y once.

const float EPSILON = 1e-5f;

// The norm of a position, in place of x; returns 1 / deviation.
template <class T, int N>
__device__ inline float layer_normal(const Rows<T, N>& rows, float* x) {
  const int W = Rows<T, N>::W;
  const float share = 1.0f / (float)rows.p.c;
  float sum = 0.0f, squares = 0.0f;
#pragma unroll
  for (int e = 0; e < Rows<T, N>::E; ++e) sum += x[e];
  const float mean = sum_of_lanes(sum, rows.p.lanes) * share;
#pragma unroll
  for (int n = 0; n < N; ++n) {
    // A lane's entries beyond the channels do not count towards the deviation.
    const bool there = rows.channel(n) < rows.p.c;
#pragma unroll
    for (int i = 0; i < W; ++i) {
      const float off = there ? x[n * W + i] - mean : 0.0f;
      x[n * W + i] = off;
      squares += off * off;
    }
  }
  const float unit = rsqrtf(sum_of_lanes(squares, rows.p.lanes) * share + EPSILON);
#pragma unroll
  for (int e = 0; e < Rows<T, N>::E; ++e) x[e] *= unit;
  return unit;
}

template <class T, int N>
__device__ inline void layer_forward(const Norm& p) {
  const Rows<T, N> rows(p);
  const int E = Rows<T, N>::E;
  float gain[E];
  rows.gains(gain);
  for (u32 from = rows.start; from < p.positions; from += rows.step) {
    float x[E];
    rows.read(p.x, from, x);
    layer_normal(rows, x);
#pragma unroll
    for (int e = 0; e < E; ++e) x[e] *= gain[e];
    rows.write(x, from, p.out);
  }
}

// The gradient of x, including that of the residual connection, and each block's sums for the
// gradient of the gain; the norm is recomputed.
template <class T, int N>
__device__ inline void layer_backward(const Norm& p) {
  const Rows<T, N> rows(p);
  const int E = Rows<T, N>::E;
  const bool KEPT = E <= 16;
  const float share = 1.0f / (float)p.c;
  float gain[E], gains[E];
#pragma unroll
  for (int e = 0; e < E; ++e) gains[e] = 0.0f;
  if (KEPT) rows.gains(gain);
  for (u32 from = rows.start; from < p.positions; from += rows.step) {
    float x[E], d[E], ones = 0.0f, along = 0.0f;
    rows.read(p.x, from, x);
    rows.read(p.grad, from, d);
    if (!KEPT) {
      READ_ANEW();
      rows.gains(gain);
    }
    const float unit = layer_normal(rows, x);
#pragma unroll
    for (int e = 0; e < E; ++e) {
      gains[e] += d[e] * x[e];
      d[e] *= gain[e];
      ones += d[e];
      along += d[e] * x[e];
    }
    ones = sum_of_lanes(ones, p.lanes) * share;
    along = sum_of_lanes(along, p.lanes) * share;
#pragma unroll
    for (int e = 0; e < E; ++e) d[e] = unit * (d[e] - ones - x[e] * along);
    if (p.residual != 0) {
      rows.read(p.residual, from, x);
#pragma unroll
      for (int e = 0; e < E; ++e) d[e] += x[e];
    }
    rows.write(d, from, p.out);
  }
  rows.reduce(gains, p.partials + (u64)blockIdx.x * p.c);
}

FOR_ROWS(layer_forward)
FOR_ROWS(layer_backward)
