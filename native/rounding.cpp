#include "rounding.hpp"

#include <algorithm>
#include <limits>
#include <vector>

#include "descent.hpp"
#include "error_feedback.hpp"
#include "parallel.hpp"

namespace snug {
namespace {

constexpr Lanes<double> never = [] {
    Lanes<double> errors;
    errors.fill(std::numeric_limits<double>::infinity());
    return errors;
}();

void round_tile(const BlockType &type, std::span<const float> rows, const Curvature &curvature,
                const GroupFactors &factors, const RoundingSteps &steps, std::span<std::uint8_t> blocks,
                std::span<double> errors) {
    const WeightTile given(type, rows, blocks, errors.size());
    WeightTile tile = given;
    const Walk walk = steps.feedback ? round_with_feedback(tile, curvature)
                                     : walk_codes(tile, curvature, never);
    Lanes<double> after = walk.errors;
    if (steps.n_sweeps > 0 || steps.n_refits > 0) {
        Descent descent(tile, curvature, factors, gradient_after(walk, curvature));
        for (unsigned refit = 0; refit <= steps.n_refits; ++refit) {
            if (refit > 0) descent.refit_scales();
            for (unsigned i = 0; i < steps.n_sweeps && descent.sweep_codes() > 0; ++i) {
            }
        }
        after = descent.errors();
    }
    const Lanes<double> before =
        steps.is_checked ? walk_codes(given, curvature, after).errors : never;
    std::vector<std::uint8_t> changed(blocks.size());
    tile.write(changed);
    const std::size_t row_bytes = blocks.size() / errors.size();
    for (std::size_t r = 0; r < errors.size(); ++r) {
        const bool is_better = after[r] < before[r];
        errors[r] = is_better ? after[r] : before[r];
        if (is_better)
            std::copy_n(changed.data() + r * row_bytes, row_bytes, blocks.data() + r * row_bytes);
    }
}

}  // namespace

void round_rows(const BlockType &type, std::span<const float> rows, const Curvature &curvature,
                const RoundingSteps &steps, std::span<std::uint8_t> blocks,
                std::span<double> errors, unsigned n_threads) {
    const std::size_t n_rows = errors.size();
    const std::size_t n_cols = curvature.n();
    const std::size_t row_bytes = n_cols / type.n_elements * type.n_bytes;
    const GroupFactors factors(curvature, type.group_size);
    const auto tile = [&](std::size_t i) {
        const std::size_t first = i * n_lanes;
        const std::size_t n = std::min(n_lanes, n_rows - first);
        round_tile(type, rows.subspan(first * n_cols, n * n_cols), curvature, factors, steps,
                   blocks.subspan(first * row_bytes, n * row_bytes), errors.subspan(first, n));
    };
    for_each_piece((n_rows + n_lanes - 1) / n_lanes, n_threads, tile);
}

}  // namespace snug
