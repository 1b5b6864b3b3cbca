#include "harness/problem/mask.h"

#include <fmt/format.h>
#include <fmt/ranges.h>

#include <algorithm>
#include <fstream>
#include <sstream>

#include "harness/problem/error.h"
#include "harness/problem/file.h"
#include "harness/problem/text.h"

namespace attn {
namespace {

constexpr uint64_t kMostFileBytes = uint64_t{1} << 29;
constexpr int64_t kMostPositions = int64_t{1} << 26;  // of documents: 8 bytes each
constexpr int64_t kMostBlocks = int64_t{1} << 26;     // a short file must not ask for much memory

constexpr const char* kAcceptedMasks =
    "use none, causal, causal:topleft, window:L:R, padding:A/B/..., document:L/M/..., blocks:FILE, joined by "
    "+";

std::string window_side(int64_t side) { return side == MaskRule::kUnbounded ? "*" : std::to_string(side); }

std::vector<int64_t> parse_line(const std::string& line, const std::string& where) {
  std::istringstream words(line);
  std::vector<int64_t> values;
  for (std::string word; words >> word;) values.push_back(parse_count(word, where + "entry"));
  return values;
}

int64_t parse_window_side(std::string_view text) {
  return text == "*" ? MaskRule::kUnbounded : parse_count(text, "mask window side");
}

}  // namespace

BlockMask BlockMask::read(const std::string& path) {
  const std::string unreadable = why_unreadable(path, kMostFileBytes);
  if (!unreadable.empty()) throw UsageError("mask blocks: cannot read file '" + path + "': " + unreadable);
  std::ifstream file(path);
  BlockMask mask;
  mask.path = path;
  std::string line;
  int64_t row = 0;
  for (int64_t number = 1; std::getline(file, line); ++number) {
    if (!line.empty() && line.front() == '#') continue;
    const std::string where = "mask blocks: " + path + ":" + std::to_string(number) + ": ";
    const std::vector<int64_t> values = parse_line(line, where);
    if (mask.rows == 0) {
      mask.read_header(values, where);
    } else {
      if (row == mask.rows) throw UsageError(where + "more rows than the first line says");
      mask.read_row(row++, values, where);
    }
  }
  if (mask.rows == 0) throw UsageError("mask blocks: " + path + " is empty");
  if (row < mask.rows) {
    throw UsageError("mask blocks: " + path + " has " + std::to_string(row) +
                     " block rows, its first line says " + std::to_string(mask.rows));
  }
  return mask;
}

void BlockMask::read_header(const std::vector<int64_t>& values, const std::string& where) {
  const bool positive = std::all_of(values.begin(), values.end(), [](int64_t value) { return value >= 1; });
  if (values.size() != 4 || !positive) {
    throw UsageError(where +
                     "the first line must be 'block_q block_kv rows columns', four positive whole numbers");
  }
  block_q = values[0];
  block_kv = values[1];
  rows = values[2];
  columns = values[3];
  if (rows > kMostBlocks / columns) throw UsageError(where + "more than 2^26 blocks");
  visible.reserve(static_cast<size_t>(rows * columns));  // touched row by row
}

void BlockMask::read_row(int64_t row, const std::vector<int64_t>& values, const std::string& where) {
  visible.resize(static_cast<size_t>((row + 1) * columns), 0);
  for (size_t k = 0; k < values.size(); ++k) {
    if (k > 0 && values[k] <= values[k - 1])
      throw UsageError(where + "block columns must ascend without repeats");
    if (values[k] >= columns) {
      throw UsageError(where + "block column " + std::to_string(values[k]) + " is past the last one, " +
                       std::to_string(columns - 1));
    }
    visible[static_cast<size_t>(row * columns + values[k])] = 1;
  }
}

Mask Mask::parse(std::string_view text) {
  Mask mask;
  if (text == "none") return mask;
  for (std::string_view part : split(text, '+')) mask.parse_part(part);
  return mask;
}

void Mask::parse_part(std::string_view part) {
  const size_t colon = part.find(':');
  const std::string_view name = part.substr(0, colon);
  const std::string_view arguments = colon == std::string_view::npos ? "" : part.substr(colon + 1);
  const auto once = [&](bool taken) {
    if (taken) throw UsageError("mask '" + std::string(name) + "' is given twice in one intersection");
  };
  if (part == "causal" || part == "causal:topleft") {
    once(causal_.has_value());
    causal_ = arguments.empty() ? Corner::bottom_right : Corner::top_left;
  } else if (name == "window") {
    once(window_.has_value());
    add_window(arguments);
  } else if (name == "padding") {
    once(!padding_.empty());
    add_padding(arguments);
  } else if (name == "document") {
    once(documents_ != nullptr);
    add_documents(arguments);
  } else if (name == "blocks" && !arguments.empty()) {
    once(blocks_ != nullptr);
    blocks_ = std::make_shared<const BlockMask>(BlockMask::read(std::string(arguments)));
  } else {
    throw UsageError("mask '" + std::string(part) + "' is unknown: " + kAcceptedMasks);
  }
}

void Mask::add_window(std::string_view arguments) {
  const auto sides = split(arguments, ':');
  if (sides.size() != 2) throw UsageError("mask window needs two sides: window:L:R");
  window_ = Window{parse_window_side(sides[0]), parse_window_side(sides[1])};
}

void Mask::add_padding(std::string_view arguments) {
  for (std::string_view word : split(arguments, '/')) {
    const bool percent = !word.empty() && word.back() == '%';
    if (percent) word.remove_suffix(1);
    const int64_t value = parse_count(word, "mask padding length");
    if (percent && value > 100) throw UsageError("mask padding: a percentage is at most 100");
    padding_.push_back({value, percent});
  }
}

void Mask::add_documents(std::string_view arguments) {
  std::vector<int64_t> lengths;
  for (const std::string_view word : split(arguments, '/')) {
    lengths.push_back(parse_count(word, "mask document length"));
    if (lengths.back() < 1) throw UsageError("mask document length 0 is too small: give 1 or more");
  }
  documents_ = std::make_shared<const Documents>(std::move(lengths));
}

const std::vector<DocumentSpan>& Documents::spans(int64_t count) const {
  const std::lock_guard lock(mutex_);
  std::vector<DocumentSpan>& spans = spans_[count];
  if (!spans.empty()) return spans;
  spans.reserve(static_cast<size_t>(count));
  for (size_t k = 0; static_cast<int64_t>(spans.size()) < count; k = (k + 1) % lengths_.size()) {
    const auto begin = static_cast<int64_t>(spans.size()), end = begin + std::min(lengths_[k], count - begin);
    spans.resize(static_cast<size_t>(end), {static_cast<int32_t>(begin), static_cast<int32_t>(end)});
  }
  return spans;
}

std::string Mask::text() const {
  std::vector<std::string> parts;
  if (causal_) parts.push_back(*causal_ == Corner::bottom_right ? "causal" : "causal:topleft");
  if (window_) parts.push_back("window:" + window_side(window_->left) + ":" + window_side(window_->right));
  if (!padding_.empty()) {
    std::string part = "padding:";
    for (const KeyLength& length : padding_) {
      if (part.back() != ':') part += '/';
      part += std::to_string(length.value) + (length.percent ? "%" : "");
    }
    parts.push_back(part);
  }
  if (documents_) parts.push_back(fmt::format("document:{}", fmt::join(documents_->lengths(), "/")));
  if (blocks_) parts.push_back("blocks:" + blocks_->path);
  if (parts.empty()) return "none";
  std::string text = parts.front();
  for (size_t k = 1; k < parts.size(); ++k) text += "+" + parts[k];
  return text;
}

MaskRule Mask::rule(int64_t seq_q, int64_t seq_kv) const {
  const int64_t offset = seq_kv - seq_q;
  MaskRule rule;
  rule.seq_kv = seq_kv;
  if (causal_) rule.band_high = *causal_ == Corner::bottom_right ? offset : 0;
  if (window_ && window_->left != MaskRule::kUnbounded) rule.band_low = offset - window_->left;
  if (window_ && window_->right != MaskRule::kUnbounded) {
    rule.band_high = std::min(rule.band_high, offset + window_->right);
  }
  if (!padding_.empty()) {
    rule.lengths = padding_.data();
    rule.lengths_count = static_cast<int64_t>(padding_.size());
  }
  if (documents_) rule.documents = documents_->spans(seq_q + MaskRule::kBehind).data();
  if (blocks_) {
    rule.blocks = blocks_->visible.data();
    rule.block_q = blocks_->block_q;
    rule.block_kv = blocks_->block_kv;
    rule.block_columns = blocks_->columns;
  }
  return rule;
}

void Mask::validate(int64_t batch, int64_t seq_q, int64_t seq_kv) const {
  const auto count = static_cast<int64_t>(padding_.size());
  if (count > 1 && count != batch) {
    throw UsageError("mask padding gives " + std::to_string(count) + " lengths for a batch of " +
                     std::to_string(batch) + ": give one, or one per batch entry");
  }
  for (const KeyLength& length : padding_) {
    if (!length.percent && length.value > seq_kv) {
      throw UsageError("mask padding length " + std::to_string(length.value) +
                       " exceeds nk=" + std::to_string(seq_kv));
    }
  }
  if (documents_ && seq_q != seq_kv) {
    throw UsageError("mask document needs nq = nk: nq=" + std::to_string(seq_q) +
                     ", nk=" + std::to_string(seq_kv));
  }
  if (documents_ && seq_q > kMostPositions)
    throw UsageError("mask document needs nq of at most 2^26: nq=" + std::to_string(seq_q));
  if (!blocks_) return;
  const int64_t rows = (seq_q + blocks_->block_q - 1) / blocks_->block_q;
  const int64_t columns = (seq_kv + blocks_->block_kv - 1) / blocks_->block_kv;
  if (rows != blocks_->rows || columns != blocks_->columns) {
    throw UsageError("mask blocks: " + blocks_->path + " has " + std::to_string(blocks_->rows) + " x " +
                     std::to_string(blocks_->columns) + " blocks, nq=" + std::to_string(seq_q) +
                     " and nk=" + std::to_string(seq_kv) + " need " + std::to_string(rows) + " x " +
                     std::to_string(columns));
  }
}

}  // namespace attn
