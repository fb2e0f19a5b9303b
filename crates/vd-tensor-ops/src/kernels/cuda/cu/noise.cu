// Random numbers of ChaCha with 8 rounds, one stream per row: the same as on the host.

// Mirrored in Rust.
struct Draw {
  float* out;
  // Stream of the first row; each row has the next one.
  u64 stream;
  // The first word of the stream to use.
  u64 word;
  // Values per row.
  u64 each;
  // Blocks per row.
  u32 chunks;
  u32 key[8];
};

// Threads per block, each of which makes 16 words; of the last 16 only the first one is used, by a
// pair that begins before them.
const u32 MAKERS = 128;
const u32 WORDS = 16 * (MAKERS - 1);

__device__ inline u32 turned(u32 x, u32 by) { return (x << by) | (x >> (32 - by)); }

__device__ inline void quarter(u32& a, u32& b, u32& c, u32& d) {
  a += b, d = turned(d ^ a, 16);
  c += d, b = turned(b ^ c, 12);
  a += b, d = turned(d ^ a, 8);
  c += d, b = turned(b ^ c, 7);
}

// Bernstein 2008, with a counter and a nonce of 64 bits each.
__device__ inline void chacha(const u32* key, u64 block, u64 stream, u32* out) {
  const u32 from[16] = {0x61707865, 0x3320646e, 0x79622d32, 0x6b206574, key[0],     key[1],
                        key[2],     key[3],     key[4],     key[5],     key[6],     key[7],
                        (u32)block, (u32)(block >> 32), (u32)stream, (u32)(stream >> 32)};
  u32 s[16];
#pragma unroll
  for (int i = 0; i < 16; ++i) s[i] = from[i];
#pragma unroll
  for (int round = 0; round < 4; ++round) {
    quarter(s[0], s[4], s[8], s[12]), quarter(s[1], s[5], s[9], s[13]);
    quarter(s[2], s[6], s[10], s[14]), quarter(s[3], s[7], s[11], s[15]);
    quarter(s[0], s[5], s[10], s[15]), quarter(s[1], s[6], s[11], s[12]);
    quarter(s[2], s[7], s[8], s[13]), quarter(s[3], s[4], s[9], s[14]);
  }
#pragma unroll
  for (int i = 0; i < 16; ++i) out[i] = s[i] + from[i];
}

// The words of a block, grouped by their position in ChaCha's 16 words.
struct Words {
  u32* at;
  __device__ inline u32& operator[](u32 word) const { return at[word % 16 * MAKERS + word / 16]; }
};

// A block's part of its row: words from `base` on.
struct Share {
  u64 row, base;
  Words words;

  __device__ inline explicit Share(const Draw& p) {
    row = blockIdx.x / p.chunks;
    const u64 first = p.word / 16 + (u64)(blockIdx.x % p.chunks) * (MAKERS - 1);
    base = first * 16;
    words.at = (u32*)shared();
    u32 made[16];
    chacha(p.key, first + threadIdx.x, p.stream + row, made);
#pragma unroll
    for (u32 i = 0; i < 16; ++i) words[threadIdx.x * 16 + i] = made[i];
    __syncthreads();
  }

  // The first of the items of `size` words, counted from the row's first word, that begins at or
  // after `word`.
  __device__ inline u64 behind(const Draw& p, u64 word, u64 size) const {
    return word <= p.word ? 0 : (word - p.word + size - 1) / size;
  }
};

// Box and Muller 1958, in f64 as on the host; two words give two values.
__device__ inline void normal(const Draw& p) {
  const Share share(p);
  const u64 pairs = (p.each + 1) / 2, last = share.behind(p, share.base + WORDS, 2);
  const u64 end = last < pairs ? last : pairs;
  float* out = p.out + share.row * p.each;
  for (u64 i = share.behind(p, share.base, 2) + threadIdx.x; i < end; i += MAKERS) {
    const u32 word = (u32)(p.word + 2 * i - share.base);
    const double u = ((double)share.words[word] + 1.0) / 4294967296.0;
    const double angle = 6.283185307179586 * (double)share.words[word + 1] / 4294967296.0;
    const double radius = sqrt(-2.0 * log(u));
    double sine, cosine;
    sincos(angle, &sine, &cosine);
    out[2 * i] = (float)(radius * cosine);
    if (2 * i + 1 < p.each) out[2 * i + 1] = (float)(radius * sine);
  }
}

// Uniform on [0, 1): 24 bits of a word.
__device__ inline void uniform(const Draw& p) {
  const Share share(p);
  const u64 last = share.behind(p, share.base + WORDS, 1), end = last < p.each ? last : p.each;
  float* out = p.out + share.row * p.each;
  for (u64 i = share.behind(p, share.base, 1) + threadIdx.x; i < end; i += MAKERS) {
    out[i] = (float)(share.words[(u32)(p.word + i - share.base)] >> 8) / 16777216.0f;
  }
}

KERNEL(normal_f32, Draw, MAKERS, normal)
KERNEL(uniform_f32, Draw, MAKERS, uniform)
