// The C side of the shim: tensors cross as pointers, exceptions as strings that the caller frees.
#pragma once
#include <ATen/core/Tensor.h>
#include <c10/core/Device.h>

#include <cstdlib>
#include <cstring>
#include <exception>
#include <limits>

// Runs `body`; 0 on success, else 1 with a copy of the message in *error (free with free()).
template <typename Body>
int guarded(char** error, Body body) {
  try {
    body();
    return 0;
  } catch (const c10::Error& e) {
    *error = strdup(e.what_without_backtrace());
  } catch (const std::exception& e) {
    *error = strdup(e.what());
  } catch (...) {
    *error = strdup("an exception of unknown type");
  }
  return 1;
}

// The number of a CUDA device. It has 8 bits in libtorch: a larger one would name another device.
inline c10::DeviceIndex index_of(int device) {
  TORCH_CHECK(device >= 0 && device <= std::numeric_limits<c10::DeviceIndex>::max(),
              "there is no CUDA device ", device);
  return static_cast<c10::DeviceIndex>(device);
}
