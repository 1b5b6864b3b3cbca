#pragma once
// The columns of each row type, once: visit(name, member) in file order. Header, writer and reader all go
// through it.

#include "harness/results/schema.h"

namespace attn {

/// The version of the schema that brought a column.
inline int version_of(std::string_view column) {
  for (const char* name : {"launch", "latency_s_median", "latency_graph_s_median"}) {
    if (column == name) return 6;
  }
  for (const char* name : {"cache", "operand_sets", "time_hot_s_median", "time_hot_s_ci_low",
                           "time_hot_s_ci_high", "samples_hot", "samples_throttled", "throttled"}) {
    if (column == name) return 5;
  }
  for (const char* name : {"processes", "stop", "outliers", "time_s_sd_within", "time_s_sd_between",
                           "time_s_predicted", "memory_process_predicted_bytes", "process", "outlier"}) {
    if (column == name) return 4;
  }
  for (const char* name : {"steal_fraction", "cpu_pressure", "node", "machine"}) {
    if (column == name) return 3;
  }
  return kOldestSchemaVersion;
}

template <class Row, class Visit>
requires std::is_same_v<std::remove_const_t<Row>, ResultRow>
void visit_fields(Row& row, Visit visit) {
#define ATTN_FIELD(name) visit(#name, row.name)
  ATTN_FIELD(schema);
  ATTN_FIELD(campaign);
  ATTN_FIELD(point);
  ATTN_FIELD(variant);
  ATTN_FIELD(family);
  ATTN_FIELD(device);
  ATTN_FIELD(fidelity);
  ATTN_FIELD(status);
  ATTN_FIELD(reason);
  ATTN_FIELD(problem);
  ATTN_FIELD(scope);
  ATTN_FIELD(pass);
  ATTN_FIELD(dtype);
  ATTN_FIELD(batch);
  ATTN_FIELD(heads_q);
  ATTN_FIELD(heads_kv);
  ATTN_FIELD(seq_q);
  ATTN_FIELD(seq_kv);
  ATTN_FIELD(d_model);
  ATTN_FIELD(d_head);
  ATTN_FIELD(d_value);
  ATTN_FIELD(mask);
  ATTN_FIELD(position);
  ATTN_FIELD(density);
  ATTN_FIELD(threads);
  ATTN_FIELD(launch);
  ATTN_FIELD(time_s_median);
  ATTN_FIELD(time_s_ci_low);
  ATTN_FIELD(time_s_ci_high);
  ATTN_FIELD(time_s_min);
  ATTN_FIELD(cache);
  ATTN_FIELD(operand_sets);
  ATTN_FIELD(time_hot_s_median);
  ATTN_FIELD(time_hot_s_ci_low);
  ATTN_FIELD(time_hot_s_ci_high);
  ATTN_FIELD(samples_hot);
  ATTN_FIELD(latency_s_median);
  ATTN_FIELD(latency_graph_s_median);
  ATTN_FIELD(samples);
  ATTN_FIELD(rounds);
  ATTN_FIELD(processes);
  ATTN_FIELD(stop);
  ATTN_FIELD(outliers);
  ATTN_FIELD(time_s_sd_within);
  ATTN_FIELD(time_s_sd_between);
  ATTN_FIELD(time_s_predicted);
  ATTN_FIELD(ratio_to_baseline);
  ATTN_FIELD(ratio_ci_low);
  ATTN_FIELD(ratio_ci_high);
  ATTN_FIELD(flops_useful);
  ATTN_FIELD(flops_executed);
  ATTN_FIELD(flops_per_s);
  ATTN_FIELD(roof_fraction);
  ATTN_FIELD(bound);
  ATTN_FIELD(bytes_min);
  ATTN_FIELD(bytes_moved_model);
  ATTN_FIELD(complexity_time);
  ATTN_FIELD(complexity_memory);
  ATTN_FIELD(memory_operands_bytes);
  ATTN_FIELD(memory_workspace_planned_bytes);
  ATTN_FIELD(memory_workspace_peak_bytes);
  ATTN_FIELD(memory_process_peak_bytes);
  ATTN_FIELD(memory_process_predicted_bytes);
  ATTN_FIELD(memory_method);
  ATTN_FIELD(error_rel_l2);
  ATTN_FIELD(error_max_abs);
  ATTN_FIELD(error_bound);
  ATTN_FIELD(error_vs_dense_rel_l2);
  ATTN_FIELD(deterministic);
  ATTN_FIELD(seed);
  ATTN_FIELD(clock_hz_mean);
  ATTN_FIELD(samples_throttled);
  ATTN_FIELD(steal_fraction);
  ATTN_FIELD(cpu_pressure);
  ATTN_FIELD(node);
  ATTN_FIELD(machine);
  ATTN_FIELD(repro);
}

template <class Row, class Visit>
requires std::is_same_v<std::remove_const_t<Row>, SampleRow>
void visit_fields(Row& row, Visit visit) {
  ATTN_FIELD(point);
  ATTN_FIELD(variant);
  ATTN_FIELD(process);
  ATTN_FIELD(round);
  ATTN_FIELD(sample);
  ATTN_FIELD(time_s);
  ATTN_FIELD(outlier);
  ATTN_FIELD(clock_hz);
  ATTN_FIELD(cache);
  ATTN_FIELD(throttled);
}
#undef ATTN_FIELD

}  // namespace attn
