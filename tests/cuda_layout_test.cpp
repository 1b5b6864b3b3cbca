// The CUDA kernels' own source on the host (tests/host_block.h): index maps, tiles, online softmax, barriers,
// copies. What needs no GPU to be proved is proved here, against the float64 oracle and its bounds.

#include <set>

#include "tests/host_forward.h"
#include "variants/flash/flash_simt_forward.cuh"
#include "variants/textbook/textbook_forward.cuh"

using namespace attn;

namespace {

Outputs<float> run_flash(const Problem& p, const Inputs<float>& inputs, HostSchedule schedule,
                         const HostLayout& layout) {
  HostWorkspace workspace([&](Workspace& counting) { FlashScratch::take(p, counting); });
  const HostQueue queue(schedule);
  FlashScratch::take(p, workspace.granting).prepare(queue, p);
  workspace.granting.rewind();
  return run_forward<float>(p, inputs, layout, [&](const Forward& args) {
    flash_simt_forward(queue, p, args, FlashScratch::take(p, workspace.granting));
  });
}

/// What a product makes of an operand.
float as_it_is(float value) { return value; }
float cut_to_tf32(float value) {
  uint32_t bits;
  std::memcpy(&bits, &value, sizeof(bits));
  bits &= ~0x1fffu;
  std::memcpy(&value, &bits, sizeof(bits));
  return value;
}

/// Column-major products as BLAS defines them, with its conditions on the leading dimensions.
template <float (*kOperand)(float)>
class HostBlasQueue : public HostQueue {
 public:
  using HostQueue::HostQueue;

  template <class T, class C>
  void multiply(const Gemm<T, C>& g) const {
    REQUIRE((g.m > 0 && g.n > 0 && g.k > 0 && g.batch > 0));
    REQUIRE(g.lda >= (g.transpose_a ? g.k : g.m));
    REQUIRE((g.ldb >= g.k && g.ldc >= g.m));
    for (int64_t batch = 0; batch < g.batch; ++batch) {
      const T *a = g.a + batch * g.stride_a, *b = g.b + batch * g.stride_b;
      C* c = g.c + batch * g.stride_c;
      for (int64_t column = 0; column < g.n; ++column) {
        for (int64_t row = 0; row < g.m; ++row) {
          float sum = 0;
          for (int64_t x = 0; x < g.k; ++x) {
            sum += kOperand(to_float(g.transpose_a ? a[x + row * g.lda] : a[row + x * g.lda])) *
                   kOperand(to_float(b[x + column * g.ldb]));
          }
          C& to = c[row + column * g.ldc];
          set(to, g.beta == 0 ? sum : sum + g.beta * to_float(to));
        }
      }
    }
  }
};

template <class T, float (*kOperand)(float) = as_it_is>
Outputs<float> run_textbook_as(const Problem& p, const Inputs<float>& inputs, HostSchedule schedule,
                               const HostLayout& layout) {
  HostWorkspace workspace([&](Workspace& counting) { TextbookScratch<T>::take(p, counting); });
  const HostBlasQueue<kOperand> queue(schedule);
  TextbookScratch<T>::take(p, workspace.granting).prepare(queue, p);
  workspace.granting.rewind();
  return run_forward<T>(p, inputs, layout, [&](const Forward& args) {
    textbook_forward(queue, p, args, TextbookScratch<T>::take(p, workspace.granting));
  });
}
Outputs<float> run_textbook(const Problem& p, const Inputs<float>& inputs, HostSchedule schedule,
                            const HostLayout& layout) {
  if (p.dtype == Dtype::f32) return run_textbook_as<float>(p, inputs, schedule, layout);
  return p.dtype == Dtype::bf16 ? run_textbook_as<Bf16>(p, inputs, schedule, layout)
                                : run_textbook_as<F16>(p, inputs, schedule, layout);
}

void check_against_oracle(const std::string& text) {
  check_run(text, run_flash);
  check_run(text + ",dtype=f32", run_textbook);
  check_run(text + ",dtype=bf16", run_textbook);
  check_run(text + ",dtype=f16", run_textbook);
}

}  // namespace

TEST_CASE("CUDA kernels on the host agrees with the oracle") {
  const std::string shape =
      GENERATE("b=1,hq=2,hk=1,nq=65,nk=130,d=64,dv=64", "b=2,hq=2,hk=2,nq=3,nk=5,d=8,dv=12",
               "b=1,hq=2,hk=2,nq=130,nk=67,d=41,dv=70", "b=1,hq=1,nq=70,nk=65,d=130,dv=256",
               "b=1,hq=1,nq=1,nk=1,d=1,dv=1", "b=1,hq=3,hk=3,nq=2,nk=0,d=16,dv=16");
  check_against_oracle(shape);
  check_against_oracle(shape + ",mask=causal");
  check_against_oracle(shape + ",softcap=5,scale=-0.3");
}

TEST_CASE("CUDA kernels on the host: masks") {
  const std::string shape = "b=2,hq=2,hk=1,nq=90,nk=150,d=20,dv=33,mask=";
  check_against_oracle(shape + GENERATE("causal:topleft", "window:9:4", "padding:130/0", "padding:50%",
                                        "causal+window:70:*+padding:99/150"));
  check_against_oracle(std::string("b=1,hq=1,nq=150,nk=66,d=20,dv=20,mask=") +
                       GENERATE("causal", "window:3:3"));
}

TEST_CASE("CUDA kernels on the host: documents") {
  check_against_oracle(
      std::string("b=2,hq=2,hk=1,nq=150,d=20,mask=") +
      GENERATE("document:70/3", "causal+document:33/64", "window:20:5+padding:99/150+document:90"));
}

TEST_CASE("CUDA kernels on the host: block masks") {
  const BlockFile file("24 40 4 4\n0 2\n1 3\n\n0 1 2 3\n");
  check_against_oracle("b=1,hq=2,hk=1,nq=90,nk=150,d=20,dv=20,mask=blocks:" + file.path);
  check_against_oracle("b=1,hq=1,nq=90,nk=150,d=20,dv=200,mask=causal+padding:97+blocks:" + file.path);
}

TEST_CASE("CUDA kernels on the host: positions") {
  const std::string position = GENERATE("shaw:0", "shaw:3", "shaw-keys:5", "shaw:40", "shaw:500", "alibi",
                                        "t5:8:20", "t5-causal:8:20", "rope:10000", "rope-interleaved:100");
  check_against_oracle("b=1,hq=3,hk=1,nq=90,nk=200,d=20,dv=24,pos=" + position);
  check_against_oracle("b=2,hq=2,hk=2,nq=130,nk=70,d=21,dv=9,mask=causal+window:40:*,pos=" + position);
  check_against_oracle("b=1,hq=1,nq=66,nk=100,d=70,dv=12,softcap=3,mask=padding:77,pos=" + position);
  check_against_oracle("b=1,hq=1,nq=40,nk=100,d=64,dv=130,pos=" + position);
}

TEST_CASE("CUDA kernels on the host: NaN in keys a row does not see leaves the row as it was") {
  const Problem p = Problem::parse(std::string("b=1,hq=1,nq=100,nk=100,d=16,dv=16,mask=causal,pos=") +
                                   GENERATE("none", "alibi", "shaw:4"));
  const Inputs<float> clean = make_inputs(p, Fill::normal, 3);
  Inputs<float> poisoned = clean;
  for (const int64_t j : {37, 80}) {
    std::fill_n(poisoned.k.begin() + j * p.head_dim, p.head_dim, kNan);
    std::fill_n(poisoned.v.begin() + j * p.value_dim, p.value_dim, kNan);
  }
  for (const auto run : {run_flash, run_textbook}) {
    const Outputs<float> expected = run(p, clean, {}, {}), found = run(p, poisoned, {}, {});
    for (int64_t at = 0; at < p.seq_q * p.value_dim; ++at) {
      const auto index = static_cast<size_t>(at);
      INFO("row " << at / p.value_dim);
      if (at / p.value_dim < 37) CHECK(found.o[index] == expected.o[index]);
      if (at / p.value_dim >= 37) CHECK(std::isnan(found.o[index]));
    }
  }
}

TEST_CASE("textbook/cuda/tf32 on the host: within the bound of its operands, beyond that of float32") {
  const std::string text =
      GENERATE("b=1,hq=2,hk=1,nq=40,nk=70,d=64,dv=20", "b=1,hq=1,nq=33,nk=50,d=8,dv=9,mask=causal,softcap=5",
               "b=1,hq=2,nq=30,nk=40,d=20,dv=24,pos=shaw:5", "b=1,hq=1,nq=30,nk=40,d=16,dv=24,pos=alibi",
               "b=1,hq=1,nq=1,nk=1,d=1,dv=1", "b=1,hq=1,nq=20,nk=40,d=32,dv=8,pos=rope:10000");
  const Problem p = Problem::parse(text);
  for (const Fill fill : {Fill::normal, Fill::peaked}) {
    const Inputs<float> inputs = make_inputs(p, fill, 7);
    const Outputs<float> found = run_textbook_as<float, cut_to_tf32>(p, inputs, {}, {});
    INFO(text << " fill " << to_text(fill));
    const Verdict verdict =
        compare(p, make_truth(p, inputs, {.operand_rounding = {kTf32Rounding, kTf32Rounding}}), found);
    INFO(verdict.reason);
    CHECK(verdict.ok);
    CHECK_FALSE(compare(p, make_truth(p, inputs, {}), found).ok);
  }
}

TEST_CASE("textbook/cuda on the host: Inf in values alone reaches the rows that see it") {
  const Problem p = Problem::parse("b=2,hq=4,hk=2,nq=20,nk=30,d=8,dv=5,mask=causal");
  const Inputs<float> clean = make_inputs(p, Fill::normal, 3);
  Inputs<float> poisoned = clean;
  const int64_t b = 1, j = 18, g = 1, c = 3;
  poisoned.v[static_cast<size_t>(((b * p.seq_kv + j) * p.heads_kv + g) * p.value_dim + c)] = INFINITY;
  const Outputs<float> expected = run_textbook(p, clean, {}, {}), found = run_textbook(p, poisoned, {}, {});
  for (size_t at = 0; at < found.o.size(); ++at) {
    const auto row = static_cast<int64_t>(at) / p.value_dim, h = row % p.heads_q,
               i = row / p.heads_q % p.seq_q;
    const bool reached = row / p.heads_q / p.seq_q == b && h / p.group() == g && i + p.offset() >= j &&
                         static_cast<int64_t>(at) % p.value_dim == c;
    INFO("element " << at);
    CHECK((reached ? std::isinf(found.o[at]) : found.o[at] == expected.o[at]));
  }
}

TEST_CASE("visited tiles are exactly those that are not empty") {
  const BlockFile file("8 16 5 4\n0 2\n1 3\n\n0 1 2 3\n3\n");
  const std::string text = GENERATE("none", "causal", "causal:topleft", "window:0:0", "window:5:*",
                                    "window:*:7", "causal+window:3:*", "padding:0", "padding:17", "blocks");
  const std::string mask = text == "blocks" ? "blocks:" + file.path : text;
  for (const auto& [nq, nk] :
       std::vector<std::pair<int64_t, int64_t>>{{40, 64}, {64, 40}, {33, 50}, {1, 64}}) {
    if (text == "blocks" && (nq != 40 || nk != 64)) continue;
    const Problem p =
        Problem::parse("b=1,hq=1,nq=" + std::to_string(nq) + ",nk=" + std::to_string(nk) + ",mask=" + mask);
    const MaskRule rule = of_batch_entry(p.mask_rule(), 0);
    for (int64_t i0 = 0; i0 < nq; i0 += 16) {
      const int64_t i1 = std::min(i0 + 16, nq);
      std::set<int64_t> needed, visited;
      for (int64_t i = i0; i < i1; ++i) {
        for (int64_t j = 0; j < nk; ++j) {
          if (p.mask_rule().allows(0, i, j)) needed.insert(j / 8);
        }
      }
      const TileRange range = visited_tiles(rule, i0, i1, 8);
      for (int64_t t = next_tile(rule, i0, i1, 8, range.first, range); t < range.last;
           t = next_tile(rule, i0, i1, 8, t + 1, range)) {
        visited.insert(t);
      }
      INFO(mask << " nq " << nq << " nk " << nk << " rows from " << i0);
      CHECK(std::includes(visited.begin(), visited.end(), needed.begin(), needed.end()));
      if (text != "blocks") CHECK(visited == needed);
    }
  }
}
