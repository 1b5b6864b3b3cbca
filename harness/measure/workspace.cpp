#include "harness/measure/workspace.h"

#include <algorithm>
#include <stdexcept>

namespace attn {

Workspace::Workspace(std::byte* base, size_t capacity, size_t guard_bytes)
    : base_(base), capacity_(capacity), guard_bytes_(guard_bytes) {}

void Workspace::rewind() {
  cursor_ = 0;
  bytes_ = 0;
  bookings_.clear();
}

std::byte* Workspace::take_bytes(std::string_view name, size_t bytes) {
  const size_t offset = cursor_;
  const size_t padded = (bytes + guard_bytes_ + kAlignment - 1) / kAlignment * kAlignment;
  cursor_ += padded;
  bytes_ += bytes;
  peak_bytes_ = std::max(peak_bytes_, bytes_);
  if (counting()) {
    bookings_.push_back({std::string(name), offset, bytes});
    return nullptr;
  }
  if (cursor_ > capacity_)
    throw std::logic_error("workspace: '" + std::string(name) + "' was not booked by plan()");
  return base_ + offset;
}

}  // namespace attn
