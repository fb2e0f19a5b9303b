// Attention along time from queries, keys and values as their projection leaves them, b f s (3 n
// d), to b f s (n d): rotation, bias, mask, softmax and the weighted sum in one pass, without
// permuting.
//
// A unit is one head at one position of a sample, with all its frames; a block takes `per_block`
// consecutive units, and a thread Q of a unit's queries. Keys, values and everything else that all
// threads of a unit read is in shared memory, in the dtype of the tensors: its size per unit
// decides how many units a multiprocessor holds at a time. Threads of a unit read the same vector
// at the same time, each for Q queries.

// Mirrored in Rust.
struct Temporal {
  const void* qkv;
  // The gradient of the output, b f s (n d).
  const void* grad;
  // The output, or the gradient of qkv.
  void* out;
  // Cosine and sine of a frame's angle for each rotated pair: f turned 2.
  const float* turns;
  // Added to the scores, n f f, or null.
  const float* bias;
  // Masked pairs of frames, (b or 1) f f, or null.
  const u8* forbidden;
  // Sums of blocks for the gradient of the bias, n f f for each n / heads_of_block of them, or
  // null.
  float* bias_grad;
  // Number of units with the heads of one slice.
  u64 units;
  u32 sites;
  u32 frames;
  u32 heads;
  // A divisor of the heads; consecutive blocks take different slices of them.
  u32 heads_of_block;
  u32 turned;
  u32 per_block;
  // 1 if each sample has its own mask.
  u32 masks;
  // Factor of the scores.
  float scale;
};

// Tensors with rows of D: the first three are adjacent in qkv.
enum Part { QUERY, KEY, VALUE, GRAD };

// Where a unit lies. 64-bit divisions by run-time values are slow, so a block locates each of its
// units once, and threads read the results from shared memory.
struct Place {
  // Offset of its first frame in the queries and in the output.
  u64 qkv, out;
  u32 head, sample;
};

template <class T, int D, int Q>
struct Units {
  static const int W = Vector<T>::N;

  const Temporal& p;
  Place* places;
  // The number of blocks with the same heads, this block's number among them, and the number of its
  // heads' slice.
  u32 alike, number, slice;
  // Threads per unit; this thread's unit within the block, and its first query.
  u32 together, unit, slot;
  // Values per unit in shared memory: all its rows and one vector more, so that neighbouring units
  // start in different banks.
  u32 stretch;
  // Number of units of the block.
  u32 count;
  bool there;
  // Stride from frame to frame.
  u64 qkv_step, out_step;

  // The table of places comes first in shared memory.
  __device__ inline explicit Units(const Temporal& of) : p(of), places((Place*)shared()) {
    const u32 slices = p.heads / p.heads_of_block;
    alike = gridDim.x / slices;
    number = blockIdx.x / slices;
    slice = blockIdx.x % slices;
    together = (p.frames + Q - 1) / Q;
    stretch = p.frames * D + W;
    out_step = (u64)p.sites * p.heads * D;
    qkv_step = 3 * out_step;
  }

  // The rest of shared memory.
  __device__ inline T* room() const {
    return (T*)((char*)places + (p.per_block * sizeof(Place) + 15) / 16 * 16);
  }

  // Moves to the units of a group: fills the table, one thread per unit.
  __device__ inline void go(u64 group) {
    const u64 first = group * p.per_block, left = p.units - first;
    count = left < p.per_block ? (u32)left : p.per_block;
    unit = threadIdx.x / together;
    slot = threadIdx.x % together;
    there = unit < count;
    if (!there) unit = slot = 0;
    for (u32 of = threadIdx.x; of < count; of += blockDim.x) {
      const u64 position = (first + of) / p.heads_of_block;
      Place place;
      place.head = slice * p.heads_of_block + (u32)((first + of) % p.heads_of_block);
      place.sample = (u32)(position / p.sites);
      const u64 before = position + (u64)place.sample * (p.frames - 1) * p.sites;
      place.qkv = (before * 3 * p.heads + place.head) * D;
      place.out = (before * p.heads + place.head) * D;
      places[of] = place;
    }
  }

  // Rotates the pairs of features from `d` on by the angle of a frame, or back.
  template <int COUNT>
  __device__ inline void turn(float* x, u32 d, u32 frame, float direction) const {
    const float2* angles = (const float2*)p.turns + frame * p.turned;
#pragma unroll
    for (int i = 0; i < COUNT; i += 2) {
      const u32 number = (d + i) / 2;
      if (number < p.turned) {
        const float2 angle = angles[number];
        const float c = angle.x, s = direction * angle.y;
        const float a = x[i], b = x[i + 1];
        x[i] = a * c - b * s;
        x[i + 1] = a * s + b * c;
      }
    }
  }

  // Where the row of a frame of a unit begins.
  __device__ inline u64 at(Part part, u32 of, u32 frame) const {
    return places[of].qkv + (u64)part * p.heads * D + frame * qkv_step;
  }
  template <int PART>
  __device__ inline const T* from(u32 of, u32 frame) const {
    if (PART == GRAD) return (const T*)p.grad + places[of].out + frame * out_step;
    return (const T*)p.qkv + at((Part)PART, of, frame);
  }

  // W features of a row from `d` on: queries and keys rotated, queries scaled.
  template <int PART>
  __device__ inline void piece(const T* row, u32 frame, u32 d, float* to) const {
    Vector<T>::load(row + d, to);
    if (PART == QUERY || PART == KEY) turn<W>(to, d, frame, 1.0f);
    if (PART == QUERY) {
#pragma unroll
      for (int i = 0; i < W; ++i) to[i] *= p.scale;
    }
  }

  // The rows of this thread's queries.
  template <int PART>
  __device__ inline void own(float (*to)[D]) const {
#pragma unroll
    for (int q = 0; q < Q; ++q) {
      const T* row = from<PART>(unit, frame(q));
#pragma unroll
      for (int d = 0; d < D; d += W) piece<PART>(row, frame(q), d, to[q] + d);
    }
  }

  // Copies the rows of all units of the block into shared memory: frame by frame, unit by unit.
  // Consecutive threads read adjacent memory.
  template <int PART>
  __device__ inline void stage(T* to) const {
    const u32 pieces = D / W, each = pieces * p.per_block;
    const u32 frames = blockDim.x / each, rest = blockDim.x % each;
    for (u32 frame = threadIdx.x / each, i = threadIdx.x % each; frame < p.frames;) {
      const u32 of = i / pieces, d = i % pieces * W;
      if (of < count) {
        const T* row = from<PART>(of, frame);
        T* at = to + of * stretch + frame * D + d;
        if (PART == QUERY || PART == KEY) {
          float x[W];
          piece<PART>(row, frame, d, x);
          Vector<T>::store(x, at);
        } else {
          *(uint4*)at = *(const uint4*)(row + d);
        }
      }
      frame += frames;
      i += rest;
      if (i >= each) i -= each, ++frame;
    }
  }

  // This thread's query, key or output position number q; a number that it does not have gives its
  // first.
  __device__ inline u32 frame(int q) const { return has(q) ? slot + q * together : slot; }
  __device__ inline bool has(int q) const { return slot + q * together < p.frames; }
  __device__ inline const T* row(const T* rows, u32 frame) const {
    return rows + unit * stretch + frame * D;
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
