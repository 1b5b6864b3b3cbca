// Attention with the scores in memory, on a GPU: two batched matrix products (cuBLAS) around one softmax
// kernel.
//
// S = Q K^T; the softmax kernel applies scale, Shaw key term, softcap, bias and mask to a row and turns it
// into P, with its LSE; O = P V. Shaw's tables are two more products: q.aK before, and P summed by distance
// times aV after (Shaw et al. 2018, section 3.3). RoPE multiplies rotated copies. Float32 is plain float32;
// bf16 and f16 accumulate in float32, keep S in float32 and round P. Under a mask V is copied without NaN
// and Inf (0 NaN is NaN in a product), and the rows that do see such a key get them back afterwards.
//
// textbook/cuda/tf32 is the same on float32 tensors, but the operands of its products are rounded to tf32, 10
// bits of mantissa: a variant of its own, because its error is 1000 times as large and it is held to a bound
// of its own (harness/oracle/bound.h).
//
// Time O(h n^2 d), workspace O(h n^2): the memory that fused kernels save. Vaswani et al. 2017, equation 1.

#include <cublas_v2.h>

#include "harness/variant.h"
#include "variants/textbook/textbook_forward.cuh"

namespace attn {
namespace {

/// What cuBLAS recommends for Hopper; smaller cards use less of it.
constexpr int64_t kCublasBytes = int64_t{32} << 20;

void cublas_check(cublasStatus_t status, const char* expression, const char* file, int line) {
  if (status == CUBLAS_STATUS_SUCCESS) return;
  throw std::runtime_error(std::string(file) + ":" + std::to_string(line) + ": " + expression + ": " +
                           cublasGetStatusName(status) + ", " + cublasGetStatusString(status));
}
#define ATTN_CUBLAS_CHECK(expression) cublas_check((expression), #expression, __FILE__, __LINE__)

/// One for the process, created on first use; never destroyed, as at exit the driver may be gone already.
cublasHandle_t cublas_handle() {
  static const cublasHandle_t handle = [] {
    cublasHandle_t created = nullptr;
    ATTN_CUBLAS_CHECK(cublasCreate(&created));
    const int mode = CUBLAS_DEFAULT_MATH | CUBLAS_MATH_DISALLOW_REDUCED_PRECISION_REDUCTION;
    ATTN_CUBLAS_CHECK(cublasSetMathMode(created, static_cast<cublasMath_t>(mode)));
    return created;
  }();
  return handle;
}

template <class T>
constexpr cudaDataType_t kCublasType = std::is_same_v<T, float>  ? CUDA_R_32F
                                       : std::is_same_v<T, Bf16> ? CUDA_R_16BF
                                                                 : CUDA_R_16F;

/// A CudaQueue with matrix products, whose scratch is ours.
class CublasQueue : public CudaQueue {
 public:
  CublasQueue(void* stream, uint8_t* scratch, cublasComputeType_t compute)
      : CudaQueue(stream), handle_(cublas_handle()), compute_(compute) {
    ATTN_CUBLAS_CHECK(
        cublasSetStream(handle_, this->stream()));  // also takes the scratch away: set that after it
    ATTN_CUBLAS_CHECK(cublasSetWorkspace(handle_, scratch, static_cast<size_t>(kCublasBytes)));
  }

  template <class T, class C>
  void multiply(const Gemm<T, C>& g) const {
    const float alpha = 1;
    ATTN_CUBLAS_CHECK(cublasGemmStridedBatchedEx_64(
        handle_, g.transpose_a ? CUBLAS_OP_T : CUBLAS_OP_N, CUBLAS_OP_N, g.m, g.n, g.k, &alpha, g.a,
        kCublasType<T>, g.lda, g.stride_a, g.b, kCublasType<T>, g.ldb, g.stride_b, &g.beta, g.c,
        kCublasType<C>, g.ldc, g.stride_c, g.batch, compute_, CUBLAS_GEMM_DEFAULT));
  }

 private:
  cublasHandle_t handle_;
  cublasComputeType_t compute_;
};

class TextbookCuda final : public Variant {
 public:
  /// tf32: products of float32 operands rounded to tf32.
  explicit TextbookCuda(bool tf32)
      : Variant({.name = tf32 ? "textbook/cuda/tf32" : "textbook/cuda",
                 .family = "dense",
                 .device = Device::cuda,
                 .tags = {"textbook", "materialised"},
                 .citation = "Vaswani et al. 2017"}),
        tf32_(tf32) {}

  Support supports(const Problem& p) const override {
    if (p.pass != Pass::fwd) return {"forward only"};
    if (tf32_ && p.dtype != Dtype::f32) return {"float32 only"};
    if (p.seq_q > INT32_MAX / (p.batch * p.heads_q)) return {"more than 2^31 - 1 rows of scores"};
    return {};
  }

  void plan(const Context&, const Problem& p, Workspace& counting) const override {
    take(p, counting, [](auto...) {});
  }
  Cost cost(const Problem& p) const override { return textbook_cuda_cost(p); }
  OperandRounding operand_rounding(const Problem&) const override {
    return tf32_ ? OperandRounding{kTf32Rounding, kTf32Rounding} : OperandRounding{};
  }

  void prepare(const Context& context, const Problem& p, Workspace& workspace) const override {
    cublas_handle();
    take(p, workspace, [&](const auto& scratch, uint8_t*) { scratch.prepare(CudaQueue(context.stream), p); });
  }
  void forward(const Context& context, const Problem& p, const Forward& args,
               Workspace& workspace) const override {
    take(p, workspace, [&](const auto& scratch, uint8_t* cublas) {
      const auto compute = tf32_ ? CUBLAS_COMPUTE_32F_FAST_TF32 : CUBLAS_COMPUTE_32F;
      textbook_forward(CublasQueue(context.stream, cublas, compute), p, args, scratch);
    });
  }

 private:
  /// Calls use(scratch, memory of cuBLAS) with the scratch of the problem's dtype.
  template <class Use>
  static void take(const Problem& p, Workspace& workspace, Use use) {
    uint8_t* cublas = workspace.take<uint8_t>("cublas", kCublasBytes);
    switch (p.dtype) {
      case Dtype::f32:
        return use(TextbookScratch<float>::take(p, workspace), cublas);
      case Dtype::bf16:
        return use(TextbookScratch<Bf16>::take(p, workspace), cublas);
      case Dtype::f16:
        return use(TextbookScratch<F16>::take(p, workspace), cublas);
    }
  }

  const bool tf32_;
};

ATTN_REGISTER(std::make_unique<TextbookCuda>(false));
ATTN_REGISTER(std::make_unique<TextbookCuda>(true));

}  // namespace
}  // namespace attn
