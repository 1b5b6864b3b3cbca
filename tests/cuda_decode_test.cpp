// flash/cuda/decode's own source on the host (tests/host_block.h, host_warp.h): packed heads, the ring of
// stages, splits and their merge, against the float64 oracle and its bounds.

#include <random>
#include <set>

#include "tests/host_forward.h"
#include "variants/flash/flash_decode_forward.cuh"

using namespace attn;

namespace {

/// One block at a time, so that keys are not split; a few; many.
const std::vector<GpuShape> kGpus = {{1, 1}, {5, 228 << 10}, kH100Shape};

template <class T>
Outputs<float> run_decode_as(const Problem& p, const Inputs<float>& inputs, HostSchedule schedule,
                             const HostLayout& layout, const GpuShape& gpu) {
  HostWorkspace workspace([&](Workspace& counting) { FlashDecodeScratch::take(p, gpu, counting); });
  const HostQueue queue(schedule);
  FlashDecodeScratch::take(p, gpu, workspace.granting).prepare(queue, p);
  workspace.granting.rewind();
  return run_forward<T>(p, inputs, layout, [&](const Forward& args) {
    flash_decode_forward<T>(queue, p, args, FlashDecodeScratch::take(p, gpu, workspace.granting));
  });
}
Outputs<float> run_decode(const Problem& p, const Inputs<float>& inputs, HostSchedule schedule,
                          const HostLayout& layout, const GpuShape& gpu = kH100Shape) {
  REQUIRE(flash_decode_supports(p).reason == "");
  return p.dtype == Dtype::bf16 ? run_decode_as<Bf16>(p, inputs, schedule, layout, gpu)
                                : run_decode_as<F16>(p, inputs, schedule, layout, gpu);
}

const std::vector<const char*> kDtypes = {",dtype=bf16", ",dtype=f16"};

void check_decode(const std::string& text) {
  for (const char* dtype : kDtypes) {
    for (const GpuShape& gpu : kGpus) {
      INFO(gpu.multiprocessors << " multiprocessors");
      check_run(text + dtype,
                [&](const Problem& p, const Inputs<float>& inputs, HostSchedule schedule,
                    const HostLayout& layout) { return run_decode(p, inputs, schedule, layout, gpu); });
    }
  }
}

bool same_bits(const std::vector<float>& a, const std::vector<float>& b) {
  return a.size() == b.size() && std::memcmp(a.data(), b.data(), a.size() * sizeof(float)) == 0;
}

}  // namespace

TEST_CASE("flash/cuda/decode on the host agrees with the oracle") {
  const std::string shape = GENERATE(
      "b=1,hq=1,hk=1,nq=1,nk=1,d=1,dv=1", "b=2,hq=8,hk=2,nq=1,nk=200,d=64",
      "b=1,hq=4,hk=1,nq=4,nk=65,d=41,dv=70", "b=1,hq=2,hk=2,nq=16,nk=63,d=8,dv=12",
      "b=1,hq=16,hk=1,nq=1,nk=300,d=128", "b=2,hq=3,hk=1,nq=5,nk=130,d=130,dv=256",
      "b=1,hq=2,hk=1,nq=2,nk=0,d=16", "b=1,hq=2,hk=2,nq=7,nk=3,d=24,dv=8", "b=1,hq=2,hk=1,nq=3,nk=420,d=20");
  check_decode(shape);
  check_decode(shape + ",mask=causal");
  check_decode(shape + ",softcap=5,scale=-0.3");
}

TEST_CASE("flash/cuda/decode on the host: late and large maxima") {
  const std::string shape =
      GENERATE("b=1,hq=2,hk=1,nq=8,nk=400,d=64", "b=1,hq=4,hk=1,nq=2,nk=300,d=80,mask=causal",
               "b=1,hq=1,nq=3,nk=200,d=256,pos=alibi");
  for (const char* dtype : kDtypes) {
    for (const GpuShape& gpu : kGpus) {
      check_run(shape + dtype,
                [&](const Problem& p, const Inputs<float>& inputs, HostSchedule schedule,
                    const HostLayout& layout) { return run_decode(p, inputs, schedule, layout, gpu); },
                {Fill::late_max, Fill::overflow, Fill::integers}, {HostLayout{true, 8}});
    }
  }
}

TEST_CASE("flash/cuda/decode on the host: masks") {
  const std::string shape =
      GENERATE("b=2,hq=4,hk=2,nq=4,nk=250,d=20,dv=33,mask=", "b=2,hq=2,hk=1,nq=8,nk=150,d=72,dv=128,mask=");
  check_decode(shape + GENERATE("causal:topleft", "window:9:4", "window:100:*", "padding:130/0",
                                "padding:50%", "causal+window:70:*+padding:99/150",
                                "window:5:0+padding:20/140"));
}

TEST_CASE("flash/cuda/decode on the host: rows without keys") {
  check_decode("b=1,hq=2,hk=1,nq=8,nk=3,d=20,mask=causal");
  check_decode("b=1,hq=1,nq=16,nk=6,d=160,dv=20,mask=causal:topleft+window:2:*+padding:3");
}

TEST_CASE("flash/cuda/decode on the host: block masks") {
  const BlockFile fine("4 8 2 20\n0 2 3 9 10 11 19\n1 10\n"), coarse("16 64 1 4\n0 3\n"),
      nothing("8 40 1 4\n\n");
  check_decode("b=1,hq=4,hk=2,nq=7,nk=160,d=20,mask=blocks:" + fine.path);
  check_decode("b=2,hq=2,hk=1,nq=8,nk=156,d=8,dv=70,mask=causal+padding:97/30+blocks:" + fine.path);
  check_decode("b=1,hq=2,hk=2,nq=16,nk=250,d=96,mask=window:130:*+blocks:" + coarse.path);
  check_decode("b=1,hq=1,nq=2,nk=160,d=16,mask=blocks:" + nothing.path);
}

TEST_CASE("flash/cuda/decode on the host: positions") {
  const std::string position = GENERATE("alibi", "t5:8:20", "t5-causal:8:20");
  check_decode("b=1,hq=6,hk=2,nq=4,nk=200,d=20,dv=24,pos=" + position);
  check_decode("b=2,hq=2,hk=2,nq=15,nk=70,d=21,dv=9,mask=causal+window:40:*,pos=" + position);
  check_decode("b=1,hq=2,hk=1,nq=1,nk=100,d=70,dv=200,softcap=3,mask=padding:77,pos=" + position);
}

TEST_CASE("flash/cuda/decode on the host: the same bits whatever the order of warps and copies") {
  const Problem p = Problem::parse("b=2,hq=8,hk=2,nq=3,nk=700,d=72,dv=128,dtype=bf16,mask=causal");
  const Inputs<float> inputs = make_inputs(p, Fill::normal, 5);
  const Outputs<float> first = run_decode(p, inputs, {}, {});
  for (const HostSchedule schedule : kSchedules) {
    const Outputs<float> found = run_decode(p, inputs, schedule, {});
    CHECK(same_bits(found.o, first.o));
    CHECK(same_bits(found.lse, first.lse));
  }
}

TEST_CASE("flash/cuda/decode on the host: NaN and infinity reach the rows that see them alone") {
  const BlockFile file("4 8 2 20\n0 2 3 9 10 11 19\n1 10\n");
  struct Case {
    std::string mask;
    std::set<int64_t> bad;  ///< keys that some rows see and others do not, or none
  };
  const auto [mask, bad] = GENERATE(Case{"causal", {154, 157}}, Case{"window:9:3", {145}},
                                    Case{"blocks", {14, 37}}, Case{"padding:151/20", {25}});
  const bool nan = GENERATE(true, false);
  const float number = nan ? kNan : -INFINITY;
  for (const char* dtype : kDtypes) {
    const Problem p = Problem::parse("b=2,hq=2,hk=1,nq=8,nk=160,d=16,dv=72,mask=" +
                                     (mask == "blocks" ? "blocks:" + file.path : mask) + dtype);
    const Inputs<float> clean = make_inputs(p, Fill::normal, 3);
    Inputs<float> poisoned = clean;
    const int64_t bad_b = 1, bad_c = 70;
    for (const int64_t j : bad) {
      const int64_t row = bad_b * p.seq_kv + j;
      poisoned.v[static_cast<size_t>(row * p.value_dim + bad_c)] = number;
      if (nan) std::fill_n(poisoned.k.begin() + row * p.head_dim, p.head_dim, kNan);
    }
    const MaskRule rule = p.mask_rule();
    const Outputs<float> expected = run_decode(p, clean, {}, {}), found = run_decode(p, poisoned, {}, {});
    size_t element = 0;
    for (int64_t row = 0; row < p.batch * p.seq_q * p.heads_q; ++row) {
      const int64_t b = row / p.heads_q / p.seq_q, i = row / p.heads_q % p.seq_q;
      const bool sees =
          b == bad_b && std::any_of(bad.begin(), bad.end(), [&](int64_t j) { return rule.allows(b, i, j); });
      for (int64_t c = 0; c < p.value_dim; ++c, ++element) {
        const bool reached = sees && (nan || c == bad_c);
        INFO(mask << dtype << " nan " << nan << " b " << b << " i " << i << " c " << c);
        // not finite: a weight of 0 makes NaN of infinity
        CHECK((reached ? !std::isfinite(found.o[element]) : found.o[element] == expected.o[element]));
      }
    }
  }
}

TEST_CASE("flash/cuda/decode on the host reads the visible cache once") {
  const std::string mask = GENERATE("none", "causal+window:300:*", "padding:333/40");
  const Problem p = Problem::parse("b=2,hq=8,hk=2,nq=3,nk=900,d=64,dv=80,dtype=bf16,mask=" + mask);
  int64_t read = 0;
  run_decode(p, make_inputs(p, Fill::normal, 1), {false, true, &read}, {});
  const DecodeSplits splits = flash_decode_splits(p, kH100Shape);
  const double keys = mask == "none" ? 1800 : mask == "padding:333/40" ? 373 : 2 * 303;
  CHECK(count_decode_keys(p, flash_decode_keys(128)) == keys);
  const double queries = 2 * 64 * 3 * 4 * 2 * static_cast<double>(splits.count());
  CHECK(static_cast<double>(read) == queries + 2 * (64 + 80) * 2 * keys);
}

TEST_CASE("the workspace of decode, to the byte") {
  const Problem p =
      Problem::parse("b=2,hq=8,hk=2,nq=3,nk=5000,d=64,dv=81,dtype=bf16,mask=padding:4000/5000,pos=t5:8:20");
  Workspace counting;
  const FlashDecodeScratch scratch = FlashDecodeScratch::take(p, kH100Shape, counting);
  const auto splits = static_cast<size_t>(scratch.splits.count());
  CHECK(splits > 2);
  const size_t rows = splits * 2 * 4 * 3;
  CHECK(counting.bytes() ==
        2 * sizeof(KeyLength) + 4 * (5000 + 3 - 1) + 12 * splits + 4 * 3 + 4 * rows * 84 + 4 * rows * 2);
  Workspace unsplit;
  FlashDecodeScratch::take(p, {1, 1}, unsplit);
  CHECK(unsplit.bytes() == 2 * sizeof(KeyLength) + 4 * (5000 + 3 - 1) + 12 * 2);
  const Cost cost = flash_decode_cost(p, kH100Shape);
  CHECK(cost.bytes_moved == 2 * (64 + 81) * (2. * 8 * 3 + 2 * 9000) + 4. * 2 * 8 * 3 +
                                2 * 4 * static_cast<double>(rows) * (84 + 2));
}

TEST_CASE("what decode refuses") {
  const auto reason = [](const std::string& text) {
    return flash_decode_supports(Problem::parse(text)).reason;
  };
  CHECK(reason("hq=32,hk=2,nq=1,nk=64,dtype=bf16") == "");
  CHECK(reason("hq=32,hk=1,nq=1,nk=64,dtype=bf16").find("at most 16") != std::string::npos);
  CHECK(reason("hq=8,hk=1,nq=3,nk=64,dtype=f16").find("at most 16") != std::string::npos);
  CHECK(reason("nq=1,nk=64,dtype=f32").find("bf16") != std::string::npos);
  CHECK(reason("nq=1,nk=64,dtype=bf16,pass=bwd") != "");
  CHECK(reason("nq=1,nk=64,d=264,dtype=bf16").find("256") != std::string::npos);
  CHECK(reason("nq=1,nk=64,dtype=bf16,pos=rope:10000").find("RoPE") != std::string::npos);
  CHECK(reason("nq=1,nk=64,dtype=bf16,pos=shaw:4").find("Shaw") != std::string::npos);
}

TEMPLATE_TEST_CASE("the warps' sums have no bank conflicts", "", (FlashDecode<Bf16, 64>),
                   (FlashDecode<Bf16, 128>), (FlashDecode<Bf16, 256>)) {
  for (int half = 0; half < 2; ++half) {  // 16 lanes times 8 bytes in one pass: 32 banks, each once
    std::set<int> banks;
    for (int lane = 16 * half; lane < 16 * half + 16; ++lane) {
      const Cell at = mma_c(lane, 0);
      banks.insert((at.row * TestType::kSumStride + at.column) / 2 % 16);
    }
    CHECK(banks.size() == 16);
  }
}

TEST_CASE("merging splits: empty ones, very different maxima") {
  const int64_t batch = 2, rows = 3;
  const int width = GENERATE(1, 70, 256);
  std::mt19937 random(static_cast<uint32_t>(width));
  std::uniform_real_distribution<float> unit(-1, 1);
  for (const int count : {1, 2, 7, 8, 9, 300, 700}) {
    const int stride = (width + 3) / 4 * 4;
    const std::vector<int32_t> starts = {0, count, count + 3};
    const auto partial_rows = static_cast<size_t>((count + 3) * rows);
    // [partial_rows, stride] as float32 pairs of Float4
    std::vector<Float4> o(partial_rows * static_cast<size_t>(stride) / 4);
    std::vector<Float2> rl(partial_rows);
    auto* partial_o = reinterpret_cast<float*>(o.data());
    for (size_t row = 0; row < partial_rows; ++row) {
      const bool empty =
          unit(random) < -0.5f || row / static_cast<size_t>(rows) >= static_cast<size_t>(count);
      rl[row] = empty ? Float2{-INFINITY, 0}
                      : Float2{std::pow(10.0f, 4 * unit(random)) * (unit(random) < 0 ? -1 : 1),
                               1.5f + unit(random)};
      for (int c = 0; c < stride; ++c) {
        partial_o[row * static_cast<size_t>(stride) + static_cast<size_t>(c)] = empty ? 0.0f : unit(random);
      }
    }
    std::vector<F16> out(static_cast<size_t>(batch * rows * width));
    std::vector<float> lse(static_cast<size_t>(batch * rows), kNan);
    DecodeResult<F16> result{};
    result.o = gpu_contiguous<F16>(out.data(), rows, 1, width);
    result.lse = lse.data();
    result.heads_kv = result.group = 1;
    result.seq_q = static_cast<int>(rows);
    result.value_dim = width;
    result.partial_o = partial_o;
    result.partial_rl = &rl.data()->x;
    result.partial_stride = stride;
    for (const HostSchedule schedule : kSchedules) {
      HostQueue(schedule).blocks(batch * rows, DecodeMerge<F16>{result, starts.data()});
      for (int64_t row = 0; row < batch * rows; ++row) {
        const int64_t b = row / rows;
        double highest = -INFINITY, sum = 0;
        std::vector<double> expected(static_cast<size_t>(width));
        for (int pass = 0; pass < 2; ++pass) {
          for (int s = starts[static_cast<size_t>(b)]; s < starts[static_cast<size_t>(b) + 1]; ++s) {
            const auto at = static_cast<size_t>(s * rows + row % rows);
            if (pass == 0) highest = std::max(highest, static_cast<double>(rl[at].x));
            if (pass == 0 || rl[at].y == 0) continue;
            const double factor = std::exp2(rl[at].x - highest);
            sum += factor * rl[at].y;
            for (int c = 0; c < width; ++c) {
              expected[static_cast<size_t>(c)] +=
                  factor * partial_o[at * static_cast<size_t>(stride) + static_cast<size_t>(c)];
            }
          }
        }
        INFO(count << " splits, width " << width << ", row " << row);
        const float found = lse[static_cast<size_t>(row)];
        if (sum == 0) CHECK(found == -INFINITY);
        if (sum > 0)
          CHECK(std::abs(found - (highest + std::log2(sum)) * std::log(2.0)) <= 1e-6 * (1 + std::abs(found)));
        for (int c = 0; c < width; ++c) {
          const double value = sum == 0 ? 0 : expected[static_cast<size_t>(c)] / sum;
          REQUIRE(std::abs(to_float(out[static_cast<size_t>(row * width + c)]) - value) <= 1e-3);
        }
      }
    }
  }
}

namespace {

/// Every visited tile in exactly one split, in order; no split without any, unless its batch entry has none.
void check_cover(const Problem& p, int64_t keys, const DecodeSplits& splits) {
  const std::vector<DecodeSplit> list = splits.list(p);
  REQUIRE(static_cast<int64_t>(list.size()) == splits.count());
  size_t at = 0;
  int64_t longest = 0, most = 0;
  for (int64_t b = 0; b < p.batch; ++b) {
    const int64_t visited = count_decode_tiles(p, b, keys);
    const size_t begin = at;
    while (at < list.size() && list[at].b == b) ++at;
    REQUIRE(at > begin);
    most = std::max(most, static_cast<int64_t>(at - begin));
    std::vector<int64_t> counts(at - begin);
    size_t split = begin;
    each_decode_tile(p, b, keys, [&](int64_t tile) {
      while (split < at && tile >= list[split].last) ++split;
      if (split == at || tile < list[split].first) FAIL("tile " << tile << " in no split");
      ++counts[split - begin];
    });
    if (visited == 0) {
      CHECK((at - begin == 1 && list[begin].first == list[begin].last));
      continue;
    }
    const auto [low, high] = std::minmax_element(counts.begin(), counts.end());
    CHECK(*low >= 1);
    CHECK(*high - *low <= 1);
    longest = std::max(longest, *high);
    for (size_t k = begin; k + 1 < at; ++k) CHECK(list[k].last <= list[k + 1].first);
  }
  CHECK(at == list.size());
  CHECK(splits.several() == (most > 1));
}

}  // namespace

TEST_CASE("splits: every visited tile once, none empty, all multiprocessors at work") {
  const BlockFile file("4 100 1 40\n0 2 3 9 10 11 19 20 21 22 23 24 30 39\n");
  const std::string mask = GENERATE("none", "causal", "window:500:0", "padding:4000/0/77", "padding:30%",
                                    "blocks", "causal+window:70:*");
  for (const int64_t heads : {1, 2, 8, 32, 300}) {
    const Problem p = Problem::parse("b=3,hq=" + std::to_string(heads) + ",nq=4,nk=4000,dtype=bf16,mask=" +
                                     (mask == "blocks" ? "blocks:" + file.path : mask));
    for (const int64_t keys : {32, 64}) {
      for (const int64_t resident : {1, 7, 216, 264}) {
        INFO(mask << " heads " << heads << " keys " << keys << " resident " << resident);
        const DecodeSplits splits = DecodeSplits::of(p, keys, resident);
        check_cover(p, keys, splits);
        CHECK(splits.count() * heads <= 3 * heads + DecodeSplits::kMostRounds * resident);
        // More than half of the blocks that may run at once do, where there are tiles enough.
        const int64_t possible = std::min(splits.tiles() * heads, resident);
        if (mask == "none" || mask == "causal") CHECK(2 * splits.count() * heads > possible);
      }
    }
  }
}

TEST_CASE("splits: the longest caches") {
  for (const int64_t seq : {int64_t{1} << 20, int64_t{1} << 31}) {
    for (const char* mask : {"none", "window:1000000:0"}) {
      Problem p = Problem::parse("b=1,hq=1,nq=1,nk=64,d=1,dtype=bf16");
      p.seq_kv = seq;
      p.mask = Mask::parse(mask);
      const int64_t resident = 264;
      const DecodeSplits splits = DecodeSplits::of(p, 64, resident);
      CHECK(splits.count() >= resident * 9 / 10);
      CHECK(splits.count() <= 1 + DecodeSplits::kMostRounds * resident);
      const std::vector<DecodeSplit> list = splits.list(p);
      CHECK(list.front().first == 0);
      for (size_t k = 1; k < list.size(); ++k) REQUIRE(list[k].first == list[k - 1].last);
      const KeyRange range = decode_range(decode_rule(p, 0), 1);
      CHECK(range.end == seq);
      CHECK(range.end - range.begin == (std::string(mask) == "none" ? seq : 1000001));
      CHECK(int64_t{list.back().last} * 64 >= range.end - range.begin);
      CHECK((int64_t{list.back().last} - 1) * 64 < range.end - range.begin);
    }
  }
}
