// The kernels of attention along time; `temporal.cuh` defines their work units.

// The dot products of Q vectors with a row.
template <int Q, int D, class T>
__device__ inline void products(const float (*x)[D], const T* row, float* to) {
  const int W = Vector<T>::N;
  float sums[Q][2];
#pragma unroll
  for (int q = 0; q < Q; ++q) sums[q][0] = sums[q][1] = 0.0f;
#pragma unroll
  for (int d = 0; d < D; d += W) {
    float y[W];
    Vector<T>::load(row + d, y);
#pragma unroll
    for (int q = 0; q < Q; ++q) {
#pragma unroll
      for (int i = 0; i < W; ++i) sums[q][i % 2] += x[q][d + i] * y[i];
    }
  }
#pragma unroll
  for (int q = 0; q < Q; ++q) to[q] = sums[q][0] + sums[q][1];
}

// Adds a row times Q factors to as many vectors.
template <int Q, int D, class T>
__device__ inline void add(const float* factors, const T* row, float (*to)[D]) {
  const int W = Vector<T>::N;
#pragma unroll
  for (int d = 0; d < D; d += W) {
    float y[W];
    Vector<T>::load(row + d, y);
#pragma unroll
    for (int q = 0; q < Q; ++q) {
#pragma unroll
      for (int i = 0; i < W; ++i) to[q][d + i] += factors[q] * y[i];
    }
  }
}

template <int Q, int D>
__device__ inline void zero(float (*x)[D]) {
#pragma unroll
  for (int q = 0; q < Q; ++q) {
#pragma unroll
    for (int d = 0; d < D; ++d) x[q][d] = 0.0f;
  }
}

// Softmax of the scores of one query, in place; they are `step` apart.
__device__ inline void soften(float* scores, u32 step, u32 frames, float largest) {
  float sum = 0.0f;
  for (u32 j = 0; j < frames; ++j) {
    const float weight = __expf(scores[j * step] - largest);
    scores[j * step] = weight;
    sum += weight;
  }
  const float share = 1.0f / sum;
  for (u32 j = 0; j < frames; ++j) scores[j * step] *= share;
}

// The attention weights of this thread's queries x: that of query q for a frame is to[q][frame *
// step].
template <class T, int D, int Q>
__device__ inline void weigh(const Units<T, D, Q>& units, const float (*x)[D], const T* keys,
                             float* const* to, u32 step) {
  const float* bias = units.bias();
  const u8* forbidden = units.forbidden();
  const u32 f = units.p.frames;
  float largest[Q];
#pragma unroll
  for (int q = 0; q < Q; ++q) largest[q] = -__uint_as_float(0x7f800000u);
  for (u32 j = 0; j < f; ++j) {
    float scaled[Q];
    products<Q>(x, units.row(keys, j), scaled);
#pragma unroll
    for (int q = 0; q < Q; ++q) {
      const float score = units.score(scaled[q], bias, forbidden, units.frame(q), j);
      if (units.has(q)) to[q][j * step] = score;
      largest[q] = fmaxf(largest[q], score);
    }
  }
#pragma unroll
  for (int q = 0; q < Q; ++q) {
    if (units.has(q)) soften(to[q], step, f, largest[q]);
  }
}

// Shared memory: the table, 2 per_block (frames D + W) of T for keys and values, frames Q threads
// for scores.
template <class T, int D, int Q>
__device__ inline void temporal_forward(const Temporal& p) {
  Units<T, D, Q> units(p);
  units.go(units.number);
  const u32 f = p.frames, step = blockDim.x;
  T* keys = units.room();
  T* values = keys + p.per_block * units.stretch;
  float* scores = (float*)(values + p.per_block * units.stretch) + threadIdx.x;
  float* own[Q];
#pragma unroll
  for (int q = 0; q < Q; ++q) own[q] = scores + q * f * step;
  __syncthreads();
  units.template stage<KEY>(keys);
  units.template stage<VALUE>(values);
  float x[Q][D];
  units.template own<QUERY>(x);
  __syncthreads();
  if (!units.there) return;
  weigh(units, x, keys, own, step);
  zero<Q>(x);
  for (u32 j = 0; j < f; ++j) {
    float weights[Q];
#pragma unroll
    for (int q = 0; q < Q; ++q) weights[q] = units.has(q) ? own[q][j * step] : 0.0f;
    add<Q>(weights, units.row(values, j), x);
  }
#pragma unroll
  for (int q = 0; q < Q; ++q) {
    if (!units.has(q)) continue;
    units.put(x[q], units.places[units.unit].out + units.frame(q) * units.out_step);
  }
}

// The gradients of the weights of this thread's queries, from its rows of the output gradient.
template <class T, int D, int Q>
__device__ inline void slopes_of_weights(const Units<T, D, Q>& units, const float (*grad)[D],
                                         const T* values, float* slopes) {
  const u32 f = units.p.frames;
  for (u32 j = 0; j < f; ++j) {
    float slope[Q];
    products<Q>(grad, units.row(values, j), slope);
#pragma unroll
    for (int q = 0; q < Q; ++q) {
      if (units.has(q)) slopes[units.frame(q) * (f + 1) + j] = slope[q];
    }
  }
}

// The weights of this thread's queries x; replaces the gradients of the weights by those of the
// scores, and computes the gradient of the queries.
template <class T, int D, int Q>
__device__ inline void queries_backward(const Units<T, D, Q>& units, float (*x)[D], const T* keys,
                                        float* weights, float* slopes) {
  const u32 f = units.p.frames, row = f + 1;
  float* own[Q];
#pragma unroll
  for (int q = 0; q < Q; ++q) own[q] = weights + units.frame(q) * row;
  weigh(units, x, keys, own, 1);
#pragma unroll
  for (int q = 0; q < Q; ++q) {
    if (!units.has(q)) continue;
    const float* weight = own[q];
    float* slope = slopes + units.frame(q) * row;
    float mean = 0.0f;
    for (u32 j = 0; j < f; ++j) mean += weight[j] * slope[j];
    for (u32 j = 0; j < f; ++j) slope[j] = weight[j] * (slope[j] - mean);
  }
  zero<Q>(x);
  for (u32 j = 0; j < f; ++j) {
    float factors[Q];
#pragma unroll
    for (int q = 0; q < Q; ++q) factors[q] = slopes[units.frame(q) * row + j];
    add<Q>(factors, units.row(keys, j), x);
  }
#pragma unroll
  for (int q = 0; q < Q; ++q) {
    if (!units.has(q)) continue;
    const u32 i = units.frame(q);
#pragma unroll
    for (int d = 0; d < D; ++d) x[q][d] *= units.p.scale;
    units.template turn<D>(x[q], 0, i, -1.0f);
    units.put(x[q], units.at(QUERY, units.unit, i));
  }
}

// The gradients of this thread's keys or values: a column of the matrix times the rows of all
// frames.
template <int PART, class T, int D, int Q>
__device__ inline void columns_backward(const Units<T, D, Q>& units, const T* rows,
                                        const float* matrix) {
  const u32 f = units.p.frames;
  float out[Q][D];
  zero<Q>(out);
  for (u32 i = 0; i < f; ++i) {
    float factors[Q];
#pragma unroll
    for (int q = 0; q < Q; ++q) factors[q] = matrix[i * (f + 1) + units.frame(q)];
    add<Q>(factors, units.row(rows, i), out);
  }
#pragma unroll
  for (int q = 0; q < Q; ++q) {
    if (!units.has(q)) continue;
    const u32 j = units.frame(q);
    if (PART == KEY) units.template turn<D>(out[q], 0, j, -1.0f);
    units.put(out[q], units.at((Part)PART, units.unit, j));
  }
}

// Shared memory: the table, per_block (frames D + W) of T for values, keys, queries and gradients,
// one after the other; 2 per_block frames (frames + 1) for the weights and the gradients of the
// scores, and heads_of_block frames frames if the bias has a gradient.
template <class T, int D, int Q>
__device__ inline void temporal_backward(const Temporal& p) {
  Units<T, D, Q> units(p);
  const u32 f = p.frames, matrix = f * (f + 1), pairs = f * f, all = p.heads_of_block * pairs;
  T* rows = units.room();
  float* weights = (float*)(rows + p.per_block * units.stretch);
  float* slopes = weights + p.per_block * matrix;
  float* bias = slopes + p.per_block * matrix;
  if (p.bias_grad != 0) {
    for (u32 i = threadIdx.x; i < all; i += blockDim.x) bias[i] = 0.0f;
  }
  const u64 groups = (p.units + p.per_block - 1) / p.per_block;
  for (u64 group = units.number; group < groups; group += units.alike) {
    __syncthreads();
    units.go(group);
    float* weight = weights + units.unit * matrix;
    float* slope = slopes + units.unit * matrix;
    __syncthreads();
    float x[Q][D];
    units.template stage<VALUE>(rows);
    units.template own<GRAD>(x);
    __syncthreads();
    if (units.there) slopes_of_weights(units, x, rows, slope);
    __syncthreads();
    units.template stage<KEY>(rows);
    units.template own<QUERY>(x);
    __syncthreads();
    if (units.there) queries_backward(units, x, rows, weight, slope);
    __syncthreads();
    units.template stage<QUERY>(rows);
    __syncthreads();
    if (units.there) columns_backward<KEY>(units, rows, slope);
    __syncthreads();
    units.template stage<GRAD>(rows);
    __syncthreads();
    if (units.there) columns_backward<VALUE>(units, rows, weight);
    if (p.bias_grad != 0) {
      // Each thread owns its pairs of frames, so that sums have a fixed order.
      for (u32 i = threadIdx.x; i < pairs; i += blockDim.x) {
        const float* slope = slopes + i / f * (f + 1) + i % f;
        for (u32 of = 0; of < units.count; ++of) {
          const u32 head = units.places[of].head - units.slice * p.heads_of_block;
          bias[head * pairs + i] += slope[of * matrix];
        }
      }
    }
  }
  if (p.bias_grad != 0) {
    __syncthreads();
    float* to = p.bias_grad + (u64)blockIdx.x * all;
    for (u32 i = threadIdx.x; i < all; i += blockDim.x) to[i] = bias[i];
  }
}

// Maximum threads per block, and blocks per multiprocessor for which registers suffice, as in
// `plan.rs`: with one block more, registers of the backward are spilled.
const u32 TEMPORAL_THREADS = 128;
#define FOR_WIDTHS(name, T, kind, of_16, of_32, of_64)                                        \
  RESIDENT_KERNEL(name##_##kind##_16, Temporal, TEMPORAL_THREADS, of_16, name<T, 16, 2>)      \
  RESIDENT_KERNEL(name##_##kind##_32, Temporal, TEMPORAL_THREADS, of_32, name<T, 32, 2>)      \
  RESIDENT_KERNEL(name##_##kind##_64, Temporal, TEMPORAL_THREADS, of_64, name<T, 64, 1>)

FOR_WIDTHS(temporal_forward, float, f32, 5, 5, 5)
FOR_WIDTHS(temporal_forward, bf16, bf16, 5, 5, 5)
FOR_WIDTHS(temporal_backward, float, f32, 5, 4, 4)
FOR_WIDTHS(temporal_backward, bf16, bf16, 5, 4, 5)
