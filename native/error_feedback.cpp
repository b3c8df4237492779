#include "error_feedback.hpp"

#include <algorithm>
#include <array>
#include <vector>

namespace snug {
namespace {

// Errors reach the columns of one panel at once, those behind it together.
constexpr std::size_t n_panel = 128;

// Walks the columns in order. `round(column, target, value)` chooses a column's code for what the
// weight should be after the errors so far, and tells what it holds.
template <typename Round>
Lanes<double> walk_columns(const WeightTile &tile, const Curvature &curvature, Round round) {
    const std::size_t n = curvature.n();
    std::vector<float> later(n_lanes * tile.stride);  // what earlier errors add to each target
    std::array<Lanes<float>, n_panel> added;
    std::array<Lanes<float>, n_panel> errors;
    Lanes<double> sums{};
    for (std::size_t first = 0; first < n; first += n_panel) {
        const std::size_t last = std::min(first + n_panel, n);
        for (std::size_t r = 0; r < n_lanes; ++r)
            for (std::size_t j = first; j < last; ++j)
                added[j - first][r] = later[r * tile.stride + j];
        for (std::size_t j = first; j < last; ++j) {
            const auto column = static_cast<std::size_t>(curvature.order[j]);
            Lanes<float> &error = errors[j - first];
            Lanes<float> target;
            Lanes<float> value;
            for (std::size_t r = 0; r < n_lanes; ++r) {
                error[r] = tile.rows[r * tile.stride + column];
                target[r] = error[r] + added[j - first][r];
            }
            round(column, target, value);
            const auto pivot = static_cast<double>(curvature.pivots[j]);
#pragma omp simd
            for (std::size_t r = 0; r < n_lanes; ++r) {
                const auto left = static_cast<double>(target[r] - value[r]);
                sums[r] += pivot * left * left;
                error[r] -= value[r];
            }
            const float *const feedback = curvature.feedback_row(j);
            for (std::size_t k = j + 1; k < last; ++k) {
                const float factor = feedback[k];
                Lanes<float> &sum = added[k - first];
#pragma omp simd
                for (std::size_t r = 0; r < n_lanes; ++r) sum[r] += factor * error[r];
            }
        }
        add_products(errors[0].data(), last - first, curvature.feedback_row(first) + last, n,
                     later.data() + last, tile.stride, n - last);
    }
    return sums;
}

}  // namespace

Lanes<double> round_with_feedback(WeightTile &tile, const Curvature &curvature) {
    return walk_columns(
        tile, curvature,
        [&tile](std::size_t column, const Lanes<float> &target, Lanes<float> &value) {
            tile.round(column, target, tile.codes[column], value);
        });
}

Lanes<double> error_of(const WeightTile &tile, const Curvature &curvature) {
    return walk_columns(tile, curvature,
                        [&tile](std::size_t column, const Lanes<float> &, Lanes<float> &value) {
                            tile.values_of(column, value);
                        });
}

}  // namespace snug
