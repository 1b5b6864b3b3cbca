// BLIS's own functions, next to its CBLAS interface.

#include <blis.h>

#include "harness/run/blas.h"

namespace attn {

Blas describe_blas() { return {"BLIS", bli_info_get_version_str(), bli_arch_string(bli_arch_query_id())}; }

void detail::request_blas_threads(int threads) { bli_thread_set_num_threads(threads); }
int detail::blas_threads() { return static_cast<int>(bli_thread_get_num_threads()); }

}  // namespace attn
