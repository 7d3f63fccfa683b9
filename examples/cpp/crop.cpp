#include "crop.h"

#include <algorithm>
#include <cmath>
#include <cstddef>
#include <stdexcept>

namespace {

constexpr double kMaxRoiSide = 16384;  // as runtime/crop.py
constexpr int kOne = 2048;             // weights are fixed-point numbers of 11 bits, as in OpenCV

[[noreturn]] void FailTooSmall() {
  throw std::runtime_error("the box is smaller than one pixel: is it x1 y1 x2 y2 in image pixels?");
}

// One output pixel along one axis: two neighbours in the source, and the weight of each.
struct Tap {
  int first, second;
  int weight_first, weight_second;
};

enum class Axis { kColumns, kRows };

// As OpenCV's 8-bit INTER_LINEAR does it, to the last bit: float positions, weights rounded half to even. At the
// border a column takes its pixel with the whole weight; a row takes its pixel twice, and each share is rounded.
std::vector<Tap> MakeTaps(int source, int target, Axis axis) {
  const double scale = 1.0 / (static_cast<double>(target) / source);
  std::vector<Tap> taps;
  for (int i = 0; i < target; ++i) {
    const auto position = static_cast<float>((i + 0.5) * scale - 0.5);
    const int first = static_cast<int>(std::floor(position));
    float fraction = position - static_cast<float>(first);
    if (axis == Axis::kColumns && (first < 0 || first >= source - 1)) fraction = 0;
    taps.push_back({std::clamp(first, 0, source - 1), std::clamp(first + 1, 0, source - 1),
                    static_cast<int>(std::lrint((1.0f - fraction) * kOne)),
                    static_cast<int>(std::lrint(fraction * kOne))});
  }
  return taps;
}

// Products of 8 + 11 + 11 bits, brought back to 8 in OpenCV's steps: each of them cuts or rounds.
uint8_t Blend(int upper, int lower, const Tap &row) {
  const int sum = (row.weight_first * (upper >> 4) >> 16) + (row.weight_second * (lower >> 4) >> 16);
  return static_cast<uint8_t>((sum + 2) >> 2);
}

// The window of an image that an ROI is; black where it lies outside.
struct Window {
  const Image &image;
  int left, top, width, height;

  int At(int row, int column, int channel) const {
    const int y = top + row;
    const int x = left + column;
    if (x < 0 || y < 0 || x >= image.width || y >= image.height) return 0;
    return image.bgr[(static_cast<size_t>(y) * image.width + x) * 3 + channel];
  }
  int Between(int row, const Tap &column, int channel) const {
    return At(row, column.first, channel) * column.weight_first +
           At(row, column.second, channel) * column.weight_second;
  }
};

Window RoundedWindow(const Image &image, const Box &roi) {
  const double left = std::nearbyint(roi.x1), top = std::nearbyint(roi.y1);  // half to even, as numpy.rint
  const double right = std::nearbyint(roi.x2), bottom = std::nearbyint(roi.y2);
  const double width = right - left, height = bottom - top;
  if (!(width <= kMaxRoiSide && height <= kMaxRoiSide)) {  // so that NaN fails too
    throw std::runtime_error("the box is too large: is it x1 y1 x2 y2 in image pixels?");
  }
  if (width < 1 || height < 1) FailTooSmall();
  if (right <= 0 || bottom <= 0 || left >= image.width || top >= image.height) {
    throw std::runtime_error("the box lies outside the image of " + std::to_string(image.width) + "x" +
                             std::to_string(image.height) + " pixels");
  }
  return {image, static_cast<int>(left), static_cast<int>(top), static_cast<int>(width), static_cast<int>(height)};
}

}  // namespace

Box RoiFromBox(const Box &box, const CropRule &rule) {
  const double width = box.x2 - box.x1;
  const double height = box.y2 - box.y1;
  if (!(std::isfinite(width) && std::isfinite(height) && width > 0 && height > 0)) {
    throw std::runtime_error("the box must be finite, with x1 < x2 and y1 < y2");
  }
  const double base = rule.side_of_height ? height : (width + height) / 2;
  const double wanted = rule.scale * base;
  const double side = wanted - std::fmod(wanted, rule.round_to);
  if (side < 1) FailTooSmall();
  const double x1 = box.x2 - width / 2 - side / 2;
  const double y1 = box.y2 - height / 2 + rule.shift_y * base - side / 2;
  return {x1, y1, x1 + side, y1 + side};
}

Image CropResize(const Image &image, const Box &roi, int size) {
  const Window window = RoundedWindow(image, roi);
  const auto columns = MakeTaps(window.width, size, Axis::kColumns);
  const auto rows = MakeTaps(window.height, size, Axis::kRows);
  Image crop = MakeImage(size, size);
  auto target = crop.bgr.begin();
  for (const Tap &row : rows) {
    for (const Tap &column : columns) {
      for (int channel = 0; channel < 3; ++channel) {
        const int upper = window.Between(row.first, column, channel);
        const int lower = window.Between(row.second, column, channel);
        *target++ = Blend(upper, lower, row);
      }
    }
  }
  return crop;
}

std::vector<Point> RoiToImage(const std::vector<float> &points, const Box &roi, int size) {
  const size_t count = points.size() / 3;
  const double scale_x = (roi.x2 - roi.x1) / size;
  const double scale_y = (roi.y2 - roi.y1) / size;
  std::vector<Point> mapped;
  for (size_t i = 0; i < count; ++i) {
    mapped.push_back({points[i] * scale_x + roi.x1, points[count + i] * scale_y + roi.y1,
                      points[2 * count + i] * (scale_x + scale_y) / 2});
  }
  return mapped;
}
