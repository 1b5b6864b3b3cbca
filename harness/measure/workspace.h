#pragma once
// Scratch memory that is declared and used by the same calls: a counting Workspace hands out null and books
// bytes, a granting one hands out memory in the same order. So planned bytes cannot drift from used bytes.

#include <cstddef>
#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

namespace attn {

class Workspace {
 public:
  static constexpr size_t kAlignment = 256;
  struct Booking {
    std::string name;
    size_t offset;  ///< from the base
    size_t bytes;
  };

  /// Counting mode. `guard_bytes` are left free after every booking (for overrun checks) and are not counted.
  explicit Workspace(size_t guard_bytes = 0) : guard_bytes_(guard_bytes) {}
  /// Granting mode over [base, base + capacity), base aligned to kAlignment.
  Workspace(std::byte* base, size_t capacity, size_t guard_bytes = 0);

  /// `count` elements of T, aligned to kAlignment; null when counting. Allocates nothing when granting;
  /// throws std::logic_error where more is taken than was booked.
  template <class T>
  T* take(std::string_view name, int64_t count) {
    return reinterpret_cast<T*>(take_bytes(name, static_cast<size_t>(count) * sizeof(T)));
  }

  bool counting() const { return base_ == nullptr; }
  /// Starts over at the base: call before each prepare, forward or backward.
  void rewind();
  /// Bytes taken since the last rewind, without padding and guards.
  size_t bytes() const { return bytes_; }
  /// Largest `bytes()` so far.
  size_t peak_bytes() const { return peak_bytes_; }
  /// Memory a granting workspace needs for what was booked, padding and guards included.
  size_t capacity_needed() const { return cursor_; }
  /// What was taken since the last rewind (counting mode only).
  const std::vector<Booking>& bookings() const { return bookings_; }

 private:
  std::byte* take_bytes(std::string_view name, size_t bytes);

  std::byte* base_ = nullptr;
  size_t capacity_ = 0;
  size_t guard_bytes_ = 0;
  size_t cursor_ = 0;
  size_t bytes_ = 0;
  size_t peak_bytes_ = 0;
  std::vector<Booking> bookings_;
};

}  // namespace attn
