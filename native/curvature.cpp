#include "curvature.hpp"

#include <algorithm>
#include <cmath>
#include <vector>

#include "parallel.hpp"
#include "products.hpp"

namespace snug {
namespace {

constexpr std::size_t n_panel = 64;

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

bool factor_panel(Factor &factor, std::size_t first, std::size_t last, float floor) noexcept {
    for (std::size_t j = first; j < last; ++j) {
        float *const row = factor.row(j);
        if (!(row[j] > floor)) return false;  // a NaN, too
        const float inverse = 1.0F / std::sqrt(row[j]);
        for (std::size_t k = j; k < factor.n; ++k) row[k] *= inverse;
        for (std::size_t i = j + 1; i < last; ++i) {
            float *const later = factor.row(i);
            const float part = row[i];
#pragma omp simd
            for (std::size_t k = i; k < factor.n; ++k) later[k] -= part * row[k];
        }
    }
    return true;
}

bool factor_in_place(Factor &factor, float floor, unsigned n_threads) {
    for (std::size_t first = 0; first < factor.n; first += n_panel) {
        const std::size_t last = std::min(first + n_panel, factor.n);
        if (!factor_panel(factor, first, last, floor)) return false;
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
    double mean = 0.0;
    for (std::size_t i = 0; i < n; ++i) {
        const auto source = static_cast<std::size_t>(order[n - 1 - i]) * n;
        for (std::size_t j = 0; j < n; ++j)
            factor.row(i)[j] = moment[source + static_cast<std::size_t>(order[n - 1 - j])];
        mean += static_cast<double>(factor.row(i)[i]) / static_cast<double>(n);
    }
    if (!factor_in_place(factor, static_cast<float>(mean * 1e-6), n_threads)) return false;
    for (std::size_t i = 0; i < n; ++i) {
        for (std::size_t j = i; j < n; ++j) {
            const float *const row = factor.row(n - 1 - j);
            const float part = row[n - 1 - i] / row[n - 1 - j];
            feedback[i * n + j] = part;
            feedback[j * n + i] = part;
        }
        const float root = factor.row(n - 1 - i)[n - 1 - i];
        pivots[i] = root * root;
    }
    return true;
}

}  // namespace snug
