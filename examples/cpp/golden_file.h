// Golden values: known crops and one picture with the outputs that the model must give for them.
#pragma once

#include <array>
#include <string>
#include <vector>

#include "crop.h"
#include "image.h"

struct GoldenOutput {
  std::string name;           // as in the manifest: params, landmarks, ...
  size_t values_per_crop;
  float tolerance;            // largest difference allowed
  std::vector<float> values;  // crops x values_per_crop
};

struct Golden {
  std::string source_sha256;  // of the checkpoint that the bundle was exported from
  std::vector<Image> crops;
  std::vector<GoldenOutput> outputs;
  Image picture;
  Box box;                       // the face in the picture
  float picture_tolerance;       // image pixels
  std::vector<Point> landmarks;  // 68, image pixels
};

// Reads what `synergy golden BUNDLE --plain FILE` writes; runtime/verification/golden_file.py describes the layout.
// Throws std::runtime_error if the file is missing, damaged, ends early or has another version.
Golden ReadGolden(const std::string &path);
