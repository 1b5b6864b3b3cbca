#include "harness/run/inputs.h"

#include <array>
#include <cmath>
#include <cstring>

#include "harness/problem/error.h"

namespace attn {
namespace {

/// 64 random bits at a time: splitmix64, Steele, Lea and Flood 2014.
class Bits {
 public:
  explicit Bits(uint64_t state) : state_(state) {}

  uint64_t next() { return mix(state_ += kStep); }
  double uniform() { return static_cast<double>(next() >> 11) * 0x1p-53; }  // [0, 1)

  static constexpr uint64_t kStep = 0x9e3779b97f4a7c15ull;
  static uint64_t mix(uint64_t x) {
    x = (x ^ (x >> 30)) * 0xbf58476d1ce4e5b9ull;
    x = (x ^ (x >> 27)) * 0x94d049bb133111ebull;
    return x ^ (x >> 31);
  }

 private:
  uint64_t state_;
};

/// Normal numbers by the ziggurat, Marsaglia and Tsang 2000, with layer and position from bits of their own
/// (Doornik 2005): 99 of 100 cost one draw and one product.
class Ziggurat {
 public:
  Ziggurat() {
    const double base = density(kTail);
    edge_[0] = kArea / base;  // as wide as if the tail were a rectangle
    edge_[1] = kTail;
    for (size_t k = 2; k < kLayers; ++k) {
      edge_[k] = std::sqrt(-2 * std::log(kArea / edge_[k - 1] + density(edge_[k - 1])));
    }
    edge_[kLayers] = 0;
  }

  double draw(Bits bits) const {
    for (;;) {
      const uint64_t word = bits.next();
      const size_t layer = word & (kLayers - 1);
      const double sign = word & kLayers ? -1 : 1;
      const double x = static_cast<double>(word >> 11) * 0x1p-53 * edge_[layer];
      if (x < edge_[layer + 1]) return sign * x;
      if (layer == 0) return sign * tail(bits);
      const double low = density(edge_[layer]), high = density(edge_[layer + 1]);
      if (low + bits.uniform() * (high - low) < density(x)) return sign * x;
    }
  }

 private:
  static constexpr size_t kLayers = 128;
  static constexpr double kTail = 3.442619855899;       ///< where the tail begins
  static constexpr double kArea = 9.91256303526217e-3;  ///< of each layer, without the factor of the density

  static double density(double x) { return std::exp(-0.5 * x * x); }
  static double tail(Bits& bits) {
    for (;;) {
      const double x = -std::log(1 - bits.uniform()) / kTail, y = -std::log(1 - bits.uniform());
      if (2 * y > x * x) return kTail + x;
    }
  }

  std::array<double, kLayers + 1> edge_;  ///< right edges, the widest layer first
};

/// Random numbers addressed by (seed, tensor, element).
class Random {
 public:
  Random(uint64_t seed, uint64_t tensor) : key_(Bits::mix(seed * Bits::kStep + tensor + 1)) {}

  double uniform(int64_t element) const { return bits_of(element).uniform(); }
  double normal(int64_t element) const {
    static const Ziggurat ziggurat;
    return ziggurat.draw(bits_of(element));
  }

 private:
  Bits bits_of(int64_t element) const { return Bits(key_ ^ Bits::mix(static_cast<uint64_t>(element))); }

  uint64_t key_;
};

enum TensorId : uint64_t { kQ, kK, kV, kDo, kShawKey, kShawValue, kT5Bias, kX, kWq, kWk, kWv, kWo };

template <class Value>
std::vector<float> generate(int64_t elements, Dtype dtype, Value value) {
  std::vector<float> tensor(static_cast<size_t>(elements));
#pragma omp parallel for schedule(static)
  for (int64_t e = 0; e < elements; ++e) {
    tensor[static_cast<size_t>(e)] = round_to(dtype, static_cast<float>(value(e)));
  }
  return tensor;
}

std::vector<float> normal_tensor(int64_t elements, Dtype dtype, Random random, double deviation) {
  return generate(elements, dtype, [=](int64_t e) { return deviation * random.normal(e); });
}

/// q of the fills overflow and late_max: channel 0 alone decides the scores.
double steering_query(Fill fill, const Random& random, int64_t e, int64_t row, int64_t channel,
                      double root_d) {
  if (channel != 0) return 0.05 * random.normal(e);
  return fill == Fill::overflow && row % 2 == 1 ? -root_d : root_d;
}

double overflow_key(const Random& random, int64_t e) {
  constexpr double kLevels[8] = {90, 89, 88.5, 87, 87, -87, -87, -87};
  return kLevels[static_cast<int>(random.uniform(e) * 8)];
}

double late_key(int64_t j, int64_t seq_kv) {
  if (j < seq_kv / 2) return -90;
  if (j % 7 == 0) return 90;
  return j % 3 == 0 ? -90 : 88;
}

std::vector<float> make_queries(const Problem& p, Fill fill, const Random& random) {
  const double root_d = std::sqrt(static_cast<double>(p.head_dim));
  return generate(p.batch * p.seq_q * p.heads_q * p.head_dim, p.dtype, [&](int64_t e) {
    switch (fill) {
      case Fill::uniform:
        return random.uniform(e);
      case Fill::flat:
        return 0.02 * random.normal(e);
      case Fill::peaked:
        return 8 * random.normal(e);
      case Fill::integers:
        return std::floor(random.uniform(e) * 5) - 2;
      case Fill::ones:
        return 1.0;
      case Fill::overflow:
      case Fill::late_max: {
        const int64_t row = e / (p.heads_q * p.head_dim) % p.seq_q;
        return steering_query(fill, random, e, row, e % p.head_dim, root_d);
      }
      case Fill::normal:
        break;
    }
    return random.normal(e);
  });
}

std::vector<float> make_keys(const Problem& p, Fill fill, const Random& random) {
  return generate(p.batch * p.seq_kv * p.heads_kv * p.head_dim, p.dtype, [&](int64_t e) {
    const bool steering = e % p.head_dim == 0;
    const int64_t j = e / (p.heads_kv * p.head_dim) % std::max(p.seq_kv, int64_t{1});
    if (steering && fill == Fill::overflow) return overflow_key(random, e);
    if (steering && fill == Fill::late_max) return late_key(j, p.seq_kv);
    if (fill == Fill::uniform) return random.uniform(e);
    if (fill == Fill::flat) return 0.02 * random.normal(e);
    if (fill == Fill::integers) return std::floor(random.uniform(e) * 5) - 2;
    return fill == Fill::ones ? 1.0 : random.normal(e);
  });
}

std::vector<float> make_values(const Problem& p, Fill fill, const Random& random) {
  return generate(p.batch * p.seq_kv * p.heads_kv * p.value_dim, p.dtype, [&](int64_t e) {
    if (fill == Fill::uniform) return random.uniform(e);
    if (fill == Fill::flat) return 0.02 * random.normal(e);
    if (fill == Fill::integers) return std::floor(random.uniform(e) * 5) - 2;
    return fill == Fill::ones ? 1.0 : random.normal(e);
  });
}

/// x follows the fill; weights are N(0, 1 / rows), which keeps the variance of the activations.
void make_block_inputs(const Problem& p, Fill fill, uint64_t seed, Inputs<float>& inputs) {
  const int64_t model = p.model_width(), joined = p.heads_q * p.value_dim;
  const Random x(seed, kX);
  const double gain = fill == Fill::peaked ? 3 : (fill == Fill::flat ? 0.02 : 1);
  inputs.x = normal_tensor(p.batch * p.seq_q * model, p.dtype, x, gain);
  const double in = 1 / std::sqrt(static_cast<double>(model)),
               out = 1 / std::sqrt(static_cast<double>(joined));
  inputs.wq = normal_tensor(model * p.heads_q * p.head_dim, p.dtype, Random(seed, kWq), in);
  inputs.wk = normal_tensor(model * p.heads_kv * p.head_dim, p.dtype, Random(seed, kWk), in);
  inputs.wv = normal_tensor(model * p.heads_kv * p.value_dim, p.dtype, Random(seed, kWv), in);
  inputs.wo = normal_tensor(joined * model, p.dtype, Random(seed, kWo), out);
}

}  // namespace

const std::vector<Fill>& all_fills() {
  static const std::vector<Fill> fills = {Fill::normal,   Fill::uniform, Fill::flat,     Fill::peaked,
                                          Fill::integers, Fill::ones,    Fill::overflow, Fill::late_max};
  return fills;
}

std::string to_text(Fill fill) {
  switch (fill) {
    case Fill::normal:
      return "normal";
    case Fill::uniform:
      return "uniform";
    case Fill::flat:
      return "flat";
    case Fill::peaked:
      return "peaked";
    case Fill::integers:
      return "integers";
    case Fill::ones:
      return "ones";
    case Fill::overflow:
      return "overflow";
    case Fill::late_max:
      return "late_max";
  }
  return "?";
}

Fill parse_fill(std::string_view text) {
  std::string accepted;
  for (Fill fill : all_fills()) {
    if (to_text(fill) == text) return fill;
    accepted += (accepted.empty() ? "" : ", ") + to_text(fill);
  }
  throw UsageError("fill '" + std::string(text) + "' is unknown: use " + accepted);
}

Inputs<float> make_inputs(const Problem& p, Fill fill, uint64_t seed) {
  Inputs<float> inputs;
  if (p.scope == Scope::block) {
    make_block_inputs(p, fill, seed, inputs);
  } else {
    inputs.q = make_queries(p, fill, Random(seed, kQ));
    inputs.k = make_keys(p, fill, Random(seed, kK));
    inputs.v = make_values(p, fill, Random(seed, kV));
  }
  if (p.pass == Pass::bwd) {
    const int64_t elements = p.batch * p.seq_q * p.heads_q * p.value_dim;
    inputs.d_o = normal_tensor(elements, p.dtype, Random(seed, kDo), 1);
  }
  const Position& position = p.position;
  const int64_t rows = position.shaw_rows();
  if (position.shaw()) {
    inputs.shaw_key = normal_tensor(rows * p.head_dim, Dtype::f32, Random(seed, kShawKey), 0.5);
  }
  if (position.shaw_values()) {
    inputs.shaw_value = normal_tensor(rows * p.value_dim, Dtype::f32, Random(seed, kShawValue), 0.5);
  }
  if (position.t5()) {
    inputs.t5_bias = normal_tensor(position.buckets * p.heads_q, Dtype::f32, Random(seed, kT5Bias), 1);
  }
  return inputs;
}

bool same_bits(const Outputs<float>& a, const Outputs<float>& b) {
  const auto same = [](const std::vector<float>& x, const std::vector<float>& y) {
    return x.size() == y.size() &&
           (x.empty() || std::memcmp(x.data(), y.data(), x.size() * sizeof(float)) == 0);
  };
  return same(a.o, b.o) && same(a.lse, b.lse) && same(a.d_q, b.d_q) && same(a.d_k, b.d_k) &&
         same(a.d_v, b.d_v) && same(a.d_shaw_key, b.d_shaw_key) && same(a.d_shaw_value, b.d_shaw_value) &&
         same(a.d_t5_bias, b.d_t5_bias);
}

Inputs<double> to_double(const Inputs<float>& in) {
  const auto widen = [](const std::vector<float>& values) {
    return std::vector<double>(values.begin(), values.end());
  };
  return {widen(in.q),        widen(in.k),          widen(in.v),       widen(in.d_o),
          widen(in.shaw_key), widen(in.shaw_value), widen(in.t5_bias), widen(in.x),
          widen(in.wq),       widen(in.wk),         widen(in.wv),      widen(in.wo)};
}

}  // namespace attn
