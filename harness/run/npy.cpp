#include "harness/run/npy.h"

#include <fmt/format.h>

#include <algorithm>
#include <bit>
#include <cerrno>
#include <cstring>
#include <fstream>

#include "harness/problem/error.h"
#include "harness/problem/file.h"

namespace attn {
namespace {

static_assert(std::endian::native == std::endian::little, "the files' byte order is copied as it is");

constexpr std::string_view kMagic = "\x93NUMPY";
constexpr size_t kLongestHeader = 10000;  // as NumPy's own reader
constexpr uint64_t kMostElements = uint64_t{1} << 40;

struct Header {
  bool wide = false;  // float64
  std::vector<int64_t> shape;
  uint64_t elements = 1;
};

[[noreturn]] void refuse(const std::string& path, const std::string& why) {
  throw UsageError(fmt::format("{}: {}", path, why));
}

std::string read_bytes(std::istream& file, size_t count) {
  std::string bytes(count, '\0');
  file.read(bytes.data(), static_cast<std::streamsize>(count));
  bytes.resize(static_cast<size_t>(file.gcount()));
  return bytes;
}

/// The text of the header's Python dictionary.
std::string read_dictionary(const std::string& path, std::istream& file) {
  const std::string start = read_bytes(file, 8);
  if (start.size() < 8 || !start.starts_with(kMagic)) refuse(path, "not a .npy file");
  const int version = static_cast<uint8_t>(start[6]);
  if (version != 1 && version != 2)
    refuse(path, fmt::format(".npy version {} is unknown: use 1 or 2", version));
  const std::string field = read_bytes(file, version == 1 ? 2 : 4);
  size_t length = 0;
  for (size_t byte = field.size(); byte-- > 0;) length = length << 8 | static_cast<uint8_t>(field[byte]);
  if (length > kLongestHeader)
    refuse(path, fmt::format("its header is longer than {} bytes", kLongestHeader));
  std::string dictionary = read_bytes(file, length);
  if (dictionary.size() < length || length == 0) refuse(path, "ends within its header");
  return dictionary;
}

/// The value after 'key': a text with its quotes, a tuple with its brackets, or a word. Scanned by hand: the
/// header is a stranger's, and std::regex recurses once for each of its characters.
std::string value_of(const std::string& path, const std::string& dictionary, const std::string& key) {
  const size_t quoted = std::min(dictionary.find("'" + key + "'"), dictionary.find('"' + key + '"'));
  const size_t colon = quoted == std::string::npos ? quoted : dictionary.find(':', quoted + key.size() + 2);
  const size_t begin = colon == std::string::npos ? colon : dictionary.find_first_not_of(" \t", colon + 1);
  if (begin == std::string::npos) refuse(path, fmt::format("its header has no '{}'", key));
  const char first = dictionary[begin];
  const bool closed = first == '\'' || first == '"' || first == '(';
  const std::string ends = first == '(' ? ")" : closed ? std::string(1, first) : ",} \n";
  const size_t end = dictionary.find_first_of(ends, begin + 1);
  if (end == std::string::npos) refuse(path, fmt::format("its header has no '{}'", key));
  return dictionary.substr(begin, end - begin + (closed ? 1 : 0));
}

std::vector<int64_t> parse_shape(const std::string& path, const std::string& text) {
  if (text.front() != '(' || text.find_first_not_of("0123456789, ()") != std::string::npos) {
    refuse(path, "its header has no 'shape'");
  }
  std::vector<int64_t> shape;
  for (size_t end, at = text.find_first_of("0123456789"); at != std::string::npos;
       at = text.find_first_of("0123456789", end)) {
    end = std::min(text.find_first_not_of("0123456789", at), text.size());
    if (end - at > 15) refuse(path, "its shape " + text + " is too large");
    shape.push_back(std::stoll(text.substr(at, end - at)));
  }
  return shape;
}

uint64_t count_elements(const std::string& path, const std::vector<int64_t>& shape) {
  uint64_t elements = 1;
  for (const int64_t extent : shape) {
    if (extent != 0 && elements > kMostElements / static_cast<uint64_t>(extent)) {
      refuse(path, "its shape " + shape_text(shape) + " is too large");
    }
    elements *= static_cast<uint64_t>(extent);
  }
  return elements;
}

Header read_header(const std::string& path, std::istream& file) {
  const std::string dictionary = read_dictionary(path, file);
  const std::string quoted = value_of(path, dictionary, "descr");
  const std::string dtype = quoted.size() > 2 ? quoted.substr(1, quoted.size() - 2) : quoted;
  Header header;
  header.wide = dtype == "<f8";
  if (!header.wide && dtype != "<f4") {
    refuse(path, fmt::format("its dtype {} is not accepted: use float32 or float64, little-endian", dtype));
  }
  if (value_of(path, dictionary, "fortran_order") != "False") {
    refuse(path, "its elements are in Fortran order: save np.ascontiguousarray(x)");
  }
  header.shape = parse_shape(path, value_of(path, dictionary, "shape"));
  header.elements = count_elements(path, header.shape);
  return header;
}

/// Checks the size before it allocates: a small file with a large shape costs nothing.
template <class Element>
std::vector<Element> read_elements(const std::string& path, std::istream& file, uint64_t elements) {
  const auto begin = file.tellg();
  const auto held = static_cast<uint64_t>(file.seekg(0, std::ios::end).tellg() - begin);
  if (held != elements * sizeof(Element)) {
    refuse(path,
           fmt::format("holds {} bytes of data where its shape needs {}", held, elements * sizeof(Element)));
  }
  file.seekg(begin);
  std::vector<Element> values(elements);
  file.read(reinterpret_cast<char*>(values.data()), static_cast<std::streamsize>(held));
  if (!file) refuse(path, "cannot be read");
  return values;
}

}  // namespace

std::string shape_text(const std::vector<int64_t>& shape) {
  std::string text;
  for (const int64_t extent : shape) text += (text.empty() ? "" : ", ") + std::to_string(extent);
  return "(" + text + (shape.size() == 1 ? ",)" : ")");
}

template <class Real>
NpyArray<Real> read_npy(const std::string& path) {
  const std::string unreadable = why_unreadable(path, kMostElements * sizeof(double));
  if (!unreadable.empty()) refuse(path, unreadable);
  std::ifstream file(path, std::ios::binary);
  if (!file) refuse(path, std::strerror(errno));
  const Header header = read_header(path, file);
  if (header.wide == (sizeof(Real) == 8))
    return {header.shape, read_elements<Real>(path, file, header.elements)};
  if (header.wide) refuse(path, "holds float64; a variant takes float32, --variant oracle takes both");
  const std::vector<float> narrow = read_elements<float>(path, file, header.elements);
  return {header.shape, std::vector<Real>(narrow.begin(), narrow.end())};
}

template <class Real>
void write_npy(const std::string& path, const std::vector<int64_t>& shape, const std::vector<Real>& values) {
  std::ofstream file(path, std::ios::binary);
  if (!file) refuse(path, std::strerror(errno));
  std::string header = fmt::format("{{'descr': '<f{}', 'fortran_order': False, 'shape': {}, }}", sizeof(Real),
                                   shape_text(shape));
  const size_t unpadded = kMagic.size() + 4 + header.size() + 1;
  header += std::string((64 - unpadded % 64) % 64, ' ') + '\n';
  const auto length = static_cast<uint16_t>(header.size());
  file << kMagic << '\1' << '\0' << static_cast<char>(length & 255) << static_cast<char>(length >> 8)
       << header;
  file.write(reinterpret_cast<const char*>(values.data()),
             static_cast<std::streamsize>(values.size() * sizeof(Real)));
  file.close();
  if (!file) throw std::runtime_error(path + ": cannot be written whole: is the disk full?");
}

template NpyArray<float> read_npy(const std::string&);
template NpyArray<double> read_npy(const std::string&);
template void write_npy(const std::string&, const std::vector<int64_t>&, const std::vector<float>&);
template void write_npy(const std::string&, const std::vector<int64_t>&, const std::vector<double>&);

}  // namespace attn
