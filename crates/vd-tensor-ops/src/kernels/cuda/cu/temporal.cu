// Attention along time from queries, keys and values as their product leaves them, b f s (3 n d), to
// b f s (n d): turns, bias, mask, softmax and the weighted sum in one pass, nothing is permuted.
//
// A unit is one head at one site of a sample, with all its frames; a block takes `per_block` units
// that follow each other, and a thread Q of a unit's queries. Keys and values lie in shared memory as
// f32, so that threads of a unit read the same one at the same time, each for Q queries.

// Mirrored in Rust.
struct Temporal {
  const void* qkv;
  // The gradient of the output, b f s (n d).
  const void* grad;
  // The output, or the gradient of qkv.
  void* out;
  // Cosine and sine of a frame's angle for each pair that turns: f turned 2.
  const float* turns;
  // Added to the scores, n f f, or null.
  const float* bias;
  // Pairs of frames that do not see each other, (b or 1) f f, or null.
  const u8* forbidden;
  // Sums of each block for the gradient of the bias, n f f, or null.
  float* bias_grad;
  u64 units;
  u32 sites;
  u32 frames;
  u32 heads;
  u32 turned;
  u32 per_block;
  // 1 where each sample has its own mask.
  u32 masks;
  // Factor of the scores.
  float scale;
};

enum Part { QUERY, KEY, VALUE };

// Where a unit lies. Divisions of 64 bits by what is known at run time are long, so a block finds each
// of its units once, and threads read from shared memory what they need.
struct Place {
  // Of its first frame in the queries and in the output.
  u64 qkv, out;
  u32 head, sample;
};

template <class T, int D, int Q>
struct Units {
  static const int W = Vector<T>::N;
  // Rows of shared memory are a vector longer, so that neighbouring rows start in other banks.
  static const int ROW = D + 4;

  const Temporal& p;
  Place* places;
  // Threads of a unit; this thread's unit within the block, and its first query.
  u32 together, unit, slot;
  // Units that the block has.
  u32 count;
  u64 first;
  bool there;
  // From a frame to the next.
  u64 qkv_step, out_step;

  // The table of places is the first in shared memory.
  __device__ inline Units(const Temporal& of, u64 group) : p(of), places((Place*)shared()) {
    together = (p.frames + Q - 1) / Q;
    unit = threadIdx.x / together;
    slot = threadIdx.x % together;
    first = group * p.per_block;
    const u64 left = p.units - first;
    count = left < p.per_block ? (u32)left : p.per_block;
    there = unit < count;
    if (!there) unit = slot = 0;
    out_step = (u64)p.sites * p.heads * D;
    qkv_step = 3 * out_step;
  }

  // The rest of shared memory.
  __device__ inline float* room() const {
    return (float*)((char*)places + (p.per_block * sizeof(Place) + 15) / 16 * 16);
  }

  // Fills the table, a thread for each unit.
  __device__ inline void find() const {
    for (u32 of = threadIdx.x; of < count; of += blockDim.x) {
      const u64 position = (first + of) / p.heads;
      Place place;
      place.head = (u32)((first + of) % p.heads);
      place.sample = (u32)(position / p.sites);
      const u64 before = position + (u64)place.sample * (p.frames - 1) * p.sites;
      place.qkv = (before * 3 * p.heads + place.head) * D;
      place.out = (before * p.heads + place.head) * D;
      places[of] = place;
    }
  }

  // Turns the pairs of features from `d` on by the angle of a frame, or back.
  template <int COUNT>
  __device__ inline void turn(float* x, u32 d, u32 frame, float direction) const {
    const float* angles = p.turns + (u64)frame * p.turned * 2;
#pragma unroll
    for (int i = 0; i < COUNT; i += 2) {
      const u32 number = (d + i) / 2;
      if (number < p.turned) {
        const float c = angles[2 * number], s = direction * angles[2 * number + 1];
        const float a = x[i], b = x[i + 1];
        x[i] = a * c - b * s;
        x[i + 1] = a * s + b * c;
      }
    }
  }

  // Where a frame of a unit begins.
  __device__ inline u64 at(u32 of, Part part, u32 frame) const {
    return places[of].qkv + (u64)part * p.heads * D + frame * qkv_step;
  }
  __device__ inline u64 at_out(u32 of, u32 frame) const {
    return places[of].out + frame * out_step;
  }

  // W features of queries, keys or values at their place in time, or of the gradient of the output.
  __device__ inline void piece(Part part, u32 of, u32 frame, u32 d, float* to) const {
    Vector<T>::load((const T*)p.qkv + at(of, part, frame) + d, to);
    if (part != VALUE) turn<W>(to, d, frame, 1.0f);
    if (part == QUERY) {
#pragma unroll
      for (int i = 0; i < W; ++i) to[i] *= p.scale;
    }
  }

  __device__ inline void piece_of_grad(u32 of, u32 frame, u32 d, float* to) const {
    Vector<T>::load((const T*)p.grad + at_out(of, frame) + d, to);
  }

  // The same for all units of the block, into shared memory: rows of frames, unit by unit. Threads
  // that follow each other read what lies next to each other.
  __device__ inline void stage(Part part, bool grad, float* to) const {
    const u32 pieces = D / W, each = pieces * p.per_block;
    const u32 frames = blockDim.x / each, rest = blockDim.x % each;
    for (u32 frame = threadIdx.x / each, i = threadIdx.x % each; frame < p.frames;) {
      const u32 of = i / pieces, d = i % pieces * W;
      if (of < count) {
        float x[W];
        if (grad) {
          piece_of_grad(of, frame, d, x);
        } else {
          piece(part, of, frame, d, x);
        }
        float* row = to + (of * p.frames + frame) * ROW + d;
#pragma unroll
        for (int j = 0; j < W; j += 4) Vector<float>::store(x + j, row + j);
      }
      frame += frames;
      i += rest;
      if (i >= each) i -= each, ++frame;
    }
  }

  // This thread's query, key or place in the output number q; one that it has not is its first.
  __device__ inline u32 frame(int q) const { return has(q) ? slot + q * together : slot; }
  __device__ inline bool has(int q) const { return slot + q * together < p.frames; }
  __device__ inline const float* row(const float* rows, u32 frame) const {
    return rows + (unit * p.frames + frame) * ROW;
  }

  // The bias and the mask of this thread's unit, or null.
  __device__ inline const float* bias() const {
    return p.bias == 0 ? p.bias : p.bias + (u64)places[unit].head * p.frames * p.frames;
  }
  __device__ inline const u8* forbidden() const {
    if (p.forbidden == 0) return p.forbidden;
    return p.forbidden + (u64)places[unit].sample * p.masks * p.frames * p.frames;
  }
  __device__ inline float score(float product, const float* bias, const u8* forbidden, u32 i,
                                u32 j) const {
    const u32 pair = i * p.frames + j;
    if (bias != 0) product += bias[pair];
    return forbidden != 0 && forbidden[pair] ? -__uint_as_float(0x7f800000u) : product;
  }

  __device__ inline void put(const float* x, u64 to) const {
#pragma unroll
    for (int d = 0; d < D; d += W) Vector<T>::store(x + d, (T*)p.out + to + d);
  }
};

template <int D>
__device__ inline void add(float factor, const float* row, float* to) {
#pragma unroll
  for (int d = 0; d < D; d += 4) {
    float y[4];
    Vector<float>::load(row + d, y);
#pragma unroll
    for (int i = 0; i < 4; ++i) to[d + i] += factor * y[i];
  }
}

// Scores of one query as weights, in place; they are `step` apart.
__device__ inline void soften(float* scores, u32 step, u32 frames, float largest) {
  float sum = 0.0f;
  for (u32 j = 0; j < frames; ++j) {
    const float weight = __expf(scores[j * step] - largest);
    scores[j * step] = weight;
    sum += weight;
  }
  for (u32 j = 0; j < frames; ++j) scores[j * step] /= sum;
}

// Shared memory: the table, 2 per_block frames (D + 4) for keys and values, frames Q threads for scores.
template <class T, int D, int Q>
__device__ inline void temporal_forward(const Temporal& p) {
  const Units<T, D, Q> units(p, blockIdx.x);
  const u32 f = p.frames, step = blockDim.x;
  float* keys = units.room();
  float* values = keys + p.per_block * f * units.ROW;
  float* scores = values + p.per_block * f * units.ROW + threadIdx.x;
  units.find();
  __syncthreads();
  units.stage(KEY, false, keys);
  units.stage(VALUE, false, values);
  __syncthreads();
  if (!units.there) return;
  {
    const float* bias = units.bias();
    const u8* forbidden = units.forbidden();
    float x[Q][D], largest[Q];
#pragma unroll
    for (int q = 0; q < Q; ++q) {
      largest[q] = -__uint_as_float(0x7f800000u);
#pragma unroll
      for (int d = 0; d < D; d += units.W) {
        units.piece(QUERY, units.unit, units.frame(q), d, x[q] + d);
      }
    }
    for (u32 j = 0; j < f; ++j) {
      const float* key = units.row(keys, j);
#pragma unroll
      for (int q = 0; q < Q; ++q) {
        const float scaled = product<D>(x[q], key);
        const float score = units.score(scaled, bias, forbidden, units.frame(q), j);
        scores[(q * f + j) * step] = score;
        largest[q] = fmaxf(largest[q], score);
      }
    }
#pragma unroll
    for (int q = 0; q < Q; ++q) soften(scores + q * f * step, step, f, largest[q]);
  }
  float out[Q][D];
#pragma unroll
  for (int q = 0; q < Q; ++q) {
#pragma unroll
    for (int d = 0; d < D; ++d) out[q][d] = 0.0f;
  }
  for (u32 j = 0; j < f; ++j) {
    const float* value = units.row(values, j);
#pragma unroll
    for (int q = 0; q < Q; ++q) add<D>(scores[(q * f + j) * step], value, out[q]);
  }
#pragma unroll
  for (int q = 0; q < Q; ++q) {
    if (units.has(q)) units.put(out[q], units.at_out(units.unit, units.frame(q)));
  }
}

// Weights and the gradients of the scores of this thread's queries, and that of the queries.
// `weights` and `slopes` are the unit's matrices, rows of queries.
template <class T, int D, int Q>
__device__ inline void queries_backward(const Units<T, D, Q>& units, const float* keys,
                                        const float* values, float* weights, float* slopes) {
  const u32 f = units.p.frames, row = f + 1;
  {
    const float* bias = units.bias();
    const u8* forbidden = units.forbidden();
    float x[Q][D], grad[Q][D], largest[Q];
#pragma unroll
    for (int q = 0; q < Q; ++q) {
      largest[q] = -__uint_as_float(0x7f800000u);
#pragma unroll
      for (int d = 0; d < D; d += units.W) {
        units.piece(QUERY, units.unit, units.frame(q), d, x[q] + d);
        units.piece_of_grad(units.unit, units.frame(q), d, grad[q] + d);
      }
    }
    for (u32 j = 0; j < f; ++j) {
#pragma unroll
      for (int q = 0; q < Q; ++q) {
        const u32 i = units.frame(q);
        const float scaled = product<D>(x[q], units.row(keys, j));
        const float score = units.score(scaled, bias, forbidden, i, j);
        const float slope = product<D>(grad[q], units.row(values, j));
        if (units.has(q)) weights[i * row + j] = score, slopes[i * row + j] = slope;
        largest[q] = fmaxf(largest[q], score);
      }
    }
#pragma unroll
    for (int q = 0; q < Q; ++q) {
      if (!units.has(q)) continue;
      float* weight = weights + units.frame(q) * row;
      float* slope = slopes + units.frame(q) * row;
      soften(weight, 1, f, largest[q]);
      float mean = 0.0f;
      for (u32 j = 0; j < f; ++j) mean += weight[j] * slope[j];
      for (u32 j = 0; j < f; ++j) slope[j] = weight[j] * (slope[j] - mean);
    }
  }
#pragma unroll
  for (int q = 0; q < Q; ++q) {
    if (!units.has(q)) continue;
    const u32 i = units.frame(q);
    float out[D];
#pragma unroll
    for (int d = 0; d < D; ++d) out[d] = 0.0f;
    for (u32 j = 0; j < f; ++j) add<D>(slopes[i * row + j], units.row(keys, j), out);
#pragma unroll
    for (int d = 0; d < D; ++d) out[d] *= units.p.scale;
    units.template turn<D>(out, 0, i, -1.0f);
    units.put(out, units.at(units.unit, QUERY, i));
  }
}

// The gradients of this thread's keys and values.
template <class T, int D, int Q>
__device__ inline void keys_backward(const Units<T, D, Q>& units, const float* queries,
                                     const float* grads, const float* weights,
                                     const float* slopes) {
  const u32 f = units.p.frames, row = f + 1;
#pragma unroll
  for (int q = 0; q < Q; ++q) {
    if (!units.has(q)) continue;
    const u32 j = units.frame(q);
    float key[D], value[D];
#pragma unroll
    for (int d = 0; d < D; ++d) key[d] = value[d] = 0.0f;
    for (u32 i = 0; i < f; ++i) {
      add<D>(slopes[i * row + j], units.row(queries, i), key);
      add<D>(weights[i * row + j], units.row(grads, i), value);
    }
    units.template turn<D>(key, 0, j, -1.0f);
    units.put(key, units.at(units.unit, KEY, j));
    units.put(value, units.at(units.unit, VALUE, j));
  }
}

// Shared memory: the table, 2 per_block frames (D + 4), 2 per_block frames (frames + 1) for the weights and the
// gradients of the scores, and n frames frames where the bias has a gradient.
template <class T, int D, int Q>
__device__ inline void temporal_backward(const Temporal& p) {
  typedef Units<T, D, Q> Of;
  const u32 f = p.frames, matrix = f * (f + 1), pairs = f * f;
  float* first = Of(p, 0).room();
  float* second = first + p.per_block * f * Of::ROW;
  float* weights = second + p.per_block * f * Of::ROW;
  float* slopes = weights + p.per_block * matrix;
  float* bias = slopes + p.per_block * matrix;
  if (p.bias_grad != 0) {
    for (u32 i = threadIdx.x; i < p.heads * pairs; i += blockDim.x) bias[i] = 0.0f;
  }
  const u64 groups = (p.units + p.per_block - 1) / p.per_block;
  for (u64 group = blockIdx.x; group < groups; group += gridDim.x) {
    const Of units(p, group);
    __syncthreads();
    units.find();
    __syncthreads();
    units.stage(KEY, false, first);
    units.stage(VALUE, false, second);
    __syncthreads();
    float* weight = weights + units.unit * matrix;
    float* slope = slopes + units.unit * matrix;
    if (units.there) queries_backward(units, first, second, weight, slope);
    __syncthreads();
    units.stage(QUERY, false, first);
    units.stage(VALUE, true, second);
    __syncthreads();
    if (units.there) keys_backward(units, first, second, weight, slope);
    if (p.bias_grad != 0) {
      // A thread has its pairs of frames for itself, so that sums have an order.
      for (u32 i = threadIdx.x; i < pairs; i += blockDim.x) {
        const float* slope = slopes + i / f * (f + 1) + i % f;
        for (u32 of = 0; of < units.count; ++of) {
          bias[units.places[of].head * pairs + i] += slope[of * matrix];
        }
      }
    }
  }
  if (p.bias_grad != 0) {
    __syncthreads();
    float* to = p.bias_grad + (u64)blockIdx.x * p.heads * pairs;
    for (u32 i = threadIdx.x; i < p.heads * pairs; i += blockDim.x) to[i] = bias[i];
  }
}

#define FOR_WIDTHS(name, T, kind)                                   \
  KERNEL(name##_##kind##_16, Temporal, THREADS, name<T, 16, 2>)     \
  KERNEL(name##_##kind##_32, Temporal, THREADS, name<T, 32, 2>)     \
  KERNEL(name##_##kind##_64, Temporal, THREADS, name<T, 64, 1>)

FOR_WIDTHS(temporal_forward, float, f32)
FOR_WIDTHS(temporal_forward, bf16, bf16)
FOR_WIDTHS(temporal_backward, float, f32)
FOR_WIDTHS(temporal_backward, bf16, bf16)
