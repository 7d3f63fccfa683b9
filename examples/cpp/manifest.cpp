#include "manifest.h"

#include <cmath>
#include <filesystem>
#include <stdexcept>

#include "flat_json.h"

namespace {

constexpr int kOldestSchema = 1, kSchema = 3;  // these and the next as in runtime/manifest.py
constexpr int kMaxCropSize = 4096;  // pixels

void Require(bool holds, const std::string &problem) {
  if (!holds) throw std::runtime_error(problem);
}

CropRule ReadCropRule(const FlatJson &json) {
  const std::string side_of = json.Text("crop.side_of");
  const CropRule rule{side_of == "height", json.Number("crop.scale"), json.Integer("crop.round_to"),
                      json.Number("crop.shift_y")};
  Require(side_of == "height" || side_of == "mean", "crop.side_of is neither height nor mean");
  Require(rule.scale > 0 && rule.scale < 100 && std::abs(rule.shift_y) < 100, "crop.scale or crop.shift_y is absurd");
  Require(rule.round_to >= 1, "crop.round_to is not positive");
  Require(json.Text("crop.interpolation") == "linear", "crop.interpolation is not linear, the only one made here");
  return rule;
}

Tensor ReadTensor(const FlatJson &json, const std::string &path) {
  Tensor tensor{json.Text(path + ".name"), json.Text(path + ".dtype"), {}};
  Require(tensor.dtype == "uint8" || tensor.dtype == "float32", path + ".dtype is neither uint8 nor float32");
  for (int i = 0; json.Has(path + ".shape." + std::to_string(i)); ++i) {
    tensor.shape.push_back(json.Integer(path + ".shape." + std::to_string(i)));
  }
  Require(!tensor.shape.empty(), path + ".shape is empty");
  if (tensor.shape[0] == -1) tensor.shape[0] = 1;
  Require(tensor.shape[0] == 1, "the batch is fixed to " + std::to_string(tensor.shape[0]) + ", not 1 or dynamic");
  return tensor;
}

std::string FindModel(const FlatJson &json, const std::string &bundle) {
  for (int i = 0; json.Has("artifacts." + std::to_string(i) + ".format"); ++i) {
    const std::string entry = "artifacts." + std::to_string(i);
    if (json.Text(entry + ".format") != "ms") continue;
    const std::string name = json.Text(entry + ".file");
    Require(name.find('/') == std::string::npos, entry + ".file is no bare file name");
    std::error_code missing;
    const auto size = std::filesystem::file_size(bundle + "/" + name, missing);
    Require(!missing && size == static_cast<uintmax_t>(json.Integer(entry + ".bytes")),
            name + " is missing or has another size than stated");
    return bundle + "/" + name;
  }
  throw std::runtime_error("it has no .ms artifact");
}

Manifest Read(const FlatJson &json, const std::string &bundle) {
  const int64_t schema = json.Integer("schema");
  Require(kOldestSchema <= schema && schema <= kSchema,
          "its schema is not " + std::to_string(kOldestSchema) + " to " + std::to_string(kSchema));
  Manifest manifest{FindModel(json, bundle),
                    json.Integer("preprocessing.size"),
                    ReadCropRule(json),
                    ReadTensor(json, "inputs.0"),
                    json.Integer("inputs.0.shape.0") == -1,
                    json.Text("source.sha256"),
                    {}};
  for (int i = 0; json.Has("outputs." + std::to_string(i) + ".name"); ++i) {
    manifest.outputs.push_back(ReadTensor(json, "outputs." + std::to_string(i)));
  }
  Require(manifest.crop_size >= 1 && manifest.crop_size <= kMaxCropSize, "preprocessing.size is absurd");
  const std::vector<int64_t> wanted{1, manifest.crop_size, manifest.crop_size, 3};
  Require(manifest.input.dtype == "uint8" && manifest.input.shape == wanted, "its input is no uint8 crop");
  return manifest;
}

}  // namespace

Manifest ReadManifest(const std::string &bundle) {
  const std::string path = bundle + "/manifest.json";
  const std::string text = ReadFile(path);
  try {
    return Read(FlatJson(text), bundle);
  } catch (const std::runtime_error &error) {
    throw std::runtime_error(path + " cannot be used: " + error.what() + "; copy or export the bundle again");
  }
}
