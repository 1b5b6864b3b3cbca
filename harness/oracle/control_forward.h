#pragma once
// The control kernel's forward: one row at a time; every planted error is one line.

#include <vector>

#include "harness/oracle/control_operands.h"

namespace attn {

class ControlForward {
 public:
  ControlForward(const Problem& problem, Mutation mutation, const ControlOperands& operands,
                 const Tables& tables);

  /// Softcapped score without and with its bias.
  struct Score {
    float capped, biased;
  };
  /// Writes O of one row and returns its LSE.
  float row(int64_t b, int64_t h, int64_t i, float* o);

  bool visible(int64_t b, int64_t i, int64_t j) const;
  const float* query(int64_t b, int64_t i, int64_t h) const;
  const float* key(int64_t b, int64_t j, int64_t h) const;
  const float* value(int64_t b, int64_t j, int64_t h) const;
  int64_t shaw_row(int64_t i, int64_t j) const;
  const float* shaw_key(int64_t i, int64_t j) const;    ///< null without one
  const float* shaw_value(int64_t i, int64_t j) const;  ///< null without one
  int64_t t5_bucket(int64_t i, int64_t j) const;
  Score score(int64_t b, int64_t h, int64_t i, int64_t j) const;

  const Problem& p;
  const Mutation m;
  const float tau;

 private:
  float bias(int64_t h, int64_t i, int64_t j) const;
  float exponential(float x, int64_t j) const;
  float maximum(int64_t b, int64_t i, int64_t end) const;
  void add_value(int64_t b, int64_t h, int64_t i, int64_t j, float weight, float* o) const;

  const ControlOperands& in_;
  const Tables& tables_;
  std::vector<KeyLength> lengths_;
  MaskRule rule_;
  std::vector<int64_t> buckets_;  // of every distance
  std::vector<float> scores_;
};

}  // namespace attn
