// y = silu(x / |x| gain + shift) + residual, position by position: one pass, x and y once.

const float SMALLEST = 1e-24f;

template <class T, int N>
__device__ inline void rms_forward(const Norm& p) {
  const Rows<T, N> rows(p);
  const int E = Rows<T, N>::E;
  float gain[E], shift[E];
  rows.gains(gain);
  rows.shifts(shift);
  for (u32 from = rows.start; from < p.positions; from += rows.step) {
    float x[E], squares = 0.0f;
    rows.read(p.x, from, x);
#pragma unroll
    for (int e = 0; e < E; ++e) squares += x[e] * x[e];
    const float unit = rsqrtf(fmaxf(sum_of_lanes(squares, p.lanes), SMALLEST));
#pragma unroll
    for (int e = 0; e < E; ++e) x[e] = silu(x[e] * unit * gain[e] + shift[e]);
    rows.add_residual(from, x);
    rows.write(x, from, p.out);
  }
}

// The gradient of x, and each block's sums for those of gain and shift; the norm is made again.
template <class T, int N>
__device__ inline void rms_backward(const Norm& p) {
  const Rows<T, N> rows(p);
  const int E = Rows<T, N>::E;
  // Registers are scarce where a lane has many channels: its gains come from the cache then.
  const bool KEPT = E <= 16;
  float gain[E], shift[E], gains[E], shifts[E];
#pragma unroll
  for (int e = 0; e < E; ++e) gains[e] = shifts[e] = 0.0f;
  if (KEPT) rows.gains(gain), rows.shifts(shift);
  for (u32 from = rows.start; from < p.positions; from += rows.step) {
    float x[E], d[E], squares = 0.0f, along = 0.0f;
    rows.read(p.x, from, x);
    rows.read(p.grad, from, d);
    if (!KEPT) {
      READ_ANEW();
      rows.gains(gain), rows.shifts(shift);
    }
#pragma unroll
    for (int e = 0; e < E; ++e) squares += x[e] * x[e];
    squares = sum_of_lanes(squares, p.lanes);
    const float unit = rsqrtf(fmaxf(squares, SMALLEST));
#pragma unroll
    for (int e = 0; e < E; ++e) {
      x[e] *= unit;
      d[e] *= silu_slope(x[e] * gain[e] + shift[e]);
      shifts[e] += d[e];
      gains[e] += d[e] * x[e];
      d[e] *= gain[e];
      along += d[e] * x[e];
    }
    // Below the bound the length is a constant.
    along = squares > SMALLEST ? sum_of_lanes(along, p.lanes) : sum_of_lanes(0.0f, p.lanes);
#pragma unroll
    for (int e = 0; e < E; ++e) d[e] = unit * (d[e] - x[e] * along);
    rows.write(d, from, p.out);
  }
  rows.reduce_both(gains, shifts);
}

FOR_ROWS(rms_forward)
FOR_ROWS(rms_backward)
