#include "harness/run/binding.h"

#include <algorithm>
#include <array>
#include <chrono>

#include "harness/run/rotation.h"

namespace attn {
namespace {

constexpr size_t kGuardBytes = 256;
constexpr uint8_t kGuardByte = 0xa5;
constexpr uint8_t kPoisonByte = 0xff;  // a NaN in float32, bf16 and f16
/// Of scratch, at either end: who trusts fresh memory trusts all of it, and touching gigabytes first took
/// longer than the checked call.
constexpr size_t kPoisonedEnd = size_t{4} << 20;

void plan_scoped(const Variant& variant, const Context& context, const Problem& p, Workspace& workspace) {
  if (p.scope == Scope::block) {
    block_plan(variant, context, p, workspace);
  } else {
    variant.plan(context, p, workspace);
  }
}

void prepare_scoped(const Variant& variant, const Context& context, const Problem& p, Workspace& workspace) {
  if (p.scope == Scope::block) {
    block_prepare(variant, context, p, workspace);
  } else {
    variant.prepare(context, p, workspace);
  }
}

}  // namespace

struct Binding::Slot {
  Operand operand;
  Dtype dtype;
  size_t bytes;
  DeviceBuffer memory;
  std::byte* data;             ///< behind the leading guard
  size_t rotation_offset = 0;  ///< within each further set
};

Support support_of(const Variant& variant, const Problem& problem, LaunchMode launch) {
  if (launch == LaunchMode::graph) {
    if (variant.info().device == Device::cpu) return {CannotCapture(kNoGraphs).what()};
    if (!variant.info().no_graph.empty()) return {CannotCapture(variant.info().no_graph).what()};
  }
  if (const std::string reason = device_missing(variant.info().device); !reason.empty()) return {reason};
  if (problem.scope == Scope::block) {
    if (Support support = block_supports(variant, problem); !support) return support;
  }
  const Problem core = problem.with(Scope::core);
  if (core.pass == Pass::bwd) {
    if (Support support = variant.supports(core.with(Pass::fwd)); !support) return support;
  }
  return variant.supports(core);
}

size_t planned_workspace_bytes(const Variant& variant, const Problem& problem, int threads) {
  Workspace counting;
  plan_scoped(variant, Context{threads}, problem, counting);
  return counting.bytes();
}

Cost cost_of(const Variant& variant, const Problem& problem) {
  return problem.scope == Scope::block ? block_cost(variant, problem) : variant.cost(problem);
}

Binding::Binding(const Variant& variant, const Problem& problem, const Inputs<float>& inputs,
                 const BindingOptions& options)
    : variant_(variant),
      problem_(problem),
      options_(options),
      api_(options.api ? *options.api : device_api(variant.info().device)),
      context_{options.threads, api_.stream()} {
  variant_.load();
  for (const Operand& operand : input_operands(problem_)) add(operand);
  for (const Operand& operand : forward_results(problem_)) add(operand);
  if (problem_.pass == Pass::bwd) {
    for (const Operand& operand : gradients(problem_)) add(operand);
  }
  if (options_.launch == LaunchMode::graph) {
    capture_first();
    give_values(inputs);
    prepare_scratch(scratch_, problem_);
    poison_outputs();
  } else {
    give_values(inputs);
    scratch_ = make_scratch(problem_);
  }
  api_.synchronize();
}

Binding::~Binding() = default;

Binding::Slot& Binding::add(const Operand& operand) {
  const size_t guard = options_.guarded ? kGuardBytes : 0;
  const size_t bytes = operand.bytes(problem_.dtype);
  auto slot = std::make_unique<Slot>(Slot{operand, operand.wide ? Dtype::f32 : problem_.dtype, bytes,
                                          DeviceBuffer(api_, bytes + 2 * guard), nullptr});
  slot->data = slot->memory.data() + guard;
  api_.fill(slot->memory.data(), kGuardByte, guard);
  api_.fill(slot->data + bytes, kGuardByte, guard);
  if (operand.output) api_.fill(slot->data, kPoisonByte, bytes);
  slots_.push_back(std::move(slot));
  return *slots_.back();
}

namespace {

/// Calls visit(element of the contiguous host order, element in memory) for all rows, on all threads where
/// there are many: tensors of a GPU's size take longer to convert than the call that is checked.
template <class Visit>
void for_each_row(const Operand& o, Layout layout, Visit visit) {
  constexpr int64_t kMany = 4096;
  const int64_t rows = o.batch * o.seq * o.heads;
#pragma omp parallel for schedule(static) if (rows > kMany)
  for (int64_t host = 0; host < rows; ++host) {
    const int64_t h = host % o.heads, i = host / o.heads % o.seq, b = host / o.heads / o.seq;
    const int64_t row = layout == Layout::seq_major ? host : (b * o.heads + h) * o.seq + i;
    visit(host * o.width, row * o.width);
  }
}

}  // namespace

bool Binding::as_on_host(const Slot& slot) const {
  return slot.dtype == Dtype::f32 && options_.layout == Layout::seq_major;
}

void Binding::upload(Slot& slot, const std::vector<float>& values) {
  if (static_cast<int64_t>(values.size()) != slot.operand.elements()) {
    throw std::logic_error(std::string("input ") + slot.operand.name + " has the wrong number of elements");
  }
  if (as_on_host(slot)) {
    return api_.to_device(slot.data, values.data(), slot.bytes);
  }
  const DeviceBuffer staged(device_api(Device::cpu), slot.bytes);
  for_each_row(slot.operand, options_.layout, [&](int64_t host, int64_t memory) {
    store(slot.dtype, staged.data(), memory, slot.operand.width, values.data() + host);
  });
  api_.to_device(slot.data, staged.data(), slot.bytes);
}

void Binding::download(const Slot& slot, std::vector<float>& values) {
  values.resize(static_cast<size_t>(slot.operand.elements()));
  if (as_on_host(slot)) return api_.to_host(values.data(), slot.data, slot.bytes);
  const DeviceBuffer staged(device_api(Device::cpu), slot.bytes);
  api_.to_host(staged.data(), slot.data, slot.bytes);
  for_each_row(slot.operand, options_.layout, [&](int64_t host, int64_t memory) {
    load(slot.dtype, staged.data(), memory, slot.operand.width, values.data() + host);
  });
}

Binding::Scratch Binding::make_scratch(const Problem& problem) {
  Scratch scratch;
  const size_t guard = options_.guarded ? kGuardBytes : 0;
  scratch.counting = Workspace(guard);
  plan_scoped(variant_, context_, problem, scratch.counting);
  const size_t capacity = scratch.counting.capacity_needed();
  scratch.memory = DeviceBuffer(api_, std::max(capacity, size_t{1}));
  scratch.granting = Workspace(scratch.memory.data(), capacity, guard);
  prepare_scratch(scratch, problem);
  return scratch;
}

void Binding::prepare_scratch(Scratch& scratch, const Problem& problem) {
  if (options_.guarded) {
    for (const Workspace::Booking& booking : scratch.counting.bookings()) {
      std::byte* const begin = scratch.memory.data() + booking.offset;
      const size_t poisoned = std::min(booking.bytes, kPoisonedEnd);
      api_.fill(begin, kPoisonByte, poisoned);
      api_.fill(begin + booking.bytes - poisoned, kPoisonByte, poisoned);
      api_.fill(begin + booking.bytes, kGuardByte, kGuardBytes);
    }
  }
  scratch.granting.rewind();
  prepare_scoped(variant_, context_, problem, scratch.granting);
}

void Binding::give_values(const Inputs<float>& inputs) {
  for (const auto& slot : slots_) {
    if (slot->operand.input) upload(*slot, inputs.*slot->operand.input);
  }
  if (problem_.pass == Pass::fwd) return;
  const Problem forward = problem_.with(Pass::fwd);
  Scratch scratch = make_scratch(forward);
  call_forward(forward, scratch.granting);
  variant_.collect(context_, forward);
  api_.synchronize();
}

void Binding::capture_first() {
  for (const auto& slot : slots_) api_.fill(slot->data, kPoisonByte, slot->bytes);
  {
    Scratch scratch = make_scratch(problem_);
    call(scratch.granting);
    api_.synchronize();
  }
  scratch_ = make_scratch(problem_);
  api_.synchronize();
  graph();
}

DeviceGraph& Binding::graph() {
  const auto set = static_cast<size_t>(current_set_);
  if (graphs_.size() <= set) graphs_.resize(set + 1);
  if (!graphs_[set]) {
    if (!variant_.info().no_graph.empty()) throw CannotCapture(variant_.info().no_graph);
    graphs_[set] = api_.capture([this] { call(scratch_.granting); });
  }
  return *graphs_[set];
}

const Binding::Slot* Binding::find(std::string_view name) const {
  for (const auto& slot : slots_) {
    if (slot->operand.name == name) return slot.get();
  }
  return nullptr;
}

std::byte* Binding::address(const Slot& slot) const {
  if (current_set_ == 0) return slot.data;
  return rotation_.data() + static_cast<size_t>(current_set_ - 1) * rotation_stride_ + slot.rotation_offset;
}

template <class T>
T* Binding::data(std::string_view name) const {
  const Slot* slot = find(name);
  return slot ? reinterpret_cast<T*>(address(*slot)) : nullptr;
}

template <class Void>
BasicTensor<Void> Binding::tensor(std::string_view name) const {
  const Slot* slot = find(name);
  if (!slot) return {};
  const Operand& o = slot->operand;
  std::byte* const begin = address(*slot);
  if (options_.layout == Layout::seq_major) return contiguous<Void>(begin, o.seq, o.heads, o.width);
  return {begin, o.heads * o.seq * o.width, o.width, o.seq * o.width};
}

Tables Binding::tables() const {
  return {data<const float>("shaw_key"), data<const float>("shaw_value"), data<const float>("t5_bias")};
}

void Binding::call_forward(const Problem& problem, Workspace& workspace) {
  workspace.rewind();
  Forward args;
  args.q = tensor<const void>("q");
  args.k = tensor<const void>("k");
  args.v = tensor<const void>("v");
  args.tables = tables();
  args.o = tensor<void>("o");
  args.lse = data<float>("lse");
  variant_.forward(context_, problem, args, workspace);
}

void Binding::call_backward(Workspace& workspace) {
  workspace.rewind();
  Backward args;
  args.q = tensor<const void>("q");
  args.k = tensor<const void>("k");
  args.v = tensor<const void>("v");
  args.o = tensor<const void>("o");
  args.d_o = tensor<const void>("d_o");
  args.lse = data<const float>("lse");
  args.tables = tables();
  args.d_q = tensor<void>("d_q");
  args.d_k = tensor<void>("d_k");
  args.d_v = tensor<void>("d_v");
  args.d_tables = {data<float>("d_shaw_key"), data<float>("d_shaw_value"), data<float>("d_t5_bias")};
  variant_.backward(context_, problem_, args, workspace);
}

void Binding::call_block(Workspace& workspace) {
  workspace.rewind();
  BlockForward args;
  args.x = data<const float>("x");
  args.wq = data<const float>("wq");
  args.wk = data<const float>("wk");
  args.wv = data<const float>("wv");
  args.wo = data<const float>("wo");
  args.tables = tables();
  args.y = data<float>("o");
  args.lse = data<float>("lse");
  block_forward(variant_, context_, problem_, args, workspace);
}

void Binding::call(Workspace& workspace) {
  if (problem_.scope == Scope::block) {
    call_block(workspace);
  } else if (problem_.pass == Pass::bwd) {
    call_backward(workspace);
  } else {
    call_forward(problem_, workspace);
  }
}

void Binding::run() {
  if (options_.launch == LaunchMode::graph) {
    graph().launch();
  } else {
    call(scratch_.granting);
  }
}

double Binding::latency_s(LaunchMode launch) {
  DeviceGraph* const captured = launch == LaunchMode::graph ? &graph() : nullptr;
  api_.synchronize();
  const auto start = std::chrono::steady_clock::now();
  if (captured) {
    captured->launch();
  } else {
    call(scratch_.granting);
  }
  api_.synchronize();
  return std::chrono::duration<double>(std::chrono::steady_clock::now() - start).count();
}

namespace {

/// At the end of a scope run() takes the first set, also behind an exception.
struct FirstSetAgain {
  int64_t& current;
  ~FirstSetAgain() { current = 0; }
};

}  // namespace

double Binding::time_s(int64_t calls, CacheState cache, const std::function<void()>& meanwhile) {
  const bool cold = cache == CacheState::cold;
  if (const auto seconds = variant_.timed_elsewhere_s(calls, cold)) return *seconds;
  const FirstSetAgain first_set_again{current_set_};
  const auto next_call = [&] {
    if (cold) current_set_ = last_cold_set_ = (last_cold_set_ + 1) % operand_sets_;
    run();
  };
  return api_.time_s(calls, next_call, meanwhile);
}

void Binding::make_rotation() {
  size_t bytes = 0;
  for (const auto& slot : slots_) {
    slot->rotation_offset = bytes;
    bytes += (slot->bytes + Workspace::kAlignment - 1) / Workspace::kAlignment * Workspace::kAlignment;
  }
  const int64_t sets = rotating_sets(bytes, api_.cache_bytes());
  if (sets == 1) return;
  const size_t others = static_cast<size_t>(sets - 1) * bytes;
  rotation_ = DeviceBuffer(api_, others);
  for (const auto& slot : slots_)
    api_.copy(rotation_.data() + slot->rotation_offset, slot->data, slot->bytes);
  // What is there doubles with every copy: a set of a few KiB is needed thousands of times.
  for (size_t done = bytes; done < others;) {
    const size_t next = std::min(done, others - done);
    api_.copy(rotation_.data() + done, rotation_.data(), next);
    done += next;
  }
  api_.synchronize();
  rotation_stride_ = bytes;
  operand_sets_ = sets;
  if (options_.launch == LaunchMode::stream) return;
  const FirstSetAgain first_set_again{current_set_};
  for (current_set_ = 1; current_set_ < sets; ++current_set_) graph();
}

void Binding::poison_outputs() {
  for (const auto& slot : slots_) {
    const bool kept = problem_.pass == Pass::bwd && (slot->operand.output == &Outputs<float>::o ||
                                                     slot->operand.output == &Outputs<float>::lse);
    if (slot->operand.output && !kept) api_.fill(slot->data, kPoisonByte, slot->bytes);
  }
}

void Binding::read_outputs(Outputs<float>& results) {
  variant_.collect(context_, problem_);
  api_.synchronize();
  for (const auto& slot : slots_) {
    if (const auto output = slot->operand.output) download(*slot, results.*output);
  }
  if (!variant_.info().gives_lse) results.lse.clear();
}

Outputs<float> Binding::outputs() {
  Outputs<float> results;
  read_outputs(results);
  return results;
}

bool Binding::guards_intact(const std::byte* begin) {
  std::array<uint8_t, kGuardBytes> found;
  api_.to_host(found.data(), begin, kGuardBytes);
  return std::all_of(found.begin(), found.end(), [](uint8_t byte) { return byte == kGuardByte; });
}

std::vector<std::string> Binding::overruns() {
  std::vector<std::string> names;
  if (!options_.guarded) return names;
  api_.synchronize();
  for (const auto& slot : slots_) {
    if (!guards_intact(slot->data - kGuardBytes) || !guards_intact(slot->data + slot->bytes)) {
      names.push_back(slot->operand.name);
    }
  }
  for (const Workspace::Booking& booking : scratch_.counting.bookings()) {
    if (!guards_intact(scratch_.memory.data() + booking.offset + booking.bytes))
      names.push_back(booking.name);
  }
  return names;
}

Footprint Binding::footprint() const {
  return {operand_bytes(problem_), scratch_.counting.bytes(), scratch_.granting.peak_bytes()};
}

}  // namespace attn
