#include "harness/oracle/core.h"

#include <algorithm>

#include "harness/oracle/column.h"
#include "harness/oracle/facts.h"
#include "harness/oracle/row.h"

namespace attn {
namespace {

void write(KnownTensor* tensor, int64_t row, const std::vector<double>& value,
           const std::vector<double>& bound) {
  std::copy(value.begin(), value.end(), tensor->value_of(row));
  std::copy(bound.begin(), bound.end(), tensor->bound_of(row));
}

template <class Real>
class CoreSolver {
 public:
  CoreSolver(const Problem& problem, const CoreOperands<Real>& operands, const RoundedInputs& rounded,
             const Sample& sample, int threads)
      : p_(problem),
        operands_(operands),
        bound_(problem.dtype, problem.head_dim, rounded),
        sample_(sample),
        threads_(threads),
        truth_(empty_truth(problem, sample)),
        tables_(problem) {}

  Truth solve() {
    for (int64_t b = 0; b < p_.batch; ++b) {
      for (int64_t g = 0; g < p_.heads_kv; ++g) {
        Unit unit(p_, operands_, b, g);
        for (QueryHead& head : unit.heads) solve_rows(unit, head);
        if (p_.pass == Pass::bwd) solve_columns(unit);
      }
    }
    if (p_.pass == Pass::bwd && sample_.complete) write_tables();
    return std::move(truth_);
  }

 private:
  void solve_rows(const Unit& unit, QueryHead& head) {
    const std::vector<int64_t>& rows = sample_.rows[static_cast<size_t>(unit.b)];
#pragma omp parallel num_threads(threads_)
    {
      RowSolver row(unit, bound_);
      TableSums tables(p_);
#pragma omp for schedule(dynamic, 4)
      for (size_t n = 0; n < rows.size(); ++n) {
        row.forward(head, rows[n]);
        if (p_.pass == Pass::bwd) {
          row.backward(sample_.complete ? &tables : nullptr);
          head.facts[static_cast<size_t>(rows[n])] = row.facts;
        }
        write_row(unit, head, rows[n], row);
      }
#pragma omp critical(attn_table_sums)
      tables_.add(tables);
    }
  }

  void write_row(const Unit& unit, const QueryHead& head, int64_t i, const RowSolver& row) {
    const Condition& condition = row.facts.condition;
    std::vector<double> bounds(row.o.size());
    for (size_t c = 0; c < bounds.size(); ++c)
      bounds[c] = bound_.output(condition, row.o_magnitude[c], row.o[c]);
    write(truth_.tensor("o"), unit.o_row(head, i), row.o, bounds);
    const double lse = row.facts.lse;
    write(truth_.tensor("lse"), unit.lse_row(head, i), {lse}, {bound_.lse(condition, lse)});
    if (p_.pass == Pass::fwd) return;
    bounds.resize(row.d_q.size());
    for (size_t c = 0; c < bounds.size(); ++c) {
      bounds[c] = bound_.gradient(condition, row.d_q_magnitude[c], row.d_q[c]);
    }
    write(truth_.tensor("d_q"), unit.o_row(head, i), row.d_q, bounds);
  }

  void solve_columns(Unit& unit) {
    const std::vector<int64_t>& columns = sample_.columns[static_cast<size_t>(unit.b * p_.heads_kv + unit.g)];
    if (columns.empty()) return;
    if (!sample_.complete) solve_facts(unit, threads_);
#pragma omp parallel num_threads(threads_)
    {
      ColumnSolver column(unit, bound_);
#pragma omp for schedule(dynamic, 4)
      for (size_t n = 0; n < columns.size(); ++n) {
        column.backward(columns[n]);
        const int64_t row = unit.kv_row(columns[n]);
        write(truth_.tensor("d_k"), row, column.d_k,
              gradient_bounds(column.condition, column.d_k_magnitude, column.d_k));
        write(truth_.tensor("d_v"), row, column.d_v,
              gradient_bounds(column.condition, column.d_v_magnitude, column.d_v));
      }
    }
  }

  std::vector<double> gradient_bounds(const Condition& condition, const std::vector<double>& magnitude,
                                      const std::vector<double>& value) const {
    std::vector<double> bounds(value.size());
    for (size_t c = 0; c < bounds.size(); ++c) bounds[c] = bound_.gradient(condition, magnitude[c], value[c]);
    return bounds;
  }

  void write_tables() {
    write_table("d_shaw_key", tables_.shaw_key);
    write_table("d_shaw_value", tables_.shaw_value);
    write_table("d_t5_bias", tables_.t5_bias);
  }
  void write_table(const std::string& name, const TableSum& sum) {
    KnownTensor* tensor = truth_.tensor(name);
    if (!tensor) return;
    tensor->value = sum.value;
    for (size_t e = 0; e < sum.value.size(); ++e) {
      tensor->bound[e] = bound_.gradient(sum.condition, sum.magnitude[e], sum.value[e], sum.terms[e]);
    }
  }

  const Problem& p_;
  const CoreOperands<Real>& operands_;
  const Bound bound_;
  const Sample& sample_;
  const int threads_;
  Truth truth_;
  TableSums tables_;
};

}  // namespace

template <class Real>
Truth solve_core(const Problem& problem, const CoreOperands<Real>& operands, const RoundedInputs& rounded,
                 const Sample& sample, int threads) {
  return CoreSolver(problem, operands, rounded, sample, threads).solve();
}

template Truth solve_core(const Problem&, const CoreOperands<float>&, const RoundedInputs&, const Sample&,
                          int);
template Truth solve_core(const Problem&, const CoreOperands<double>&, const RoundedInputs&, const Sample&,
                          int);

}  // namespace attn
