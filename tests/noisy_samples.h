#pragma once
// Raw samples of a simulated row.

#include <cmath>
#include <random>

#include "harness/analysis/series.h"

namespace attn {

/// Raw samples whose median scatters around `time_s`; 8 rounds of 3.
inline Samples noisy_samples(double time_s, double relative_noise, std::mt19937_64& random) {
  std::normal_distribution<double> noise(0, relative_noise);
  Samples samples;
  for (int round = 0; round < 8; ++round) {
    for (int k = 0; k < 3; ++k) samples.add(0, round, time_s * std::exp(noise(random)));
  }
  return samples;
}

}  // namespace attn
