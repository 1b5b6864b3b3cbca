#pragma once
// Files that a stranger may have made.

#include <cstdint>
#include <string>

namespace attn {

/// Why `path` cannot be read as a file of at most `most_bytes`, in a few words; empty where it can. Pipes and
/// devices are refused: they may never end. Symbolic links are followed.
std::string why_unreadable(const std::string& path, uint64_t most_bytes);

}  // namespace attn
