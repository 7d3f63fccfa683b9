// JPEG through libjpeg (or libjpeg-turbo, which decodes to the very pixels that OpenCV gives).
#include <csetjmp>
#include <cstdio>  // jpeglib.h needs it

#include <jpeglib.h>

#include <stdexcept>

#include "image.h"

namespace {

struct Decoder {
  jpeg_decompress_struct info{};
  jpeg_error_mgr errors{};
  std::jmp_buf back{};
  char text[JMSG_LENGTH_MAX] = "";

  Decoder() = default;
  Decoder(const Decoder &) = delete;
  Decoder &operator=(const Decoder &) = delete;
  ~Decoder() { jpeg_destroy_decompress(&info); }
};

// libjpeg's way out of an error is a jump: an exception must not cross its C functions.
[[noreturn]] void JumpBack(j_common_ptr info) {
  auto *decoder = static_cast<Decoder *>(info->client_data);
  info->err->format_message(info, decoder->text);
  std::longjmp(decoder->back, 1);
}

// libjpeg only warns of damaged data, and fills what is missing with grey.
void TreatWarningAsError(j_common_ptr info, int level) {
  if (level < 0) JumpBack(info);
}

// Nothing in here may need a destructor: the jump back runs none.
bool Decode(Decoder &decoder, const std::string &data, Image &image) {
  if (setjmp(decoder.back) != 0) return false;
  jpeg_decompress_struct &info = decoder.info;
  jpeg_create_decompress(&info);
  info.client_data = &decoder;
  jpeg_mem_src(&info, reinterpret_cast<const unsigned char *>(data.data()), data.size());
  jpeg_read_header(&info, TRUE);
  info.out_color_space = JCS_RGB;
  jpeg_start_decompress(&info);
  image = MakeImage(info.output_width, info.output_height);
  while (info.output_scanline < info.output_height) {
    JSAMPROW row = image.bgr.data() + static_cast<size_t>(info.output_scanline) * info.output_width * 3;
    jpeg_read_scanlines(&info, &row, 1);
  }
  jpeg_finish_decompress(&info);
  return true;
}

}  // namespace

Image DecodeJpeg(const std::string &data) {
  Decoder decoder;
  decoder.info.err = jpeg_std_error(&decoder.errors);
  decoder.errors.error_exit = JumpBack;
  decoder.errors.emit_message = TreatWarningAsError;
  Image image;
  if (!Decode(decoder, data, image)) throw std::runtime_error(std::string("the JPEG is damaged: ") + decoder.text);
  SwapRedAndBlue(image);
  return image;
}
