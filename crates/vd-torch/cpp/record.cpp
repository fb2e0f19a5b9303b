// The arguments of libtorch's operator calls, as text that Rust parses.
#include "shim.h"

#include <ATen/record_function.h>

#include <cstdint>
#include <memory>
#include <mutex>
#include <sstream>
#include <string>
#include <vector>

namespace {

struct Call {
  int depth;
  std::string name, inputs, outputs;
};

// One recording at a time; the threads of a backward on a GPU write to that of their caller.
std::mutex mutex;
std::vector<Call>* calls = nullptr;
thread_local int depth = 0;

struct Place : at::ObserverContext {
  explicit Place(std::size_t of) : number(of) {}
  std::size_t number;
};

void list(std::ostream& to, c10::IntArrayRef numbers) {
  for (std::size_t i = 0; i < numbers.size(); ++i) to << (i == 0 ? "" : "x") << numbers[i];
}

// The dtype, the sizes, the strides and the address of the memory.
void describe(std::ostream& to, const at::Tensor& t) {
  if (!t.defined() || t.layout() != c10::kStrided || !t.has_storage()) return;
  to << static_cast<int>(t.scalar_type()) << ':';
  list(to, t.sizes());
  to << ':';
  list(to, t.strides());
  to << ':' << reinterpret_cast<std::uintptr_t>(t.storage().data()) << ';';
}

void describe(std::ostream& to, const c10::IValue& value) {
  if (value.isTensor()) {
    describe(to, value.toTensor());
  } else if (value.isList()) {
    for (const c10::IValue& one : value.toListRef()) describe(to, one);
  }
}

template <typename Values>
std::string described(const Values& values) {
  std::ostringstream to;
  for (const c10::IValue& value : values) describe(to, value);
  return to.str();
}

std::unique_ptr<at::ObserverContext> start(const at::RecordFunction& call) {
  auto inputs = described(call.inputs());
  std::lock_guard<std::mutex> lock(mutex);
  if (calls == nullptr) return nullptr;
  calls->push_back({depth++, call.name(), std::move(inputs), ""});
  return std::make_unique<Place>(calls->size() - 1);
}

void end(const at::RecordFunction& call, at::ObserverContext* context) {
  auto* place = static_cast<Place*>(context);
  if (place == nullptr) return;
  auto outputs = described(call.outputs());
  std::lock_guard<std::mutex> lock(mutex);
  --depth;
  if (calls != nullptr && place->number < calls->size()) {
    (*calls)[place->number].outputs = std::move(outputs);
  }
}

}  // namespace

extern "C" {

int vd_record_start(std::uint64_t* handle, char** error) {
  return guarded(error, [&] {
    {
      std::lock_guard<std::mutex> lock(mutex);
      calls = new std::vector<Call>();
    }
    depth = 0;
    *handle = at::addThreadLocalCallback(at::RecordFunctionCallback(start, end)
                                             .needsInputs(true)
                                             .needsOutputs(true)
                                             .scopes({at::RecordScope::FUNCTION}));
  });
}

// The calls in their order, one a line: depth, name, inputs, outputs; for free().
char* vd_record_stop(std::uint64_t handle) noexcept {
  at::removeCallback(handle);
  std::unique_ptr<std::vector<Call>> mine;
  {
    std::lock_guard<std::mutex> lock(mutex);
    mine.reset(calls);
    calls = nullptr;
  }
  std::ostringstream text;
  if (mine) {
    for (const auto& call : *mine) {
      text << call.depth << '\t' << call.name << '\t' << call.inputs << '\t' << call.outputs << '\n';
    }
  }
  return strdup(text.str().c_str());
}
}
