// Steps over the strings of a GGUF header, of which a vocabulary has hundreds of thousands.
#pragma once

#include <cstddef>
#include <cstdint>
#include <span>

namespace snug {

struct Step {
    std::size_t position;  // where the next string begins; it may lie behind the buffer's end
    std::size_t n_left;    // strings that were not stepped over
};

/// Strings as in GGUF: 64 bits that tell the number of bytes, then these. Stops before a string
/// whose length is not in the buffer, or is greater than `max_bytes`.
Step step_over_strings(std::span<const std::uint8_t> buffer, std::size_t position,
                       std::size_t n_strings, std::uint64_t max_bytes);

}  // namespace snug
