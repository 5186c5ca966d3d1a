// The part of ONNX Runtime's C++ interface that the packaged example uses, declared as there. It computes nothing.
#pragma once
#include <cstddef>
#include <cstdint>
#include <vector>

enum OrtLoggingLevel { ORT_LOGGING_LEVEL_WARNING = 2 };
enum OrtAllocatorType { OrtArenaAllocator = 1 };
enum OrtMemType { OrtMemTypeDefault = 0 };
struct OrtMemoryInfo;

namespace Ort {
struct Env {
    Env(OrtLoggingLevel, const char*);
};
struct SessionOptions {};
struct RunOptions {
    explicit RunOptions(std::nullptr_t);
};
struct MemoryInfo {
    static MemoryInfo CreateCpu(OrtAllocatorType, OrtMemType);
    operator const OrtMemoryInfo*() const;
};
struct TensorTypeAndShapeInfo {
    std::vector<int64_t> GetShape() const;
};
struct Value {
    Value(const Value&) = delete;
    Value(Value&&);
    template <typename T>
    static Value CreateTensor(const OrtMemoryInfo*, T* data, size_t count, const int64_t* shape, size_t shape_len);
    TensorTypeAndShapeInfo GetTensorTypeAndShapeInfo() const;
    template <typename T>
    const T* GetTensorData() const;
};
struct Session {
    Session(const Env&, const char* path, const SessionOptions&);
    std::vector<Value> Run(const RunOptions&, const char* const* input_names, const Value* inputs, size_t input_count,
                           const char* const* output_names, size_t output_count);
};
}  // namespace Ort
