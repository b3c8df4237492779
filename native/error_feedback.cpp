#include "error_feedback.hpp"

#include <algorithm>
#include <array>
#include <utility>
#include <vector>

namespace snug {
namespace {

// Errors reach the columns of one panel at once, those behind it together.
constexpr std::size_t n_panel = 64;

// Walks the columns in order. `round(column, target, value)` chooses a column's code for what the
// weight should be after the errors so far, and tells what it holds.
template <typename Round>
Walk walk_columns(const WeightTile &tile, const Curvature &curvature, Round round) {
    const std::size_t n = curvature.n();
    LaneRows later(n);  // what earlier errors add to each target
    std::array<Lanes<float>, n_panel> added;
    std::array<Lanes<float>, n_panel> errors;
    Lanes<double> sums{};
    std::vector<Lanes<float>> residuals(n);
    for (std::size_t first = 0; first < n; first += n_panel) {
        const std::size_t last = std::min(first + n_panel, n);
        for (std::size_t r = 0; r < n_lanes; ++r)
            for (std::size_t j = first; j < last; ++j)
                added[j - first][r] = later.row(r)[j];
        for (std::size_t j = first; j < last; ++j) {
            const auto column = static_cast<std::size_t>(curvature.order[j]);
            Lanes<float> &error = errors[j - first];
            Lanes<float> target;
            Lanes<float> value;
            for (std::size_t r = 0; r < n_lanes; ++r) {
                error[r] = tile.rows.row(r)[column];
                target[r] = error[r] + added[j - first][r];
            }
            round(column, target, value);
            const float pivot = curvature.pivots[j];
            Lanes<float> residual;
#pragma omp simd
            for (std::size_t r = 0; r < n_lanes; ++r) {
                const float left = target[r] - value[r];
                residual[r] = pivot * left;
                sums[r] += static_cast<double>(residual[r] * left);
                error[r] -= value[r];
            }
            residuals[j] = residual;
            const float *const feedback = curvature.feedback_row(j);
            for (std::size_t k = j + 1; k < last; ++k) {
                const float factor = feedback[k];
                Lanes<float> &sum = added[k - first];
#pragma omp simd
                for (std::size_t r = 0; r < n_lanes; ++r) sum[r] += factor * error[r];
            }
        }
        add_products(errors[0].data(), last - first, curvature.feedback_row(first) + last, n,
                     later.row(0) + last, later.stride, n - last);
    }
    return {sums, std::move(residuals)};
}

}  // namespace

Walk round_with_feedback(WeightTile &tile, const Curvature &curvature) {
    return walk_columns(
        tile, curvature,
        [&tile](std::size_t column, const Lanes<float> &target, Lanes<float> &value) {
            round_to(tile.type, tile.group_of(column), target, tile.codes[column], value);
        });
}

Walk walk_codes(const WeightTile &tile, const Curvature &curvature) {
    return walk_columns(tile, curvature,
                        [&tile](std::size_t column, const Lanes<float> &, Lanes<float> &value) {
                            tile.values_of(column, value);
                        });
}

LaneRows gradient_after(const Walk &walk, const Curvature &curvature) {
    // The error times H is its residuals times F^T, of which a row is a row of `feedback` up to the
    // diagonal.
    const std::size_t n = curvature.n();
    LaneRows ordered(n);
    std::array<Lanes<float>, n_panel> sums;
    for (std::size_t first = 0; first < n; first += n_panel) {
        const std::size_t last = std::min(first + n_panel, n);
        add_products(walk.residuals[first].data(), last - first, curvature.feedback_row(first), n,
                     ordered.row(0), ordered.stride, first);
        for (std::size_t k = first; k < last; ++k) sums[k - first] = {};
        for (std::size_t j = first; j < last; ++j) {
            const float *const feedback = curvature.feedback_row(j);
            for (std::size_t k = first; k <= j; ++k) {
                const float factor = feedback[k];
                Lanes<float> &sum = sums[k - first];
#pragma omp simd
                for (std::size_t r = 0; r < n_lanes; ++r) sum[r] += factor * walk.residuals[j][r];
            }
        }
        for (std::size_t r = 0; r < n_lanes; ++r)
            for (std::size_t k = first; k < last; ++k)
                ordered.row(r)[k] += sums[k - first][r];
    }
    LaneRows gradient(n);
    for (std::size_t r = 0; r < n_lanes; ++r)
        for (std::size_t k = 0; k < n; ++k)
            gradient.row(r)[static_cast<std::size_t>(curvature.order[k])] = -ordered.row(r)[k];
    return gradient;
}

}  // namespace snug
