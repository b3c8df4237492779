#include "curvature.hpp"

#include <algorithm>
#include <array>
#include <cmath>
#include <vector>

#include "parallel.hpp"
#include "products.hpp"

namespace snug {
namespace {

constexpr std::size_t n_panel = 64;
// Columns that go through a panel together, and rows that are gathered by a thread at once.
constexpr std::size_t n_tile_cols = 256;
constexpr std::size_t n_rows_at_once = 16;

// The rows of the upper factor C of A = C^T C, in place; a row is of use from its diagonal on. In
// floats: rounding changes A by some n * 1e-7 of its largest eigenvalue at the very worst, next to
// which a tenth of the mean diagonal, by which the moments are damped, is much.
struct Factor {
    std::size_t n;
    std::size_t stride;
    std::vector<float> rows;

    explicit Factor(std::size_t size)
        : n(size),
          // Whole tiles of rows, and no stride that maps rows onto each other in a cache.
          stride((size + n_lanes - 1) / n_lanes * n_lanes + 16),
          rows((stride + n_lanes) * stride) {}

    float *row(std::size_t i) noexcept { return rows.data() + i * stride; }
};

// Takes from each row of a panel what those above it in the panel take, in columns from `start` to
// `end`; `inverses` are those of the panel's diagonal.
void factor_columns(Factor &factor, std::size_t first, std::size_t last, const float *inverses,
                    std::size_t start, std::size_t end) noexcept {
    for (std::size_t j = first; j < last; ++j) {
        float *const row = factor.row(j);
        for (std::size_t k = start; k < end; ++k) row[k] *= inverses[j - first];
        for (std::size_t i = j + 1; i < last; ++i) {
            float *const later = factor.row(i);
            const float part = row[i];
#pragma omp simd
            for (std::size_t k = start; k < end; ++k) later[k] -= part * row[k];
        }
    }
}

bool factor_panel(Factor &factor, std::size_t first, std::size_t last, float floor,
                  unsigned n_threads) {
    std::array<float, n_panel> inverses;
    for (std::size_t j = first; j < last; ++j) {
        float *const row = factor.row(j);
        if (!(row[j] > floor)) return false;  // a NaN, too
        const float inverse = 1.0F / std::sqrt(row[j]);
        inverses[j - first] = inverse;
        for (std::size_t k = j; k < last; ++k) row[k] *= inverse;
        for (std::size_t i = j + 1; i < last; ++i)
            for (std::size_t k = i; k < last; ++k) factor.row(i)[k] -= row[i] * row[k];
    }
    const auto tile = [&](std::size_t i) noexcept {
        const std::size_t start = last + i * n_tile_cols;
        const std::size_t end = std::min(start + n_tile_cols, factor.n);
        factor_columns(factor, first, last, inverses.data(), start, end);
    };
    for_each_piece((factor.n - last + n_tile_cols - 1) / n_tile_cols, n_threads, tile);
    return true;
}

// Writes a tile of a symmetric matrix and the one on the other side of the diagonal, each row by row:
// down a column each number would have a line of the cache of its own. `number(i, j)` is for i <= j.
template <typename Number>
void mirror_tile(std::size_t above, std::size_t left, std::size_t n, float *out,
                 Number number) noexcept {
    std::array<std::array<float, n_panel>, n_panel> turned;
    const std::size_t n_rows = std::min(n_panel, n - above);
    const std::size_t n_cols = std::min(n_panel, n - left);
    for (std::size_t j = 0; j < n_cols; ++j)
        for (std::size_t i = 0; i < n_rows; ++i)
            turned[j][i] = above + i <= left + j ? number(above + i, left + j)
                                                 : number(left + j, above + i);
    for (std::size_t j = 0; j < n_cols; ++j)
        std::copy_n(turned[j].data(), n_rows, out + (left + j) * n + above);
    for (std::size_t i = 0; i < n_rows; ++i)
        for (std::size_t j = 0; j < n_cols; ++j) out[(above + i) * n + left + j] = turned[j][i];
}

bool factor_in_place(Factor &factor, float floor, unsigned n_threads) {
    for (std::size_t first = 0; first < factor.n; first += n_panel) {
        const std::size_t last = std::min(first + n_panel, factor.n);
        if (!factor_panel(factor, first, last, floor, n_threads)) return false;
        const auto update = [&factor, first, last](std::size_t tile) {
            const std::size_t start = last + tile * n_lanes;
            std::vector<float> left((last - first) * n_lanes);
            for (std::size_t j = first; j < last; ++j)
                for (std::size_t r = 0; r < n_lanes; ++r)
                    left[(j - first) * n_lanes + r] = -factor.row(j)[start + r];
            add_products(left.data(), last - first, factor.row(first) + start, factor.stride,
                         factor.row(start) + start, factor.stride, factor.n - start);
        };
        for_each_piece((factor.n - last + n_lanes - 1) / n_lanes, n_threads, update);
    }
    return true;
}

}  // namespace

bool factor_moment(std::span<const float> moment, std::span<const std::int32_t> order,
                   std::span<float> feedback, std::span<float> pivots, unsigned n_threads) {
    // The last column comes first: the wanted factor is the transposed one, read backwards.
    const std::size_t n = order.size();
    Factor factor(n);
    const auto gather = [&](std::size_t piece) noexcept {
        const std::size_t start = piece * n_rows_at_once;
        for (std::size_t i = start; i < std::min(start + n_rows_at_once, n); ++i) {
            const auto source = static_cast<std::size_t>(order[n - 1 - i]) * n;
            for (std::size_t j = 0; j < n; ++j)
                factor.row(i)[j] = moment[source + static_cast<std::size_t>(order[n - 1 - j])];
        }
    };
    for_each_piece((n + n_rows_at_once - 1) / n_rows_at_once, n_threads, gather);
    double mean = 0.0;
    for (std::size_t i = 0; i < n; ++i)
        mean += static_cast<double>(factor.row(i)[i]) / static_cast<double>(n);
    if (!factor_in_place(factor, static_cast<float>(mean * 1e-6), n_threads)) return false;
    for (std::size_t i = 0; i < n; ++i) {
        const float root = factor.row(n - 1 - i)[n - 1 - i];
        pivots[i] = root * root;
    }
    const std::size_t n_tiles = (n + n_panel - 1) / n_panel;
    const auto turn = [&](std::size_t piece) noexcept {
        const auto number = [&](std::size_t i, std::size_t j) {
            const float *const row = factor.row(n - 1 - j);
            return row[n - 1 - i] / row[n - 1 - j];
        };
        for (std::size_t left = piece * n_panel; left < n; left += n_panel)
            mirror_tile(piece * n_panel, left, n, feedback.data(), number);
    };
    for_each_piece(n_tiles, n_threads, turn);
    return true;
}

void mirror(std::span<const float> upper, std::size_t stride, std::size_t n,
            std::span<float> whole) noexcept {
    const auto number = [&](std::size_t i, std::size_t j) { return upper[i * stride + j]; };
    for (std::size_t above = 0; above < n; above += n_panel)
        for (std::size_t left = above; left < n; left += n_panel)
            mirror_tile(above, left, n, whole.data(), number);
}

}  // namespace snug
