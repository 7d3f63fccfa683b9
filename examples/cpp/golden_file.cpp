#include "golden_file.h"

#include <cmath>
#include <cstdint>
#include <cstring>
#include <stdexcept>

namespace {

constexpr char kMagic[] = "SYNGOLD";  // with its zero byte
constexpr char kNotFinite[] = "it has a value that is not finite";
constexpr uint32_t kVersion = 1;
constexpr size_t kShaLength = 64, kNameLength = 32, kPoints = 68;
constexpr uint32_t kMaxCrops = 4096, kMaxSide = 4096, kMaxOutputs = 16, kMaxValues = 1 << 22;

void Require(bool holds, const std::string &problem) {
  if (!holds) throw std::runtime_error(problem);
}

float Finite(float value) {
  Require(std::isfinite(value), kNotFinite);
  return value;
}

// Takes values from the front of the data. Little-endian, as all processors that MindSpore Lite supports.
class Reader {
 public:
  explicit Reader(const std::string &data) : data_(data) {}

  const char *Take(size_t bytes) {
    Require(bytes <= data_.size() - at_, "it ends early");
    at_ += bytes;
    return data_.data() + at_ - bytes;
  }

  template <typename T>
  T Number() {
    T value;
    std::memcpy(&value, Take(sizeof value), sizeof value);
    return value;
  }

  uint32_t Count(uint32_t most, const std::string &what) {
    const auto count = Number<uint32_t>();
    Require(1 <= count && count <= most, what + " is not 1 to " + std::to_string(most));
    return count;
  }

  std::vector<float> Floats(size_t count) {
    const char *bytes = Take(count * sizeof(float));
    std::vector<float> values(count);
    std::memcpy(values.data(), bytes, count * sizeof(float));
    for (const float value : values) Finite(value);
    return values;
  }

  Image Pixels(uint32_t width, uint32_t height) {
    const size_t bytes = static_cast<size_t>(width) * height * 3;
    const char *pixels = Take(bytes);  // before memory is reserved: a damaged size is found here
    Image image = MakeImage(width, height);
    std::memcpy(image.bgr.data(), pixels, bytes);
    return image;
  }

  bool AtEnd() const { return at_ == data_.size(); }

 private:
  const std::string &data_;
  size_t at_ = 0;
};

GoldenOutput ReadOutput(Reader &reader, size_t crops) {
  const char *name = reader.Take(kNameLength);
  Require(name[kNameLength - 1] == '\0', "the name of an output has no end");
  GoldenOutput output{name, reader.Count(kMaxValues, "the number of values"), Finite(reader.Number<float>()), {}};
  Require(output.tolerance > 0, "a tolerance is not positive");
  output.values = reader.Floats(crops * output.values_per_crop);
  return output;
}

Golden Read(Reader &reader) {
  Require(std::memcmp(reader.Take(sizeof kMagic), kMagic, sizeof kMagic) == 0, "it is another kind of file");
  const auto version = reader.Number<uint32_t>();
  Require(version == kVersion, "its version is " + std::to_string(version) + ", not " + std::to_string(kVersion));
  Golden golden;
  golden.source_sha256.assign(reader.Take(kShaLength), kShaLength);
  const uint32_t crops = reader.Count(kMaxCrops, "the number of crops");
  const uint32_t side = reader.Count(kMaxSide, "the side of a crop");
  const uint32_t outputs = reader.Count(kMaxOutputs, "the number of outputs");
  for (uint32_t i = 0; i < crops; ++i) golden.crops.push_back(reader.Pixels(side, side));
  for (uint32_t i = 0; i < outputs; ++i) golden.outputs.push_back(ReadOutput(reader, crops));
  const uint32_t width = reader.Count(kMaxSide, "the picture's width");
  const uint32_t height = reader.Count(kMaxSide, "the picture's height");
  golden.picture = reader.Pixels(width, height);
  const auto x1 = reader.Number<double>(), y1 = reader.Number<double>();
  const auto x2 = reader.Number<double>(), y2 = reader.Number<double>();
  Require(std::isfinite(x1) && std::isfinite(y1) && std::isfinite(x2) && std::isfinite(y2), kNotFinite);
  golden.box = {x1, y1, x2, y2};
  golden.picture_tolerance = Finite(reader.Number<float>());
  const std::vector<float> values = reader.Floats(kPoints * 3);
  for (size_t i = 0; i < kPoints; ++i) golden.landmarks.push_back({values[3 * i], values[3 * i + 1], values[3 * i + 2]});
  Require(reader.AtEnd(), "it has bytes after its end");
  return golden;
}

}  // namespace

Golden ReadGolden(const std::string &path) {
  const std::string data = ReadFile(path);
  Reader reader(data);
  try {
    return Read(reader);
  } catch (const std::runtime_error &error) {
    throw std::runtime_error(path + " has no golden values: " + error.what() +
                             "; write it again with `synergy golden BUNDLE --plain FILE`");
  }
}
