#include "harness/registry.h"

#include <fmt/format.h>
#include <fmt/ranges.h>

#include <algorithm>
#include <regex>

#include "harness/problem/error.h"

namespace attn {
namespace {

struct Registry {
  std::vector<std::unique_ptr<Variant>> owned;
  std::vector<const Variant*> sorted;
};

Registry& registry() {
  static Registry instance;
  return instance;
}

}  // namespace

bool register_variant(std::unique_ptr<Variant> variant) {
  Registry& r = registry();
  const auto by_name = [](const Variant* a, const std::string& name) { return a->info().name < name; };
  const auto at = std::lower_bound(r.sorted.begin(), r.sorted.end(), variant->info().name, by_name);
  if (at != r.sorted.end() && (*at)->info().name == variant->info().name) {
    throw std::logic_error("two variants are named " + variant->info().name);
  }
  r.sorted.insert(at, variant.get());
  r.owned.push_back(std::move(variant));
  return true;
}

const std::vector<const Variant*>& all_variants() { return registry().sorted; }

const Variant* linked_variant(const std::string& name) {
  const auto& variants = all_variants();
  const auto found = std::find_if(variants.begin(), variants.end(),
                                  [&](const Variant* variant) { return variant->info().name == name; });
  return found == variants.end() ? nullptr : *found;
}

const Variant& find_variant(const std::string& name) {
  std::vector<std::string> names;
  for (const Variant* variant : all_variants()) {
    if (variant->info().name == name) return *variant;
    names.push_back(variant->info().name);
  }
  throw UsageError(fmt::format("variant '{}' is unknown: use {}", name, fmt::join(names, ", ")));
}

std::vector<const Variant*> select_variants(const std::string& regex) {
  std::vector<const Variant*> selected;
  try {
    const std::regex pattern(regex);
    for (const Variant* variant : all_variants()) {
      const Info& info = variant->info();
      const auto matches = [&](const std::string& text) { return std::regex_search(text, pattern); };
      if (matches(info.name) || std::any_of(info.tags.begin(), info.tags.end(), matches)) {
        selected.push_back(variant);
      }
    }
  } catch (const std::regex_error& error) {
    throw UsageError(fmt::format("variants '{}' is not a regular expression: {}", regex, error.what()));
  }
  if (selected.empty())
    throw UsageError(fmt::format("variants '{}' matches none: see attnbench list", regex));
  return selected;
}

bool any_of_gpu(const std::vector<const Variant*>& variants) {
  return std::any_of(variants.begin(), variants.end(),
                     [](const Variant* variant) { return variant->info().device == Device::cuda; });
}

}  // namespace attn
