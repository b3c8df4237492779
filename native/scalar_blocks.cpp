#include "scalar_blocks.hpp"

#include <algorithm>
#include <cstring>

namespace snug {
namespace {

constexpr std::array<std::int8_t, 16> iq4_levels = {-127, -104, -83, -65, -49, -35, -22, -10,
                                                    1,    13,   25,  38,  53,  69,  89,  113};

// A type with blocks of 32 and no integer scales.
constexpr BlockType simple(std::string_view name, std::size_t n_bytes, bool has_minimum,
                           std::array<BitPlane, 2> codes, int lowest_level, int highest_code) {
    return {.name = name,
            .n_elements = 32,
            .n_bytes = n_bytes,
            .group_size = 32,
            .codes = codes,
            .flip = 0,
            .lowest_level = lowest_level,
            .lowest_code = 0,
            .highest_code = highest_code,
            .table = {},
            .d_offset = 0,
            .has_minimum = has_minimum,
            .d_minimum_offset = 2,
            .scale_kind = ScaleKind::none,
            .scales = {},
            .scale_offset = 0,
            .scale_is_signed = false,
            .lowest_scale = 1,
            .highest_scale = 1,
            .highest_minimum = 0};
}

// ggml's own Q8_0 never writes the code of -128, which not every kernel reads.
constexpr BlockType q8_0() {
    BlockType type = simple("Q8_0", 34, false, {{{2, 8, 1, 0}, {}}}, -128, 255);
    type.flip = 0x80;
    type.lowest_code = 1;
    return type;
}

constexpr BlockType iq4_nl() {
    BlockType type = simple("IQ4_NL", 18, false, {{{2, 4, 16, 0}, {}}}, 0, 15);
    type.table = iq4_levels;
    return type;
}

constexpr BlockType iq4_xs() {
    BlockType type = iq4_nl();
    type.name = "IQ4_XS";
    type.n_elements = 256;
    type.n_bytes = 136;
    type.codes[0].offset = 8;
    type.scale_kind = ScaleKind::planes;
    type.scales = {{{4, 4, 1, 0}, {2, 2, 1, 4}}};
    type.scale_offset = -32;
    type.lowest_scale = -32;
    type.highest_scale = 31;
    return type;
}

constexpr BlockType q2_k() {
    BlockType type = simple("Q2_K", 84, true, {{{16, 2, 32, 0}, {}}}, 0, 3);
    type.n_elements = 256;
    type.group_size = 16;
    type.d_offset = 80;
    type.d_minimum_offset = 82;
    type.scale_kind = ScaleKind::planes;
    type.scales = {{{0, 4, 16, 0}, {}}};
    type.lowest_scale = 0;
    type.highest_scale = 15;
    type.highest_minimum = 15;
    return type;
}

constexpr BlockType q3_k() {
    BlockType type = simple("Q3_K", 110, false, {{{32, 2, 32, 0}, {0, 1, 32, 2}}}, -4, 7);
    type.n_elements = 256;
    type.group_size = 16;
    type.d_offset = 108;
    type.scale_kind = ScaleKind::planes;
    type.scales = {{{96, 4, 8, 0}, {104, 2, 4, 4}}};
    type.scale_offset = -32;
    type.lowest_scale = -32;
    type.highest_scale = 31;
    return type;
}

constexpr BlockType q4_k() {
    BlockType type = simple("Q4_K", 144, true, {{{16, 4, 32, 0}, {}}}, 0, 15);
    type.n_elements = 256;
    type.scale_kind = ScaleKind::six_bit_pairs;
    type.lowest_scale = 0;
    type.highest_scale = 63;
    type.highest_minimum = 63;
    return type;
}

constexpr BlockType q5_k() {
    BlockType type = q4_k();
    type.name = "Q5_K";
    type.n_bytes = 176;
    type.codes = {{{48, 4, 32, 0}, {16, 1, 32, 4}}};
    type.highest_code = 31;
    return type;
}

constexpr BlockType q6_k() {
    BlockType type = simple("Q6_K", 210, false, {{{0, 4, 64, 0}, {128, 2, 32, 4}}}, -32, 63);
    type.n_elements = 256;
    type.group_size = 16;
    type.d_offset = 208;
    type.scale_kind = ScaleKind::planes;
    type.scales = {{{192, 8, 1, 0}, {}}};
    type.scale_is_signed = true;
    type.lowest_scale = -128;
    type.highest_scale = 127;
    return type;
}

constexpr std::array<BlockType, 12> types = {
    q2_k(),
    q3_k(),
    q4_k(),
    q5_k(),
    q6_k(),
    q8_0(),
    simple("Q4_0", 18, false, {{{2, 4, 16, 0}, {}}}, -8, 15),
    simple("Q4_1", 20, true, {{{4, 4, 16, 0}, {}}}, 0, 15),
    simple("Q5_0", 22, false, {{{6, 4, 16, 0}, {2, 1, 1, 4}}}, -16, 31),
    simple("Q5_1", 24, true, {{{8, 4, 16, 0}, {4, 1, 1, 4}}}, 0, 31),
    iq4_nl(),
    iq4_xs(),
};

// Calls `each(byte, shift, integer)` for the places of a plane's bits.
template <typename Each>
void walk(const BitPlane &plane, std::size_t n_integers, Each each) noexcept {
    const std::size_t in_byte = 8 / plane.n_bits;
    for (std::size_t first = 0; first < n_integers; first += plane.stride * in_byte)
        for (std::size_t s = 0; s < in_byte; ++s)
            for (std::size_t l = 0; l < plane.stride; ++l)
                each(plane.offset + first / in_byte + l, static_cast<unsigned>(s) * plane.n_bits,
                     first + s * plane.stride + l);
}

void read_planes(const std::array<BitPlane, 2> &planes, const std::uint8_t *bytes,
                 std::span<std::uint8_t> integers) noexcept {
    std::ranges::fill(integers, std::uint8_t{0});
    for (const BitPlane &plane : planes) {
        if (plane.n_bits == 0) continue;
        const unsigned mask = (1U << plane.n_bits) - 1U;
        walk(plane, integers.size(), [&](std::size_t byte, unsigned shift, std::size_t i) {
            const unsigned bits = (static_cast<unsigned>(bytes[byte]) >> shift) & mask;
            integers[i] = static_cast<std::uint8_t>(integers[i] | (bits << plane.place));
        });
    }
}

// The bytes are zero before.
void write_planes(const std::array<BitPlane, 2> &planes, std::span<const std::uint8_t> integers,
                  std::uint8_t *bytes) noexcept {
    for (const BitPlane &plane : planes) {
        if (plane.n_bits == 0) continue;
        const unsigned mask = (1U << plane.n_bits) - 1U;
        walk(plane, integers.size(), [&](std::size_t byte, unsigned shift, std::size_t i) {
            const unsigned bits = (static_cast<unsigned>(integers[i]) >> plane.place) & mask;
            bytes[byte] = static_cast<std::uint8_t>(bytes[byte] | (bits << shift));
        });
    }
}

// Q4_K and Q5_K: eight scales and eight minimums of 6 bits, in 12 bytes behind the two halves.
constexpr std::size_t pairs_offset = 4;

void read_pairs(const std::uint8_t *bytes, std::span<std::uint8_t> integers) noexcept {
    const std::uint8_t *const in = bytes + pairs_offset;
    for (std::size_t i = 0; i < 4; ++i) {
        const auto high = [](std::uint8_t byte) { return (byte >> 6) << 4; };
        integers[i] = in[i] & 63;
        integers[8 + i] = in[4 + i] & 63;
        integers[4 + i] = static_cast<std::uint8_t>((in[8 + i] & 15) | high(in[i]));
        integers[12 + i] = static_cast<std::uint8_t>((in[8 + i] >> 4) | high(in[4 + i]));
    }
}

void write_pairs(std::span<const std::uint8_t> integers, std::uint8_t *bytes) noexcept {
    std::uint8_t *const out = bytes + pairs_offset;
    for (std::size_t i = 0; i < 4; ++i) {
        out[i] = static_cast<std::uint8_t>(integers[i] | ((integers[4 + i] >> 4) << 6));
        out[4 + i] = static_cast<std::uint8_t>(integers[8 + i] | ((integers[12 + i] >> 4) << 6));
        out[8 + i] = static_cast<std::uint8_t>((integers[4 + i] & 15) | (integers[12 + i] << 4));
    }
}

}  // namespace

const BlockType *find_block_type(std::string_view name) noexcept {
    const auto *const found = std::ranges::find(types, name, &BlockType::name);
    return found == types.end() ? nullptr : found;
}

void unpack_block(const BlockType &type, const std::uint8_t *bytes, Block &block) noexcept {
    const std::span codes(block.codes.data(), type.n_elements);
    read_planes(type.codes, bytes, codes);
    if (type.flip != 0)
        for (std::uint8_t &code : codes) code ^= type.flip;
    std::memcpy(&block.d, bytes + type.d_offset, sizeof block.d);
    block.d_minimum = 0;
    if (type.has_minimum)
        std::memcpy(&block.d_minimum, bytes + type.d_minimum_offset, sizeof block.d_minimum);
    block.scales.fill(1);
    block.minimums.fill(type.has_minimum ? -1 : 0);
    if (!type.has_integers()) return;

    const std::size_t n_groups = type.n_groups();
    std::array<std::uint8_t, 2 * Block::max_groups> stored{};
    const std::span integers(stored.data(), type.has_minimum ? 2 * n_groups : n_groups);
    if (type.scale_kind == ScaleKind::planes)
        read_planes(type.scales, bytes, integers);
    else
        read_pairs(bytes, integers);
    for (std::size_t g = 0; g < n_groups; ++g) {
        const int scale = type.scale_is_signed ? static_cast<std::int8_t>(stored[g]) : stored[g];
        block.scales[g] = static_cast<std::int16_t>(scale + type.scale_offset);
        if (type.has_minimum) block.minimums[g] = stored[n_groups + g];
    }
}

void pack_block(const BlockType &type, const Block &block, std::uint8_t *bytes) noexcept {
    std::memset(bytes, 0, type.n_bytes);
    if (type.flip == 0) {
        write_planes(type.codes, {block.codes.data(), type.n_elements}, bytes);
    } else {
        std::array<std::uint8_t, Block::max_elements> flipped{};
        for (std::size_t i = 0; i < type.n_elements; ++i) flipped[i] = block.codes[i] ^ type.flip;
        write_planes(type.codes, {flipped.data(), type.n_elements}, bytes);
    }
    std::memcpy(bytes + type.d_offset, &block.d, sizeof block.d);
    if (type.has_minimum)
        std::memcpy(bytes + type.d_minimum_offset, &block.d_minimum, sizeof block.d_minimum);
    if (!type.has_integers()) return;

    const std::size_t n_groups = type.n_groups();
    std::array<std::uint8_t, 2 * Block::max_groups> stored{};
    for (std::size_t g = 0; g < n_groups; ++g) {
        stored[g] = static_cast<std::uint8_t>(block.scales[g] - type.scale_offset);
        if (type.has_minimum) stored[n_groups + g] = static_cast<std::uint8_t>(block.minimums[g]);
    }
    const std::span integers(stored.data(), type.has_minimum ? 2 * n_groups : n_groups);
    if (type.scale_kind == ScaleKind::planes)
        write_planes(type.scales, integers, bytes);
    else
        write_pairs(integers, bytes);
}

}  // namespace snug
