// .npy files: round trip, what NumPy itself writes, and every kind of file that must be refused in one line.

#include "harness/run/npy.h"

#include <unistd.h>

#include <cmath>
#include <filesystem>
#include <fstream>
#include <limits>

#include "harness/problem/error.h"
#include "tests/catch.h"

using namespace attn;

namespace {

struct TemporaryFile {
  std::string path =
      (std::filesystem::temp_directory_path() / ("attn_npy_" + std::to_string(getpid()))).string();
  ~TemporaryFile() { std::filesystem::remove(path); }

  void write(const std::string& bytes) const { std::ofstream(path, std::ios::binary) << bytes; }
  std::string read() const {
    std::ifstream file(path, std::ios::binary);
    return {std::istreambuf_iterator<char>(file), {}};
  }
};

/// A file of version `version` with this dictionary and `data_bytes` zeros.
std::string npy(const std::string& dictionary, size_t data_bytes, int version = 1) {
  const size_t length = dictionary.size();
  std::string bytes = "\x93NUMPY";
  bytes += {static_cast<char>(version), '\0'};
  for (int byte = 0; byte < (version == 1 ? 2 : 4); ++byte)
    bytes += static_cast<char>(length >> (8 * byte) & 255);
  return bytes + dictionary + std::string(data_bytes, '\0');
}

std::string dictionary(const std::string& dtype, const std::string& order, const std::string& shape) {
  return "{'descr': '" + dtype + "', 'fortran_order': " + order + ", 'shape': " + shape + ", }\n";
}

/// The one line with which `bytes` is refused.
std::string refusal(const std::string& bytes) {
  const TemporaryFile file;
  file.write(bytes);
  try {
    read_npy<float>(file.path);
  } catch (const UsageError& error) {
    const std::string text = error.what();
    CHECK(text.starts_with(file.path + ": "));
    CHECK(text.find('\n') == std::string::npos);
    return text.substr(file.path.size() + 2);
  }
  return "accepted";
}

}  // namespace

TEST_CASE("npy: what is written reads back, bit for bit") {
  const TemporaryFile file;
  const std::vector<float> values = {0.0f, -0.0f, 1e-45f, std::numeric_limits<float>::infinity(),
                                     0.1f, -3e38f};
  write_npy<float>(file.path, {1, 2, 3}, values);
  const NpyArray<float> back = read_npy<float>(file.path);
  CHECK(back.shape == std::vector<int64_t>{1, 2, 3});
  CHECK(back.values == values);
  CHECK(std::signbit(back.values[1]));
  CHECK(read_npy<double>(file.path).values == std::vector<double>(values.begin(), values.end()));
  write_npy<double>(file.path, {1}, {0.1});
  CHECK(read_npy<double>(file.path).values == std::vector<double>{0.1});
  CHECK(file.read().size() % 64 == 8);  // the data begins at a multiple of 64
}

TEST_CASE("npy: version 2, other spellings, empty and scalar arrays") {
  const TemporaryFile file;
  file.write(npy("{\"shape\": (2,), \"fortran_order\":False, \"descr\":\"<f4\"}", 8, 2));
  CHECK(read_npy<float>(file.path).shape == std::vector<int64_t>{2});
  file.write(npy(dictionary("<f4", "False", "(3, 0, 2)"), 0));
  CHECK(read_npy<float>(file.path).values.empty());
  file.write(npy(dictionary("<f4", "False", "()"), 4));
  CHECK(read_npy<float>(file.path).values.size() == 1);
}

TEST_CASE("npy: every other file is refused in one line") {
  const std::string good = npy(dictionary("<f4", "False", "(2, 3)"), 24);
  REQUIRE(refusal(good) == "accepted");
  for (size_t length = 0; length < good.size(); ++length) {
    INFO(length);
    CHECK(refusal(good.substr(0, length)) != "accepted");
  }
  CHECK(refusal(good + "x") == "holds 25 bytes of data where its shape needs 24");
  CHECK(refusal("PK\3\4 an .npz archive") == "not a .npy file");
  CHECK(refusal(npy(dictionary("<f4", "False", "(2,)"), 8, 3)) == ".npy version 3 is unknown: use 1 or 2");
  CHECK(refusal(npy(dictionary("<f4", "True", "(2,)"), 8)).starts_with("its elements are in Fortran order"));
  for (const char* dtype : {">f4", "<f2", "<i4", "|O", "<f44", "<c8", ""}) {
    CHECK(refusal(npy(dictionary(dtype, "False", "(2,)"), 8)).starts_with("its dtype"));
  }
  CHECK(refusal(npy(dictionary("<f8", "False", "(2,)"), 16)).starts_with("holds float64"));
  CHECK(refusal(npy("{'fortran_order': False, 'shape': (2,), 'descr': [('a', '<f4')]}", 8))
            .starts_with("its dtype"));
  CHECK(refusal(npy(std::string(10001, ' '), 0)) == "its header is longer than 10000 bytes");
  CHECK(
      refusal(npy("{'descr': '<f4', 'shape': (" + std::string(9900, '1') + ",), 'fortran_order': False}", 0))
          .ends_with("is too large"));
  CHECK(refusal(npy("{'descr': '<f4', 'fortran_order': False}", 8)) == "its header has no 'shape'");
  CHECK(refusal(npy(dictionary("<f4", "False", "(-2,)"), 8)) == "its header has no 'shape'");
}

TEST_CASE("npy: a shape whose product overflows allocates nothing") {
  for (const char* shape :
       {"(4294967296, 4294967296)", "(9223372036854775807, 3)", "(1099511627776, 1024, 1024)"}) {
    CHECK(refusal(npy(dictionary("<f4", "False", shape), 0)).find("too large") != std::string::npos);
  }
  CHECK(refusal(npy(dictionary("<f4", "False", "(1099511627776,)"), 4)).starts_with("holds 4 bytes"));
}

TEST_CASE("npy: files that cannot be opened") {
  CHECK_THROWS_AS(read_npy<float>("no/such/file.npy"), UsageError);
  CHECK_THROWS_AS(write_npy<float>("no/such/file.npy", {1}, {1}), UsageError);
  CHECK_THROWS_AS(write_npy<float>("/dev/full", {1}, {1}), std::runtime_error);
}
