# Writes the commit of SOURCE into OUTPUT, a header; leaves the file alone when nothing changed.
# cmake -DSOURCE=... -DOUTPUT=... -P commit.cmake

cmake_minimum_required(VERSION 3.25)
set(commit "")
set(dirty "false")
find_package(Git QUIET)
if(GIT_FOUND)
  execute_process(COMMAND ${GIT_EXECUTABLE} -C ${SOURCE} rev-parse --verify --quiet HEAD
                  OUTPUT_VARIABLE commit OUTPUT_STRIP_TRAILING_WHITESPACE ERROR_QUIET)
  execute_process(COMMAND ${GIT_EXECUTABLE} -C ${SOURCE} status --porcelain --untracked-files=no
                  OUTPUT_VARIABLE changes ERROR_QUIET)
  if(NOT "${changes}" STREQUAL "")
    set(dirty "true")
  endif()
endif()
file(CONFIGURE OUTPUT ${OUTPUT} @ONLY CONTENT "#pragma once
// Written at build time.
namespace attn::build {
inline constexpr const char* kCommit = \"@commit@\";
inline constexpr bool kDirty = @dirty@;
}  // namespace attn::build
")
