#pragma once
// How many sets of operands cold calls take in turn.

#include <cstddef>
#include <cstdint>

namespace attn {

/// So many that together they are at least twice as large as the cache: a call then finds none of its
/// operands in it. 1 where a set is that large by itself, or where there is no cache to miss.
int64_t rotating_sets(size_t set_bytes, size_t cache_bytes);

}  // namespace attn
