// Training kernels for the CPU, called by MindSpore as ahead-of-time custom operators. float32, NCHW.
//
// MindSpore 2.10 runs a depthwise convolution one channel at a time through a general matrix product, and batch
// normalisation and ReLU6 as separate passes over memory: together most of a training step of MobileNetV2.
#include <algorithm>
#include <cmath>
#include <cstdint>
#include <cstring>
#include <vector>

namespace {

// ---- depthwise 3x3 convolution, padding 1, stride 1 or 2
//
// Every plane is copied once into phases (one for stride 1, four for stride 2) with a zero frame, so that the nine
// taps become nine plain offsets and the inner loops run over whole planes.
constexpr int kTaps = 9;

struct Plan {
  int height, width, out_height, out_width, stride;
  int row, span, phase, base[kTaps];  // padded row length, flat output length, phase size, where each tap starts

  Plan(int h, int w, int oh, int ow) : height(h), width(w), out_height(oh), out_width(ow), stride(oh < h ? 2 : 1) {
    int frame = stride == 1 ? 2 : 1;
    row = ow + frame;
    span = oh * row;
    phase = (oh + frame) * row + 2 * frame;
    for (int ky = 0; ky < 3; ++ky)
      for (int kx = 0; kx < 3; ++kx) base[ky * 3 + kx] = place(ky, kx);
  }
  int place(int y, int x) const {  // of a pixel of the framed plane
    if (stride == 1) return y * row + x;
    return ((y & 1) * 2 + (x & 1)) * phase + (y >> 1) * row + (x >> 1);
  }
  int scratch() const { return stride == 1 ? phase : 4 * phase; }

  void spread(const float *plane, float *buffer) const {
    std::memset(buffer, 0, scratch() * sizeof(float));
    for (int y = 0; y < height; ++y) {
      const float *from = plane + y * width;
      if (stride == 1) {
        std::memcpy(buffer + place(y + 1, 1), from, width * sizeof(float));
        continue;
      }
      float *odd = buffer + place(y + 1, 1), *even = buffer + place(y + 1, 2);
      for (int x = 0; x < width / 2; ++x) { odd[x] = from[2 * x]; even[x] = from[2 * x + 1]; }
      if (width & 1) odd[width / 2] = from[width - 1];
    }
  }
  void gather(const float *buffer, float *plane) const {
    for (int y = 0; y < height; ++y) {
      float *to = plane + y * width;
      if (stride == 1) {
        std::memcpy(to, buffer + place(y + 1, 1), width * sizeof(float));
        continue;
      }
      const float *odd = buffer + place(y + 1, 1), *even = buffer + place(y + 1, 2);
      for (int x = 0; x < width / 2; ++x) { to[2 * x] = odd[x]; to[2 * x + 1] = even[x]; }
      if (width & 1) to[width - 1] = odd[width / 2];
    }
  }
  void widen(const float *out, float *flat) const {  // output plane to rows of the padded length, zeros between
    std::memset(flat, 0, span * sizeof(float));
    for (int y = 0; y < out_height; ++y) std::memcpy(flat + y * row, out + y * out_width, out_width * sizeof(float));
  }
};

void forward(const Plan &p, const float *x, const float *w, float *y, float *buffer, float *flat) {
  p.spread(x, buffer);
  const float *s0 = buffer + p.base[0], *s1 = buffer + p.base[1], *s2 = buffer + p.base[2], *s3 = buffer + p.base[3],
              *s4 = buffer + p.base[4], *s5 = buffer + p.base[5], *s6 = buffer + p.base[6], *s7 = buffer + p.base[7],
              *s8 = buffer + p.base[8];
  for (int i = 0; i < p.span; ++i)
    flat[i] = w[0] * s0[i] + w[1] * s1[i] + w[2] * s2[i] + w[3] * s3[i] + w[4] * s4[i] + w[5] * s5[i] + w[6] * s6[i] +
              w[7] * s7[i] + w[8] * s8[i];
  for (int r = 0; r < p.out_height; ++r)
    std::memcpy(y + r * p.out_width, flat + r * p.row, p.out_width * sizeof(float));
}

void backward_input(const Plan &p, const float *dy, const float *w, float *dx, float *buffer, float *flat) {
  p.widen(dy, flat);
  std::memset(buffer, 0, p.scratch() * sizeof(float));
  for (int k = 0; k < kTaps; ++k) {
    float *__restrict to = buffer + p.base[k];
    const float *__restrict from = flat;
    for (int i = 0; i < p.span; ++i) to[i] += w[k] * from[i];
  }
  p.gather(buffer, dx);
}

void backward_weight(const Plan &p, const float *x, const float *dy, float *dw, float *buffer, float *flat) {
  p.spread(x, buffer);
  p.widen(dy, flat);
  for (int k = 0; k < kTaps; ++k) {
    const float *from = buffer + p.base[k];
    float sum = 0;
#pragma omp simd reduction(+ : sum)
    for (int i = 0; i < p.span; ++i) sum += flat[i] * from[i];
    dw[k] += sum;
  }
}

template <class Plane>
void each_channel(int64_t channels, const Plan &plan, Plane work) {
#pragma omp parallel
  {
    std::vector<float> buffer(plan.scratch()), flat(plan.span);
#pragma omp for schedule(static)
    for (int64_t c = 0; c < channels; ++c) work(c, buffer.data(), flat.data());
  }
}

// ---- batch normalisation by the batch's own statistics, with or without ReLU6 behind it
//
// One channel at a time, so that its planes are still in the cache when they are read again.
constexpr float kEpsilon = 1e-5f, kCeiling = 6.0f;

template <bool clipped>
int normalise(void **params, int64_t **shapes) {
  const float *x = static_cast<float *>(params[0]), *gamma = static_cast<float *>(params[1]),
              *beta = static_cast<float *>(params[2]);
  float *y = static_cast<float *>(params[3]), *means = static_cast<float *>(params[4]),
        *variances = static_cast<float *>(params[5]);
  const int64_t batch = shapes[0][0], channels = shapes[0][1], plane = shapes[0][2] * shapes[0][3];
  const float count = float(batch * plane);
#pragma omp parallel for schedule(static)
  for (int64_t c = 0; c < channels; ++c) {
    double total = 0, square = 0;
    for (int64_t n = 0; n < batch; ++n) {
      const float *from = x + (n * channels + c) * plane;
      float sum = 0;
#pragma omp simd reduction(+ : sum)
      for (int64_t i = 0; i < plane; ++i) sum += from[i];
      total += sum;
    }
    const float mean = float(total / count);
    for (int64_t n = 0; n < batch; ++n) {
      const float *from = x + (n * channels + c) * plane;
      float sum = 0;
#pragma omp simd reduction(+ : sum)
      for (int64_t i = 0; i < plane; ++i) sum += (from[i] - mean) * (from[i] - mean);
      square += sum;
    }
    const float variance = float(square / count), scale = gamma[c] / std::sqrt(variance + kEpsilon),
                shift = beta[c] - mean * scale;
    means[c] = mean;
    variances[c] = variance;
    for (int64_t n = 0; n < batch; ++n) {
      const float *from = x + (n * channels + c) * plane;
      float *to = y + (n * channels + c) * plane;
      for (int64_t i = 0; i < plane; ++i) {
        const float value = from[i] * scale + shift;
        to[i] = clipped ? std::min(std::max(value, 0.0f), kCeiling) : value;
      }
    }
  }
  return 0;
}

template <bool clipped>
int gradients(void **params, int64_t **shapes) {
  const float *x = static_cast<float *>(params[0]), *gamma = static_cast<float *>(params[1]),
              *beta = static_cast<float *>(params[2]), *means = static_cast<float *>(params[3]),
              *variances = static_cast<float *>(params[4]), *dy = static_cast<float *>(params[5]);
  float *dx = static_cast<float *>(params[6]), *dgamma = static_cast<float *>(params[7]),
        *dbeta = static_cast<float *>(params[8]);
  const int64_t batch = shapes[0][0], channels = shapes[0][1], plane = shapes[0][2] * shapes[0][3];
  const float count = float(batch * plane);
#pragma omp parallel for schedule(static)
  for (int64_t c = 0; c < channels; ++c) {
    const float inverse = 1.0f / std::sqrt(variances[c] + kEpsilon), mean = means[c], scale = gamma[c] * inverse,
                shift = beta[c] - mean * scale;
    double total = 0, weighted = 0;
    for (int64_t n = 0; n < batch; ++n) {
      const float *from = x + (n * channels + c) * plane, *slope = dy + (n * channels + c) * plane;
      float sum = 0, product = 0;
#pragma omp simd reduction(+ : sum, product)
      for (int64_t i = 0; i < plane; ++i) {
        const float value = from[i] * scale + shift;
        const float g = !clipped || (value > 0.0f && value < kCeiling) ? slope[i] : 0.0f;
        sum += g;
        product += g * (from[i] - mean);
      }
      total += sum;
      weighted += product;
    }
    dbeta[c] = float(total);
    dgamma[c] = float(weighted) * inverse;
    const float centre = float(total / count), tilt = float(weighted / count) * inverse * inverse;
    for (int64_t n = 0; n < batch; ++n) {
      const float *from = x + (n * channels + c) * plane, *slope = dy + (n * channels + c) * plane;
      float *to = dx + (n * channels + c) * plane;
      for (int64_t i = 0; i < plane; ++i) {
        const float value = from[i] * scale + shift;
        const float g = !clipped || (value > 0.0f && value < kCeiling) ? slope[i] : 0.0f;
        to[i] = scale * (g - centre - (from[i] - mean) * tilt);
      }
    }
  }
  return 0;
}
}  // namespace

// inputs then output; x (N,C,H,W), w (C,1,3,3), y (N,C,OH,OW)
extern "C" int DepthwiseForward(int, void **params, int *, int64_t **shapes, const char **, void *, void *) {
  const float *x = static_cast<float *>(params[0]), *w = static_cast<float *>(params[1]);
  float *y = static_cast<float *>(params[2]);
  const int64_t *in = shapes[0], *out = shapes[2];
  const Plan plan(in[2], in[3], out[2], out[3]);
  const int64_t batch = in[0], channels = in[1], big = in[2] * in[3], small = out[2] * out[3];
  each_channel(channels, plan, [&](int64_t c, float *buffer, float *flat) {
    for (int64_t n = 0; n < batch; ++n)
      forward(plan, x + (n * channels + c) * big, w + c * kTaps, y + (n * channels + c) * small, buffer, flat);
  });
  return 0;
}

// x (for its shape), w, dy -> dx, dw
extern "C" int DepthwiseBackward(int, void **params, int *, int64_t **shapes, const char **, void *, void *) {
  const float *x = static_cast<float *>(params[0]), *w = static_cast<float *>(params[1]),
              *dy = static_cast<float *>(params[2]);
  float *dx = static_cast<float *>(params[3]), *dw = static_cast<float *>(params[4]);
  const int64_t *in = shapes[0], *out = shapes[2];
  const Plan plan(in[2], in[3], out[2], out[3]);
  const int64_t batch = in[0], channels = in[1], big = in[2] * in[3], small = out[2] * out[3];
  each_channel(channels, plan, [&](int64_t c, float *buffer, float *flat) {
    float *sum = dw + c * kTaps;
    std::memset(sum, 0, kTaps * sizeof(float));
    for (int64_t n = 0; n < batch; ++n) {
      const int64_t plane = n * channels + c;
      backward_weight(plan, x + plane * big, dy + plane * small, sum, buffer, flat);
      backward_input(plan, dy + plane * small, w + c * kTaps, dx + plane * big, buffer, flat);
    }
  });
  return 0;
}

// x, gamma, beta -> y, mean, variance; x, gamma, beta, mean, variance, dy -> dx, dgamma, dbeta
extern "C" int BatchNormForward(int, void **p, int *, int64_t **s, const char **, void *, void *) { return normalise<false>(p, s); }
extern "C" int BatchNormRelu6Forward(int, void **p, int *, int64_t **s, const char **, void *, void *) { return normalise<true>(p, s); }
extern "C" int BatchNormBackward(int, void **p, int *, int64_t **s, const char **, void *, void *) { return gradients<false>(p, s); }
extern "C" int BatchNormRelu6Backward(int, void **p, int *, int64_t **s, const char **, void *, void *) { return gradients<true>(p, s); }
