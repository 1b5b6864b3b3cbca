#include "harness/campaign/plan.h"

#include <fmt/format.h>

#include <algorithm>
#include <cmath>
#include <map>
#include <set>

#include "harness/campaign/axes.h"
#include "harness/campaign/plan_file.h"
#include "harness/campaign/probe.h"
#include "harness/measure/environment.h"
#include "harness/measure/memory.h"
#include "harness/problem/error.h"
#include "harness/problem/text.h"
#include "harness/registry.h"

namespace attn {
namespace {

constexpr size_t kMostPoints = 100'000;
constexpr int64_t kMostThreads = 1024;
constexpr int kMostProcesses = 100;

/// Several words in one text, separated by spaces or commas, count as several values.
std::vector<std::string> words(const std::vector<std::string>& texts) {
  std::vector<std::string> result;
  for (std::string text : texts) {
    std::replace(text.begin(), text.end(), ',', ' ');
    for (std::string_view word : split(text, ' ')) {
      if (!word.empty()) result.emplace_back(word);
    }
  }
  return result;
}

/// Values of an axis without a default: {0} stands for "not given".
std::vector<int64_t> optional_axis(const Settings& sweep, const std::string& key) {
  const auto texts = words(values_of(sweep, key));
  return texts.empty() ? std::vector<int64_t>{0} : parse_axis(key, texts);
}

template <class Parse>
auto parse_each(const Settings& sweep, const std::string& key, Parse parse) {
  std::vector<decltype(parse(std::string_view{}))> values;
  for (const std::string& word : words(values_of(sweep, key))) values.push_back(parse(word));
  return values;
}

Pass parse_pass(std::string_view text) {
  if (text == "fwd") return Pass::fwd;
  if (text == "bwd") return Pass::bwd;
  throw UsageError(fmt::format("--pass '{}' is unknown: use fwd or bwd", text));
}

Scope parse_scope(std::string_view text) {
  if (text == "core") return Scope::core;
  if (text == "block") return Scope::block;
  throw UsageError(fmt::format("--scope '{}' is unknown: use core or block", text));
}

double positive(const Settings& settings, const std::string& key) {
  const double value = parse_number(value_of(settings, key), "--" + key);
  if (value <= 0) throw UsageError(fmt::format("--{} {} must be greater than 0", key, value));
  return value;
}

size_t parse_bytes(std::string text) {
  const std::string suffixes = "KMG";
  double scale = 1;
  const size_t place = text.empty() ? std::string::npos : suffixes.find(text.back());
  if (place != std::string::npos) {
    scale = std::exp2(10.0 * static_cast<double>(place + 1));
    text.pop_back();
  }
  const double value = parse_number(text, "--memory-limit");
  if (value <= 0 || value * scale > 0x1p60) {
    throw UsageError("--memory-limit must be a positive number of bytes, with K, M or G behind it");
  }
  return static_cast<size_t>(value * scale);
}

std::vector<const Variant*> choose_variants(const Settings& sweep) {
  const std::string device = value_of(sweep, "device");
  if (device != "all" && device != "cpu" && device != "cuda") {
    throw UsageError(fmt::format("--device '{}' is unknown: use cpu, cuda or all", device));
  }
  std::vector<const Variant*> variants = select_variants(value_of(sweep, "variants"));
  std::erase_if(variants, [&](const Variant* variant) {
    const char* name = variant->info().device == Device::cpu ? "cpu" : "cuda";
    return device != "all" && device != name;
  });
  if (variants.empty())
    throw UsageError(fmt::format("--device {} leaves no variant: see attnbench list", device));
  return variants;
}

/// Collects points; one that several sweeps ask for is measured once, with the variants of all.
class PlanBuilder {
 public:
  explicit PlanBuilder(const CampaignOptions& options) : options_(options) {}

  void add(PlanPoint point, const std::vector<const Variant*>& variants) {
    point.id =
        fmt::format("p{}", hash_text(fmt::format("{}|threads={}|seed={}|fill={}", point.text, point.threads,
                                                 options_.seed, to_text(options_.fill))));
    const auto [place, is_new] = index_.emplace(point.id, plan_.points.size());
    if (is_new) plan_.points.push_back(std::move(point));
    if (plan_.points.size() > kMostPoints) {
      throw UsageError(fmt::format("the axes give more than {} points: give fewer values", kMostPoints));
    }
    std::vector<const Variant*>& list = plan_.points[place->second].variants;
    list.insert(list.end(), variants.begin(), variants.end());
    std::sort(list.begin(), list.end(), [](auto* a, auto* b) { return a->info().name < b->info().name; });
    list.erase(std::unique(list.begin(), list.end()), list.end());
  }
  Plan finish() { return std::move(plan_); }

 private:
  const CampaignOptions& options_;
  std::map<std::string, size_t> index_;
  Plan plan_;
};

/// One [[sweep]] table: expands the axes in the order settings outside, n inside.
class SweepExpansion {
 public:
  SweepExpansion(const Settings& sweep, PlanBuilder& builder) : sweep_(sweep), builder_(builder) {
    refuse_both("d", "d-head");
    refuse_both("hk", "group");
    variants_ = choose_variants(sweep);
    for (int64_t count : optional_axis(sweep, "threads")) {
      if (count > kMostThreads)
        throw UsageError(fmt::format("--threads {}: at most {}", count, kMostThreads));
      threads_.push_back(count ? static_cast<int>(count) : available_threads());
    }
  }

  void expand() {
    if (sweep_.count("problem")) return expand_problems();
    const auto masks = parse_each(sweep_, "mask", Mask::parse);
    const auto positions = parse_each(sweep_, "pos", Position::parse);
    for (int threads : threads_) {
      for (Scope scope : parse_each(sweep_, "scope", parse_scope)) {
        for (Pass pass : parse_each(sweep_, "pass", parse_pass)) {
          for (Dtype dtype : parse_each(sweep_, "dtype", parse_dtype)) {
            for (const Mask& mask : masks) {
              for (const Position& position : positions) {
                Problem p;
                p.scope = scope;
                p.pass = pass;
                p.dtype = dtype;
                p.mask = mask;
                p.position = position;
                expand_shapes(p, threads);
              }
            }
          }
        }
      }
    }
  }

 private:
  void refuse_both(const std::string& one, const std::string& other) const {
    if (sweep_.count(one) && sweep_.count(other)) {
      throw UsageError(fmt::format("--{} and --{} exclude each other: give one", one, other));
    }
  }

  void expand_problems() {
    for (const auto& [key, values] : sweep_) {
      static const std::set<std::string> allowed = {"problem", "variants", "device", "threads"};
      if (!allowed.count(key))
        throw UsageError(fmt::format("--problem is complete: --{} cannot be given with it", key));
    }
    for (int threads : threads_) {
      for (const std::string& text : values_of(sweep_, "problem")) {
        PlanPoint point;
        point.problem = Problem::parse(text);
        point.text = point.problem.text();
        point.d_model = point.problem.model_width();
        point.threads = threads;
        builder_.add(std::move(point), variants_);
      }
    }
  }

  void expand_shapes(const Problem& base, int threads) {
    const bool holds_head = sweep_.count("d-head") > 0;
    const auto widths =
        parse_axis(holds_head ? "d-head" : "d", words(values_of(sweep_, holds_head ? "d-head" : "d")));
    const bool groups = sweep_.count("group") > 0;
    for (int64_t batch : parse_axis("batch", words(values_of(sweep_, "batch")))) {
      for (int64_t width : widths) {
        for (int64_t heads : parse_axis("h", words(values_of(sweep_, "h")))) {
          for (int64_t values : optional_axis(sweep_, "d-value")) {
            for (int64_t shared : optional_axis(sweep_, groups ? "group" : "hk")) {
              for (int64_t keys : optional_axis(sweep_, "nk")) {
                for (int64_t queries : parse_axis("n", words(values_of(sweep_, "n")))) {
                  PlanPoint point{.problem = base, .threads = threads};
                  point.problem.batch = batch;
                  point.problem.heads_q = heads;
                  point.problem.value_dim = values;
                  point.problem.seq_q = queries;
                  point.problem.seq_kv = keys ? keys : queries;
                  point.d_model = holds_head ? width * heads : width;
                  set_heads(point, width, holds_head, shared, groups);
                  builder_.add(std::move(point), variants_);
                }
              }
            }
          }
        }
      }
    }
  }

  /// Head widths (value_dim may be given) and key/value heads; what does not divide makes the point a skipped
  /// one.
  static void set_heads(PlanPoint& point, int64_t width, bool holds_head, int64_t shared, bool groups) {
    Problem& p = point.problem;
    if (!holds_head && width % p.heads_q != 0) {
      point.skipped = fmt::format("d={} is not a multiple of h={}", width, p.heads_q);
    } else if (groups && shared && p.heads_q % shared != 0) {
      point.skipped = fmt::format("h={} is not a multiple of group={}", p.heads_q, shared);
    }
    p.head_dim = std::max<int64_t>(1, holds_head ? width : width / p.heads_q);
    if (p.value_dim == 0) p.value_dim = p.head_dim;
    p.heads_kv = p.heads_q;
    if (shared) p.heads_kv = groups ? std::max<int64_t>(1, p.heads_q / shared) : shared;
    if (point.skipped.empty()) {
      try {
        p.validate();
      } catch (const UsageError& error) {
        point.skipped = error.what();
      }
    }
    point.text = p.text();
    if (!point.skipped.empty()) point.text += fmt::format(",d_model={}", point.d_model);
  }

  const Settings& sweep_;
  PlanBuilder& builder_;
  std::vector<const Variant*> variants_;
  std::vector<int> threads_;
};

bool has_gpu_variant(const PlanPoint& point) { return any_of_gpu(point.variants); }

}  // namespace

CampaignOptions parse_campaign(const Settings& settings) {
  CampaignOptions options;
  options.baseline = value_of(settings, "baseline");
  if (!options.baseline.empty()) find_variant(options.baseline);
  options.fill = parse_fill(value_of(settings, "fill"));
  options.launch = parse_launch(value_of(settings, "launch"));
  options.seed = static_cast<uint64_t>(parse_count(value_of(settings, "seed"), "--seed"));
  options.budget_s = positive(settings, "budget");
  options.target = positive(settings, "target") / 100;
  const int64_t processes = parse_count(value_of(settings, "processes"), "--processes");
  if (processes < 1 || processes > kMostProcesses) {
    throw UsageError(fmt::format("--processes {} must be from 1 to {}", processes, kMostProcesses));
  }
  options.processes = static_cast<int>(processes);
  options.timeout_s = positive(settings, "timeout");
  options.rates = value_of(settings, "rates");
  check_rates_source(options.rates);
  const std::string limit = value_of(settings, "memory-limit");
  options.memory_limit_bytes = limit.empty()
                                   ? static_cast<size_t>(0.8 * static_cast<double>(available_memory_bytes()))
                                   : parse_bytes(limit);
  return options;
}

Plan make_plan(const std::vector<Settings>& sweeps, const CampaignOptions& options) {
  PlanBuilder builder(options);
  for (const Settings& sweep : sweeps) SweepExpansion(sweep, builder).expand();
  Plan plan = builder.finish();
  if (options.launch == LaunchMode::graph &&
      std::none_of(plan.points.begin(), plan.points.end(), has_gpu_variant)) {
    throw UsageError(kGraphsNeedGpu);
  }
  return plan;
}

bool Plan::uses_gpu() const {
  return std::any_of(points.begin(), points.end(),
                     [](const PlanPoint& point) { return point.skipped.empty() && has_gpu_variant(point); });
}

size_t Plan::rows() const {
  size_t count = 0;
  for (const PlanPoint& point : points) count += point.variants.size();
  return count;
}

std::string PlanPoint::csv() const {
  PlanLine line{id, fmt::format("{}", threads), text, {}};
  for (const Variant* variant : variants) line.variants.push_back(variant->info().name);
  return line.csv();
}

std::string Plan::csv() const {
  std::string text = std::string(kColumns) + '\n';
  for (const PlanPoint& point : points) text += point.csv() + '\n';
  return text;
}

std::string hash_text(std::string_view text) {
  uint64_t hash = 0xcbf29ce484222325ull;
  for (char c : text) hash = (hash ^ static_cast<unsigned char>(c)) * 0x100000001b3ull;
  return fmt::format("{:016x}", hash);
}

}  // namespace attn
