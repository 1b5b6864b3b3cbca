#pragma once
// Shared memory of a thread block of sm_90 on the host, with what is under way in every 16 bytes of it:
// copies that have not landed, operands and stores that have not been read, writes that the asynchronous
// proxy does not see yet. Use at the wrong time throws.

#include <algorithm>
#include <cstring>
#include <memory>
#include <stdexcept>
#include <string>
#include <vector>

#include "tests/host_tma.h"

namespace attn {

class HostShared {
 public:
  using Units = std::vector<uint32_t>;  ///< numbers of 16-byte units
  /// Of an operation that reads: what, and the bytes as they were when it was issued.
  struct Reading {
    Units units;
    std::vector<char> bytes;
  };

  /// `first`: the address of the first byte; pointers agree with it modulo 1024.
  HostShared(uint32_t bytes, uint32_t first)
      : first_(first), bytes_(bytes), memory_(bytes / 1024 + 2), units_(bytes / 16 + 1) {
    std::memset(memory_.data(), 0xff, memory_.size() * sizeof(Line));  // NaN
  }
  char* data() { return memory_.data()->bytes + first_ % 1024; }
  uint32_t first() const { return first_; }
  uint32_t address(const void* pointer) {
    const auto offset = static_cast<const char*>(pointer) - data();
    if (offset < 0 || offset >= int64_t{bytes_}) throw std::logic_error("address outside shared memory");
    return first_ + static_cast<uint32_t>(offset);
  }
  char* at(uint32_t address, uint32_t bytes) {
    if (address < first_ || address + bytes > first_ + bytes_) {
      throw std::logic_error("shared memory: address " + std::to_string(address) + " outside its " +
                             std::to_string(bytes_) + " bytes");
    }
    return data() + (address - first_);
  }
  Units range(uint32_t address, uint32_t bytes) {
    at(address, bytes);
    Units units;
    for (uint32_t k = (address - first_) / 16; k <= (address - first_ + bytes - 1) / 16; ++k)
      units.push_back(k);
    return units;
  }

  void begin_load(const Units& units) {
    for (const uint32_t k : units) {
      if (units_[k].loads) fail("a copy into memory where another copy is under way", k);
      if (units_[k].reads) fail("a copy into memory that is still being read", k);
      if (!units_[k].writers.empty()) fail("a copy into memory written without fence.proxy.async", k);
      ++units_[k].loads;
    }
  }
  void end_load(const Units& units) {
    for (const uint32_t k : units) --units_[k].loads;
  }
  Reading begin_read(const Units& units) {
    for (const uint32_t k : units) {
      if (units_[k].loads) fail("memory read before its copy has landed", k);
      if (!units_[k].writers.empty()) fail("memory written without fence.proxy.async is read", k);
      ++units_[k].reads;
    }
    return {units, bytes_of(units)};
  }
  void end_read(const Reading& reading) {
    for (const uint32_t k : reading.units) --units_[k].reads;
    if (bytes_of(reading.units) != reading.bytes) {
      throw std::logic_error("shared memory was written to while an operation was reading it");
    }
  }
  /// By an ordinary instruction of a thread.
  void write(const Units& units, int thread) {
    for (const uint32_t k : units) {
      if (units_[k].loads) fail("memory written where a copy is under way", k);
      if (units_[k].reads) fail("memory written that is still being read", k);
      std::vector<int>& writers = units_[k].writers;
      if (std::find(writers.begin(), writers.end(), thread) == writers.end()) writers.push_back(thread);
    }
  }
  void read(const Units& units) {
    for (const uint32_t k : units) {
      if (units_[k].loads) fail("memory read before its copy has landed", k);
    }
  }
  void fence(int thread) {
    for (State& unit : units_) std::erase(unit.writers, thread);
  }
  bool idle() const {
    for (const State& unit : units_) {
      if (unit.loads || unit.reads) return false;
    }
    return true;
  }

 private:
  std::vector<char> bytes_of(const Units& units) {
    std::vector<char> bytes(16 * units.size());
    for (size_t k = 0; k < units.size(); ++k) std::memcpy(&bytes[16 * k], data() + 16 * units[k], 16);
    return bytes;
  }
  struct alignas(1024) Line {
    char bytes[1024];
  };
  struct State {
    uint16_t loads = 0, reads = 0;
    std::vector<int> writers;  ///< threads whose writes the asynchronous proxy may not see
  };
  void fail(const char* what, uint32_t unit) const {
    throw std::logic_error(std::string("shared memory at byte ") + std::to_string(unit * 16) + ": " + what);
  }

  uint32_t first_, bytes_;
  std::vector<Line> memory_;
  std::vector<State> units_;
};

}  // namespace attn
