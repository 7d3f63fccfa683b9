// What a bundle's manifest.json says about its model: the part that running one face needs.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "crop.h"

struct Tensor {
  std::string name;
  std::string dtype;           // uint8 or float32
  std::vector<int64_t> shape;  // of one face: a free batch is 1 here
};

struct Manifest {
  std::string model_path;  // the bundle's .ms file
  int crop_size;           // pixels; crops are square, BGR, 0 to 255
  CropRule crop_rule;
  Tensor input;
  bool dynamic_batch;           // several crops per run are allowed
  std::string source_sha256;    // of the checkpoint that was exported
  std::vector<Tensor> outputs;  // in the order in which the model gives them
};

// Throws std::runtime_error if the folder is no bundle, its manifest is not valid or of another schema, or it has
// no .ms file of the stated size.
Manifest ReadManifest(const std::string &bundle);
