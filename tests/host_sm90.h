#pragma once
// Kernels for sm_90a as host code: the names that their source uses, over the model of tests/host_hopper.h.
// To be included before any kernel's header. A kernel is a body as hopper_kernel() takes it.

#define ATTN_HOST_SM90
#define __device__
#define __forceinline__ inline

#include <deque>

#include "tests/host_hopper.h"
#include "variants/common/hopper.cuh"

namespace attn {

/// A launch under way.
class HostLaunch {
 public:
  /// body.run(shared memory) by `blocks` thread blocks, `resident` of them at a time.
  template <class Body>
  static void run(const Body& body, int blocks, int resident, const HostRun& how) {
    HostLaunch launch(blocks);
    for (int first = 0; first < blocks; first += resident) {
      launch.run_together(body, first, std::min(resident, blocks - first), how);
    }
  }

  static HostLaunch& now() { return *now_; }
  HostCta& cta() { return *ctas_[static_cast<size_t>(fibers_->current() / threads_)]; }
  HostFibers& fibers() { return *fibers_; }
  HostEvent& counters() { return counters_; }
  int thread() const { return fibers_->current() % threads_; }
  int block() const { return first_ + fibers_->current() / threads_; }
  int blocks() const { return blocks_; }

 private:
  explicit HostLaunch(int blocks) : blocks_(blocks) { now_ = this; }

  template <class Body>
  void run_together(const Body& body, int first, int count, const HostRun& how) {
    HostFibers fibers(how.seed + static_cast<uint64_t>(first));
    fibers_ = &fibers;
    threads_ = Body::kThreads;
    first_ = first;
    ctas_.clear();
    for (int k = 0; k < count; ++k) {
      ctas_.push_back(
          std::make_unique<HostCta>(fibers, how, threads_, static_cast<uint32_t>(body.shared_bytes())));
      HostCta& cta = *ctas_.back();
      for (int warp = 0; warp < threads_ / 32; ++warp) {
        fibers.add_warp([&](int) { body.run(cta.shared().data()); });
      }
    }
    fibers.run();
    for (const auto& cta : ctas_) cta->check_end();
  }

  static inline HostLaunch* now_ = nullptr;
  int blocks_, first_ = 0, threads_ = 0;
  HostFibers* fibers_ = nullptr;
  std::vector<std::unique_ptr<HostCta>> ctas_;
  HostEvent counters_;
};

inline HostCta& host_cta() { return HostLaunch::now().cta(); }
inline int host_thread() { return HostLaunch::now().thread(); }

/// Tensor maps live as long as the pool.
class HostTensorMaps {
 public:
  TensorMap add(const HostTensorMap& map) {
    maps_.push_back(map);
    TensorMap handle{};
    handle.opaque[0] = reinterpret_cast<uintptr_t>(&maps_.back());
    return handle;
  }
  static const HostTensorMap& of(const void* handle) {
    return *reinterpret_cast<const HostTensorMap*>(static_cast<const TensorMap*>(handle)->opaque[0]);
  }

 private:
  std::deque<HostTensorMap> maps_;
};

// CUDA C++ ---------------------------------------------------------------------------------------------

template <int (HostLaunch::*number)() const>
struct HostIndex {
  struct Number {
    operator unsigned() const { return static_cast<unsigned>((HostLaunch::now().*number)()); }
  } x;
};
inline const HostIndex<&HostLaunch::thread> threadIdx{};
inline const HostIndex<&HostLaunch::block> blockIdx{};
inline const HostIndex<&HostLaunch::blocks> gridDim{};

inline void host_all(uint64_t value, uint64_t (&values)[32]) {
  HostLaunch& launch = HostLaunch::now();
  launch.cta().warp(launch.thread()).all(launch.fibers(), launch.thread() % 32, value, values);
}
template <class T>
T __shfl_sync(unsigned, T value, int lane) {
  uint64_t bits = 0, all[32];
  std::memcpy(&bits, &value, sizeof(T));
  host_all(bits, all);
  std::memcpy(&value, &all[lane % 32], sizeof(T));
  return value;
}
template <class T>
T __shfl_xor_sync(unsigned mask, T value, int offset) {
  return __shfl_sync(mask, value, host_thread() % 32 ^ offset);
}
inline unsigned __ballot_sync(unsigned, bool flag) {
  uint64_t all[32];
  host_all(flag, all);
  unsigned bits = 0;
  for (unsigned lane = 0; lane < 32; ++lane) bits |= static_cast<unsigned>(all[lane]) << lane;
  return bits;
}
inline bool __any_sync(unsigned mask, bool flag) { return __ballot_sync(mask, flag) != 0; }
inline bool __all_sync(unsigned mask, bool flag) { return __ballot_sync(mask, flag) == ~0u; }
inline void __syncwarp() { __ballot_sync(0, false); }
inline void __syncthreads() { host_cta().named_sync(0, host_cta().threads()); }
inline unsigned atomicInc(unsigned* counter, unsigned most) {
  HostLaunch::now().fibers().preempt();
  const unsigned before = *counter;
  *counter = before >= most ? 0 : before + 1;
  return before;
}
inline int __float_as_int(float value) {
  int bits;
  std::memcpy(&bits, &value, sizeof(bits));
  return bits;
}
inline float __int_as_float(int bits) {
  float value;
  std::memcpy(&value, &bits, sizeof(value));
  return value;
}
template <class Combine, int lanes>
float combine_lanes(float value) {
  for (int offset = lanes / 2; offset > 0; offset /= 2) {
    value = Combine::of(value, __shfl_xor_sync(~0u, value, offset));
  }
  return value;
}
using std::max;
using std::min;

// variants/common/ptx.cuh, hopper.cuh, wgmma.cuh -------------------------------------------------------

inline uint32_t shared_address(const void* pointer) { return host_cta().shared().address(pointer); }

template <int count>
void give_registers_back() {
  host_cta().registers_set(count, false, host_thread());
}
template <int count>
void take_registers() {
  host_cta().registers_set(count, true, host_thread());
}
inline bool elect_one() {
  __syncwarp();
  return host_thread() % 32 == 0;
}
inline int uniform(int value) { return __shfl_sync(~0u, value, 0); }

inline void barrier_init(uint32_t barrier, int arrivals) { host_cta().barrier_init(barrier, arrivals); }
inline void barrier_init_fence() { host_cta().barrier_init_fence(); }
inline void barrier_arrive(uint32_t barrier) { host_cta().barrier_arrive(barrier); }
inline void barrier_expect(uint32_t barrier, uint32_t bytes) {
  host_cta().barrier_expect(barrier, bytes);
  host_cta().barrier_arrive(barrier);
}
inline void barrier_wait(uint32_t barrier, uint32_t parity) {
  host_cta().barrier_wait(barrier, static_cast<int>(parity));
}
template <int id, int threads>
void named_sync() {
  host_cta().named_sync(id, threads);
}
template <int id, int threads>
void named_arrive() {
  host_cta().named_arrive(id, threads);
}
inline void async_proxy_fence() { host_cta().proxy_fence(host_thread()); }

inline void tma_prefetch_map(const void*) {}
inline void tma_load(uint32_t to, const void* map, uint32_t barrier, int c0, int c1, int c2, int c3, L2Hint) {
  host_cta().load(HostTensorMaps::of(map), {c0, c1, c2, c3}, to, barrier);
}
inline void tma_store(const void* map, uint32_t from, int c0, int c1, int c2, int c3) {
  host_cta().store(HostTensorMaps::of(map), {c0, c1, c2, c3}, from, host_thread());
}
inline void bulk_load(uint32_t to, const void* from, uint32_t bytes, uint32_t barrier) {
  host_cta().load_plain(from, bytes, to, barrier);
}
inline void bulk_store(float* to, uint32_t from, uint32_t bytes) {
  host_cta().store_plain(to, from, bytes, false, host_thread());
}
inline void bulk_add(float* to, uint32_t from, uint32_t bytes) {
  host_cta().store_plain(to, from, bytes, true, host_thread());
}
inline void bulk_commit() { host_cta().bulk_commit(host_thread()); }
template <int kYoungest>
void bulk_wait_read() {
  host_cta().bulk_wait(kYoungest, true, host_thread());
}
template <int kYoungest>
void bulk_wait() {
  host_cta().bulk_wait(kYoungest, false, host_thread());
}
inline void counter_add(uint32_t* counter) {
  HostLaunch::now().fibers().preempt();
  ++*counter;
  HostLaunch::now().fibers().notify(HostLaunch::now().counters());
}
inline void counter_wait(const uint32_t* counter, uint32_t count) {
  HostLaunch::now().fibers().wait(
      HostLaunch::now().counters(), [&] { return *counter >= count; },
      [count] { return "a counter to be " + std::to_string(count); });
}

inline void shared_store(uint32_t address, int value) { host_cta().write(address, value, host_thread()); }
inline void shared_store_16(uint32_t address, uint16_t value) {
  host_cta().write(address, value, host_thread());
}
inline void shared_clear(uint32_t address) { host_cta().write(address, Float4{}, host_thread()); }
inline int shared_load(uint32_t address) { return host_cta().read<int>(address); }
inline float shared_load_float(uint32_t address) { return host_cta().read<float>(address); }
inline void stmatrix_x4(uint32_t address, uint32_t m0, uint32_t m1, uint32_t m2, uint32_t m3) {
  host_cta().store_matrices(address, {m0, m1, m2, m3}, false, host_thread());
}
inline void stmatrix_x4_transposed(uint32_t address, uint32_t m0, uint32_t m1, uint32_t m2, uint32_t m3) {
  host_cta().store_matrices(address, {m0, m1, m2, m3}, true, host_thread());
}

template <class T, int n, int kTransA, int kTransB>
void wgmma_shared(float (&d)[n / 2], uint64_t a, uint64_t b, bool add) {
  const HostWgmma what{n, std::is_same_v<T, Bf16>, false, a, b, kTransA == 1, kTransB == 1, add};
  host_cta().warpgroup(host_thread()).multiply(what, d, nullptr, host_thread() % 128);
}
template <class T, int n, int kTransB>
void wgmma_registers(float (&d)[n / 2], const uint32_t* a, uint64_t b, bool add) {
  const HostWgmma what{n, std::is_same_v<T, Bf16>, true, 0, b, false, kTransB == 1, add};
  host_cta().warpgroup(host_thread()).multiply(what, d, a, host_thread() % 128);
}
inline void wgmma_fence() { host_cta().warpgroup(host_thread()).fence(host_thread() % 128); }
inline void wgmma_commit() { host_cta().warpgroup(host_thread()).commit(host_thread() % 128); }
template <int kYoungest>
void wgmma_wait() {
  host_cta().wgmma_wait(kYoungest, host_thread());
}
template <class T, int count>
void wgmma_hold(T (&)[count]) {}
template <int count>
void wgmma_forget(float (&d)[count]) {
  for (float& sum : d) sum = std::numeric_limits<float>::quiet_NaN();
}

}  // namespace attn
