#pragma once
// THE interface: a variant is one algorithm for multi-head attention on one device; the Problem says what to
// compute. To add one: a file that ends with ATTN_REGISTER, a line in variants/CMakeLists.txt.

#include <memory>
#include <optional>
#include <stdexcept>
#include <string>
#include <vector>

#include "harness/measure/workspace.h"
#include "harness/problem/operand_rounding.h"
#include "harness/problem/problem.h"
#include "harness/problem/tensor.h"

namespace attn {

enum class Device { cpu, cuda };
/// Exact variants agree with the oracle; approximate ones compute another function.
enum class Fidelity { exact, approximate };

struct Info {
  std::string name;    ///< "flash/cpu": algorithm, device, details
  std::string family;  ///< dense, sparse, ...
  Device device = Device::cpu;
  Fidelity fidelity = Fidelity::exact;
  std::vector<std::string> tags;
  std::string citation;
  std::string version;        ///< of the library behind a peer; else empty
  bool hides_nan = true;      ///< false for a peer that multiplies what a causal mask hides by 0
  bool own_threads = false;   ///< true for a peer with another pool of threads than OpenMP's
  bool gives_lse = true;      ///< false for a peer that returns O alone; its LSE is not looked at
  bool books_scratch = true;  ///< false for a peer that allocates for itself: its workspace is unknown
  std::string no_graph = "";  ///< why calls of a peer are not captured into a CUDA graph; empty: they may be
};

/// Yes, or the reason why not, which becomes the row's reason.
struct Support {
  std::string reason;  ///< empty: supported
  explicit operator bool() const { return reason.empty(); }
};

/// Work this algorithm does for one call; 2 FLOPs per multiply-add (reference: FlashAttention's convention).
struct Cost {
  double flops_executed = 0;  ///< products over the tiles it visits
  double exps = 0;            ///< exponentials evaluated
  double bytes_moved = 0;     ///< memory traffic of the algorithm, cache reuse within a tile assumed
  std::string time_order;     ///< "O(h n^2 d)"
  std::string memory_order;   ///< of the workspace, "O(n)"
};

struct Context {
  int threads = 1;         ///< CPU threads to use
  void* stream = nullptr;  ///< cudaStream_t of a GPU variant
};

/// Float32 tables of the position; null where the problem has none. Same memory as the operands.
struct Tables {
  const float* shaw_key = nullptr;    ///< [2 clip + 1, head_dim]
  const float* shaw_value = nullptr;  ///< [2 clip + 1, value_dim]
  const float* t5_bias = nullptr;     ///< [buckets, heads_q]
};
struct TableGradients {
  float* shaw_key = nullptr;
  float* shaw_value = nullptr;
  float* t5_bias = nullptr;
};

/// Operands of the core, of the problem's dtype unless said.
struct Forward {
  ConstTensor q;  ///< [batch, seq_q, heads_q, head_dim]
  ConstTensor k;  ///< [batch, seq_kv, heads_kv, head_dim]
  ConstTensor v;  ///< [batch, seq_kv, heads_kv, value_dim]
  Tables tables;
  Tensor o;              ///< [batch, seq_q, heads_q, value_dim]
  float* lse = nullptr;  ///< [batch, heads_q, seq_q], float32
};
struct Backward {
  ConstTensor q, k, v;
  ConstTensor o;               ///< of the variant's own forward
  ConstTensor d_o;             ///< as o
  const float* lse = nullptr;  ///< of the variant's own forward
  Tables tables;
  Tensor d_q, d_k, d_v;     ///< as q, k, v; every element is written
  TableGradients d_tables;  ///< as tables
};

class Variant {
 public:
  explicit Variant(Info info) : info_(std::move(info)) {}
  virtual ~Variant() = default;

  const Info& info() const { return info_; }
  /// Scope is always core here: the block around it is the harness's.
  virtual Support supports(const Problem& problem) const = 0;
  /// Books every byte of scratch by name, through the function that later takes it; may depend on the
  /// threads.
  virtual void plan(const Context& context, const Problem& problem, Workspace& counting) const = 0;
  virtual Cost cost(const Problem& problem) const = 0;
  /// Of a forward whose products round their operands, as tf32 does.
  virtual OperandRounding operand_rounding(const Problem&) const { return {}; }
  /// Loads the library behind a peer, before the first prepare() and before memory is watched.
  virtual void load() const {}
  /// Untimed set-up into the workspace; depends on the problem, never on tensor values.
  virtual void prepare(const Context&, const Problem&, Workspace&) const {}
  /// Enqueues (GPU) or does (CPU) the work: no allocation, no synchronisation, no clock. A GPU's may be
  /// captured and replayed: everything on the context's stream, or joined to it, and nothing of the host is
  /// read after the return.
  virtual void forward(const Context& context, const Problem& problem, const Forward& args,
                       Workspace& workspace) const = 0;
  virtual void backward(const Context&, const Problem&, const Backward&, Workspace&) const {
    throw std::logic_error(info_.name + " has no backward");
  }
  /// Untimed, after a call and before its results are read: enqueues the copies of what a peer could not
  /// write into the operands itself.
  virtual void collect(const Context&, const Problem&) const {}
  /// Seconds for so many calls on the operands of the last one, where a peer works in another process that
  /// only its own clock sees; `cold`: on operands that no cache holds. Nothing: the harness times.
  virtual std::optional<double> timed_elsewhere_s(int64_t /*calls*/, bool /*cold*/) const { return {}; }

 private:
  Info info_;
};

/// Adds to the registry (harness/registry.h); throws where the name is taken.
bool register_variant(std::unique_ptr<Variant> variant);

}  // namespace attn

#define ATTN_JOIN_(a, b) a##b
#define ATTN_JOIN(a, b) ATTN_JOIN_(a, b)
#define ATTN_REGISTER(variant) \
  static const bool ATTN_JOIN(attn_registered_, __LINE__) = ::attn::register_variant(variant)
