#include "ggml_rounding.hpp"

#include <algorithm>
#include <array>
#include <cmath>
#include <cstddef>
#include <memory>
#include <vector>

#include "floats.hpp"
#include "ggml_search.hpp"

// After ggml-quants.c of llama.cpp, as `ggml_search.hpp` says.

namespace snug {
namespace {

Floats as_stored(const Floats &numbers) noexcept {
    Each<std::uint16_t> halves;
    Floats rounded;
    float_to_half(numbers, halves);
    half_to_float(halves, rounded);
    return rounded;
}

// One block of each of the rows that are worked on together.
struct Blocks {
    std::array<Floats, Block::max_elements> x;
    std::array<Floats, Block::max_elements> w;
    std::array<Ints, Block::max_elements> codes;
    std::array<Floats, Block::max_groups> scale;
    std::array<Floats, Block::max_groups> minimum;
    std::array<Ints, Block::max_groups> scale_codes;
    std::array<Ints, Block::max_groups> minimum_codes;
    Floats d;
    Floats d_minimum;
};

// The codes of weights for scales as they are stored; a group whose scale is zero keeps its own.
void round_again(const BlockType &type, Blocks &blocks) noexcept {
    const Floats d = as_stored(blocks.d);
    const Floats d_minimum = as_stored(blocks.d_minimum);
    for (std::size_t g = 0; g < type.n_groups(); ++g) {
        Floats scale;
        Floats minimum;
        for (std::size_t r = 0; r < n_together; ++r) {
            scale[r] = d[r] * static_cast<float>(blocks.scale_codes[g][r]);
            minimum[r] = d_minimum[r] * static_cast<float>(blocks.minimum_codes[g][r]);
        }
        for (std::size_t i = g * type.group_size; i < (g + 1) * type.group_size; ++i)
#pragma omp simd
            for (std::size_t r = 0; r < n_together; ++r) {
                const float x = type.has_minimum ? blocks.x[i][r] + minimum[r] : blocks.x[i][r];
                const auto l = within(type.lowest_level, type.lowest_level + type.highest_code,
                                      nearest_int(x / scale[r]));
                blocks.codes[i][r] = scale[r] == 0.0F ? blocks.codes[i][r] : l - type.lowest_level;
            }
    }
}

// The codes of scales and minimums as ggml's packing leaves them: one that does not fit, such as of a
// scale below zero, spoils its neighbour, too; for some types they are limited before.
void as_packed(const BlockType &type, bool is_limited, Blocks &blocks) noexcept {
    constexpr std::size_t half = 4;  // of the eight pairs
    for (std::size_t r = 0; r < n_together; ++r) {
        if (type.scale_kind == ScaleKind::planes) {
            for (std::size_t g = 0; g < type.n_groups(); ++g) {
                std::int32_t &scale = blocks.scale_codes[g][r];
                std::int32_t &minimum = blocks.minimum_codes[g][r];
                minimum = (minimum | (scale >> 4)) & 15;
                scale &= 15;
            }
            continue;
        }
        for (auto *codes : {&blocks.scale_codes, &blocks.minimum_codes})
            for (std::size_t g = 0; g < half; ++g) {
                std::int32_t low = (*codes)[g][r];
                std::int32_t high = (*codes)[g + half][r];
                if (is_limited) {
                    low = std::min(low, type.highest_scale);
                    high = std::min(high, type.highest_scale);
                }
                (*codes)[g][r] = low & 63;
                (*codes)[g + half][r] = (high & 15) | ((((high >> 4) | (low >> 6)) & 3) << 4);
            }
    }
}

void sum_weights(const BlockType &type, const Blocks &blocks, Floats *sums) noexcept {
    for (std::size_t g = 0; g < type.n_groups(); ++g) {
        sums[g] = {};
        for (std::size_t i = g * type.group_size; i < (g + 1) * type.group_size; ++i)
            for (std::size_t r = 0; r < n_together; ++r) sums[g][r] += blocks.w[i][r];
    }
}

MinimumSteps steps_of(const BlockType &type, bool has_importance) noexcept {
    if (has_importance) return {-0.9F, 0.05F, 36, false};
    if (type.name == "Q4_K") return {-1.0F, 0.1F, 20, false};
    return {-0.5F, 0.1F, 15, type.name == "Q2_K"};
}

// Q2_K, Q4_K, Q5_K, and Q4_1 and Q5_1, which have one group.
void round_with_minimum(const BlockType &type, bool has_importance, Blocks &blocks) noexcept {
    const std::size_t n = type.group_size;
    const std::size_t n_groups = type.n_groups();
    const MinimumSteps steps = steps_of(type, has_importance);
    for (std::size_t g = 0; g < n_groups; ++g)
        search_with_minimum(&blocks.x[g * n], &blocks.w[g * n], n, type.highest_code, steps,
                            blocks.scale[g], blocks.minimum[g], &blocks.codes[g * n]);
    if (!type.has_integers()) {
        blocks.d = blocks.scale[0];
        for (std::size_t r = 0; r < n_together; ++r) blocks.d_minimum[r] = -blocks.minimum[0][r];
        return;
    }
    const Floats *const scales = blocks.scale.data();
    const Floats *const minimums = blocks.minimum.data();
    Ints *const scale_codes = blocks.scale_codes.data();
    Ints *const minimum_codes = blocks.minimum_codes.data();
    if (has_importance) {
        std::array<Floats, Block::max_groups> sums;
        sum_weights(type, blocks, sums.data());
        blocks.d = search_scales(scales, sums.data(), n_groups, type.highest_scale, scale_codes);
        blocks.d_minimum =
            search_scales(minimums, sums.data(), n_groups, type.highest_minimum, minimum_codes);
    } else {
        blocks.d = scales_by_largest(scales, n_groups, type.highest_scale, scale_codes);
        blocks.d_minimum =
            scales_by_largest(minimums, n_groups, type.highest_minimum, minimum_codes);
    }
    as_packed(type, !has_importance || type.name == "Q5_K", blocks);
    round_again(type, blocks);
}

// The scales of Q6_K, and of Q3_K without an importance matrix: by the outermost.
void fit_scales(const BlockType &type, Blocks &blocks) noexcept {
    Floats distance;
    const Floats largest = outermost(blocks.scale.data(), type.n_groups(), distance);
    for (std::size_t r = 0; r < n_together; ++r) {
        const bool is_zero = type.scale_is_signed ? distance[r] < all_zero : largest[r] == 0.0F;
        const float inverse = static_cast<float>(type.lowest_scale) / largest[r];
        blocks.d[r] = is_zero ? 0.0F : 1.0F / inverse;
        for (std::size_t g = 0; g < type.n_groups(); ++g) {
            const std::int32_t l = within(type.lowest_scale, type.highest_scale,
                                          nearest_int(inverse * blocks.scale[g][r]));
            blocks.scale_codes[g][r] = is_zero ? type.scale_offset : l;
        }
        if (!is_zero || !type.scale_is_signed) continue;
        for (Ints &codes : blocks.codes) codes[r] = 0;
    }
}

// Q3_K and Q6_K, and Q4_0 and Q5_0, which have one group.
void round_symmetric(const BlockType &type, bool has_importance, Blocks &blocks) noexcept {
    const std::size_t n = type.group_size;
    const std::size_t n_groups = type.n_groups();
    const bool climbs = type.name == "Q3_K" && !has_importance;
    for (std::size_t g = 0; g < n_groups; ++g)
        if (climbs)
            climb_symmetric(&blocks.x[g * n], n, -type.lowest_level, blocks.scale[g],
                            &blocks.codes[g * n]);
        else
            search_symmetric(&blocks.x[g * n], &blocks.w[g * n], n, -type.lowest_level,
                             blocks.scale[g], &blocks.codes[g * n]);
    if (!type.has_integers()) {
        blocks.d = blocks.scale[0];
        return;
    }
    if (climbs || type.scale_is_signed) {
        fit_scales(type, blocks);
    } else {
        std::array<Floats, Block::max_groups> sums;
        sum_weights(type, blocks, sums.data());
        search_symmetric(blocks.scale.data(), sums.data(), n_groups, -type.scale_offset, blocks.d,
                         blocks.scale_codes.data());
        for (std::size_t g = 0; g < n_groups; ++g)
            for (std::size_t r = 0; r < n_together; ++r)
                blocks.scale_codes[g][r] += type.scale_offset;
    }
    round_again(type, blocks);
}

// IQ4_XS and IQ4_NL.
void round_to_table(const BlockType &type, const Table &table, Blocks &blocks) noexcept {
    const std::size_t n = type.group_size;
    const std::size_t n_groups = type.n_groups();
    for (std::size_t g = 0; g < n_groups; ++g)
        blocks.scale[g] = search_in_table(table, &blocks.x[g * n], &blocks.w[g * n], n);
    Floats distance;
    const Floats largest = outermost(blocks.scale.data(), n_groups, distance);
    for (std::size_t r = 0; r < n_together; ++r)
        blocks.d[r] = type.has_integers() ? largest[r] / static_cast<float>(type.lowest_scale)
                                          : blocks.scale[0][r];
    for (std::size_t g = 0; g < n_groups; ++g) {
        Floats inverse;
        for (std::size_t r = 0; r < n_together; ++r) {
            float scale = blocks.d[r];
            if (type.has_integers()) {
                const float inverse_d = blocks.d[r] != 0.0F ? 1.0F / blocks.d[r] : 0.0F;
                const std::int32_t l = within(type.lowest_scale, type.highest_scale,
                                              nearest_int(inverse_d * blocks.scale[g][r]));
                blocks.scale_codes[g][r] = l;
                scale *= static_cast<float>(l);
            }
            inverse[r] = scale != 0.0F ? 1.0F / scale : 0.0F;
        }
        for (std::size_t i = g * n; i < (g + 1) * n; ++i)
            take_from_table(table, inverse, blocks.x[i], blocks.codes[i]);
    }
}

Floats mean_square(const Floats *x, std::size_t n, float times) noexcept {
    Floats sum{};
    for (std::size_t i = 0; i < n; ++i)
#pragma omp simd
        for (std::size_t r = 0; r < n_together; ++r) sum[r] += x[i][r] * x[i][r];
    for (float &one : sum) one = times * one / static_cast<float>(n);
    return sum;
}

// What ggml has a number count with an importance matrix: the importance of its column times its size,
// and the usual one of its block, or of its row where blocks are small; in Q6_K the importance alone.
struct Weighing {
    bool by_size;
    bool by_row;
    float times;  // what the mean square counts
};

Weighing weighing_of(const BlockType &type) noexcept {
    const bool is_simple = !type.has_integers() && type.table.empty();
    const bool is_single = is_simple || type.name == "Q2_K";
    return {!type.scale_is_signed, is_simple, is_single ? 1.0F : 2.0F};
}

void weigh(const Weighing &weighing, const Floats &usual, std::span<const float> importance,
           Blocks &blocks) noexcept {
    for (std::size_t i = 0; i < importance.size(); ++i) {
        const float column = importance[i];
#pragma omp simd
        for (std::size_t r = 0; r < n_together; ++r) {
            const float size = std::sqrt(usual[r] + blocks.x[i][r] * blocks.x[i][r]);
            blocks.w[i][r] = weighing.by_size ? column * size : column;
        }
    }
}

// Without one: its size, in Q4_K and Q5_K and the usual one of its group; its square in symmetric types.
void weigh_by_size(const BlockType &type, Blocks &blocks) noexcept {
    for (std::size_t g = 0; g < type.n_groups(); ++g) {
        const std::size_t first = g * type.group_size;
        Floats usual{};
        if (type.scale_kind == ScaleKind::six_bit_pairs)
            usual = mean_square(&blocks.x[first], type.group_size, 1.0F);
        for (std::size_t i = first; i < first + type.group_size; ++i)
#pragma omp simd
            for (std::size_t r = 0; r < n_together; ++r) {
                const float x = blocks.x[i][r];
                blocks.w[i][r] = type.has_minimum ? std::sqrt(usual[r]) + std::fabs(x) : x * x;
            }
    }
}

void pack(const BlockType &type, const Blocks &blocks, std::size_t n_rows, std::size_t row_bytes,
          std::uint8_t *bytes) noexcept {
    Each<std::uint16_t> d;
    Each<std::uint16_t> d_minimum;
    float_to_half(blocks.d, d);
    float_to_half(blocks.d_minimum, d_minimum);
    Block block;
    for (std::size_t r = 0; r < n_rows; ++r) {
        block.d = d[r];
        block.d_minimum = d_minimum[r];
        for (std::size_t g = 0; g < type.n_groups(); ++g) {
            block.scales[g] = static_cast<std::int16_t>(blocks.scale_codes[g][r]);
            block.minimums[g] = static_cast<std::int16_t>(blocks.minimum_codes[g][r]);
        }
        for (std::size_t i = 0; i < type.n_elements; ++i)
            block.codes[i] = static_cast<std::uint8_t>(blocks.codes[i][r]);
        pack_block(type, block, bytes + r * row_bytes);
    }
}

}  // namespace

bool is_searched(const BlockType &type, bool has_importance) noexcept {
    const bool is_nested = type.has_integers() && type.table.empty();
    return has_importance ? type.name != "Q8_0" : is_nested;
}

void round_as_ggml(const BlockType &type, std::span<const float> rows, std::size_t n_cols,
                   std::span<const float> importance, std::span<std::uint8_t> bytes) {
    const std::size_t n_rows = rows.size() / std::max<std::size_t>(n_cols, 1);
    const std::size_t row_bytes = n_cols / type.n_elements * type.n_bytes;
    const bool has_importance = !importance.empty();
    const Weighing weighing = weighing_of(type);
    std::vector<Floats> x(n_cols);
    const auto blocks_of_rows = std::make_unique<Blocks>();
    Blocks &blocks = *blocks_of_rows;
    for (std::size_t first = 0; first < n_rows; first += n_together) {
        const std::size_t n = std::min(n_together, n_rows - first);
        for (std::size_t r = 0; r < n_together; ++r)
            for (std::size_t i = 0; i < n_cols; ++i)
                x[i][r] = r < n ? rows[(first + r) * n_cols + i] : 0.0F;
        const Floats of_row = mean_square(x.data(), n_cols, weighing.times);
        for (std::size_t start = 0; start < n_cols; start += type.n_elements) {
            std::copy_n(x.data() + start, type.n_elements, blocks.x.data());
            const Floats usual = weighing.by_row
                                     ? of_row
                                     : mean_square(blocks.x.data(), type.n_elements, weighing.times);
            if (has_importance)
                weigh(weighing, usual, importance.subspan(start, type.n_elements), blocks);
            else
                weigh_by_size(type, blocks);
            if (!type.table.empty())
                round_to_table(type, Table(type.table), blocks);
            else if (type.has_minimum)
                round_with_minimum(type, has_importance, blocks);
            else
                round_symmetric(type, has_importance, blocks);
            const std::size_t at = first * row_bytes + start / type.n_elements * type.n_bytes;
            pack(type, blocks, n, row_bytes, bytes.data() + at);
        }
    }
}

}  // namespace snug
