// The kernels of linear attention over space; `linear.cuh` defines their work units.

// Shared memory: ROOM, 2 d, and a float for each thread.
template <class T, int D>
__device__ inline void linear_sums(const Linear& p) {
  typedef Sites<T, D> Of;
  const Of sites(p);
  const u32 feature = threadIdx.x % D, part = threadIdx.x / D, parts = THREADS / D;
  float* keys = (float*)shared();
  float* values = keys + TILE * Of::ROW;
  float* top = keys + Of::ROOM;
  float* factors = top + D;
  float* seen = factors + D;
  float sums[4][4] = {}, sum = 0.0f;
  const float lowest = -__uint_as_float(0x7f800000u);
  if (threadIdx.x < D) top[threadIdx.x] = lowest;
  for (u32 from = sites.from; from < sites.to; from += TILE) {
    for (u32 i = threadIdx.x; i < TILE * (D / Of::W); i += blockDim.x) {
      const u32 s = i / (D / Of::W), d = i % (D / Of::W) * Of::W;
      const bool there = from + s < sites.to;
      const u32 site = there ? from + s : sites.from;
      sites.stage(sites.part(KEY, site) + d, there, lowest, keys + s * Of::ROW + d);
      sites.stage(sites.part(VALUE, site) + d, there, 0.0f, values + s * Of::ROW + d);
    }
    __syncthreads();
    float largest = top[feature];
    for (u32 s = part; s < TILE; s += parts) largest = fmaxf(largest, keys[s * Of::ROW + feature]);
    seen[threadIdx.x] = largest;
    __syncthreads();
    for (u32 i = 0; i < parts; ++i) largest = fmaxf(largest, seen[i * D + feature]);
    const float factor = __expf(top[feature] - largest);
    sum *= factor;
    for (u32 s = part; s < TILE; s += parts) {
      const float e = __expf(keys[s * Of::ROW + feature] - largest);
      keys[s * Of::ROW + feature] = e;
      sum += e;
    }
    __syncthreads();
    if (part == 0) top[feature] = largest, factors[feature] = factor;
    __syncthreads();
    const u32 row = threadIdx.x % (Of::SIDE * Of::SIDE) / Of::SIDE * 4;
#pragma unroll
    for (int i = 0; i < 4; ++i) {
#pragma unroll
      for (int j = 0; j < 4; ++j) sums[i][j] *= factors[row + i];
    }
    sites.multiply(keys, values, sums);
    __syncthreads();
  }
  seen[threadIdx.x] = sum;
  float* to = p.partials + (u64)blockIdx.x * D * (D + 2);
  sites.reduce(sums, keys, to);
  if (threadIdx.x < D) {
    float all = 0.0f;
    for (u32 i = 0; i < parts; ++i) all += seen[i * D + threadIdx.x];
    to[D * D + threadIdx.x] = top[threadIdx.x];
    to[D * D + D + threadIdx.x] = all;
  }
}

// One block per unit: merges the results of its blocks. Shared memory: 2 d.
template <int D>
__device__ inline void fold(const Linear& p) {
  const u32 unit = blockIdx.x, size = D * (D + 2);
  const float* from = p.partials + (u64)unit * p.chunks * size;
  float* top = (float*)shared();
  float* factor = top + D;
  for (u32 d = threadIdx.x; d < D; d += blockDim.x) {
    float largest = from[D * D + d], sum = 0.0f;
    for (u32 i = 1; i < p.chunks; ++i) largest = fmaxf(largest, from[i * size + D * D + d]);
    for (u32 i = 0; i < p.chunks; ++i) {
      const float* chunk = from + i * size + D * D;
      sum += chunk[D + d] * __expf(chunk[d] - largest);
    }
    top[d] = largest;
    factor[d] = 1.0f / sum;
    p.norms[(u64)unit * 2 * D + d] = largest;
    p.norms[((u64)unit * 2 + 1) * D + d] = 1.0f / sum;
  }
  __syncthreads();
  for (u32 i = threadIdx.x; i < D * D; i += blockDim.x) {
    float sum = 0.0f;
    for (u32 n = 0; n < p.chunks; ++n) {
      sum += from[n * size + i] * __expf(from[n * size + D * D + i / D] - top[i / D]);
    }
    p.context[(u64)unit * D * D + i] = sum * factor[i / D];
  }
}

template <int D>
__device__ inline void copy(const float* from, u32 count, float* to) {
  for (u32 i = threadIdx.x; i < count; i += blockDim.x) to[i] = from[i];
}

template <int D>
__device__ inline void soften(float* x, float scale) {
  float largest = x[0], sum = 0.0f;
#pragma unroll
  for (int d = 1; d < D; ++d) largest = fmaxf(largest, x[d]);
#pragma unroll
  for (int d = 0; d < D; ++d) {
    x[d] = __expf(x[d] - largest);
    sum += x[d];
  }
  const float factor = scale / sum;
#pragma unroll
  for (int d = 0; d < D; ++d) x[d] *= factor;
}

// Writes x times a matrix, some columns at a time.
template <class T, int D>
__device__ inline void put_product(const float* x, const float* matrix, T* to) {
  const int W = Vector<T>::N;
#pragma unroll 1
  for (int e = 0; e < D; e += W) {
    float sums[W];
#pragma unroll
    for (int i = 0; i < W; ++i) sums[i] = 0.0f;
#pragma unroll
    for (int d = 0; d < D; ++d) {
#pragma unroll
      for (int i = 0; i < W; i += 4) {
        float row[4];
        Vector<float>::load(matrix + d * D + e + i, row);
#pragma unroll
        for (int j = 0; j < 4; ++j) sums[i + j] += x[d] * row[j];
      }
    }
    Vector<T>::store(sums, to + e);
  }
}

// Shared memory: d d.
template <class T, int D>
__device__ inline void linear_forward(const Linear& p) {
  const Sites<T, D> sites(p);
  float* context = (float*)shared();
  copy<D>(p.context + (u64)sites.unit * D * D, D * D, context);
  __syncthreads();
  for (u32 site = sites.from + threadIdx.x; site < sites.to; site += blockDim.x) {
    float q[D];
    sites.load(sites.part(QUERY, site), q);
    soften<D>(q, p.scale);
    put_product<T, D>(q, context, (T*)p.out + sites.at(site, p.heads, 0));
  }
}

// Each block's part of the gradient of the context. Shared memory: ROOM.
template <class T, int D>
__device__ inline void linear_backward_sums(const Linear& p) {
  typedef Sites<T, D> Of;
  const Of sites(p);
  float* queries = (float*)shared();
  float* grads = queries + TILE * Of::ROW;
  float sums[4][4] = {};
  for (u32 from = sites.from; from < sites.to; from += TILE) {
    for (u32 i = threadIdx.x; i < TILE * (D / Of::W); i += blockDim.x) {
      const u32 s = i / (D / Of::W), d = i % (D / Of::W) * Of::W;
      const bool there = from + s < sites.to;
      const u32 site = there ? from + s : sites.from;
      sites.stage(sites.part(QUERY, site) + d, there, 0.0f, queries + s * Of::ROW + d);
      sites.stage(sites.grad(site) + d, there, 0.0f, grads + s * Of::ROW + d);
    }
    __syncthreads();
    // Four lanes share a position.
    float* row = queries + threadIdx.x / 4 * Of::ROW + threadIdx.x % 4;
    float largest = row[0], sum = 0.0f;
#pragma unroll
    for (int d = 4; d < D; d += 4) largest = fmaxf(largest, row[d]);
    largest = fmaxf(largest, __shfl_xor_sync(~0u, largest, 1));
    largest = fmaxf(largest, __shfl_xor_sync(~0u, largest, 2));
#pragma unroll
    for (int d = 0; d < D; d += 4) {
      row[d] = __expf(row[d] - largest);
      sum += row[d];
    }
    const float factor = p.scale / sum_of_lanes(sum, 4);
#pragma unroll
    for (int d = 0; d < D; d += 4) row[d] *= factor;
    __syncthreads();
    sites.multiply(queries, grads, sums);
    __syncthreads();
  }
  sites.reduce(sums, queries, p.partials + (u64)blockIdx.x * D * D);
}

// Shared memory: 2 d d and 3 d.
template <class T, int D>
__device__ inline void linear_backward(const Linear& p) {
  typedef Sites<T, D> Of;
  const Of sites(p);
  float* context = (float*)shared();
  float* slopes = context + D * D;
  float* norms = slopes + D * D;
  float* along = norms + 2 * D;
  copy<D>(p.context + (u64)sites.unit * D * D, D * D, context);
  copy<D>(p.context_grad + (u64)sites.unit * D * D, D * D, slopes);
  copy<D>(p.norms + (u64)sites.unit * 2 * D, 2 * D, norms);
  __syncthreads();
  // The sum over positions of a key's weight times its gradient.
  for (u32 d = threadIdx.x; d < D; d += blockDim.x) {
    float sum = 0.0f;
    for (u32 e = 0; e < D; ++e) sum += context[d * D + e] * slopes[d * D + e];
    along[d] = sum;
  }
  __syncthreads();
  for (u32 site = sites.from + threadIdx.x; site < sites.to; site += blockDim.x) {
    T* out = (T*)p.out + sites.at(site, 3 * p.heads, 0);
    float x[D], y[D];
    sites.load(sites.grad(site), y);
    float slope[D], mean = 0.0f;
    sites.load(sites.part(QUERY, site), x);
    soften<D>(x, 1.0f);
#pragma unroll
    for (int d = 0; d < D; ++d) {
      READ_ANEW();
      slope[d] = p.scale * product<D>(y, context + d * D);
      mean += x[d] * slope[d];
    }
#pragma unroll
    for (int d = 0; d < D; ++d) x[d] *= slope[d] - mean;
#pragma unroll
    for (int d = 0; d < D; d += Of::W) Vector<T>::store(x + d, out + d);
    sites.load(sites.part(KEY, site), x);
    sites.load(sites.part(VALUE, site), y);
#pragma unroll
    for (int d = 0; d < D; ++d) {
      READ_ANEW();
      x[d] = __expf(x[d] - norms[d]) * norms[D + d];
      slope[d] = x[d] * (product<D>(y, slopes + d * D) - along[d]);
    }
    T* key = out + (u64)KEY * p.heads * D;
#pragma unroll
    for (int d = 0; d < D; d += Of::W) Vector<T>::store(slope + d, key + d);
    put_product<T, D>(x, slopes, out + (u64)VALUE * p.heads * D);
  }
}

#define FOR_KINDS(name)                                     \
  KERNEL(name##_f32_16, Linear, THREADS, name<float, 16>)   \
  KERNEL(name##_f32_32, Linear, THREADS, name<float, 32>)   \
  KERNEL(name##_bf16_16, Linear, THREADS, name<bf16, 16>)   \
  KERNEL(name##_bf16_32, Linear, THREADS, name<bf16, 32>)

FOR_KINDS(linear_sums)
FOR_KINDS(linear_forward)
FOR_KINDS(linear_backward_sums)
FOR_KINDS(linear_backward)
KERNEL(linear_fold_16, Linear, THREADS, fold<16>)
KERNEL(linear_fold_32, Linear, THREADS, fold<32>)
