#pragma once
// Which (query, key) pairs a problem allows. Query i stands at position i + seq_kv - seq_q (bottom-right
// alignment).

#include <cstdint>
#include <map>
#include <memory>
#include <mutex>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#if defined(__CUDACC__)
#define ATTN_HOST_DEVICE __host__ __device__
#else
#define ATTN_HOST_DEVICE
#endif

namespace attn {

/// Visible keys of one batch entry: a count, or a percentage of seq_kv (rounded down).
struct KeyLength {
  int64_t value = 0;
  bool percent = false;

  ATTN_HOST_DEVICE int64_t of(int64_t seq_kv) const {
    const int64_t length = percent ? seq_kv * value / 100 : value;
    return length < seq_kv ? length : seq_kv;
  }
};

enum class TileKind { empty, partial, full };

/// Positions [begin, end) of one document.
struct DocumentSpan {
  int32_t begin = 0;
  int32_t end = 0;
};

/// Keys [begin, end) of one row that band, documents and padding leave; a block mask may still remove some.
struct KeyRange {
  int64_t begin = 0;
  int64_t end = 0;
};

/// The mask of one problem, flattened for inner loops, host or device. Borrows its arrays from the Problem
/// (a GPU variant copies them and re-points). All parts are intersected.
struct MaskRule {
  static constexpr int64_t kUnbounded = int64_t{1} << 60;
  /// How far behind the sequence positions are asked for, by the last tile of a kernel.
  static constexpr int64_t kBehind = 256;

  int64_t seq_kv = 0;
  int64_t band_low = -kUnbounded;  ///< allowed: band_low <= j - i <= band_high
  int64_t band_high = kUnbounded;
  const KeyLength* lengths =
      nullptr;  ///< [lengths_count], batch entry b uses b % lengths_count; null: every key
  int64_t lengths_count = 0;
  const DocumentSpan* documents = nullptr;  ///< [seq_q + kBehind], of every position; null: one document
  const uint8_t* blocks = nullptr;          ///< [rows, block_columns], 1 = visible; null: every block
  int64_t block_q = 1;
  int64_t block_kv = 1;
  int64_t block_columns = 0;

  /// position / size, for positions below 2^32: dividing 64-bit numbers costs a GPU kernel its registers.
  ATTN_HOST_DEVICE static int64_t block_of(int64_t position, int64_t size) {
    return size > position ? 0 : static_cast<uint32_t>(position) / static_cast<uint32_t>(size);
  }

  ATTN_HOST_DEVICE int64_t key_length(int64_t b) const {
    return lengths ? lengths[b % lengths_count].of(seq_kv) : seq_kv;
  }

  // Band and documents: bounds that rise along the sequence, and may lie outside of it.

  /// Of the keys that query i may see.
  ATTN_HOST_DEVICE int64_t keys_begin(int64_t i) const {
    return documents ? larger(i + band_low, documents[i].begin) : i + band_low;
  }
  ATTN_HOST_DEVICE int64_t keys_end(int64_t i) const {
    return documents ? smaller(i + band_high + 1, documents[i].end) : i + band_high + 1;
  }
  /// Of the queries that may see key j.
  ATTN_HOST_DEVICE int64_t queries_begin(int64_t j) const {
    return documents ? larger(j - band_high, documents[j].begin) : j - band_high;
  }
  ATTN_HOST_DEVICE int64_t queries_end(int64_t j) const {
    return documents ? smaller(j - band_low + 1, documents[j].end) : j - band_low + 1;
  }

  ATTN_HOST_DEVICE KeyRange row_range(int64_t b, int64_t i) const {
    const int64_t length = key_length(b);
    int64_t begin = keys_begin(i), end = keys_end(i);
    if (begin < 0) begin = 0;
    if (end > length) end = length;
    if (end < begin) end = begin;
    return {begin, end};
  }

  /// Keys that some query of [i0, i1) may see, as far as band, documents and padding say.
  ATTN_HOST_DEVICE KeyRange rows_range(int64_t b, int64_t i0, int64_t i1) const {
    return {row_range(b, i0).begin, row_range(b, i1 - 1).end};
  }

  ATTN_HOST_DEVICE bool allows(int64_t b, int64_t i, int64_t j) const {
    const int64_t distance = j - i;
    if (distance < band_low || distance > band_high || j >= key_length(b)) return false;
    if (documents && (j < documents[i].begin || j >= documents[i].end)) return false;
    return !blocks || blocks[block_of(i, block_q) * block_columns + block_of(j, block_kv)];
  }

  /// Queries [i0, i1) against keys [j0, j1). `full` and `empty` are exact statements; `partial` may hold
  /// either.
  ATTN_HOST_DEVICE TileKind tile(int64_t b, int64_t i0, int64_t i1, int64_t j0, int64_t j1) const {
    const int64_t length = key_length(b);
    if (j0 >= keys_end(i1 - 1) || j1 <= keys_begin(i0) || j0 >= length) return TileKind::empty;
    bool full = j0 >= keys_begin(i1 - 1) && j1 <= keys_end(i0) && j1 <= length;
    if (blocks) {
      bool any = false;
      for (int64_t r = block_of(i0, block_q); r <= block_of(i1 - 1, block_q); ++r) {
        for (int64_t c = block_of(j0, block_kv); c <= block_of(j1 - 1, block_kv); ++c) {
          const bool visible = blocks[r * block_columns + c] != 0;
          any = any || visible;
          full = full && visible;
        }
      }
      if (!any) return TileKind::empty;
    }
    return full ? TileKind::full : TileKind::partial;
  }

 private:
  ATTN_HOST_DEVICE static int64_t larger(int64_t x, int64_t y) { return x < y ? y : x; }
  ATTN_HOST_DEVICE static int64_t smaller(int64_t x, int64_t y) { return x < y ? x : y; }
};

/// A block mask read from a file. Format: a line `block_q block_kv rows columns` (tile sizes, then numbers of
/// tiles), then one line per block row with the visible block columns, ascending, separated by spaces (an
/// empty line: nothing visible). `#` starts a comment line.
struct BlockMask {
  std::string path;
  int64_t block_q = 0;
  int64_t block_kv = 0;
  int64_t rows = 0;
  int64_t columns = 0;
  std::vector<uint8_t> visible;  ///< [rows, columns]

  static BlockMask read(const std::string& path);  ///< throws UsageError with file and line

 private:
  void read_header(const std::vector<int64_t>& values, const std::string& where);
  void read_row(int64_t row, const std::vector<int64_t>& values, const std::string& where);
};

/// Documents side by side, whose lengths repeat until the sequence ends.
class Documents {
 public:
  explicit Documents(std::vector<int64_t> lengths) : lengths_(std::move(lengths)) {}

  const std::vector<int64_t>& lengths() const { return lengths_; }
  /// Of the positions [0, count). Made once for each count; stays where it is as long as *this.
  const std::vector<DocumentSpan>& spans(int64_t count) const;

 private:
  std::vector<int64_t> lengths_;
  mutable std::mutex mutex_;
  mutable std::map<int64_t, std::vector<DocumentSpan>> spans_;
};

/// The mask field of a problem: `none`, or an intersection such as `causal+window:255:0+padding:75%`.
///   causal            j <= i + o        causal:topleft   j <= i
///   window:L:R        i + o - L <= j <= i + o + R, ends included; `*` leaves a side open
///   padding:A/B/...   keys visible per batch entry, counts or percentages; one value serves all
///   document:L/M/...  i and j in the same document; lengths, which repeat until the sequence ends. nq = nk
///   blocks:FILE       see BlockMask
class Mask {
 public:
  static Mask parse(std::string_view text);  ///< throws UsageError
  std::string text() const;                  ///< canonical; parse(text()) is the same mask

  bool none() const { return !causal_ && !window_ && padding_.empty() && !documents_ && !blocks_; }
  bool has_blocks() const { return blocks_ != nullptr; }
  bool has_padding() const { return !padding_.empty(); }
  bool has_documents() const { return documents_ != nullptr; }
  /// True where the only restriction is a band (causal and window).
  bool band_only() const { return !none() && padding_.empty() && !documents_ && !blocks_; }
  bool has_band() const { return causal_.has_value() || window_.has_value(); }

  /// Borrows from *this.
  MaskRule rule(int64_t seq_q, int64_t seq_kv) const;
  /// Throws UsageError where the mask cannot belong to this shape.
  void validate(int64_t batch, int64_t seq_q, int64_t seq_kv) const;

 private:
  enum class Corner { bottom_right, top_left };
  struct Window {
    int64_t left = MaskRule::kUnbounded;
    int64_t right = MaskRule::kUnbounded;
  };

  void parse_part(std::string_view part);
  void add_window(std::string_view arguments);
  void add_padding(std::string_view arguments);
  void add_documents(std::string_view arguments);

  std::optional<Corner> causal_;
  std::optional<Window> window_;
  std::vector<KeyLength> padding_;
  std::shared_ptr<const Documents> documents_;
  std::shared_ptr<const BlockMask> blocks_;
};

}  // namespace attn
