// One face, from picture and box to 68 landmarks, on MindSpore Lite's C++ API.
#include <cstdlib>
#include <exception>
#include <iomanip>
#include <iostream>
#include <sstream>
#include <stdexcept>
#include <string>

#include "crop.h"
#include "image.h"
#include "landmark_model.h"
#include "manifest.h"
#include "verify.h"

namespace {

constexpr int kThreads = 2;
constexpr int kDecimals = 4;  // of a pixel

double ParseNumber(const std::string &text) {
  char *end = nullptr;
  const double number = std::strtod(text.c_str(), &end);
  if (text.empty() || *end != '\0') throw std::runtime_error("the box is x1 y1 x2 y2, and '" + text + "' is no number");
  return number;
}

std::string Align(const std::string &bundle, const std::string &image_path, const Box &box) {
  const Manifest manifest = ReadManifest(bundle);
  const Box roi = RoiFromBox(box, manifest.crop_rule);
  const Image crop = CropResize(ReadImage(image_path), roi, manifest.crop_size);
  LandmarkModel model(manifest, kThreads);
  std::ostringstream text;
  text << std::fixed << std::setprecision(kDecimals);
  for (const auto &[x, y, z] : RoiToImage(model.Run(crop), roi, manifest.crop_size)) {
    text << x << ' ' << y << ' ' << z << '\n';
  }
  return text.str();
}

void Print(const std::string &text) {
  if (!(std::cout << text << std::flush)) throw std::runtime_error("cannot write to stdout");
}

}  // namespace

int main(int argc, char **argv) {
  const bool verify = argc == 4 && std::string(argv[1]) == "--verify";
  if (argc != 7 && !verify) {
    std::cerr << "usage: face_landmarks BUNDLE IMAGE X1 Y1 X2 Y2\n"
                 "       face_landmarks --verify FILE BUNDLE\n";
    return 2;
  }
  try {
    if (verify) {
      const VerifyResult result = Verify(argv[2], argv[3], kThreads);
      Print(result.text);
      if (!result.passed) throw std::runtime_error("the model does not agree with the golden values on this device");
      return 0;
    }
    const Box box{ParseNumber(argv[3]), ParseNumber(argv[4]), ParseNumber(argv[5]), ParseNumber(argv[6])};
    Print(Align(argv[1], argv[2], box));
    return 0;
  } catch (const std::exception &error) {
    std::cerr << "face_landmarks: " << error.what() << '\n';
    return 1;
  }
}
