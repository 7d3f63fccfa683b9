// A bundle's model on MindSpore Lite.
#pragma once

#include <cstddef>
#include <vector>

#include "include/api/model.h"
#include "manifest.h"

class LandmarkModel {
 public:
  // Throws std::runtime_error if Lite cannot build the model or it takes something else than the manifest says.
  LandmarkModel(const Manifest &manifest, int threads);

  // One crop -> landmarks 3 x 68 (all x, all y, all z) in crop pixels, y down, z depth.
  // Throws std::runtime_error if Lite fails or gives something else than the manifest says.
  std::vector<float> Run(const Image &crop);

  // Crops in one run -> every output, in the manifest's order, each crop after crop. More than one crop needs a
  // dynamic batch. Throws as Run.
  std::vector<std::vector<float>> RunAll(const std::vector<Image> &crops);

 private:
  void SetBatch(int64_t batch);

  const Manifest manifest_;
  const size_t landmarks_;  // which of the outputs
  mindspore::Model model_;
};
