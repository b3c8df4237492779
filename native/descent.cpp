#include "descent.hpp"

#include <algorithm>
#include <array>
#include <cmath>
#include <utility>

namespace snug {
namespace {

// So many columns are refitted before the others hear of it: the largest block.
constexpr std::size_t n_window = Block::max_elements;

// How the error changes when a * p + b * q is added to the weights: 2 (a gp + b gq) + a a pHp +
// 2 a b pHq + b b qHq. What rounding could have made of nothing does not count.
struct Quadratic {
    Lanes<float> gp{}, gq{}, php{}, phq{}, qhq{};

    float at(std::size_t r, float a, float b) const noexcept {
        const float squares = a * a * php[r] + b * b * qhq[r];
        return 2.0F * (a * gp[r] + b * gq[r]) + 2.0F * a * b * phq[r] + squares * (1.0F + 1e-4F);
    }
};

// sum[r] += a[r] * b[r]
void add_product(Lanes<float> &sum, const Lanes<float> &a, const Lanes<float> &b) noexcept {
#pragma omp simd
    for (std::size_t r = 0; r < n_lanes; ++r) sum[r] += a[r] * b[r];
}

void add_multiple(Lanes<float> &sum, const Lanes<float> &a, float factor) noexcept {
#pragma omp simd
    for (std::size_t r = 0; r < n_lanes; ++r) sum[r] += a[r] * factor;
}

}  // namespace

// Some columns of all rows, with the gradient as it is after what has changed among them.
struct Descent::Window {
    std::size_t first;
    std::size_t n;
    std::array<Lanes<float>, n_window> gradient;
    std::array<Lanes<float>, n_window> changes;
    std::array<Lanes<float>, n_window> p;  // work space
    std::array<Lanes<float>, n_window> q;
    GroupChoice choice;
};

Descent::Descent(WeightTile &of_tile, const Curvature &of_curvature,
                 const GroupFactors &of_groups, LaneRows at_first)
    : tile(of_tile), curvature(of_curvature), factors(of_groups), gradient(std::move(at_first)) {}

Lanes<double> Descent::errors() const noexcept {
    Lanes<double> sums{};
    Lanes<float> values;
    for (std::size_t j = 0; j < tile.n_cols; ++j) {
        tile.values_of(j, values);
        for (std::size_t r = 0; r < n_lanes; ++r)
            sums[r] += static_cast<double>((values[r] - tile.rows.row(r)[j]) *
                                           gradient.row(r)[j]);
    }
    return sums;
}

std::size_t Descent::sweep_codes() {
    std::size_t n_moved = 0;
    for (const std::int32_t ordered : curvature.order) {
        const auto column = static_cast<std::size_t>(ordered);
        const float *const moment = curvature.moment_row(column);
        const float inverse = 1.0F / moment[column];
        Lanes<float> values;
        Lanes<float> best;
        Lanes<float> moved;
        Lanes<std::uint8_t> nearest;
        tile.values_of(column, values);
        for (std::size_t r = 0; r < n_lanes; ++r)
            best[r] = values[r] - gradient.row(r)[column] * inverse;
        round_to(tile.type, tile.group_of(column), best, nearest, moved);
        for (std::size_t r = 0; r < n_lanes; ++r) {
            if (!(std::fabs(moved[r] - best[r]) < std::fabs(values[r] - best[r]))) continue;
            tile.codes[column][r] = nearest[r];
            const float change = moved[r] - values[r];
            float *const row = gradient.row(r);
#pragma omp simd
            for (std::size_t k = 0; k < tile.n_cols; ++k) row[k] += change * moment[k];
            ++n_moved;
        }
    }
    return n_moved;
}

void Descent::refit_scales() {
    for (std::size_t first = 0; first < tile.n_cols; first += n_window)
        refit_window(first, std::min(n_window, tile.n_cols - first));
}

void Descent::refit_window(std::size_t first, std::size_t n) {
    Window window;
    window.first = first;
    window.n = n;
    for (std::size_t r = 0; r < n_lanes; ++r)
        for (std::size_t j = 0; j < n; ++j) window.gradient[j][r] = gradient.row(r)[first + j];
    for (std::size_t j = 0; j < n; ++j) window.changes[j] = {};
    const std::size_t n_elements = tile.type.n_elements;
    const std::size_t group_size = tile.type.group_size;
    for (std::size_t block = first / n_elements; block < (first + n) / n_elements; ++block) {
        for (std::size_t g = 0; g < n_elements / group_size; ++g)
            search(window, block * (n_elements / group_size) + g);
        fit_halves(window, block);
    }
    add_products(window.changes[0].data(), n, curvature.moment_row(first), tile.n_cols,
                 gradient.row(0), gradient.stride, tile.n_cols);
}

// Adds to the values in one column, and tells the gradient of the window.
void Descent::change(Window &window, std::size_t column, const Lanes<float> &change) {
    add_multiple(window.changes[column - window.first], change, 1.0F);
    const float *const moment = curvature.moment_row(column) + window.first;
    for (std::size_t k = 0; k < window.n; ++k) add_multiple(window.gradient[k], change, moment[k]);
}

void Descent::search(Window &window, std::size_t group) {
    const std::size_t n = tile.type.group_size;
    const std::size_t first = group * n;
    const std::size_t block = first / tile.type.n_elements;
    GroupChoice &choice = window.choice;
    search_group(tile, factors, group, &window.gradient[first - window.first], choice);
    if (!choice.is_better) return;
    tile.scales[group] = choice.scales.scale;
    tile.minimums[group] = choice.scales.minimum;
    tile.d[block] = choice.scales.d;
    tile.d_minimum[block] = choice.scales.d_minimum;
    tile.update_groups(block);
    for (std::size_t j = 0; j < n; ++j) {
        tile.codes[first + j] = choice.codes[j];
        change(window, first + j, choice.changes[j]);
    }
}

void Descent::fit_halves(Window &window, std::size_t block) {
    const std::size_t n = tile.type.n_elements;
    const std::size_t first = block * n;
    const std::size_t offset = first - window.first;
    Quadratic error;
    for (std::size_t j = 0; j < n; ++j) {
        const std::size_t group = (first + j) / tile.type.group_size;
        tile.levels_of(first + j, window.p[j]);
        for (std::size_t r = 0; r < n_lanes; ++r) {
            window.p[j][r] *= static_cast<float>(tile.scales[group][r]);
            window.q[j][r] = -static_cast<float>(tile.minimums[group][r]);
        }
    }
    for (std::size_t j = 0; j < n; ++j) {
        const float *const moment = curvature.moment_row(first + j) + first;
        Lanes<float> of_p{};
        Lanes<float> of_q{};
        for (std::size_t k = 0; k < n; ++k) add_multiple(of_p, window.p[k], moment[k]);
        if (tile.type.has_minimum)
            for (std::size_t k = 0; k < n; ++k) add_multiple(of_q, window.q[k], moment[k]);
        add_product(error.php, window.p[j], of_p);
        add_product(error.phq, window.p[j], of_q);
        add_product(error.qhq, window.q[j], of_q);
        add_product(error.gp, window.p[j], window.gradient[offset + j]);
        add_product(error.gq, window.q[j], window.gradient[offset + j]);
    }

    // The best pair, the best of one alone: whichever is best once it is rounded to halves.
    std::array<Lanes<float>, 3> d;
    std::array<Lanes<float>, 3> d_minimum;
    for (std::size_t r = 0; r < n_lanes; ++r) {
        const float determinant = error.php[r] * error.qhq[r] - error.phq[r] * error.phq[r];
        const float a = (error.phq[r] * error.gq[r] - error.qhq[r] * error.gp[r]) / determinant;
        const float b = (error.phq[r] * error.gp[r] - error.php[r] * error.gq[r]) / determinant;
        const float old = tile.d[block][r];
        const float old_minimum = tile.d_minimum[block][r];
        d[0][r] = old + a;
        d_minimum[0][r] = old_minimum + b;
        d[1][r] = old - error.gp[r] / error.php[r];
        d_minimum[1][r] = old_minimum;
        d[2][r] = old;
        d_minimum[2][r] = old_minimum - error.gq[r] / error.qhq[r];
    }
    Lanes<float> lowest{};
    Lanes<float> best = tile.d[block];
    Lanes<float> best_minimum = tile.d_minimum[block];
    for (std::size_t i = 0; i < d.size(); ++i) {
        const Lanes<float> rounded = as_halves(d[i]);
        const Lanes<float> rounded_minimum = as_halves(d_minimum[i]);
        for (std::size_t r = 0; r < n_lanes; ++r) {
            if (!std::isfinite(rounded[r]) || !std::isfinite(rounded_minimum[r])) continue;
            const float change = error.at(r, rounded[r] - tile.d[block][r],
                                          rounded_minimum[r] - tile.d_minimum[block][r]);
            if (!(change < lowest[r])) continue;
            lowest[r] = change;
            best[r] = rounded[r];
            best_minimum[r] = rounded_minimum[r];
        }
    }
    if (std::ranges::none_of(lowest, [](float change) { return change < 0.0F; })) return;
    Lanes<float> a;
    Lanes<float> b;
    for (std::size_t r = 0; r < n_lanes; ++r) {
        a[r] = best[r] - tile.d[block][r];
        b[r] = best_minimum[r] - tile.d_minimum[block][r];
    }
    tile.d[block] = best;
    tile.d_minimum[block] = best_minimum;
    tile.update_groups(block);
    for (std::size_t j = 0; j < n; ++j) {
        Lanes<float> moved{};
        for (std::size_t r = 0; r < n_lanes; ++r)
            moved[r] = a[r] * window.p[j][r] + b[r] * window.q[j][r];
        if (n == window.n)  // no other block of the window needs the gradient
            add_multiple(window.changes[j], moved, 1.0F);
        else
            change(window, first + j, moved);
    }
}

}  // namespace snug
