// The C side of the shim: tensors cross as pointers, exceptions as strings that the caller frees.
#pragma once
#include <ATen/core/Tensor.h>

#include <cstdlib>
#include <cstring>
#include <exception>

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
