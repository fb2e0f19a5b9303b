// Fused optimiser steps, and the notifications that steps by our own kernels require, which tch
// does not bind.
#include "shim.h"

#include <ATen/core/grad_mode.h>
#include <ATen/ops/_fused_adamw_ops.h>

#include <cstdint>
#include <optional>
#include <vector>

namespace {
std::vector<at::Tensor> list(at::Tensor* const* tensors, std::int64_t n) {
  std::vector<at::Tensor> out;
  out.reserve(n);
  for (std::int64_t i = 0; i < n; ++i) out.push_back(*tensors[i]);
  return out;
}
}  // namespace

extern "C" {

int vd_mark_changed(at::Tensor* const* tensors, std::int64_t n, char** error) {
  return guarded(error, [&] {
    for (std::int64_t i = 0; i < n; ++i) tensors[i]->unsafeGetTensorImpl()->bump_version();
  });
}

// A tensor without memory shares none.
std::int64_t vd_shares(const at::Tensor* x) {
  return x->has_storage() ? static_cast<std::int64_t>(x->storage().use_count()) : 0;
}

int vd_fused_adamw(at::Tensor* const* params, at::Tensor* const* grads,
                   at::Tensor* const* exp_avgs, at::Tensor* const* exp_avg_sqs,
                   at::Tensor* const* steps, std::int64_t n, double lr, double beta1, double beta2,
                   double weight_decay, double eps, char** error) {
  return guarded(error, [&] {
    at::NoGradGuard no_grad;
    at::_ops::_fused_adamw_::call(list(params, n), list(grads, n), list(exp_avgs, n),
                                  list(exp_avg_sqs, n), /*max_exp_avg_sqs=*/{}, list(steps, n), lr,
                                  beta1, beta2, weight_decay, eps, /*amsgrad=*/false,
                                  /*maximize=*/false, /*grad_scale=*/std::nullopt,
                                  /*found_inf=*/std::nullopt);
  });
}
}
