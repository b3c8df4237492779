// What llama.cpp's buffers take, asked of llama.cpp itself.
#pragma once

#include <cstddef>
#include <cstdint>
#include <vector>

namespace snug {

/// The bytes of one buffer type of a context; `type` is its ggml_backend_buffer_type_t.
struct BufferBytes {
    std::uintptr_t type;
    std::size_t weights;
    std::size_t cache;
    std::size_t compute;
};

/// Calls `llama_get_memory_breakdown`, which lies at the address `function`, with the llama_context
/// at the address `context`. It is a C++ function, exported but in no public header
/// (llama.cpp/src/llama-ext.h), so both sides must be built with the same standard library.
std::vector<BufferBytes> memory_breakdown(std::uintptr_t function, std::uintptr_t context);

}  // namespace snug
