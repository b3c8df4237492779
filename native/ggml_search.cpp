#include "ggml_search.hpp"

#include <cmath>

namespace snug {
// make_qkx3_quants and make_qkx2_quants
void search_with_minimum(const Floats *x, const Floats *w, std::size_t n, int n_max,
                         const MinimumSteps &steps, Floats &scale, Floats &minimum,
                         Ints *codes) noexcept {
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
            error[r] += w[i][r] * (steps.by_distance ? std::fabs(left) : left * left);
        }
    const Floats zero_minimum = lowest;
    Floats best_iscale = iscale;  // those that gave the best codes
    Floats best_lowest = lowest;
    std::array<Floats, most> tried;
    for (int step = 0; step <= steps.n; ++step) {
        const float levels = steps.first + steps.each * static_cast<float>(step) + n_levels;
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
                new_error[r] += w[i][r] * (steps.by_distance ? std::fabs(left) : left * left);
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

// make_qx_quants
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

// make_q3_quants
void climb_symmetric(const Floats *x, std::size_t n, int n_max, Floats &scale,
                     Ints *codes) noexcept {
    constexpr int n_passes = 5;
    Floats distance;
    const Floats largest = outermost(x, n, distance);
    Floats sum_lx{};
    Floats sum_l2{};
    Floats iscale;
    for (std::size_t r = 0; r < n_together; ++r) iscale[r] = static_cast<float>(-n_max) / largest[r];
    for (std::size_t i = 0; i < n; ++i)
#pragma omp simd
        for (std::size_t r = 0; r < n_together; ++r) {
            codes[i][r] = within(-n_max, n_max - 1, nearest_int(iscale[r] * x[i][r]));
            const auto l = static_cast<float>(codes[i][r]);
            const float w = x[i][r] * x[i][r];
            sum_lx[r] += w * x[i][r] * l;
            sum_l2[r] += w * l * l;
        }
    // A pass that changes nothing is followed by more of that kind.
    for (int pass = 0; pass < n_passes; ++pass)
        for (std::size_t i = 0; i < n; ++i)
#pragma omp simd
            for (std::size_t r = 0; r < n_together; ++r) {
                const auto old = static_cast<float>(codes[i][r]);
                const float w = x[i][r] * x[i][r];
                const float others_lx = sum_lx[r] - w * x[i][r] * old;
                const float others_l2 = sum_l2[r] - w * old * old;
                const std::int32_t l =
                    within(-n_max, n_max - 1, nearest_int(x[i][r] * others_l2 / others_lx));
                const auto level = static_cast<float>(l);
                const float new_lx = others_lx + w * x[i][r] * level;
                const float new_l2 = others_l2 + w * level * level;
                const bool is_better =
                    others_lx > 0.0F && l != codes[i][r] && new_l2 > 0.0F &&
                    new_lx * new_lx * sum_l2[r] > sum_lx[r] * sum_lx[r] * new_l2;
                codes[i][r] = is_better ? l : codes[i][r];
                sum_lx[r] = is_better ? new_lx : sum_lx[r];
                sum_l2[r] = is_better ? new_l2 : sum_l2[r];
            }
    for (std::size_t r = 0; r < n_together; ++r) {
        const bool is_zero = distance[r] < all_zero;
        scale[r] = !is_zero && sum_l2[r] > 0.0F ? sum_lx[r] / sum_l2[r] : 0.0F;
        for (std::size_t i = 0; i < n; ++i) codes[i][r] = is_zero ? 0 : codes[i][r] + n_max;
    }
}

// make_qp_quants
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

Floats scales_by_largest(const Floats *x, std::size_t n, int n_max, Ints *codes) noexcept {
    constexpr int byte = 255;
    const auto n_levels = static_cast<float>(n_max);
    Floats highest{};
    for (std::size_t i = 0; i < n; ++i)
        for (std::size_t r = 0; r < n_together; ++r)
            highest[r] = x[i][r] > highest[r] ? x[i][r] : highest[r];
    Floats scale;
    for (std::size_t r = 0; r < n_together; ++r) {
        const float inverse = highest[r] > 0.0F ? n_levels / highest[r] : 0.0F;
        for (std::size_t i = 0; i < n; ++i) codes[i][r] = nearest_int(inverse * x[i][r]) & byte;
        scale[r] = highest[r] / n_levels;
    }
    return scale;
}

Table::Table(std::span<const std::int8_t> table) noexcept {
    for (std::size_t i = 0; i < n_levels; ++i) levels[i] = static_cast<float>(table[i]);
    for (std::size_t i = 0; i + 1 < n_levels; ++i) middles[i] = 0.5F * (levels[i] + levels[i + 1]);
}

// Of quantize_row_iq4_nl_impl
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
                    q[r] = inverse[r] * x[i][r] < middle ? q[r] : level;  // a NaN has the last
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
            codes[r] += inverse[r] * x[r] < middle ? 0 : 1;
}

}  // namespace snug
