#pragma once
// The part of ONNX Runtime's C interface that the plug-in calls; its wheel holds the library without headers.
//
// The library hands out one table of function pointers, OrtApi. Its order is part of the binary interface:
// entries are only ever appended, and the source asserts the place of the last entry of every version
// (microsoft/onnxruntime : onnxruntime/core/session/onnxruntime_c_api.cc, ort_api_1_to_*). All entries used
// here lie within version 5, the first one with AddSessionConfigEntry, and a library is asked for version 5.

#include <cstddef>
#include <cstdint>

namespace attn::ort {

struct Env;
struct Status;
struct SessionOptions;
struct Session;
struct RunOptions;
struct MemoryInfo;
struct Value;

/// Place in the table.
enum Entry : size_t {
  kGetErrorMessage = 2,
  kCreateEnv = 3,
  kCreateSessionFromArray = 8,
  kRun = 9,
  kCreateSessionOptions = 10,
  kSetIntraOpNumThreads = 24,
  kSetInterOpNumThreads = 25,
  kCreateTensorWithDataAsOrtValue = 49,
  kCreateCpuMemoryInfo = 69,
  kReleaseStatus = 93,
  kReleaseSession = 95,
  kReleaseValue = 96,
  kReleaseSessionOptions = 100,
  kAddSessionConfigEntry = 130,
};

constexpr uint32_t kApiVersion = 5;
constexpr int kLogErrors = 3;        // OrtLoggingLevel
constexpr int kFloat = 1;            // ONNXTensorElementDataType
constexpr int kInt32 = 6;            // ONNXTensorElementDataType
constexpr int kDeviceAllocator = 0;  // OrtAllocatorType
constexpr int kDefaultMemory = 0;    // OrtMemType

struct ApiBase {
  void* const* (*get_api)(uint32_t version);
  const char* (*version)();
};
using GetApiBase = const ApiBase* (*)();

// The types of the entries, by their order above.
using GetErrorMessage = const char* (*)(const Status*);
using CreateEnv = Status* (*)(int log_level, const char* name, Env**);
using CreateSessionFromArray = Status* (*)(const Env*, const void* model, size_t bytes, const SessionOptions*,
                                           Session**);
using Run = Status* (*)(Session*, const RunOptions*, const char* const* input_names,
                        const Value* const* inputs, size_t input_count, const char* const* output_names,
                        size_t output_count, Value** outputs);
using CreateSessionOptions = Status* (*)(SessionOptions**);
using SetThreads = Status* (*)(SessionOptions*, int threads);
using CreateTensor = Status* (*)(const MemoryInfo*, void* data, size_t bytes, const int64_t* shape,
                                 size_t rank, int type, Value**);
using CreateCpuMemoryInfo = Status* (*)(int allocator, int memory, MemoryInfo**);
using AddSessionConfigEntry = Status* (*)(SessionOptions*, const char* key, const char* value);
template <class T>
using Release = void (*)(T*);

}  // namespace attn::ort
