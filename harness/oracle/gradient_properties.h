#pragma once
// Relations among gradients (variants catalogue: M5 to M8, G47). Each throws Broken where it does not hold.

#include "harness/oracle/laboratory.h"

namespace attn {

void value_gradients_add_up(const Laboratory& lab, const Problem& problem);
void key_gradients_vanish(const Laboratory& lab, const Problem& problem);
void query_and_key_gradients_balance(const Laboratory& lab, const Problem& problem);
void value_scale_scales_gradients(const Laboratory& lab, const Problem& problem);
void bias_gradients_vanish(const Laboratory& lab, const Problem& problem);

}  // namespace attn
