#include "image.h"

#include <algorithm>
#include <cctype>
#include <cstdlib>
#include <filesystem>
#include <fstream>
#include <stdexcept>
#include <utility>

namespace {

constexpr uint64_t kMaxBytes = 1 << 30;  // of a file
constexpr int64_t kMaxPixels = 1 << 28;  // as runtime/picture.py: the largest phone cameras make 2e8
constexpr int64_t kMaxSide = 1 << 20;    // keeps the product of two sides far from overflow
constexpr size_t kBmpHeader = 54;        // bytes of both headers, of the oldest kind that has 24 bits

[[noreturn]] void FailDamaged() { throw std::runtime_error("the picture is damaged or ends early: save it again"); }

bool StartsWith(const std::string &data, const std::string &magic) { return data.compare(0, magic.size(), magic) == 0; }

// The next number of a PPM header, after blanks and comments.
int64_t HeaderNumber(const std::string &data, size_t &at) {
  while (at < data.size() && (data[at] == '#' || std::isspace(static_cast<unsigned char>(data[at])))) {
    at = data[at] == '#' ? std::min(data.find('\n', at), data.size()) : at + 1;
  }
  const size_t start = at;
  int64_t number = 0;
  while (at < data.size() && data[at] >= '0' && data[at] <= '9') {
    number = std::min(number * 10 + (data[at++] - '0'), kMaxSide + 1);
  }
  if (at == start) FailDamaged();
  return number;
}

Image DecodePpm(const std::string &data) {
  size_t at = 2;
  const int64_t width = HeaderNumber(data, at);
  const int64_t height = HeaderNumber(data, at);
  if (HeaderNumber(data, at) != 255) throw std::runtime_error("a PPM must have 255 as its largest value");
  ++at;  // one blank, then the pixels
  Image image = MakeImage(width, height);
  if (data.size() < at + image.bgr.size()) FailDamaged();
  std::copy_n(data.begin() + static_cast<std::ptrdiff_t>(at), image.bgr.size(), image.bgr.begin());
  SwapRedAndBlue(image);
  return image;
}

uint32_t Little32(const std::string &data, size_t at) {
  uint32_t value = 0;
  for (size_t i = 4; i-- > 0;) value = value << 8 | static_cast<unsigned char>(data[at + i]);
  return value;
}

Image DecodeBmp(const std::string &data) {
  if (data.size() < kBmpHeader) FailDamaged();
  const size_t start = Little32(data, 10);
  const int64_t height = static_cast<int32_t>(Little32(data, 22));  // below zero: the top row comes first
  const uint32_t bits = Little32(data, 26) >> 16;
  const uint32_t compression = Little32(data, 30);
  if (bits != 24 || compression != 0) throw std::runtime_error("a BMP must have 24 bits per pixel, not compressed");
  Image image = MakeImage(static_cast<int32_t>(Little32(data, 18)), std::abs(height));
  const size_t row = static_cast<size_t>(image.width) * 3;
  const size_t stride = (row + 3) / 4 * 4;
  if (data.size() < start + stride * (image.height - 1) + row) FailDamaged();
  for (int y = 0; y < image.height; ++y) {
    const size_t stored = height > 0 ? image.height - 1 - y : y;
    std::copy_n(data.begin() + static_cast<std::ptrdiff_t>(start + stride * stored), row,
                image.bgr.begin() + static_cast<std::ptrdiff_t>(row * y));
  }
  return image;
}

Image Decode(const std::string &data) {
  if (StartsWith(data, "P6")) return DecodePpm(data);
  if (StartsWith(data, "BM")) return DecodeBmp(data);
#ifdef SYNERGY_WITH_JPEG
  if (StartsWith(data, "\xff\xd8")) return DecodeJpeg(data);
  throw std::runtime_error("not a PPM (P6), BMP or JPEG picture: convert it");
#else
  throw std::runtime_error("not a PPM (P6) or BMP picture: convert it (this program was built without libjpeg)");
#endif
}

}  // namespace

std::string ReadFile(const std::string &path) {
  std::error_code problem;
  if (!std::filesystem::is_regular_file(path, problem)) throw std::runtime_error(path + ": no such file");
  const uint64_t size = std::filesystem::file_size(path, problem);
  if (size > kMaxBytes) throw std::runtime_error(path + ": over 1 GB");
  std::string data(size, '\0');
  std::ifstream stream(path, std::ios::binary);
  if (!stream.read(data.data(), static_cast<std::streamsize>(size)))
    throw std::runtime_error(path + ": cannot be read");
  return data;
}

Image ReadImage(const std::string &path) {
  const std::string data = ReadFile(path);
  try {
    return Decode(data);
  } catch (const std::runtime_error &error) {
    throw std::runtime_error(path + ": " + error.what());
  }
}

Image MakeImage(int64_t width, int64_t height) {
  if (width < 1 || height < 1) FailDamaged();
  if (width > kMaxSide || height > kMaxSide || width * height > kMaxPixels) {
    throw std::runtime_error("the picture has over 268 million pixels: make it smaller");
  }
  return {static_cast<int>(width), static_cast<int>(height), std::vector<uint8_t>(width * height * 3)};
}

void SwapRedAndBlue(Image &image) {
  for (size_t i = 0; i < image.bgr.size(); i += 3) std::swap(image.bgr[i], image.bgr[i + 2]);
}
