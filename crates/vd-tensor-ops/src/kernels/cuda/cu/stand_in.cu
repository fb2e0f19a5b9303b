// Rows of conditioning, with a placeholder for those that are dropped.

// Mirrored in Rust.
struct StandIn {
  // b rf d: the given rows, null in the backward.
  const void* rows;
  // d
  const void* null;
  // b mf: where the placeholder is used.
  const u8* mask;
  // b f d: the gradient of the output, or null.
  const void* grad;
  // b f d, or b rf d of the gradient; may be null in the backward.
  void* out;
  // d
  float* null_grad;
  u32 b;
  // Number of frames: 1 or f for the rows and for the mask, the larger of both for the output.
  u32 row_frames;
  u32 mask_frames;
  u32 frames;
  u32 d;
};

__device__ inline bool is_null(const StandIn& p, u32 sample, u32 frame) {
  return p.mask[sample * p.mask_frames + (p.mask_frames == 1 ? 0 : frame)] != 0;
}

template <class T>
__device__ inline void stand_in_forward(const StandIn& p) {
  const u64 all = (u64)p.b * p.frames * p.d;
  const u64 at = (u64)blockIdx.x * THREADS + threadIdx.x;
  if (at >= all) return;
  const u32 column = at % p.d, row = at / p.d, sample = row / p.frames, frame = row % p.frames;
  const u64 own = (u64)sample * p.row_frames + (p.row_frames == 1 ? 0 : frame);
  const T* from = is_null(p, sample, frame) ? (const T*)p.null : (const T*)p.rows + own * p.d;
  ((T*)p.out)[at] = from[column];
}

// A block has 32 columns, and groups of threads that divide the samples among themselves.
template <class T>
__device__ inline void stand_in_backward(const StandIn& p) {
  const u32 groups = THREADS / 32, lane = threadIdx.x % 32, group = threadIdx.x / 32;
  const u32 column = blockIdx.x * 32 + lane;
  float null_grad = 0.0f;
  for (u32 sample = group; sample < p.b && column < p.d; sample += groups) {
    float shared_row = 0.0f;
    for (u32 frame = 0; frame < p.frames; ++frame) {
      const float grad = wide(((const T*)p.grad)[((u64)sample * p.frames + frame) * p.d + column]);
      const bool null = is_null(p, sample, frame);
      if (null) null_grad += grad;
      const float of_row = null ? 0.0f : grad;
      shared_row += of_row;
      if (p.out != 0 && p.row_frames == p.frames) {
        narrow(of_row, (T*)p.out + ((u64)sample * p.frames + frame) * p.d + column);
      }
    }
    if (p.out != 0 && p.row_frames != p.frames) {
      narrow(shared_row, (T*)p.out + (u64)sample * p.d + column);
    }
  }
  float* sums = (float*)shared();
  sums[threadIdx.x] = null_grad;
  __syncthreads();
  if (group == 0 && column < p.d) {
    float sum = 0.0f;
    for (u32 i = 0; i < groups; ++i) sum += sums[i * 32 + lane];
    p.null_grad[column] = sum;
  }
}

KERNEL(stand_in_forward_f32, StandIn, THREADS, stand_in_forward<float>)
KERNEL(stand_in_forward_bf16, StandIn, THREADS, stand_in_forward<bf16>)
KERNEL(stand_in_backward_f32, StandIn, THREADS, stand_in_backward<float>)
KERNEL(stand_in_backward_bf16, StandIn, THREADS, stand_in_backward<bf16>)
