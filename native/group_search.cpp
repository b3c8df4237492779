#include "group_search.hpp"

#include <algorithm>

namespace snug {
namespace {

// How many steps of a scale, and of a minimum, are tried to either side.
constexpr int n_steps_alone = 4;
constexpr int n_steps = 2;
// Steps of scales that are no integers, in parts of what moves the outermost level by one step, and
// of minimums, in parts of a step.
constexpr float scale_step = 0.25F;
constexpr float minimum_step = 0.2F;

using GroupColumns = std::array<Lanes<float>, GroupFactors::max_size>;

// The weights that would be best if they need not be on the grid, and the error of those there are.
struct Optimum {
    GroupColumns weights;
    Lanes<float> error{};
};

Optimum find_optimum(const WeightTile &tile, const GroupFactors &factors, std::size_t group,
                     const Lanes<float> *gradient) noexcept {
    // x F D F^T = gradient, x what is too much in each column: first u = x F D, then x.
    const std::size_t n = tile.type.group_size;
    Optimum optimum;
    GroupColumns u;
    for (std::size_t j = 0; j < n; ++j) u[j] = gradient[j];
    for (std::size_t j = n; j-- > 0;) {
        const float *const feedback = factors.feedback(group, j);
        for (std::size_t i = 0; i < j; ++i)
#pragma omp simd
            for (std::size_t r = 0; r < n_lanes; ++r) u[i][r] -= feedback[i] * u[j][r];
    }
    GroupColumns x;
    Lanes<float> values;
    for (std::size_t j = 0; j < n; ++j) {
        const float *const feedback = factors.feedback(group, j);
        const float inverse = 1.0F / feedback[j];
        Lanes<float> sum;
#pragma omp simd
        for (std::size_t r = 0; r < n_lanes; ++r) {
            sum[r] = u[j][r] * inverse;
            optimum.error[r] += u[j][r] * sum[r];
        }
        for (std::size_t i = 0; i < j; ++i)
#pragma omp simd
            for (std::size_t r = 0; r < n_lanes; ++r) sum[r] -= feedback[i] * x[i][r];
        x[j] = sum;
        tile.values_of(group * n + j, values);
#pragma omp simd
        for (std::size_t r = 0; r < n_lanes; ++r) optimum.weights[j][r] = values[r] - x[j][r];
    }
    return optimum;
}

GroupLanes lanes_of(const GroupScales &scales) noexcept {
    GroupLanes group;
    for (std::size_t r = 0; r < n_lanes; ++r)
        group.set(r, scales.d[r] * static_cast<float>(scales.scale[r]),
                  scales.d_minimum[r] * static_cast<float>(scales.minimum[r]));
    return group;
}

// Rounds the optimum with these scales. `take(j, codes, values)` gets each column.
template <typename Take>
Lanes<float> round_group(const WeightTile &tile, const GroupFactors &factors, std::size_t group,
                         const GroupColumns &weights, const GroupScales &scales,
                         Take take) noexcept {
    const GroupLanes lanes = lanes_of(scales);
    GroupColumns errors;
    Lanes<float> error{};
    Lanes<std::uint8_t> codes;
    Lanes<float> values;
    for (std::size_t j = 0; j < tile.type.group_size; ++j) {
        const float *const feedback = factors.feedback(group, j);
        Lanes<float> target = weights[j];
        for (std::size_t i = 0; i < j; ++i)
#pragma omp simd
            for (std::size_t r = 0; r < n_lanes; ++r) target[r] += feedback[i] * errors[i][r];
        round_to(tile.type, lanes, target, codes, values);
        const float pivot = feedback[j];
#pragma omp simd
        for (std::size_t r = 0; r < n_lanes; ++r) {
            const float left = target[r] - values[r];
            error[r] += pivot * left * left;
            errors[j][r] = weights[j][r] - values[r];
        }
        take(j, codes, values);
    }
    return error;
}

// The scales that lie so many steps from those of the group; no further than the type can hold.
GroupScales scales_near(const BlockType &type, const GroupScales &scales, int up,
                        int more) noexcept {
    GroupScales near = scales;
    if (type.has_integers()) {
        for (std::size_t r = 0; r < n_lanes; ++r) {
            near.scale[r] = static_cast<std::int16_t>(
                std::clamp(scales.scale[r] + up, type.lowest_scale, type.highest_scale));
            near.minimum[r] = static_cast<std::int16_t>(
                std::clamp(scales.minimum[r] + more, 0, type.highest_minimum));
        }
        return near;
    }
    const auto lowest = static_cast<unsigned>(type.lowest_code);
    const auto highest = static_cast<unsigned>(type.highest_code);
    const float middle = 0.5F * (type.level(lowest) + type.level(highest));
    const float outermost = std::max(type.level(highest), -type.level(lowest)) - middle;
    const float reach = type.table.empty() ? outermost : 8.0F;  // of the table, in its usual steps
    for (std::size_t r = 0; r < n_lanes; ++r) {
        const float old = scales.d[r];
        near.d[r] = old * (1.0F + scale_step * static_cast<float>(up) / reach);
        if (type.has_minimum)
            near.d_minimum[r] = scales.d_minimum[r] + (old - near.d[r]) * middle +
                                old * minimum_step * static_cast<float>(more);
    }
    near.d = as_halves(near.d);
    near.d_minimum = as_halves(near.d_minimum);
    return near;
}

}  // namespace

GroupFactors::GroupFactors(const Curvature &curvature, std::size_t group_size)
    : size(group_size), factors(curvature.n() * group_size) {
    std::array<std::array<double, max_size>, max_size> f;
    std::array<double, max_size> d;
    for (std::size_t first = 0; first < curvature.n(); first += size)
        for (std::size_t j = size; j-- > 0;) {
            float *const out = factors.data() + (first + j) * size;
            for (std::size_t i = 0; i <= j; ++i) {
                auto sum = static_cast<double>(curvature.moment_row(first + i)[first + j]);
                for (std::size_t k = j + 1; k < size; ++k) sum -= f[i][k] * f[j][k] * d[k];
                f[i][j] = sum;
            }
            d[j] = f[j][j];
            for (std::size_t i = 0; i < j; ++i) {
                f[i][j] /= d[j];
                out[i] = static_cast<float>(f[i][j]);
            }
            out[j] = static_cast<float>(d[j]);
        }
}

void search_group(const WeightTile &tile, const GroupFactors &factors, std::size_t group,
                  const Lanes<float> *gradient, GroupChoice &choice) noexcept {
    const BlockType &type = tile.type;
    const std::size_t n = type.group_size;
    const std::size_t block = group * n / type.n_elements;
    const GroupScales old{tile.scales[group], tile.minimums[group], tile.d[block],
                          tile.d_minimum[block]};
    const Optimum optimum = find_optimum(tile, factors, group, gradient);
    Lanes<float> lowest;
    for (std::size_t r = 0; r < n_lanes; ++r) lowest[r] = optimum.error[r] * (1.0F - 1e-5F);

    choice.is_better = false;
    choice.scales = old;
    Lanes<bool> is_better{};
    const int reach = type.has_minimum ? n_steps : n_steps_alone;
    const int reach_minimum = type.has_minimum ? n_steps : 0;
    for (int up = -reach; up <= reach; ++up)
        for (int more = -reach_minimum; more <= reach_minimum; ++more) {
            const GroupScales near = scales_near(type, old, up, more);
            const Lanes<float> error =
                round_group(tile, factors, group, optimum.weights, near,
                            [](std::size_t, const auto &, const auto &) {});
            for (std::size_t r = 0; r < n_lanes; ++r) {
                if (!(error[r] < lowest[r])) continue;
                lowest[r] = error[r];
                is_better[r] = true;
                choice.is_better = true;
                choice.scales.scale[r] = near.scale[r];
                choice.scales.minimum[r] = near.minimum[r];
                choice.scales.d[r] = near.d[r];
                choice.scales.d_minimum[r] = near.d_minimum[r];
            }
        }
    if (!choice.is_better) return;
    round_group(tile, factors, group, optimum.weights, choice.scales,
                [&](std::size_t j, const Lanes<std::uint8_t> &codes, const Lanes<float> &values) {
                    const std::size_t column = group * n + j;
                    Lanes<float> before;
                    tile.values_of(column, before);
                    for (std::size_t r = 0; r < n_lanes; ++r) {
                        choice.codes[j][r] = is_better[r] ? codes[r] : tile.codes[column][r];
                        choice.changes[j][r] = is_better[r] ? values[r] - before[r] : 0.0F;
                    }
                });
}

}  // namespace snug
