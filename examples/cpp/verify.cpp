#include "verify.h"

#include <algorithm>
#include <cmath>
#include <limits>
#include <sstream>
#include <stdexcept>
#include <vector>

#include "crop.h"
#include "golden_file.h"
#include "landmark_model.h"
#include "manifest.h"

namespace {

using Outputs = std::vector<std::vector<float>>;  // of one run, in the manifest's order

// Infinite where a value is not a number.
double LargestDifference(const float *found, const float *expected, size_t count) {
  double largest = 0;
  for (size_t i = 0; i < count; ++i) {
    const double difference = std::abs(static_cast<double>(found[i]) - expected[i]);
    largest = std::isnan(difference) ? std::numeric_limits<double>::infinity() : std::max(largest, difference);
  }
  return largest;
}

class Comparison {
 public:
  void Add(const std::string &what, double difference, double limit) {
    const bool holds = difference <= limit;
    passed_ = passed_ && holds;
    text_ << what << ": largest difference " << difference << ", limit " << limit << (holds ? ": ok\n" : ": FAIL\n");
  }

  VerifyResult Result() const { return {passed_, text_.str()}; }

 private:
  bool passed_ = true;
  std::ostringstream text_;
};

size_t PlaceOf(const GoldenOutput &output, const Manifest &manifest) {
  for (size_t i = 0; i < manifest.outputs.size(); ++i) {
    if (manifest.outputs[i].name == output.name) return i;
  }
  throw std::runtime_error("the bundle's model gives no " + output.name + ", but the golden values have it");
}

// runs: each has the outputs for `crops / runs.size()` crops.
void CompareOutputs(const std::vector<Outputs> &runs, const Golden &golden, const Manifest &manifest,
                    const std::string &how, Comparison &comparison) {
  for (const GoldenOutput &output : golden.outputs) {
    const size_t place = PlaceOf(output, manifest);
    const size_t per_run = golden.crops.size() / runs.size() * output.values_per_crop;
    double largest = 0;
    for (size_t i = 0; i < runs.size(); ++i) {
      const std::vector<float> &found = runs[i][place];
      if (found.size() != per_run) throw std::runtime_error("the golden " + output.name + " have another size");
      largest = std::max(largest, LargestDifference(found.data(), output.values.data() + i * per_run, per_run));
    }
    comparison.Add(output.name + ", " + how, largest, output.tolerance);
  }
}

void ComparePicture(LandmarkModel &model, const Golden &golden, const Manifest &manifest, Comparison &comparison) {
  const Box roi = RoiFromBox(golden.box, manifest.crop_rule);
  const Image crop = CropResize(golden.picture, roi, manifest.crop_size);
  const std::vector<Point> found = RoiToImage(model.Run(crop), roi, manifest.crop_size);
  double largest = 0;
  for (size_t i = 0; i < found.size(); ++i) {
    for (size_t axis = 0; axis < 3; ++axis) {
      const double difference = std::abs(found[i][axis] - golden.landmarks[i][axis]);
      largest = std::isnan(difference) ? std::numeric_limits<double>::infinity() : std::max(largest, difference);
    }
  }
  comparison.Add("landmarks of the picture in pixels", largest, golden.picture_tolerance);
}

}  // namespace

VerifyResult Verify(const std::string &golden_file, const std::string &bundle, int threads) {
  const Golden golden = ReadGolden(golden_file);
  const Manifest manifest = ReadManifest(bundle);
  if (golden.source_sha256 != manifest.source_sha256) {
    throw std::runtime_error(golden_file + " belongs to a bundle of another checkpoint: write it again from this one");
  }
  if (golden.crops[0].width != manifest.crop_size) throw std::runtime_error("the golden crops have another size");
  LandmarkModel model(manifest, threads);
  Comparison comparison;
  std::vector<Outputs> runs;
  for (const Image &crop : golden.crops) runs.push_back(model.RunAll({crop}));
  CompareOutputs(runs, golden, manifest, "one crop per run", comparison);
  if (manifest.dynamic_batch) {
    const std::string how = std::to_string(golden.crops.size()) + " crops in one run";
    CompareOutputs({model.RunAll(golden.crops)}, golden, manifest, how, comparison);
  }
  ComparePicture(model, golden, manifest, comparison);
  return comparison.Result();
}
