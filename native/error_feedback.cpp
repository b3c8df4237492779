#include "error_feedback.hpp"

#include <algorithm>
#include <array>
#include <utility>
#include <vector>

namespace snug {
namespace {

// Errors reach the columns of one panel at once, those behind it together.
constexpr std::size_t n_panel = 64;

// How far one column is off, and what that adds to the error of the rows.
void note_error(const Lanes<float> &target, const Lanes<float> &value, float pivot,
                Lanes<float> &residual, Lanes<double> &sums) noexcept {
#pragma omp simd
    for (std::size_t r = 0; r < n_lanes; ++r) {
        const float left = target[r] - value[r];
        residual[r] = pivot * left;
        sums[r] += static_cast<double>(residual[r] * left);
    }
}

// sums[k] += factors[k] * error for `n` columns
void add_to_all(const float *factors, const Lanes<float> &error, Lanes<float> *sums,
                std::size_t n) noexcept {
    for (std::size_t k = 0; k < n; ++k) {
        const float factor = factors[k];
#pragma omp simd
        for (std::size_t r = 0; r < n_lanes; ++r) sums[k][r] += factor * error[r];
    }
}

}  // namespace

Walk round_with_feedback(WeightTile &tile, const Curvature &curvature) {
    const std::size_t n = curvature.n();
    LaneRows later(n);  // what earlier errors add to each target
    std::array<Lanes<float>, n_panel> added;
    std::array<Lanes<float>, n_panel> errors;
    Walk walk{{}, std::vector<Lanes<float>>(n)};
    for (std::size_t first = 0; first < n; first += n_panel) {
        const std::size_t last = std::min(first + n_panel, n);
        for (std::size_t r = 0; r < n_lanes; ++r)
            for (std::size_t j = first; j < last; ++j) added[j - first][r] = later.row(r)[j];
        for (std::size_t j = first; j < last; ++j) {
            const auto column = static_cast<std::size_t>(curvature.order[j]);
            Lanes<float> &error = errors[j - first];
            Lanes<float> target;
            Lanes<float> value;
            for (std::size_t r = 0; r < n_lanes; ++r) {
                error[r] = tile.rows.row(r)[column];
                target[r] = error[r] + added[j - first][r];
            }
            round_to(tile.type, tile.group_of(column), target, tile.codes[column], value);
            note_error(target, value, curvature.pivots[j], walk.residuals[j], walk.errors);
            for (std::size_t r = 0; r < n_lanes; ++r) error[r] -= value[r];
            add_to_all(curvature.feedback_row(j) + j + 1, error, &added[j - first] + 1,
                       last - j - 1);
        }
        add_products(errors[0].data(), last - first, curvature.feedback_row(first) + last, n,
                     later.row(0) + last, later.stride, n - last);
    }
    return walk;
}

Walk walk_codes(const WeightTile &tile, const Curvature &curvature, const Lanes<double> &enough) {
    const std::size_t n = curvature.n();
    LaneRows later(n_panel);
    std::array<Lanes<float>, n_panel> added;
    std::vector<Lanes<float>> errors(n);
    Walk walk{{}, std::vector<Lanes<float>>(n)};
    const Lanes<float> nothing{};
    for (std::size_t first = 0; first < n; first += n_panel) {
        const std::size_t last = std::min(first + n_panel, n);
        for (std::size_t r = 0; r < n_lanes; ++r) std::fill_n(later.row(r), n_panel, 0.0F);
        add_products(errors[0].data(), first, curvature.feedback_row(0) + first, n, later.row(0),
                     later.stride, last - first);
        for (std::size_t r = 0; r < n_lanes; ++r)
            for (std::size_t j = first; j < last; ++j) added[j - first][r] = later.row(r)[j - first];
        for (std::size_t j = first; j < last; ++j) {
            const auto column = static_cast<std::size_t>(curvature.order[j]);
            Lanes<float> &error = errors[j];
            tile.values_of(column, error);
            for (std::size_t r = 0; r < n_lanes; ++r) {
                error[r] = tile.rows.row(r)[column] - error[r];
                added[j - first][r] += error[r];
            }
            note_error(added[j - first], nothing, curvature.pivots[j], walk.residuals[j],
                       walk.errors);
            add_to_all(curvature.feedback_row(j) + j + 1, error, &added[j - first] + 1,
                       last - j - 1);
        }
        std::size_t n_done = 0;
        for (std::size_t r = 0; r < tile.n_rows; ++r) n_done += walk.errors[r] > enough[r] ? 1 : 0;
        if (n_done == tile.n_rows) break;
    }
    return walk;
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
        for (std::size_t j = first; j < last; ++j)
            add_to_all(curvature.feedback_row(j) + first, walk.residuals[j], sums.data(),
                       j - first + 1);
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
