// Rounds rows as ggml does, to the same bytes, many rows at a time.
#pragma once

#include <cstdint>
#include <span>

#include "scalar_blocks.hpp"

namespace snug {

/// Whether `round_as_ggml` gives ggml's bytes here. ggml is compiled for all processors of its kind:
/// of those that multiply and add in one step, compilers use that in it, as they see fit.
constexpr bool rounds_as_ggml =
#if defined(__x86_64__) || defined(_M_X64)
    true;
#else
    false;
#endif

/// Whether ggml searches the scales of this type, instead of taking the largest number.
bool is_searched(const BlockType &type, bool has_importance) noexcept;

/// Writes `rows` [n_rows * n_cols] to `blocks` [n_rows * row_bytes]; `importance` is the mean square
/// of each input, [n_cols], or empty. For types that are searched; what `ggml_quantize_chunk` does.
void round_as_ggml(const BlockType &type, std::span<const float> rows, std::size_t n_cols,
                   std::span<const float> importance, std::span<std::uint8_t> blocks);

}  // namespace snug
