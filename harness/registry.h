#pragma once
// All variants linked into the program, sorted by name.

#include <string>
#include <vector>

#include "harness/variant.h"

namespace attn {

const std::vector<const Variant*>& all_variants();
/// Null where there is none of that name: rows may come from another build.
const Variant* linked_variant(const std::string& name);
/// Throws UsageError that lists the names.
const Variant& find_variant(const std::string& name);
/// Variants whose name or one of whose tags contains a match of the regular expression. Throws UsageError
/// where the expression is malformed or matches nothing.
std::vector<const Variant*> select_variants(const std::string& regex);
bool any_of_gpu(const std::vector<const Variant*>& variants);

}  // namespace attn
