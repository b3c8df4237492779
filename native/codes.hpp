// Weights as other quantizers pack them: integer codes in bit fields, and a scale for a group.
#pragma once

#include <cstddef>
#include <cstdint>
#include <span>

namespace snug {

/// Where the codes of one chunk of bytes lie: code i has its lowest bit at `positions[i]`, counted
/// from the lowest bit of the first byte. A chunk is 8 bytes at most, with 32 codes at most.
struct Chunk {
    std::size_t n_bytes;
    unsigned n_bits;  // of a code, 1 to 8
    std::span<const std::int32_t> positions;
};

/// The bytes that a row of `n_cols` codes takes; the last chunk of a row may be cut.
std::size_t packed_bytes(const Chunk &chunk, std::size_t n_cols) noexcept;

/// Unpacks rows of `row_bytes` (at least `packed_bytes`) into `codes`, [n_rows * n_cols].
void unpack_codes(std::span<const std::uint8_t> packed, std::size_t row_bytes, const Chunk &chunk,
                  std::size_t n_cols, std::span<std::uint8_t> codes) noexcept;

/// Unpacks words that hold one code of each of several rows: the code at `positions[i]` of word
/// [row, column] is that of row `row * positions.size() + i`. `n_cols` words to a row.
void split_words(std::span<const std::uint32_t> words, std::size_t n_cols, unsigned n_bits,
                 std::span<const std::int32_t> positions, std::span<std::uint8_t> codes) noexcept;

/// target[column][row] = source[row][column]; the rows of the source are `row_stride` words apart.
void transpose(const std::uint32_t *source, std::size_t row_stride, std::size_t n_rows,
               std::size_t n_cols, std::uint32_t *target) noexcept;

/// (table[code] - zero) * scale, for n_rows rows of n_cols codes and n_groups groups.
struct Decoding {
    std::size_t n_cols;
    std::size_t n_groups;
    std::span<const float> table;           // [256], by code
    std::span<const std::int32_t> groups;   // [n_cols], each in [0, n_groups)
    std::span<const float> scales;          // [n_rows * n_groups]
    std::span<const float> zeros;           // [n_rows * n_groups], or none: 0
};

void decode_codes(std::span<const std::uint8_t> codes, const Decoding &how,
                  std::span<float> values);

/// A block of a ggml type: a head (scales), then the codes. Codes lie `8 / n_bits` to a byte,
/// `stride` elements apart: byte j of a run of `stride` bytes holds elements j, j + stride, ...
struct BlockLayout {
    std::size_t n_elements;
    std::size_t head_bytes;
    unsigned n_bits;     // 2, 4 or 8
    std::size_t stride;  // 32 where n_bits is 2 or 8, else 8 or 16
    bool head_is_last;

    std::size_t n_bytes() const noexcept { return head_bytes + n_elements * n_bits / 8; }
};

/// Writes blocks from codes [n_blocks * n_elements], to each of which `offset` is added before its
/// lowest bits are taken, and heads [n_blocks * head_bytes].
void pack_blocks(std::span<const std::uint8_t> codes, std::uint8_t offset,
                 std::span<const std::uint8_t> heads, const BlockLayout &layout,
                 std::span<std::uint8_t> blocks) noexcept;

}  // namespace snug
