// A C border around MindSpore Lite's C++ API, opened with ctypes: run models, convert models.
//
// Rules of the border: no exception crosses it; failures come back as text in `error`;
// tensors cross as raw pointers whose sizes are checked here, since Lite checks only bytes.

#include <algorithm>
#include <cstdint>
#include <cstdio>
#include <cstring>
#include <exception>
#include <iostream>
#include <memory>
#include <stdexcept>
#include <string>
#include <vector>

#include "include/api/context.h"
#include "include/api/format.h"
#include "include/api/model.h"
#include "include/api/status.h"
#include "include/api/types.h"

#ifdef SYNERGY_LITE_CONVERTER
#if __has_include("include/converter.h")
#include "include/converter.h"
#else
#include "include/registry/converter_context.h"
namespace mindspore {
struct ConverterPara;
// The wheel exports this class but ships no header for it; only what is called here is declared.
class MS_API Converter {
 public:
  Converter();
  ~Converter() = default;
  void SetConfigFile(const std::string &path) { SetConfigFile(StringToChar(path)); }
  void SetSaveType(ModelType type);
  void SetWeightFp16(bool half);
  void SetInputFormat(Format format);
  Status Convert(converter::FmkType framework, const std::string &model, const std::string &output,
                 const std::string &weight) {
    return Convert(framework, StringToChar(model), StringToChar(output), StringToChar(weight));
  }

 private:
  void SetConfigFile(const std::vector<char> &path);
  Status Convert(converter::FmkType framework, const std::vector<char> &model, const std::vector<char> &output,
                 const std::vector<char> &weight);
  std::shared_ptr<ConverterPara> data_;
};
}  // namespace mindspore
#endif
#endif

namespace {

namespace ms = mindspore;

enum Result { kOk = 0, kFailed = 1, kOutputsChanged = 2 };
constexpr int kMaxRank = 8;  // as in binding.py

// Where and how a model runs; laid out as `_Target` in binding.py.
struct Target {
  const char *device;  // cpu, gpu or ascend
  uint32_t index;
  int threads;
  const char *precision_mode;  // of the card, in Lite's words
  const int *cores;            // that CPU threads are bound to
  size_t core_count;           // 0: to none
  const char *config;          // path of a configuration file, may be null
};

struct Session {
  ms::Model model;
  std::vector<ms::MSTensor> inputs;
  std::vector<ms::MSTensor> outputs;

  void Refresh() {  // tensors held from before a resize keep their old shapes
    inputs = model.GetInputs();
    outputs = model.GetOutputs();
  }
};

void Report(const std::string &text, char *error, size_t room) {
  if (error == nullptr || room == 0) return;
  const size_t used = std::min(text.size(), room - 1);
  std::memcpy(error, text.data(), used);
  error[used] = '\0';
}

// Run `body` (Status or Result text) so that neither an exception nor a bad Status is lost.
template <typename Body>
int Guarded(char *error, size_t room, Body body) {
  try {
    return body();
  } catch (const std::exception &problem) {
    Report(problem.what(), error, room);
  } catch (...) {
    Report("unknown C++ exception", error, room);
  }
  return kFailed;
}

int Check(const ms::Status &status, char *error, size_t room) {
  if (status.IsOk()) return kOk;
  Report(status.ToString(), error, room);
  return kFailed;
}

std::shared_ptr<ms::Context> MakeContext(const Target &target) {
  auto context = std::make_shared<ms::Context>();
  context->SetThreadNum(target.threads);
  if (target.core_count > 0) {
    context->SetThreadAffinity(std::vector<int>(target.cores, target.cores + target.core_count));
  }
  auto &devices = context->MutableDeviceInfo();
  const std::string device = target.device;
  if (device == "gpu") {
    auto gpu = std::make_shared<ms::GPUDeviceInfo>();
    gpu->SetDeviceID(target.index);
    gpu->SetPrecisionMode(std::string(target.precision_mode));
    devices.push_back(gpu);
  } else if (device == "ascend") {
    auto ascend = std::make_shared<ms::AscendDeviceInfo>();
    ascend->SetDeviceID(target.index);
    ascend->SetPrecisionMode(std::string(target.precision_mode));
    devices.push_back(ascend);
  }
  devices.push_back(std::make_shared<ms::CPUDeviceInfo>());  // Lite wants the CPU last, for single operators
  return context;
}

int CopyOut(const Session &session, void *const *targets, const size_t *bytes, size_t count) {
  if (session.outputs.size() != count) return kOutputsChanged;
  for (size_t i = 0; i < session.outputs.size(); ++i) {
    if (session.outputs[i].DataSize() != bytes[i]) return kOutputsChanged;
  }
  for (size_t i = 0; i < session.outputs.size(); ++i) {
    auto tensor = session.outputs[i];
    const void *data = tensor.MutableData();
    if (data == nullptr) return kOutputsChanged;
    std::memcpy(targets[i], data, bytes[i]);
  }
  return kOk;
}

}  // namespace

extern "C" {

// Null on failure.
void *synergy_lite_open(const void *data, size_t bytes, int is_mindir, const void *target, char *error, size_t room) {
  std::unique_ptr<Session> session;
  const int result = Guarded(error, room, [&] {
    session = std::make_unique<Session>();
    const auto &where = *static_cast<const Target *>(target);
    if (where.config != nullptr) {
      const int loaded = Check(session->model.LoadConfig(where.config), error, room);
      if (loaded != kOk) return loaded;
    }
    const auto type = is_mindir ? ms::kMindIR : ms::kMindIR_Lite;
    const auto status = session->model.Build(data, bytes, type, MakeContext(where));
    const int built = Check(status, error, room);
    if (built == kOk) session->Refresh();
    return built;
  });
  return result == kOk ? session.release() : nullptr;
}

void synergy_lite_close(void *handle) {
  Guarded(nullptr, 0, [&] {
    delete static_cast<Session *>(handle);
    return static_cast<int>(kOk);
  });
}

int synergy_lite_count(void *handle, int outputs) {
  const auto *session = static_cast<Session *>(handle);
  return static_cast<int>((outputs ? session->outputs : session->inputs).size());
}

// `shape` has room for kMaxRank numbers.
int synergy_lite_describe(void *handle, int outputs, int which, char *name, size_t name_room, int *dtype,
                          int64_t *shape, int *rank) {
  return Guarded(name, name_room, [&] {
    const auto *session = static_cast<Session *>(handle);
    const auto &tensor = (outputs ? session->outputs : session->inputs).at(which);
    const auto dims = tensor.Shape();
    if (dims.size() > kMaxRank) throw std::length_error("tensor has too many dimensions");
    Report(tensor.Name(), name, name_room);
    *dtype = static_cast<int>(tensor.DataType());
    *rank = static_cast<int>(dims.size());
    std::copy(dims.begin(), dims.end(), shape);
    return static_cast<int>(kOk);
  });
}

// `dims` holds all inputs' dimensions one after another, `ranks` how many each has.
int synergy_lite_resize(void *handle, const int64_t *dims, const int *ranks, char *error, size_t room) {
  return Guarded(error, room, [&] {
    auto *session = static_cast<Session *>(handle);
    std::vector<std::vector<int64_t>> shapes;
    for (size_t i = 0; i < session->inputs.size(); dims += ranks[i], ++i) {
      shapes.emplace_back(dims, dims + ranks[i]);
    }
    const int resized = Check(session->model.Resize(session->inputs, shapes), error, room);
    session->Refresh();
    return resized;
  });
}

// Copy inputs in, predict, copy outputs out. kOutputsChanged: it ran, but the outputs' number or sizes are not
// those of the targets: describe them again and call synergy_lite_fetch.
int synergy_lite_run(void *handle, const void *const *sources, const size_t *source_bytes, void *const *targets,
                     const size_t *target_bytes, size_t target_count, char *error, size_t room) {
  return Guarded(error, room, [&] {
    auto *session = static_cast<Session *>(handle);
    for (size_t i = 0; i < session->inputs.size(); ++i) {
      void *data = session->inputs[i].MutableData();
      if (data == nullptr || session->inputs[i].DataSize() != source_bytes[i]) {
        Report("input " + std::to_string(i) + " has another size than the model's", error, room);
        return static_cast<int>(kFailed);
      }
      std::memcpy(data, sources[i], source_bytes[i]);
    }
    const int ran = Check(session->model.Predict(session->inputs, &session->outputs), error, room);
    return ran == kOk ? CopyOut(*session, targets, target_bytes, target_count) : ran;
  });
}

// Copy out the outputs of the last run.
int synergy_lite_fetch(void *handle, void *const *targets, const size_t *target_bytes, size_t target_count) {
  return Guarded(nullptr, 0, [&] {
    return CopyOut(*static_cast<Session *>(handle), targets, target_bytes, target_count);
  });
}

// Lite appends ".ms" to `output` itself. `config` may be null.
int synergy_lite_convert(int framework, const char *model, const char *output, int nhwc, int weight_fp16,
                         const char *config, char *error, size_t room) {
#ifdef SYNERGY_LITE_CONVERTER
  return Guarded(error, room, [&] {
    ms::Converter converter;
    converter.SetSaveType(ms::kMindIR_Lite);
    converter.SetInputFormat(nhwc ? ms::NHWC : ms::NCHW);
    converter.SetWeightFp16(weight_fp16 != 0);
    if (config != nullptr) converter.SetConfigFile(config);
    const auto kind = static_cast<ms::converter::FmkType>(framework);
    const int converted = Check(converter.Convert(kind, model, output, ""), error, room);
    std::cout.flush();
    std::fflush(stdout);  // the Converter's chatter must come out while stdout is still captured
    return converted;
  });
#else
  Report("this release of MindSpore Lite has no converter library", error, room);
  return kFailed;
#endif
}

}  // extern "C"
