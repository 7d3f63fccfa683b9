// Compares a bundle's model on this device with golden values.
#pragma once

#include <string>

struct VerifyResult {
  bool passed;
  std::string text;  // a line per comparison: largest difference, limit, result
};

// Runs the golden crops one by one and, if the model's batch is dynamic, all in one run; then the picture through this
// program's own crop code. Throws std::runtime_error if the bundle or the file cannot be used or a run fails.
VerifyResult Verify(const std::string &golden_file, const std::string &bundle, int threads);
