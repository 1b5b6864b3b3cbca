// The plug-in of peers/onnxruntime/cpu: a session of one node per problem, run on tensors that borrow the
// harness's memory.
//
// Inside a timed call: wrapping (no copy where the operands are [batch, seq, head, width] without gaps; other
// layouts are copied), the session's Run with its allocations, and for a causal mask the copies of K and V
// that GroupQueryAttention returns as its cache. O is written into the harness's memory.

#include <dlfcn.h>

#include <cstdlib>
#include <filesystem>
#include <iterator>
#include <memory>

#include "variants/peers/onnx_model.h"
#include "variants/peers/onnxruntime_api.h"
#include "variants/peers/packed.h"

namespace attn {
namespace {

class Api {
 public:
  Api() {
    // From 1.29 on the library reports its use to its maker over the network unless this is set before it
    // starts. Nothing a benchmark runs may do so, nor keep threads and a database for it.
    setenv("ORT_DISABLE_TELEMETRY", "1", 1);
    void* library = dlopen(ATTN_ONNXRUNTIME_LIBRARY, RTLD_NOW | RTLD_LOCAL);
    if (!library) throw std::runtime_error(dlerror());
    const auto base = reinterpret_cast<ort::GetApiBase>(dlsym(library, "OrtGetApiBase"));
    table_ = base ? base()->get_api(ort::kApiVersion) : nullptr;
    if (!table_) throw std::runtime_error(ATTN_ONNXRUNTIME_LIBRARY " has no interface of version 5");
  }

  template <class Function, class... Arguments>
  void call(ort::Entry entry, Arguments... arguments) const {
    ort::Status* status = at<Function>(entry)(arguments...);
    if (!status) return;
    const std::string what = at<ort::GetErrorMessage>(ort::kGetErrorMessage)(status);
    release(ort::kReleaseStatus, status);
    throw std::runtime_error("ONNX Runtime: " + what);
  }
  template <class T>
  void release(ort::Entry entry, T* object) const {
    at<ort::Release<T>>(entry)(object);
  }

 private:
  template <class Function>
  Function at(ort::Entry entry) const {
    return reinterpret_cast<Function>(table_[entry]);
  }

  void* const* table_ = nullptr;
};

/// An object of the library, released with its owner.
template <class T>
class Owned {
 public:
  Owned(const Api& api, ort::Entry release) : api_(api), release_(release) {}
  Owned(const Owned&) = delete;
  ~Owned() {
    if (object) api_.release(release_, object);
  }

  T* object = nullptr;

 private:
  const Api& api_;
  ort::Entry release_;
};

OnnxNode node_for(const PeerProblem& p) {
  const OnnxTensor q{"q", ort::kFloat}, k{"k", ort::kFloat}, v{"v", ort::kFloat}, o{"o", ort::kFloat};
  const OnnxTensor none{"", 0};
  OnnxNode node{.domain = "com.microsoft", .version = 1, .inputs = {q, k, v}, .outputs = {o}};
  node.integers = {{"num_heads", p.heads_q}};
  node.numbers = {{"scale", static_cast<float>(p.scale)}};
  if (!p.causal) {
    node.type = "MultiHeadAttention";
    return node;
  }
  // MultiHeadAttention keeps every score where it is causal. GroupQueryAttention tiles, but only where its
  // caches are asked for.
  node.type = "GroupQueryAttention";
  node.inputs.insert(node.inputs.end(), {none, none, {"last_key", ort::kInt32}, {"keys", ort::kInt32}});
  node.outputs.insert(node.outputs.end(), {{"k_cache", ort::kFloat}, {"v_cache", ort::kFloat}});
  node.integers.push_back({"kv_num_heads", p.heads_kv});
  return node;
}

int threads_of_this_process() {
  return static_cast<int>(std::distance(std::filesystem::directory_iterator("/proc/self/task"), {}));
}

class OnnxRuntimePeer final : public Peer {
 public:
  OnnxRuntimePeer() {
    api_.call<ort::CreateEnv>(ort::kCreateEnv, ort::kLogErrors, "attnbench", &env_);
    api_.call<ort::CreateCpuMemoryInfo>(ort::kCreateCpuMemoryInfo, ort::kDeviceAllocator, ort::kDefaultMemory,
                                        &memory_);
    warm_up();
  }

  /// One session is kept: the last problem's.
  void prepare(const PeerProblem& p) override {
    const std::string model = onnx_model(node_for(p));
    if (session_ && model == model_ && threads_ == p.threads) return;
    session_.reset();
    const int before = threads_of_this_process();
    session_ = make_session(model, p.threads);
    const int threads = 1 + threads_of_this_process() - before;
    if (threads != p.threads) {
      session_.reset();
      throw std::runtime_error("ONNX Runtime uses " + std::to_string(threads) + " threads instead of " +
                               std::to_string(p.threads));
    }
    model_ = model;
    threads_ = p.threads;
  }

  void forward(const PeerProblem& p, const Forward& args) override {
    prepare(p);
    PackedForward packed(p, args);
    run(p, packed);
    packed.o.scatter();
  }

 private:
  using Session = Owned<ort::Session>;
  using Value = Owned<ort::Value>;

  void warm_up() {
    std::vector<float> zeros(4096), o(4096);
    const ConstTensor in = contiguous<const void>(zeros.data(), 64, 1, 64);
    Forward args{.q = in, .k = in, .v = in, .o = contiguous<void>(o.data(), 64, 1, 64)};
    for (bool causal : {false, true}) forward({1, 1, 1, 64, 64, 64, 64, Dtype::f32, causal, 0.125, 1}, args);
  }

  std::unique_ptr<Session> make_session(const std::string& model, int threads) {
    Owned<ort::SessionOptions> options(api_, ort::kReleaseSessionOptions);
    api_.call<ort::CreateSessionOptions>(ort::kCreateSessionOptions, &options.object);
    api_.call<ort::SetThreads>(ort::kSetIntraOpNumThreads, options.object, threads);
    api_.call<ort::SetThreads>(ort::kSetInterOpNumThreads, options.object, 1);
    // Its threads may spin during a call, but not on into the round of the next variant.
    api_.call<ort::AddSessionConfigEntry>(ort::kAddSessionConfigEntry, options.object,
                                          "session.force_spinning_stop", "1");
    auto session = std::make_unique<Session>(api_, ort::kReleaseSession);
    api_.call<ort::CreateSessionFromArray>(ort::kCreateSessionFromArray, env_, model.data(), model.size(),
                                           options.object, &session->object);
    return session;
  }

  void wrap(Value& value, void* data, size_t bytes, const int64_t* shape, size_t rank, int type) {
    api_.call<ort::CreateTensor>(ort::kCreateTensorWithDataAsOrtValue, memory_, data, bytes, shape, rank,
                                 type, &value.object);
  }
  void wrap(Value& value, Packed& tensor) {
    wrap(value, tensor.data(), tensor.elements() * sizeof(float), tensor.shape(), 3, ort::kFloat);
  }

  void run(const PeerProblem& p, PackedForward& packed) {
    const auto make = [this] { return Value(api_, ort::kReleaseValue); };
    Value q_in = make(), k_in = make(), v_in = make(), last_in = make(), keys_in = make();
    Value o_out = make(), k_cache = make(), v_cache = make();
    wrap(q_in, packed.q);
    wrap(k_in, packed.k);
    wrap(v_in, packed.v);
    wrap(o_out, packed.o);
    std::vector<int32_t> last(static_cast<size_t>(p.batch), static_cast<int32_t>(p.seq_kv - 1));
    int32_t keys = static_cast<int32_t>(p.seq_kv);
    const int64_t one = 1;
    wrap(last_in, last.data(), last.size() * sizeof(int32_t), &p.batch, 1, ort::kInt32);
    wrap(keys_in, &keys, sizeof keys, &one, 1, ort::kInt32);
    const char* input_names[] = {"q", "k", "v", "last_key", "keys"};
    const char* output_names[] = {"o", "k_cache", "v_cache"};
    const ort::Value* inputs[] = {q_in.object, k_in.object, v_in.object, last_in.object, keys_in.object};
    ort::Value* outputs[] = {o_out.object, nullptr, nullptr};
    api_.call<ort::Run>(ort::kRun, session_->object, static_cast<const ort::RunOptions*>(nullptr),
                        input_names, inputs, size_t{p.causal ? 5u : 3u}, output_names,
                        size_t{p.causal ? 3u : 1u}, outputs);
    k_cache.object = outputs[1];
    v_cache.object = outputs[2];
  }

  Api api_;
  ort::Env* env_ = nullptr;
  ort::MemoryInfo* memory_ = nullptr;
  std::unique_ptr<Session> session_;
  std::string model_;
  int threads_ = 0;
};

}  // namespace
}  // namespace attn

extern "C" attn::Peer* attn_open_peer(const char*) { return new attn::OnnxRuntimePeer; }
