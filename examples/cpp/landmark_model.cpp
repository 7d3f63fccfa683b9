#include "landmark_model.h"

#include <cstring>
#include <functional>
#include <memory>
#include <numeric>
#include <sstream>
#include <stdexcept>
#include <string>

#include "include/api/context.h"

namespace ms = mindspore;

namespace {

constexpr char kLandmarks[] = "landmarks";
constexpr int64_t kFree = -1;  // a dimension fixed only at run time

void Check(const ms::Status &status, const std::string &what) {
  if (status.IsOk()) return;
  throw std::runtime_error("MindSpore Lite cannot " + what + ": its log above, which GLOG_v=4 silences, says why");
}

ms::DataType TypeOf(const Tensor &tensor) {
  return tensor.dtype == "uint8" ? ms::DataType::kNumberTypeUInt8 : ms::DataType::kNumberTypeFloat32;
}

size_t BytesOf(const Tensor &tensor) {
  const size_t item = tensor.dtype == "uint8" ? sizeof(uint8_t) : sizeof(float);
  return std::accumulate(tensor.shape.begin(), tensor.shape.end(), item, std::multiplies<size_t>());
}

[[noreturn]] void FailMismatch(const ms::MSTensor &found, const Tensor &wanted) {
  std::ostringstream text;
  text << "the model's " << wanted.name << " is of type " << static_cast<int>(found.DataType()) << ", shape";
  for (const int64_t dim : found.Shape()) text << ' ' << dim;
  text << "; its manifest says " << wanted.dtype << ", shape";
  for (const int64_t dim : wanted.shape) text << ' ' << dim;
  text << ": export the bundle again";
  throw std::runtime_error(text.str());
}

// Lite itself compares nothing but byte sizes.
void CheckTensor(const ms::MSTensor &found, const Tensor &wanted) {
  if (found.DataType() == TypeOf(wanted) && found.Shape() == wanted.shape && found.DataSize() == BytesOf(wanted))
    return;
  FailMismatch(found, wanted);
}

Tensor OfBatch(Tensor tensor, int64_t batch) {
  tensor.shape.at(0) = batch;
  return tensor;
}

// The model's one input, with the batch that it may leave free set to 1.
void FixInput(ms::Model &model, const Tensor &wanted) {
  const auto inputs = model.GetInputs();
  if (inputs.size() != 1 || inputs[0].Name() != wanted.name) {
    throw std::runtime_error("the model does not take " + wanted.name + " alone: export the bundle again");
  }
  auto shape = inputs[0].Shape();
  if (!shape.empty() && shape[0] == kFree) shape[0] = 1;
  if (shape != wanted.shape) FailMismatch(inputs[0], wanted);  // Lite would resize to any shape
  Check(model.Resize(inputs, {wanted.shape}), "run one face");
}

// Outputs go by their place in the manifest: conversion to .ms renames them.
size_t PlaceOfLandmarks(const std::vector<Tensor> &outputs) {
  const std::vector<int64_t> shape{1, 3, 68};
  for (size_t i = 0; i < outputs.size(); ++i) {
    if (outputs[i].name == kLandmarks && outputs[i].shape == shape) return i;
  }
  throw std::runtime_error("the bundle's model gives no landmarks (1, 3, 68): export it with --head landmarks");
}

}  // namespace

LandmarkModel::LandmarkModel(const Manifest &manifest, int threads)
    : manifest_(manifest), landmarks_(PlaceOfLandmarks(manifest.outputs)) {
  auto context = std::make_shared<ms::Context>();
  context->SetThreadNum(threads);
  context->MutableDeviceInfo().push_back(std::make_shared<ms::CPUDeviceInfo>());
  Check(model_.Build(manifest.model_path, ms::kMindIR_Lite, context), "load " + manifest.model_path);
  FixInput(model_, manifest.input);
}

std::vector<float> LandmarkModel::Run(const Image &crop) { return RunAll({crop})[landmarks_]; }

std::vector<std::vector<float>> LandmarkModel::RunAll(const std::vector<Image> &crops) {
  const auto batch = static_cast<int64_t>(crops.size());
  SetBatch(batch);
  auto inputs = model_.GetInputs();  // again: those from before a resize keep their old shapes
  CheckTensor(inputs.at(0), OfBatch(manifest_.input, batch));
  auto *target = static_cast<uint8_t *>(inputs[0].MutableData());
  for (const Image &crop : crops) {
    if (inputs[0].DataSize() != crop.bgr.size() * crops.size()) {
      throw std::runtime_error("the crop has another size than the model's");
    }
    std::memcpy(target, crop.bgr.data(), crop.bgr.size());
    target += crop.bgr.size();
  }

  std::vector<ms::MSTensor> outputs;
  Check(model_.Predict(inputs, &outputs), "run the model");
  if (outputs.size() != manifest_.outputs.size()) {
    throw std::runtime_error("the model has another number of outputs than its manifest: export the bundle again");
  }
  std::vector<std::vector<float>> copies;  // the next run overwrites the tensors
  for (size_t i = 0; i < outputs.size(); ++i) {
    CheckTensor(outputs[i], OfBatch(manifest_.outputs[i], batch));
    const auto *values = static_cast<const float *>(outputs[i].MutableData());
    if (values == nullptr) throw std::runtime_error("MindSpore Lite gives no " + manifest_.outputs[i].name);
    copies.emplace_back(values, values + outputs[i].ElementNum());
  }
  return copies;
}

void LandmarkModel::SetBatch(int64_t batch) {
  const auto inputs = model_.GetInputs();
  const Tensor wanted = OfBatch(manifest_.input, batch);
  if (inputs.at(0).Shape() == wanted.shape) return;
  if (!manifest_.dynamic_batch) throw std::runtime_error("the model takes one crop per run");
  Check(model_.Resize(inputs, {wanted.shape}), "run " + std::to_string(batch) + " crops at once");
}
