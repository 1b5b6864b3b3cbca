#include "harness/oracle/cases.h"

#include <fmt/format.h>
#include <unistd.h>

#include <fstream>

#include "harness/problem/error.h"

namespace attn {
namespace {

constexpr const char* kShapes[] = {
    "hq=2,nq=1,d=8",         "hq=2,nq=2,d=1",
    "hq=1,nq=3,d=40",        "hq=3,nq=63,d=41",
    "hq=2,nq=64,d=64",       "hq=2,nq=65,d=59",
    "hq=2,nq=97,d=111",      "hq=1,nq=129,d=128",
    "hq=1,nq=200,d=64",      "b=2,hq=4,hk=2,nq=33,nk=70,d=16,dv=24",
    "hq=2,nq=5,nk=0,d=8",    "hq=4,hk=1,nq=70,nk=33,d=24,dv=8",
    "hq=1,nq=1,nk=130,d=64", "hq=6,hk=3,nq=17,nk=130,d=8,dv=111",
};

constexpr const char* kMasks[] = {
    "causal",
    "causal:topleft",
    "window:3:0",
    "window:16:16",
    "window:*:5",
    "window:0:0",
    "window:70:*",
    "padding:50%",
    "padding:0/31",
    "causal+window:10:0",
    "causal+padding:20/40",
    "window:7:7+padding:75%",
    "blocks",
    "causal+blocks",
    "causal+window:30:0+padding:35/39+blocks",
};
constexpr const char* kMaskedShapes[] = {
    "b=2,hq=2,nq=65,d=40",
    "b=2,hq=4,hk=2,nq=40,nk=97,d=16,dv=20",
    "b=2,hq=2,hk=1,nq=97,nk=40,d=41",
};

constexpr const char* kDocuments[] = {
    "b=2,hq=4,hk=2,nq=97,d=40,mask=document:13/1/26/57",
    "b=2,hq=2,nq=65,d=40,dv=24,mask=causal+document:20/7",  // they repeat, and the last one is cut off
    "b=2,hq=2,hk=1,nq=130,d=41,mask=window:9:3+padding:100/128+document:40/3",
    "b=2,hq=2,nq=97,d=16,mask=causal+document:64/5,pos=shaw:4",
    "hq=3,nq=97,d=24,mask=document:33,pos=alibi",
    "hq=2,nq=150,d=24,mask=causal+document:31/1/70,pos=rope:10000",
    "hq=2,nq=66,d=32,mask=document:50/500,pos=t5:8:32,softcap=20",
};

constexpr const char* kPositions[] = {
    "shaw:4",         "shaw:0",     "shaw:200",
    "shaw-keys:3",    "alibi",      "t5:32:128",
    "t5-causal:8:20", "rope:10000", "rope-interleaved:10000",
};
constexpr const char* kPositionMasks[] = {"none", "causal", "window:20:3+padding:39"};
constexpr const char* kPositionedShapes[] = {
    "hq=3,nq=66,d=41,dv=24",
    "b=2,hq=4,hk=2,nq=40,nk=70,d=16",
    "hq=2,hk=1,nq=70,nk=40,d=8",
};

constexpr const char* kOthers[] = {
    "hq=2,nq=65,d=40,softcap=5",
    "hq=2,nq=65,d=40,softcap=30,mask=causal",
    "b=3,hq=1,nq=3,nk=5,d=32,softcap=30,mask=causal:topleft+window:17:*",  // keys that no query sees
    "hq=3,nq=40,nk=66,d=16,softcap=2,pos=alibi,mask=causal",
    "hq=2,nq=50,d=16,softcap=4,pos=shaw:5",
    "hq=2,nq=50,d=16,softcap=4,pos=rope:10000,mask=window:9:9",
    "hq=2,nq=65,d=24,scale=1",
    "hq=2,nq=65,d=24,scale=-0.125,mask=causal",
    "hq=2,nq=70,d=32,scale=0.05,pos=t5:8:32",
    "b=2,hq=4,hk=2,nq=3,nk=1300,d=40,dv=24,mask=causal",
    "hq=4,hk=1,nq=2,nk=1100,d=24,dv=20,mask=causal+window:700:*,pos=alibi",
    "hq=2,nq=4,nk=600,d=16,mask=padding:555,pos=rope:10000,softcap=5",
};

constexpr const char* kStorage[] = {
    "hq=2,nq=65,d=40",
    "b=2,hq=4,hk=2,nq=33,nk=70,d=17,dv=24,mask=causal",
    "hq=2,nq=97,d=64,pos=shaw:4,mask=window:20:3+padding:60",
    "hq=2,nq=66,d=24,pos=rope:10000,mask=causal",
    "hq=4,hk=1,nq=1,nk=130,d=64,mask=causal",
    "hq=2,hk=1,nq=150,nk=390,d=64,pos=shaw-keys:5,mask=causal",  // the clip's window crosses few tiles
    "b=2,hq=3,nq=40,nk=66,d=16,dv=20,softcap=2,pos=alibi,mask=padding:35/60",
    "hq=2,nq=65,d=16,softcap=4,pos=shaw:4",
    "hq=2,nq=40,nk=70,d=16,pos=t5:32:128",
    "hq=2,hk=1,nq=40,nk=70,d=24,pos=rope-interleaved:100",
    "hq=2,hk=1,nq=130,nk=150,d=120,pos=rope:10000,mask=causal",
    "hq=2,hk=1,nq=70,nk=140,d=64,pos=rope:10000,mask=causal+padding:135,softcap=20",
    "hq=2,hk=1,nq=140,nk=150,d=192,dv=128,mask=causal",
    "b=2,hq=4,hk=2,nq=300,d=64,mask=document:150/90/7",
    "hq=2,nq=390,d=128,mask=causal+document:130/3/40",
};

/// So many heads that packing the rows of a group into tiles saves a GPU of some 130 multiprocessors a round;
/// and so few on so many keys that it has to split these.
constexpr const char* kGrouped[] = {
    "b=2,hq=72,hk=9,nq=17,nk=40,d=40,mask=causal",
    "b=2,hq=72,hk=9,nq=33,nk=50,d=72,dv=64,mask=window:20:9+padding:35/50",
    "b=2,hq=6,hk=3,nq=17,nk=1300,d=64,mask=causal+padding:1300/700",
};

constexpr const char* kBlocks[] = {
    "hq=2,nq=33,d=16,scope=block",
    "b=2,hq=4,hk=2,nq=65,d=16,dv=24,scope=block,dm=48,mask=causal",
    "hq=2,nq=40,d=16,scope=block,pos=shaw:4",
    "hq=2,nq=40,d=17,scope=block,pos=rope:10000,mask=window:8:0",
    "hq=3,nq=40,d=16,scope=block,pos=alibi,mask=padding:50%",
    "hq=4,hk=1,nq=40,d=16,scope=block,pos=t5:32:128,softcap=20",
};

constexpr const char* kHeadMajor[] = {
    "hq=3,nq=63,d=41",
    "b=2,hq=4,hk=2,nq=33,nk=70,d=16,dv=24,mask=causal",
    "b=2,hq=4,hk=1,nq=40,nk=50,d=24,mask=window:8:4,pos=rope:10000",
    "b=2,hq=2,nq=65,d=40,pos=shaw:4,mask=padding:50/65",
};

class CaseList {
 public:
  explicit CaseList(BlockFiles& files) : files_(files) {}

  void add(const std::string& text, Layout layout = Layout::seq_major) {
    cases.push_back({Problem::parse(text), layout});
  }
  void add_both_passes(const std::string& text, Layout layout = Layout::seq_major) {
    add(text + ",pass=fwd", layout);
    add(text + ",pass=bwd", layout);
  }
  /// `blocks` in the mask is replaced by a file of that shape.
  std::string masked(const std::string& shape, std::string mask) {
    if (const size_t at = mask.find("blocks"); at != std::string::npos) {
      const Problem p = Problem::parse(shape);
      mask.replace(at, 6, "blocks:" + files_.make(p.seq_q, p.seq_kv, 16, 8));
    }
    return shape + ",mask=" + mask;
  }

  /// To every fifth: 5 is prime to the counts of masks' shapes and positions' masks, so each kind stays
  /// represented.
  void thin() {
    std::vector<Case> kept;
    for (size_t c = 0; c < cases.size(); c += 5) kept.push_back(cases[c]);
    cases = std::move(kept);
  }

  std::vector<Case> cases;

 private:
  BlockFiles& files_;
};

}  // namespace

BlockFiles::BlockFiles() {
  static int count = 0;
  folder_ = std::filesystem::temp_directory_path() / fmt::format("attnbench-blocks-{}-{}", getpid(), count++);
  std::filesystem::create_directories(folder_);
}

BlockFiles::~BlockFiles() {
  std::error_code ignored;
  if (!keep_) std::filesystem::remove_all(folder_, ignored);
}

std::string BlockFiles::make(int64_t seq_q, int64_t seq_kv, int64_t block_q, int64_t block_kv) {
  const auto path = folder_ / fmt::format("{}x{}-{}x{}.txt", seq_q, seq_kv, block_q, block_kv);
  const int64_t rows = (seq_q + block_q - 1) / block_q, columns = (seq_kv + block_kv - 1) / block_kv;
  std::ofstream file(path);
  file << block_q << ' ' << block_kv << ' ' << rows << ' ' << columns << '\n';
  for (int64_t r = 0; r < rows; ++r) {
    for (int64_t c = 0; r + 1 < rows && c < columns; ++c) {
      if ((r * 5 + c * 3) % 7 < 3 || c == r) file << c << ' ';
    }
    file << '\n';
  }
  if (!file.flush()) throw std::runtime_error("cannot write " + path.string());
  return path.string();
}

std::vector<Case> check_cases(SuiteSize size, BlockFiles& files) {
  CaseList list(files);
  for (const char* shape : kShapes) list.add_both_passes(shape);
  for (const char* shape : kMaskedShapes) {
    for (const char* mask : kMasks) list.add_both_passes(list.masked(shape, mask));
  }
  for (const char* shape : kPositionedShapes) {
    for (const char* position : kPositions) {
      for (const char* mask : kPositionMasks) {
        list.add_both_passes(fmt::format("{},pos={},mask={}", shape, position, mask));
      }
    }
  }
  for (const char* documents : kDocuments) list.add_both_passes(documents);
  list.add_both_passes(list.masked("b=2,hq=2,nq=70,d=24", "causal+blocks+document:30/9"));
  const std::string positioned = "hq=2,nq=65,d=16";
  for (const char* position : {"shaw:4", "alibi", "rope:10000"}) {
    list.add_both_passes(list.masked(positioned + ",pos=" + position, "causal+blocks"));
  }
  for (const char* other : kOthers) list.add_both_passes(other);
  for (const char* dtype : {",dtype=bf16", ",dtype=f16"}) {
    for (const char* problem : kStorage) list.add_both_passes(problem + std::string(dtype));
    list.add_both_passes(list.masked(positioned + dtype, "blocks"));
  }
  for (const char* block : kBlocks) list.add(block);
  for (const char* shape : kHeadMajor) list.add_both_passes(shape, Layout::head_major);
  if (size == SuiteSize::quick) list.thin();
  for (const char* dtype : {",dtype=bf16", ",dtype=f16"}) {
    for (const char* problem : kGrouped) list.add(problem + std::string(dtype));
  }
  return list.cases;
}

std::vector<Fill> check_fills(SuiteSize size) {
  if (size == SuiteSize::full) return all_fills();
  return {Fill::normal, Fill::peaked, Fill::overflow, Fill::late_max};
}

}  // namespace attn
