// A picture in memory, and how it is read from a file.
#pragma once

#include <cstddef>
#include <cstdint>
#include <string>
#include <vector>

struct Image {
  int width = 0;
  int height = 0;
  std::vector<uint8_t> bgr;  // height x width x 3, row by row from the top
};

// A whole file. Throws std::runtime_error if it is missing, unreadable or over 1 GB.
std::string ReadFile(const std::string &path);

// PPM (P6), BMP (24 bit) and, where built with libjpeg, JPEG; told apart by content. Pixels stay as they are stored:
// no turn by an EXIF tag. Throws std::runtime_error if the file is missing, none of these, damaged or too large.
Image ReadImage(const std::string &path);

// Black; throws std::runtime_error for a size that no face photo has.
Image MakeImage(int64_t width, int64_t height);

void SwapRedAndBlue(Image &image);

#ifdef SYNERGY_WITH_JPEG
Image DecodeJpeg(const std::string &data);
#endif
