// Nodes of libtorch's graph whose backward is a Rust function.
#include "shim.h"

#include <ATen/core/grad_mode.h>
#include <torch/csrc/autograd/autograd.h>
#include <torch/csrc/autograd/function.h>
#include <torch/csrc/autograd/functions/basic_ops.h>
#include <torch/csrc/autograd/functions/utils.h>
#include <torch/csrc/autograd/saved_variable.h>

#include <cstdint>
#include <memory>
#include <mutex>
#include <string>
#include <vector>

namespace {
namespace ag = torch::autograd;

// Mirrored in Rust. A null tensor is an undefined one; ownership of the tensors of `result` is
// handed over. The function returns null, or a message to free with free().
struct BackwardCall {
  at::Tensor* const* saved;
  std::int64_t n_saved;
  at::Tensor* const* grads;
  std::int64_t n_grads;
  const std::uint8_t* needs;
  at::Tensor** result;
  std::int64_t n_inputs;
};
using Backward = char* (*)(const void* user, const BackwardCall* call);
using Drop = void (*)(void* user);

// A view with the same memory and the same version counter, but outside the graph: tensors derived
// from it can form no cycle with the node, and in-place changes are still detected.
at::Tensor outside_the_graph(const at::Tensor& t) {
  auto* impl = t.unsafeGetTensorImpl();
  return at::Tensor(impl->shallow_copy_and_detach(impl->version_counter(),
                                                  /*allow_tensor_metadata_change=*/true));
}

bool share_memory(const at::Tensor& a, const at::Tensor& b) {
  return a.defined() && b.defined() && a.has_storage() && b.has_storage() && a.is_alias_of(b);
}

class RustNode : public ag::Node {
 public:
  RustNode(void* user, Backward backward, Drop drop, const char* name)
      : user_(user), backward_(backward), drop_(drop), name_(name) {}
  ~RustNode() override { forget(); }

  std::string name() const override { return name_; }

  void save(const at::Tensor& t) {
    saved_.emplace_back(outside_the_graph(t), /*is_output=*/false);
  }

  void release_variables() override {
    std::lock_guard<std::mutex> lock(mutex_);
    forget();
  }

  ag::variable_list apply(ag::variable_list&& grads) override {
    std::lock_guard<std::mutex> lock(mutex_);
    TORCH_CHECK(user_ != nullptr, ag::ERR_BACKWARD_TWICE);
    const auto n = num_outputs();
    ag::variable_list result(n);
    bool any = false;
    for (const auto& g : grads) any |= g.defined();
    std::vector<std::uint8_t> needs(n);
    bool needed = false;
    for (std::size_t i = 0; i < n; ++i) needed |= (needs[i] = task_should_compute_output(i));
    if (!any || !needed) return result;
    const bool twice = at::GradMode::is_enabled();
    call(grads, needs, result);
    if (twice) refuse_second_derivatives(grads, result);
    return result;
  }

 private:
  void call(ag::variable_list& grads, const std::vector<std::uint8_t>& needs,
            ag::variable_list& result) {
    at::NoGradGuard no_grad;
    ag::variable_list saved;
    saved.reserve(saved_.size());
    for (const auto& s : saved_) saved.push_back(s.unpack());
    auto pointers = [](ag::variable_list& list) {
      std::vector<at::Tensor*> out;
      for (auto& t : list) out.push_back(t.defined() ? &t : nullptr);
      return out;
    };
    const auto saved_pointers = pointers(saved), grad_pointers = pointers(grads);
    std::vector<at::Tensor*> out(result.size(), nullptr);
    const BackwardCall what{saved_pointers.data(),
                            static_cast<std::int64_t>(saved_pointers.size()),
                            grad_pointers.data(),
                            static_cast<std::int64_t>(grad_pointers.size()),
                            needs.data(),
                            out.data(),
                            static_cast<std::int64_t>(out.size())};
    char* failure = backward_(user_, &what);
    for (std::size_t i = 0; i < out.size(); ++i) {
      std::unique_ptr<at::Tensor> owned(out[i]);
      if (owned) result[i] = std::move(*owned);
    }
    if (failure != nullptr) {
      const std::string message(failure);
      free(failure);
      TORCH_CHECK(false, "backward of ", name_, ": ", message);
    }
  }

  // With create_graph the gradients join the graph, behind a node that raises an error: as
  // constants they would make a second derivative that is silently wrong.
  void refuse_second_derivatives(const ag::variable_list& grads, ag::variable_list& result) const {
    auto edges = next_edges();
    for (auto& edge : ag::collect_next_edges(grads)) edges.push_back(edge);
    auto node = std::shared_ptr<ag::Error>(
        new ag::Error(name_ + " can be differentiated once only; call backward without create_graph",
                      std::move(edges)),
        ag::deleteNode);
    for (auto& t : result) {
      if (!t.defined()) continue;
      t = outside_the_graph(t);
      ag::set_history(t, node);
    }
  }

  void forget() {
    saved_.clear();
    if (user_ != nullptr) drop_(user_);
    user_ = nullptr;
  }

  void* user_;
  Backward backward_;
  Drop drop_;
  std::string name_;
  std::vector<ag::SavedVariable> saved_;
};

ag::variable_list list(at::Tensor* const* tensors, std::int64_t n) {
  ag::variable_list out;
  out.reserve(n);
  for (std::int64_t i = 0; i < n; ++i) out.push_back(*tensors[i]);
  return out;
}
}  // namespace

extern "C" int vd_grad_enabled() { return at::GradMode::is_enabled() ? 1 : 0; }

// Whether one of these leaves is in a graph that is alive: its end there is bound to the stream
// that was current when the graph was made.
extern "C" int vd_in_a_graph(at::Tensor* const* leaves, std::int64_t n) {
  for (std::int64_t i = 0; i < n; ++i) {
    if (ag::impl::try_get_grad_accumulator(*leaves[i])) return 1;
  }
  return 0;
}

// Makes `outputs`, computed outside the graph, results of a node over `inputs`. Takes ownership of
// `user`.
extern "C" int vd_autograd_attach(at::Tensor* const* inputs, std::int64_t n_inputs,
                                  at::Tensor* const* outputs, std::int64_t n_outputs,
                                  at::Tensor* const* saved, std::int64_t n_saved, void* user,
                                  Backward backward, Drop drop, const char* name, char** error) {
  return guarded(error, [&] {
    std::shared_ptr<RustNode> node(new RustNode(user, backward, drop, name), ag::deleteNode);
    for (std::int64_t o = 0; o < n_outputs; ++o) {
      TORCH_CHECK(outputs[o]->defined(), name, ": output ", o, " is not defined");
      // First, since a view of an input claims to require a gradient.
      for (std::int64_t i = 0; i < n_inputs; ++i) {
        TORCH_CHECK(!share_memory(*outputs[o], *inputs[i]), name, ": output ", o,
                    " shares memory with input ", i, "; give a copy");
      }
      TORCH_CHECK(!outputs[o]->requires_grad(), name, ": output ", o,
                  " is in a graph already; give it detached");
    }
    node->set_next_edges(ag::collect_next_edges(list(inputs, n_inputs)));
    // Before the outputs get their history, since a saved tensor may be one of them.
    for (std::int64_t i = 0; i < n_saved; ++i) node->save(*saved[i]);
    for (std::int64_t o = 0; o < n_outputs; ++o) {
      auto& out = *outputs[o];
      out = outside_the_graph(out);
      if (ag::isDifferentiableType(out.scalar_type())) {
        ag::set_history(out, node);
      } else {
        node->add_input_metadata(ag::Node::undefined_input());
      }
    }
  });
}

// Entries of `result` stay null for an input that does not contribute to the outputs.
extern "C" int vd_autograd_grad(at::Tensor* const* outputs, at::Tensor* const* seeds,
                                std::int64_t n_outputs, at::Tensor* const* inputs,
                                std::int64_t n_inputs, at::Tensor** result, char** error) {
  return guarded(error, [&] {
    auto grads = ag::grad(list(outputs, n_outputs), list(inputs, n_inputs), list(seeds, n_outputs),
                          /*retain_graph=*/false, /*create_graph=*/false, /*allow_unused=*/true);
    for (std::int64_t i = 0; i < n_inputs; ++i) {
      if (grads[i].defined()) result[i] = new at::Tensor(std::move(grads[i]));
    }
  });
}
