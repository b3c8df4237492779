#include "gguf_strings.hpp"

namespace snug {
namespace {

std::uint64_t little_endian(const std::uint8_t *bytes) {
    std::uint64_t value = 0;
    for (int i = 7; i >= 0; --i)
        value = value << 8 | bytes[i];
    return value;
}

}  // namespace

Step step_over_strings(std::span<const std::uint8_t> buffer, std::size_t position,
                       std::size_t n_strings, std::uint64_t max_bytes) {
    while (n_strings > 0 && position <= buffer.size() && buffer.size() - position >= 8) {
        const std::uint64_t n_bytes = little_endian(buffer.data() + position);
        if (n_bytes > max_bytes)
            break;
        position += 8 + static_cast<std::size_t>(n_bytes);
        --n_strings;
    }
    return {position, n_strings};
}

}  // namespace snug
