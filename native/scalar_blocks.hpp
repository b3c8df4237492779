// The blocks of the ggml types whose weights are scale * level - minimum, one code for each weight.
#pragma once

#include <array>
#include <cstddef>
#include <cstdint>
#include <span>
#include <string_view>

namespace snug {

/// A block taken apart. A weight is d * scales[g] * level(code) - d_minimum * minimums[g], g its
/// group; a type without integer scales has scale 1, one with an added minimum has minimum -1.
struct Block {
    static constexpr std::size_t max_elements = 256;
    static constexpr std::size_t max_groups = 16;
    std::uint16_t d = 0;          // the bits of a half
    std::uint16_t d_minimum = 0;  // the same
    std::array<std::int16_t, max_groups> scales{};
    std::array<std::int16_t, max_groups> minimums{};
    std::array<std::uint8_t, max_elements> codes{};
};

/// Bits of many integers, `n_bits` of each: those of integer (chunk * 8 / n_bits + s) * stride + l
/// lie in byte chunk * stride + l, above s * n_bits others.
struct BitPlane {
    std::size_t offset;  // of its first byte in the block
    unsigned n_bits;     // 0: there is no such plane
    std::size_t stride;
    unsigned place;  // where its bits go in the integer
};

enum class ScaleKind : std::uint8_t { none, planes, six_bit_pairs };

/// How a type is laid out (`ggml-common.h` of llama.cpp), and which integers it can hold.
struct BlockType {
    std::string_view name;
    std::size_t n_elements;
    std::size_t n_bytes;
    std::size_t group_size;

    std::array<BitPlane, 2> codes;
    std::uint8_t flip;     // what the stored code is to be xor-ed with, so that levels rise with it
    int lowest_level;      // level(code) = lowest_level + code, without a table
    int lowest_code;       // the codes to use
    int highest_code;
    std::span<const std::int8_t> table;  // level(code), in rising order; empty: evenly spaced

    std::size_t d_offset;
    bool has_minimum;
    std::size_t d_minimum_offset;
    ScaleKind scale_kind;
    std::array<BitPlane, 2> scales;  // of the scales, then of the minimums
    int scale_offset;                // what is added to the stored scale
    bool scale_is_signed;            // stored in two's complement
    int lowest_scale;
    int highest_scale;
    int highest_minimum;  // the lowest is 0

    std::size_t n_groups() const noexcept { return n_elements / group_size; }
    bool has_integers() const noexcept { return scale_kind != ScaleKind::none; }
    float level(unsigned code) const noexcept {
        return static_cast<float>(table.empty() ? lowest_level + static_cast<int>(code)
                                                : static_cast<int>(table[code]));
    }
};

/// The type of this name (as ggml spells it, in capitals), or nullptr.
const BlockType *find_block_type(std::string_view name) noexcept;

void unpack_block(const BlockType &type, const std::uint8_t *bytes, Block &block) noexcept;

/// Writes what `unpack_block` reads; every byte of the block is written.
void pack_block(const BlockType &type, const Block &block, std::uint8_t *bytes) noexcept;

}  // namespace snug
