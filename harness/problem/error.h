#pragma once
// The one exception for a user's mistake: its text is a single line that says what was wrong and what is
// accepted. The command line prints it and exits with 2.

#include <stdexcept>

namespace attn {

struct UsageError : std::runtime_error {
  using std::runtime_error::runtime_error;
};

}  // namespace attn
