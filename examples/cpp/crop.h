// From a face box to the crop that the network sees, and back: runtime/crop.py in C++, pixel for pixel.
#pragma once

#include <array>
#include <vector>

#include "image.h"

struct Box {  // image pixels
  double x1, y1, x2, y2;
};

// How a face box becomes the square region of interest (ROI); `crop` in the bundle's manifest.
struct CropRule {
  bool side_of_height;  // the base length is the box's height; else the mean of its width and height
  double scale;         // the ROI's side is scale * base,
  int round_to;         // rounded down to a multiple of this many pixels
  double shift_y;       // its centre lies shift_y * base below the box's
};

using Point = std::array<double, 3>;  // x right, y down, z depth

// The square ROI of a face box; it may reach outside the image, and keeps its fractions.
// Throws std::runtime_error for a box that is not finite, is empty, or is too small.
Box RoiFromBox(const Box &box, const CropRule &rule);

// Cut the ROI out, its corners rounded, and resize it to size x size; black outside the image.
// Throws std::runtime_error if nothing of the ROI is inside, it has no pixel, or it is absurdly large.
Image CropResize(const Image &image, const Box &roi, int size);

// Crop pixels (3 x N: all x, all y, all z) to image pixels, by the ROI before rounding; z takes the mean scale.
std::vector<Point> RoiToImage(const std::vector<float> &points, const Box &roi, int size);
