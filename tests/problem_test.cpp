// Problem, mask and position: text form, semantics of masks, closed counts (reference: variants
// catalogue 2.2, 4.2, 5.1, G22, G43).

#include "harness/problem/problem.h"

#include "harness/problem/error.h"
#include "tests/catch.h"

using namespace attn;

TEST_CASE("canonical text is a fixed point") {
  for (const char* text :
       {"b=1,hq=8,hk=8,nq=1024,nk=1024,d=64,dv=64,dtype=f32,pass=fwd,mask=causal,pos=alibi",
        "b=2,hq=8,hk=2,nq=7,nk=9,d=41,dv=3,dtype=bf16,pass=bwd,mask=causal+window:3:*+padding:50%/"
        "9,pos=shaw:4",
        "b=1,hq=2,hk=1,nq=5,nk=5,d=8,dv=8,dtype=f32,pass=fwd,mask=none,pos=t5:32:128,scope=block,dm=24,scale="
        "1,softcap=30",
        "b=1,hq=1,hk=1,nq=5,nk=0,d=8,dv=8,dtype=f16,pass=fwd,mask=window:*:0,pos=rope:10000",
        "b=1,hq=1,hk=1,nq=9,nk=9,d=8,dv=8,dtype=f32,pass=fwd,mask=causal+padding:5+document:3/1/"
        "200,pos=none"}) {
    CHECK(Problem::parse(text).text() == text);
  }
}

TEST_CASE("missing fields follow their partners") {
  const Problem p = Problem::parse("hq=6,nq=33,d=24");
  CHECK(p.heads_kv == 6);
  CHECK(p.seq_kv == 33);
  CHECK(p.value_dim == 24);
}

TEST_CASE("wrong problems are refused in one line") {
  for (const char* text : {"nq",
                           "nq=",
                           "nq=0",
                           "nq=-1",
                           "nq=1e3",
                           "hq=8,hk=3",
                           "foo=1",
                           "nq=1,nq=1",
                           "dm=64",
                           "pos=rope:1",
                           "pos=shaw",
                           "pos=t5:31:128",
                           "mask=causal+causal",
                           "mask=blocks:",
                           "mask=window:1",
                           "mask=padding:9,nk=8",
                           "mask=padding:1/2,b=3",
                           "mask=blocks:nowhere.txt",
                           "mask=document:",
                           "mask=document:0",
                           "mask=document:3/x",
                           "mask=document:3+document:4",
                           "mask=document:3,nq=5,nk=6",
                           "mask=document:3,nq=67108865,d=1,hq=1",
                           "scope=block,nq=4,nk=5",
                           "softcap=-1",
                           "dtype=f64",
                           "nq=99999999999999999999",
                           "scale=0"}) {
    INFO(text);
    try {
      Problem::parse(text);
      FAIL("accepted");
    } catch (const UsageError& error) {
      CHECK(std::string(error.what()).find('\n') == std::string::npos);
    }
  }
}

namespace {
int64_t pairs(const std::string& text) { return visible_pairs(Problem::parse(text)); }

std::string mask_rows(const std::string& text) {
  const Problem p = Problem::parse(text);
  const MaskRule rule = p.mask_rule();
  std::string rows;
  for (int64_t i = 0; i < p.seq_q; ++i) {
    for (int64_t j = 0; j < p.seq_kv; ++j) rows += rule.allows(0, i, j) ? '1' : '0';
    rows += ' ';
  }
  return rows;
}
}  // namespace

TEST_CASE("causal is aligned at the bottom right") {
  CHECK(mask_rows("nq=2,nk=5,mask=causal") == "11110 11111 ");
  CHECK(mask_rows("nq=5,nk=2,mask=causal") == "00 00 00 10 11 ");
  CHECK(mask_rows("nq=2,nk=5,mask=causal:topleft") == "10000 11000 ");
  CHECK(mask_rows("nq=4,mask=window:1:1") == "1100 1110 0111 0011 ");
}

TEST_CASE("documents repeat, and the last one ends with the sequence") {
  CHECK(mask_rows("nq=6,mask=document:2/1") == "110000 110000 001000 000110 000110 000001 ");
  CHECK(mask_rows("nq=4,mask=causal+document:3") == "1000 1100 1110 0001 ");
  CHECK(mask_rows("nq=4,mask=document:2/9+padding:3") == "1100 1100 0010 0010 ");
  CHECK(mask_rows("nq=3,mask=document:7") == mask_rows("nq=3,mask=none"));
}

TEST_CASE("closed counts of visible pairs") {
  CHECK(pairs("nq=7,nk=11,mask=causal") == 7 * 11 - 7 * 6 / 2);
  CHECK(pairs("nq=11,nk=7,mask=causal") == 7 * 8 / 2);
  CHECK(pairs("nq=11,nk=7,mask=causal:topleft") == 7 * 8 / 2 + 4 * 7);
  CHECK(pairs("nq=16,mask=causal+window:3:*") == 58);
  CHECK(pairs("nq=100,mask=window:9:9") == 100 * 19 - 9 * 10);
  CHECK(pairs("b=2,nq=10,mask=padding:4/10") == 10 * 4 + 10 * 10);
  CHECK(pairs("b=2,nq=100,mask=document:30/20") == 2 * 2 * (30 * 30 + 20 * 20));
  CHECK(pairs("nq=107,mask=causal+document:30/70") == (30 * 31 + 70 * 71 + 7 * 8) / 2);
}

TEST_CASE("tile kinds agree with the element mask") {
  for (const char* text : {"nq=37,nk=41,mask=causal", "nq=41,nk=37,mask=window:5:3", "nq=30,mask=padding:17",
                           "nq=33,mask=causal+window:7:*+padding:80%", "nq=77,mask=document:9/1/30",
                           "nq=77,mask=causal+document:20/11", "nq=77,mask=window:4:3+document:16/19"}) {
    const Problem p = Problem::parse(text);
    const MaskRule rule = p.mask_rule();
    for (int64_t i0 = 0; i0 < p.seq_q; i0 += 8) {
      for (int64_t j0 = 0; j0 < p.seq_kv; j0 += 8) {
        const int64_t i1 = std::min(i0 + 8, p.seq_q), j1 = std::min(j0 + 8, p.seq_kv);
        int64_t visible = 0;
        for (int64_t i = i0; i < i1; ++i) {
          for (int64_t j = j0; j < j1; ++j) visible += rule.allows(0, i, j);
        }
        const TileKind kind = rule.tile(0, i0, i1, j0, j1);
        if (kind == TileKind::full) CHECK(visible == (i1 - i0) * (j1 - j0));
        if (kind == TileKind::empty) CHECK(visible == 0);
        if (visible == 0) CHECK(kind == TileKind::empty);
      }
    }
  }
}

TEST_CASE("T5 bucket thresholds") {
  const Position both = Position::parse("t5:32:128"), past = Position::parse("t5-causal:32:128");
  const int64_t starts[] = {1, 2, 3, 4, 5, 6, 7, 8, 12, 16, 23, 32, 46, 64, 91};
  for (int64_t k = 0; k < 15; ++k) {
    CHECK(both.t5_bucket(-starts[k]) == k + 1);
    CHECK(both.t5_bucket(-(starts[k] - 1)) == k);
    CHECK(both.t5_bucket(starts[k]) == 16 + k + 1);
  }
  const int64_t past_starts[] = {19, 21, 24, 27, 31, 35, 40, 46, 52, 59, 67, 77, 87, 99, 113};
  for (int64_t k = 0; k < 15; ++k) {
    CHECK(past.t5_bucket(-past_starts[k]) == 17 + k);
    CHECK(past.t5_bucket(-(past_starts[k] - 1)) == 16 + k);
  }
  CHECK(past.t5_bucket(5) == 0);
  CHECK(past.t5_bucket(-100000) == 31);
}

TEST_CASE("ALiBi slopes") {
  CHECK(alibi_slope(8, 0) == Approx(0.5));
  CHECK(alibi_slope(8, 7) == Approx(1.0 / 256));
  CHECK(std::log2(alibi_slope(12, 11)) == Approx(-3.5));
  CHECK(std::log2(alibi_slope(3, 2)) == Approx(-2));
}

TEST_CASE("Shaw index is key minus query, clipped") {
  CHECK(shaw_index(1, -5) == 0);
  CHECK(shaw_index(1, 0) == 1);
  CHECK(shaw_index(1, 7) == 2);
}
