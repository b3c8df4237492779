#include "codes.hpp"

#include <algorithm>
#include <array>
#include <bit>
#include <cstring>
#include <vector>

namespace snug {
namespace {

// Codes are picked from the bytes of a chunk as from one little-endian number.
static_assert(std::endian::native == std::endian::little);

// The first bytes of a chunk as a number; with 8 bytes left in the buffer that is one instruction.
std::uint64_t load(const std::uint8_t *bytes, std::size_t n_bytes, std::size_t n_left) noexcept {
    std::uint64_t word = 0;
    if (n_left >= sizeof word)
        std::memcpy(&word, bytes, sizeof word);
    else
        std::memcpy(&word, bytes, n_bytes);
    return word;
}

// Almost every layout has chunks of eight codes: with their number known the loop is unrolled.
void unpack_eights(std::span<const std::uint8_t> packed, const Chunk &chunk, std::size_t n_chunks,
                   std::uint8_t *codes) noexcept {
    constexpr std::size_t n_codes = 8;
    const std::uint64_t mask = (1U << chunk.n_bits) - 1;
    std::array<std::uint64_t, n_codes> shifts;
    std::ranges::copy(chunk.positions, shifts.begin());
    const std::size_t n_bytes = chunk.n_bytes;
    const std::uint8_t *bytes = packed.data();
    std::size_t n_left = packed.size();
    for (; n_chunks > 0; --n_chunks, bytes += n_bytes, n_left -= n_bytes, codes += n_codes) {
        const std::uint64_t word = load(bytes, n_bytes, n_left);
        std::uint64_t eight = 0;
        for (std::size_t i = 0; i < n_codes; ++i) eight |= (word >> shifts[i] & mask) << (8 * i);
        std::memcpy(codes, &eight, sizeof eight);
    }
}

void unpack_chunk(std::span<const std::uint8_t> packed, const Chunk &chunk, std::size_t n_codes,
                  std::uint8_t *codes) noexcept {
    const std::uint64_t word = load(packed.data(), std::min(packed.size(), chunk.n_bytes), 0);
    const std::uint64_t mask = (1U << chunk.n_bits) - 1;
    for (std::size_t i = 0; i < n_codes; ++i)
        codes[i] = static_cast<std::uint8_t>(word >> chunk.positions[i] & mask);
}

// Columns in a row that share a group.
struct Run {
    std::size_t start, stop, group;
};

std::vector<Run> runs_of(std::span<const std::int32_t> groups) {
    std::vector<Run> runs;
    for (std::size_t i = 0; i < groups.size(); ++i) {
        const auto group = static_cast<std::size_t>(groups[i]);
        if (runs.empty() || runs.back().group != group) runs.push_back({i, i, group});
        runs.back().stop = i + 1;
    }
    return runs;
}

// With fewer columns to a run than this a column looks up its own group.
constexpr std::size_t short_run = 8;

template <unsigned n_bits, std::size_t stride>
void pack_elements(const std::uint8_t *codes, std::uint8_t offset, std::size_t n_elements,
                   std::uint8_t *bytes) noexcept {
    constexpr std::size_t per_byte = 8 / n_bits;
    constexpr unsigned mask = (1U << n_bits) - 1;
    for (const auto *const stop = codes + n_elements; codes != stop; codes += per_byte * stride) {
        std::array<std::uint8_t, stride> run{};
        for (std::size_t i = 0; i < per_byte; ++i)
#pragma omp simd
            for (std::size_t j = 0; j < stride; ++j)
                run[j] = static_cast<std::uint8_t>(
                    run[j] | ((codes[j + i * stride] + offset) & mask) << (n_bits * i));
        std::memcpy(bytes, run.data(), stride);
        bytes += stride;
    }
}

}  // namespace

std::size_t packed_bytes(const Chunk &chunk, std::size_t n_cols) noexcept {
    const std::size_t n_whole = n_cols / chunk.positions.size();
    const auto rest = chunk.positions.first(n_cols % chunk.positions.size());
    if (rest.empty()) return n_whole * chunk.n_bytes;
    const auto last = static_cast<std::size_t>(*std::ranges::max_element(rest));
    return n_whole * chunk.n_bytes + (last + chunk.n_bits + 7) / 8;
}

void unpack_codes(std::span<const std::uint8_t> packed, std::size_t row_bytes, const Chunk &chunk,
                  std::size_t n_cols, std::span<std::uint8_t> codes) noexcept {
    const std::size_t n_codes = chunk.positions.size();
    const std::size_t n_whole = n_cols / n_codes;
    for (std::size_t done = 0; done < codes.size(); done += n_cols) {
        std::uint8_t *out = codes.data() + done;
        auto rest = packed.first(row_bytes);
        if (n_codes == 8) {
            // What lies behind the row may be read along, but not counts.
            unpack_eights(packed, chunk, n_whole, out);
        } else {
            for (std::size_t i = 0; i < n_whole; ++i)
                unpack_chunk(rest.subspan(i * chunk.n_bytes), chunk, n_codes, out + i * n_codes);
        }
        unpack_chunk(rest.subspan(n_whole * chunk.n_bytes), chunk, n_cols % n_codes,
                     out + n_whole * n_codes);
        packed = packed.subspan(row_bytes);
    }
}

void split_words(std::span<const std::uint32_t> words, std::size_t n_cols, unsigned n_bits,
                 std::span<const std::int32_t> positions, std::span<std::uint8_t> codes) noexcept {
    const std::uint32_t mask = (1U << n_bits) - 1;
    std::uint8_t *out = codes.data();
    for (std::size_t row = 0; row < words.size(); row += n_cols) {
        const std::uint32_t *const in = words.data() + row;
        for (const std::int32_t position : positions) {
#pragma omp simd
            for (std::size_t i = 0; i < n_cols; ++i)
                out[i] = static_cast<std::uint8_t>(in[i] >> position & mask);
            out += n_cols;
        }
    }
}

void transpose(const std::uint32_t *source, std::size_t row_stride, std::size_t n_rows,
               std::size_t n_cols, std::uint32_t *target) noexcept {
    // Tiles of a cache line each way: what is read of a line is used before it is gone.
    constexpr std::size_t tile = 16;
    std::array<std::uint32_t, tile * tile> turned;
    for (std::size_t row = 0; row < n_rows; row += tile) {
        const std::size_t height = std::min(tile, n_rows - row);
        for (std::size_t col = 0; col < n_cols; col += tile) {
            const std::size_t width = std::min(tile, n_cols - col);
            for (std::size_t r = 0; r < height; ++r)
                for (std::size_t c = 0; c < width; ++c)
                    turned[c * tile + r] = source[(row + r) * row_stride + col + c];
            for (std::size_t c = 0; c < width; ++c)
                std::copy_n(&turned[c * tile], height, target + (col + c) * n_rows + row);
        }
    }
}

void decode_codes(std::span<const std::uint8_t> codes, const Decoding &how,
                  std::span<float> values) {
    const std::vector<Run> runs = runs_of(how.groups);
    const bool is_scattered = runs.size() * short_run > how.n_cols;
    const std::vector<float> no_zeros(how.zeros.empty() ? how.n_groups : 0);
    const float *const table = how.table.data();
    const std::int32_t *const groups = how.groups.data();
    const float *scales = how.scales.data();
    const float *zeros = how.zeros.empty() ? no_zeros.data() : how.zeros.data();
    for (std::size_t row = 0; row < codes.size(); row += how.n_cols) {
        const std::uint8_t *const in = codes.data() + row;
        float *const out = values.data() + row;
        if (is_scattered) {
#pragma omp simd
            for (std::size_t i = 0; i < how.n_cols; ++i)
                out[i] = (table[in[i]] - zeros[groups[i]]) * scales[groups[i]];
        } else {
            for (const Run &run : runs) {
                const float scale = scales[run.group];
                const float zero = zeros[run.group];
#pragma omp simd
                for (std::size_t i = run.start; i < run.stop; ++i)
                    out[i] = (table[in[i]] - zero) * scale;
            }
        }
        scales += how.n_groups;
        zeros += how.zeros.empty() ? 0 : how.n_groups;
    }
}

void pack_blocks(std::span<const std::uint8_t> codes, std::uint8_t offset,
                 std::span<const std::uint8_t> heads, const BlockLayout &layout,
                 std::span<std::uint8_t> blocks) noexcept {
    const auto pack = layout.n_bits == 8    ? pack_elements<8, 32>
                      : layout.n_bits == 2  ? pack_elements<2, 32>
                      : layout.stride == 16 ? pack_elements<4, 16>
                                            : pack_elements<4, 8>;
    const std::size_t code_bytes = layout.n_bytes() - layout.head_bytes;
    const std::uint8_t *head = heads.data();
    std::uint8_t *block = blocks.data();
    for (std::size_t i = 0; i < codes.size(); i += layout.n_elements) {
        std::memcpy(layout.head_is_last ? block + code_bytes : block, head, layout.head_bytes);
        pack(codes.data() + i, offset, layout.n_elements,
             layout.head_is_last ? block : block + layout.head_bytes);
        head += layout.head_bytes;
        block += layout.n_bytes();
    }
}

}  // namespace snug
