// Linear attention over space from queries, keys and values as their projection leaves them, i s (3
// n d), to i s (n d): context = softmax(k over positions)^T v, out = softmax(q) scale context.
//
// A unit is one head of one image; its positions are divided over blocks. Sums over positions go
// tile by tile through shared memory, with running maxima; each thread accumulates a 4 by 4 block
// of a sum. What a position needs for itself is in one thread's registers.

// Mirrored in Rust.
struct Linear {
  const void* qkv;
  // The gradient of the output.
  const void* grad;
  // The output, or the gradient of qkv.
  void* out;
  // Per block: a context, the maximum key of each feature and the sum of its exponentials; in the
  // backward, the gradient of a context.
  float* partials;
  // Per unit: d d.
  float* context;
  float* context_grad;
  // Per unit: the maximum keys, and 1 / the sums: 2 d.
  float* norms;
  u32 sites;
  u32 heads;
  // Blocks per unit, and positions per block.
  u32 chunks;
  u32 each;
  float scale;
};

const u32 TILE = 64;
enum Part { QUERY, KEY, VALUE };

template <class T, int D>
struct Sites {
  static const int W = Vector<T>::N;
  static const int ROW = D + 4;
  // Threads along one side of a sum; the number of partial sums, each over its own positions.
  static const u32 SIDE = D / 4;
  static const u32 SUMS = THREADS / (SIDE * SIDE);
  // Floats of two tiles, or of all partial sums.
  static const u32 ROOM = 2 * TILE * ROW > SUMS * D * D ? 2 * TILE * ROW : SUMS * D * D;

  const Linear& p;
  u32 unit, from, to;

  __device__ inline explicit Sites(const Linear& of) : p(of) {
    unit = blockIdx.x / p.chunks;
    from = blockIdx.x % p.chunks * p.each;
    to = from + p.each < p.sites ? from + p.each : p.sites;
  }

  __device__ inline u64 at(u32 site, u32 width, u32 row) const {
    const u64 position = (u64)(unit / p.heads) * p.sites + site;
    return (position * width + row + unit % p.heads) * D;
  }
  __device__ inline const T* part(Part part, u32 site) const {
    return (const T*)p.qkv + at(site, 3 * p.heads, part * p.heads);
  }
  __device__ inline const T* grad(u32 site) const { return (const T*)p.grad + at(site, p.heads, 0); }

  static __device__ inline void load(const T* from, float* to) {
#pragma unroll
    for (int d = 0; d < D; d += W) Vector<T>::load(from + d, to + d);
  }

  // Copies a row of a tile from memory, or fills it with one value if there is no such position.
  __device__ inline void stage(const T* row, bool there, float none, float* to) const {
    float x[W];
    if (there) {
      Vector<T>::load(row, x);
    } else {
#pragma unroll
      for (int i = 0; i < W; ++i) x[i] = none;
    }
#pragma unroll
    for (int i = 0; i < W; i += 4) Vector<float>::store(x + i, to + i);
  }

  // Accumulates first[s]^T second[s] over the tile's positions.
  __device__ inline void multiply(const float* first, const float* second, float (*sums)[4]) const {
    const u32 number = threadIdx.x / (SIDE * SIDE), place = threadIdx.x % (SIDE * SIDE);
    const float* rows = first + place / SIDE * 4;
    const float* columns = second + place % SIDE * 4;
#pragma unroll 4
    for (u32 s = number; s < TILE; s += SUMS) {
      float a[4], b[4];
      Vector<float>::load(rows + s * ROW, a);
      Vector<float>::load(columns + s * ROW, b);
#pragma unroll
      for (int i = 0; i < 4; ++i) {
#pragma unroll
        for (int j = 0; j < 4; ++j) sums[i][j] += a[i] * b[j];
      }
    }
  }

  // Writes the sum of all threads' parts, in a fixed order.
  __device__ inline void reduce(float (*sums)[4], float* room, float* to) const {
    const u32 number = threadIdx.x / (SIDE * SIDE), place = threadIdx.x % (SIDE * SIDE);
    float* own = room + number * D * D + place / SIDE * 4 * D + place % SIDE * 4;
#pragma unroll
    for (int i = 0; i < 4; ++i) Vector<float>::store(sums[i], own + i * D);
    __syncthreads();
    for (u32 i = threadIdx.x; i < D * D; i += blockDim.x) {
      float sum = 0.0f;
      for (u32 n = 0; n < SUMS; ++n) sum += room[n * D * D + i];
      to[i] = sum;
    }
  }
};
