// Catch2 2 wants its main compiled once; Catch2 3 links its own.
#if !__has_include(<catch2/catch_all.hpp>)
#define CATCH_CONFIG_MAIN
#include <catch2/catch.hpp>
#endif

#if defined(__clang__)
// Under ATTN_SANITIZE=thread libomp loads Archer, which tells the sanitizer how OpenMP synchronises. What
// remains are libraries that were not compiled for it.
extern "C" const char* __tsan_default_options() { return "ignore_noninstrumented_modules=1"; }
#endif
