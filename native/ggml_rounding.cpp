#include "ggml_rounding.hpp"

#include <algorithm>
#include <array>
#include <bit>
#include <cmath>
#include <cstddef>
#include <memory>
#include <vector>

#include "floats.hpp"

// After ggml-quants.c of llama.cpp: its functions for one row become those for the lanes of vectors,
// each lane a row. A lane does the same operations in the same order, and none is contracted (see
// CMakeLists.txt): so it has the same bits. What only some rows do is computed for all and taken for
// these.

namespace snug {
namespace {

constexpr std::size_t n_together = 16;  // rows
constexpr float all_zero = 1e-15F;      // ggml's GROUP_MAX_EPS

template <typename T>
struct alignas(64) Each : std::array<T, n_together> {};
using Floats = Each<float>;
using Ints = Each<std::int32_t>;

// ggml's nearest_int, with its strange results for numbers of more than 22 bits.
inline std::int32_t nearest_int(float number) noexcept {
    return (std::bit_cast<std::int32_t>(number + 12582912.0F) & 0x007FFFFF) - 0x00400000;
}

inline std::int32_t within(std::int32_t lowest, std::int32_t highest, std::int32_t i) noexcept {
    i = i < highest ? i : highest;
    return i > lowest ? i : lowest;
}

Floats as_stored(const Floats &numbers) noexcept {
    Each<std::uint16_t> halves;
    Floats rounded;
    float_to_half(numbers, halves);
    half_to_float(halves, rounded);
    return rounded;
}

// make_qkx3_quants: scale and minimum so that scale * code - minimum, codes from 0 to n_max, is near.
void search_with_minimum(const Floats *x, const Floats *w, std::size_t n, int n_max, Floats &scale,
                         Floats &minimum, Ints *codes) noexcept {
    constexpr int n_steps = 36;
    constexpr std::size_t most = 32;
    const auto n_levels = static_cast<float>(n_max);
    Floats lowest = x[0];
    Floats highest = x[0];
    Floats sum_w = w[0];
    Floats sum_x;
    for (std::size_t r = 0; r < n_together; ++r) sum_x[r] = w[0][r] * x[0][r];
    for (std::size_t i = 1; i < n; ++i)
#pragma omp simd
        for (std::size_t r = 0; r < n_together; ++r) {
            lowest[r] = x[i][r] < lowest[r] ? x[i][r] : lowest[r];
            highest[r] = x[i][r] > highest[r] ? x[i][r] : highest[r];
            sum_w[r] += w[i][r];
            sum_x[r] += w[i][r] * x[i][r];
        }
    Each<std::int32_t> is_flat;
    Floats iscale;
    Floats error{};
    for (std::size_t r = 0; r < n_together; ++r) {
        lowest[r] = lowest[r] > 0.0F ? 0.0F : lowest[r];
        is_flat[r] = highest[r] <= lowest[r] ? 1 : 0;
        iscale[r] = n_levels / (highest[r] - lowest[r]);
        scale[r] = 1.0F / iscale[r];
    }
    for (std::size_t i = 0; i < n; ++i)
#pragma omp simd
        for (std::size_t r = 0; r < n_together; ++r) {
            const auto l = within(0, n_max, nearest_int(iscale[r] * (x[i][r] - lowest[r])));
            const float left = scale[r] * static_cast<float>(l) + lowest[r] - x[i][r];
            error[r] += w[i][r] * (left * left);
        }
    const Floats zero_minimum = lowest;
    Floats best_iscale = iscale;  // those that gave the best codes
    Floats best_lowest = lowest;
    std::array<Floats, most> tried;
    for (int step = 0; step <= n_steps; ++step) {
        const float levels = -0.9F + 0.05F * static_cast<float>(step) + n_levels;
        Floats sum_l{};
        Floats sum_l2{};
        Floats sum_xl{};
        for (std::size_t r = 0; r < n_together; ++r) iscale[r] = levels / (highest[r] - lowest[r]);
        for (std::size_t i = 0; i < n; ++i)
#pragma omp simd
            for (std::size_t r = 0; r < n_together; ++r) {
                const auto l = static_cast<float>(
                    within(0, n_max, nearest_int(iscale[r] * (x[i][r] - lowest[r]))));
                const float wl = w[i][r] * l;
                tried[i][r] = l;
                sum_l[r] += wl;
                sum_l2[r] += wl * l;
                sum_xl[r] += wl * x[i][r];
            }
        Floats determinant;
        Floats new_scale;
        Floats new_lowest;
        Floats new_error{};
#pragma omp simd
        for (std::size_t r = 0; r < n_together; ++r) {
            determinant[r] = sum_w[r] * sum_l2[r] - sum_l[r] * sum_l[r];
            const float slope = (sum_w[r] * sum_xl[r] - sum_x[r] * sum_l[r]) / determinant[r];
            const float offset = (sum_l2[r] * sum_x[r] - sum_l[r] * sum_xl[r]) / determinant[r];
            const float through_zero = sum_xl[r] / sum_l2[r];
            new_lowest[r] = offset > 0.0F ? 0.0F : offset;
            new_scale[r] = offset > 0.0F ? through_zero : slope;
        }
        for (std::size_t i = 0; i < n; ++i)
#pragma omp simd
            for (std::size_t r = 0; r < n_together; ++r) {
                const float left = new_scale[r] * tried[i][r] + new_lowest[r] - x[i][r];
                new_error[r] += w[i][r] * (left * left);
            }
#pragma omp simd
        for (std::size_t r = 0; r < n_together; ++r) {
            const bool is_better = determinant[r] > 0.0F && new_error[r] < error[r];
            error[r] = is_better ? new_error[r] : error[r];
            scale[r] = is_better ? new_scale[r] : scale[r];
            best_iscale[r] = is_better ? iscale[r] : best_iscale[r];
            best_lowest[r] = is_better ? lowest[r] : best_lowest[r];
            lowest[r] = is_better ? new_lowest[r] : lowest[r];
        }
    }
    for (std::size_t i = 0; i < n; ++i)
#pragma omp simd
        for (std::size_t r = 0; r < n_together; ++r) {
            const auto l =
                within(0, n_max, nearest_int(best_iscale[r] * (x[i][r] - best_lowest[r])));
            codes[i][r] = is_flat[r] != 0 ? 0 : l;
        }
    for (std::size_t r = 0; r < n_together; ++r) {
        minimum[r] = is_flat[r] != 0 ? -zero_minimum[r] : -lowest[r];
        scale[r] = is_flat[r] != 0 ? 0.0F : scale[r];
    }
}

// The number that lies furthest from zero, the first of these; `distance` is how far.
Floats outermost(const Floats *x, std::size_t n, Floats &distance) noexcept {
    Floats found{};
    distance = {};
    for (std::size_t i = 0; i < n; ++i)
#pragma omp simd
        for (std::size_t r = 0; r < n_together; ++r) {
            const float size = std::fabs(x[i][r]);
            found[r] = size > distance[r] ? x[i][r] : found[r];
            distance[r] = size > distance[r] ? size : distance[r];
        }
    return found;
}

// make_qx_quants: a scale so that scale * level, levels from -n_max to n_max - 1, is near. Codes count
// from the lowest level.
void search_symmetric(const Floats *x, const Floats *w, std::size_t n, int n_max, Floats &scale,
                      Ints *codes) noexcept {
    constexpr int n_steps = 9;
    Floats distance;
    const Floats largest = outermost(x, n, distance);
    Floats iscale;
    Floats best_iscale{};
    Floats best{};
    for (int turn = 0; turn <= 2 * n_steps; ++turn) {
        // First without a step, then all others in their order.
        const int step = turn == 0 ? 0 : turn <= n_steps ? turn - n_steps - 1 : turn - n_steps;
        const float levels = -(static_cast<float>(n_max) + 0.1F * static_cast<float>(step));
        Floats sum_lx{};
        Floats sum_l2{};
        for (std::size_t r = 0; r < n_together; ++r) iscale[r] = levels / largest[r];
        for (std::size_t i = 0; i < n; ++i)
#pragma omp simd
            for (std::size_t r = 0; r < n_together; ++r) {
                const auto l = static_cast<float>(
                    within(-n_max, n_max - 1, nearest_int(iscale[r] * x[i][r])));
                sum_lx[r] += w[i][r] * x[i][r] * l;
                sum_l2[r] += w[i][r] * l * l;
            }
#pragma omp simd
        for (std::size_t r = 0; r < n_together; ++r) {
            const float fitted = sum_lx[r] / sum_l2[r];
            const bool is_first = turn == 0;
            const bool is_better = sum_l2[r] > 0.0F && sum_lx[r] * sum_lx[r] > best[r] * sum_l2[r];
            const float first_scale = sum_l2[r] != 0.0F ? fitted : 0.0F;
            const float new_scale = is_first ? first_scale : fitted;
            const bool is_taken = is_first || is_better;
            scale[r] = is_taken ? new_scale : scale[r];
            best[r] = is_taken ? new_scale * sum_lx[r] : best[r];
            best_iscale[r] = is_taken ? iscale[r] : best_iscale[r];
        }
    }
    for (std::size_t i = 0; i < n; ++i)
#pragma omp simd
        for (std::size_t r = 0; r < n_together; ++r) {
            const auto l = within(-n_max, n_max - 1, nearest_int(best_iscale[r] * x[i][r]));
            codes[i][r] = distance[r] < all_zero ? 0 : n_max + l;
        }
    for (std::size_t r = 0; r < n_together; ++r)
        scale[r] = distance[r] < all_zero ? 0.0F : scale[r];
}

// make_qp_quants: the scales of a block's groups, none below zero, as codes from 0 to n_max.
Floats search_scales(const Floats *x, const Floats *w, std::size_t n, int n_max,
                     Ints *codes) noexcept {
    constexpr int n_steps = 4;
    constexpr int n_passes = 5;
    constexpr int byte = 255;  // ggml keeps codes in bytes
    Floats highest{};
    for (std::size_t i = 0; i < n; ++i)
        for (std::size_t r = 0; r < n_together; ++r)
            highest[r] = highest[r] > x[i][r] ? highest[r] : x[i][r];
    Floats best_iscale{};
    Floats error{};
    for (int turn = 0; turn <= 2 * n_steps; ++turn) {
        const int step = turn == 0 ? 0 : turn <= n_steps ? turn - n_steps - 1 : turn - n_steps;
        const float levels = 0.1F * static_cast<float>(step) + static_cast<float>(n_max);
        Floats iscale;
        Floats scale;
        Floats new_error{};
        for (std::size_t r = 0; r < n_together; ++r) {
            iscale[r] = levels / highest[r];
            scale[r] = 1.0F / iscale[r];
        }
        for (std::size_t i = 0; i < n; ++i)
#pragma omp simd
            for (std::size_t r = 0; r < n_together; ++r) {
                const std::int32_t l = nearest_int(iscale[r] * x[i][r]);
                const std::int32_t code = turn == 0 ? l & byte : (l < n_max ? l : n_max);
                const float left = x[i][r] - scale[r] * static_cast<float>(code);
                new_error[r] += w[i][r] * left * left;
            }
        for (std::size_t r = 0; r < n_together; ++r)
            if (turn == 0 || new_error[r] < error[r]) {
                error[r] = new_error[r];
                best_iscale[r] = iscale[r];
            }
    }
    Floats sum_lx{};
    Floats sum_l2{};
    for (std::size_t i = 0; i < n; ++i)
#pragma omp simd
        for (std::size_t r = 0; r < n_together; ++r) {
            std::int32_t l = nearest_int(best_iscale[r] * x[i][r]);
            l = l < n_max ? l : n_max;
            codes[i][r] = l & byte;
            sum_lx[r] += w[i][r] * x[i][r] * static_cast<float>(l);
            sum_l2[r] += w[i][r] * static_cast<float>(l) * static_cast<float>(l);
        }
    // A pass that changes nothing is followed by more of that kind.
    for (int pass = 0; pass < n_passes; ++pass)
        for (std::size_t i = 0; i < n; ++i)
#pragma omp simd
            for (std::size_t r = 0; r < n_together; ++r) {
                const auto old = static_cast<float>(codes[i][r]);
                const float others_lx = sum_lx[r] - w[i][r] * x[i][r] * old;
                const float others_l2 = sum_l2[r] - w[i][r] * old * old;
                std::int32_t l = nearest_int(x[i][r] * others_l2 / others_lx);
                l = l < n_max ? l : n_max;
                const auto level = static_cast<float>(l);
                const float new_lx = others_lx + w[i][r] * x[i][r] * level;
                const float new_l2 = others_l2 + w[i][r] * level * level;
                const bool is_better =
                    others_lx > 0.0F && others_l2 > 0.0F && l != codes[i][r] &&
                    new_lx * new_lx * sum_l2[r] > sum_lx[r] * sum_lx[r] * new_l2;
                codes[i][r] = is_better ? l & byte : codes[i][r];
                sum_lx[r] = is_better ? new_lx : sum_lx[r];
                sum_l2[r] = is_better ? new_l2 : sum_l2[r];
            }
    Floats scale;
    for (std::size_t r = 0; r < n_together; ++r) {
        const bool is_zero = highest[r] < all_zero;
        scale[r] = !is_zero && sum_l2[r] > 0.0F ? sum_lx[r] / sum_l2[r] : 0.0F;
        for (std::size_t i = 0; i < n; ++i) codes[i][r] = is_zero ? 0 : codes[i][r];
    }
    return scale;
}

// The place in a table of rising levels that is nearest to a number, the higher of two; and its level.
struct Table {
    static constexpr std::size_t n_levels = 16;
    std::array<float, n_levels> levels;
    std::array<float, n_levels - 1> middles;

    explicit Table(std::span<const std::int8_t> table) noexcept {
        for (std::size_t i = 0; i < n_levels; ++i) levels[i] = static_cast<float>(table[i]);
        for (std::size_t i = 0; i + 1 < n_levels; ++i)
            middles[i] = 0.5F * (levels[i] + levels[i + 1]);
    }
};

// Of quantize_row_iq4_nl_impl: the scale of one group.
Floats search_in_table(const Table &table, const Floats *x, const Floats *w,
                       std::size_t n) noexcept {
    constexpr int n_tries = 7;
    Floats distance;
    const Floats largest = outermost(x, n, distance);
    Floats scale{};
    Floats best{};
    for (int turn = -1; turn <= 2 * n_tries; ++turn) {
        Floats inverse;
        Floats sum_qx{};
        Floats sum_q2{};
        const float lowest = table.levels[0];
        for (std::size_t r = 0; r < n_together; ++r) {
            const float first = 1.0F / (-largest[r] / lowest);
            const float other = (static_cast<float>(turn - n_tries) + lowest) / largest[r];
            inverse[r] = turn < 0 ? first : other;
        }
        for (std::size_t i = 0; i < n; ++i) {
            Floats q;
            q.fill(lowest);
            for (std::size_t k = 0; k < table.middles.size(); ++k) {
                const float middle = table.middles[k];
                const float level = table.levels[k + 1];
#pragma omp simd
                for (std::size_t r = 0; r < n_together; ++r)
                    q[r] = inverse[r] * x[i][r] >= middle ? level : q[r];
            }
#pragma omp simd
            for (std::size_t r = 0; r < n_together; ++r) {
                sum_qx[r] += w[i][r] * q[r] * x[i][r];
                sum_q2[r] += w[i][r] * q[r] * q[r];
            }
        }
#pragma omp simd
        for (std::size_t r = 0; r < n_together; ++r) {
            const bool is_any = sum_q2[r] > 0.0F;
            const bool is_better = is_any && sum_qx[r] * sum_qx[r] > best[r] * sum_q2[r];
            const float fitted = is_any ? sum_qx[r] / sum_q2[r] : 0.0F;
            const bool is_taken = turn < 0 || is_better;
            scale[r] = is_taken ? fitted : scale[r];
            best[r] = is_taken ? fitted * sum_qx[r] : best[r];
        }
    }
    for (std::size_t r = 0; r < n_together; ++r)
        scale[r] = distance[r] < all_zero ? 0.0F : scale[r];
    return scale;
}

void take_from_table(const Table &table, const Floats &inverse, const Floats &x,
                     Ints &codes) noexcept {
    codes = {};
    for (const float middle : table.middles)
#pragma omp simd
        for (std::size_t r = 0; r < n_together; ++r)
            codes[r] += inverse[r] * x[r] >= middle ? 1 : 0;
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
// scale below zero, spoils its neighbour, too.
void as_packed(const BlockType &type, Blocks &blocks) noexcept {
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
                if (type.name == "Q5_K") {
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

// Q2_K, Q4_K, Q5_K, and Q4_1 and Q5_1, which have one group.
void round_with_minimum(const BlockType &type, Blocks &blocks) noexcept {
    const std::size_t n = type.group_size;
    for (std::size_t g = 0; g < type.n_groups(); ++g)
        search_with_minimum(&blocks.x[g * n], &blocks.w[g * n], n, type.highest_code,
                            blocks.scale[g], blocks.minimum[g], &blocks.codes[g * n]);
    if (!type.has_integers()) {
        blocks.d = blocks.scale[0];
        for (std::size_t r = 0; r < n_together; ++r) blocks.d_minimum[r] = -blocks.minimum[0][r];
        return;
    }
    std::array<Floats, Block::max_groups> sums;
    sum_weights(type, blocks, sums.data());
    const std::size_t n_groups = type.n_groups();
    blocks.d = search_scales(blocks.scale.data(), sums.data(), n_groups, type.highest_scale,
                             blocks.scale_codes.data());
    blocks.d_minimum = search_scales(blocks.minimum.data(), sums.data(), n_groups,
                                     type.highest_minimum, blocks.minimum_codes.data());
    as_packed(type, blocks);
    round_again(type, blocks);
}

// Q3_K and Q6_K, and Q4_0 and Q5_0, which have one group.
void round_symmetric(const BlockType &type, Blocks &blocks) noexcept {
    const std::size_t n = type.group_size;
    const std::size_t n_groups = type.n_groups();
    for (std::size_t g = 0; g < n_groups; ++g)
        search_symmetric(&blocks.x[g * n], &blocks.w[g * n], n, -type.lowest_level,
                         blocks.scale[g], &blocks.codes[g * n]);
    if (!type.has_integers()) {
        blocks.d = blocks.scale[0];
        return;
    }
    if (!type.scale_is_signed) {  // Q3_K
        std::array<Floats, Block::max_groups> sums;
        sum_weights(type, blocks, sums.data());
        search_symmetric(blocks.scale.data(), sums.data(), n_groups, -type.scale_offset, blocks.d,
                         blocks.scale_codes.data());
        for (std::size_t g = 0; g < n_groups; ++g)
            for (std::size_t r = 0; r < n_together; ++r)
                blocks.scale_codes[g][r] += type.scale_offset;
        round_again(type, blocks);
        return;
    }
    Floats distance;
    const Floats largest = outermost(blocks.scale.data(), n_groups, distance);
    for (std::size_t r = 0; r < n_together; ++r) {
        const float iscale = static_cast<float>(type.lowest_scale) / largest[r];
        blocks.d[r] = 1.0F / iscale;
        for (std::size_t g = 0; g < n_groups; ++g) {
            const std::int32_t l = nearest_int(iscale * blocks.scale[g][r]);
            blocks.scale_codes[g][r] = l < type.highest_scale ? l : type.highest_scale;
        }
    }
    round_again(type, blocks);
    for (std::size_t r = 0; r < n_together; ++r) {
        if (!(distance[r] < all_zero)) continue;
        blocks.d[r] = 0.0F;
        for (std::size_t g = 0; g < n_groups; ++g) blocks.scale_codes[g][r] = 0;
        for (Ints &codes : blocks.codes) codes[r] = 0;
    }
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

// ggml's weight of a number: its column's importance times its size, and the usual one of its block,
// or of its row where blocks are small; Q6_K's is the importance alone.
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

Floats mean_square(const Floats *x, std::size_t n, float times) noexcept {
    Floats sum{};
    for (std::size_t i = 0; i < n; ++i)
#pragma omp simd
        for (std::size_t r = 0; r < n_together; ++r) sum[r] += x[i][r] * x[i][r];
    for (float &one : sum) one = times * one / static_cast<float>(n);
    return sum;
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

bool is_searched(const BlockType &type) noexcept { return type.name != "Q8_0"; }

void round_as_ggml(const BlockType &type, std::span<const float> rows,
                   std::span<const float> importance, std::span<std::uint8_t> bytes) {
    const std::size_t n_cols = importance.size();
    const std::size_t n_rows = rows.size() / std::max<std::size_t>(n_cols, 1);
    const std::size_t row_bytes = n_cols / type.n_elements * type.n_bytes;
    const Weighing weighing = weighing_of(type);
    std::vector<Floats> x(n_cols);
    const auto blocks_of_rows = std::make_unique<Blocks>();
    Blocks &blocks = *blocks_of_rows;
    for (std::size_t first = 0; first < n_rows; first += n_together) {
        const std::size_t n = std::min(n_together, n_rows - first);
        for (std::size_t r = 0; r < n_together; ++r)
            for (std::size_t i = 0; i < n_cols; ++i)
                x[i][r] = r < n ? rows[(first + r) * n_cols + i] : 0.0F;
        Floats usual = mean_square(x.data(), n_cols, weighing.times);
        for (std::size_t start = 0; start < n_cols; start += type.n_elements) {
            std::copy_n(x.data() + start, type.n_elements, blocks.x.data());
            if (!weighing.by_row) usual = mean_square(blocks.x.data(), type.n_elements, weighing.times);
            weigh(weighing, usual, importance.subspan(start, type.n_elements), blocks);
            if (!type.table.empty())
                round_to_table(type, Table(type.table), blocks);
            else if (type.has_minimum)
                round_with_minimum(type, blocks);
            else
                round_symmetric(type, blocks);
            const std::size_t at = first * row_bytes + start / type.n_elements * type.n_bytes;
            pack(type, blocks, n, row_bytes, bytes.data() + at);
        }
    }
}

}  // namespace snug
