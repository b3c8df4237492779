// Rounding one column after the other, each making up for the errors of those before it.
#pragma once

#include <vector>

#include "curvature.hpp"
#include "weight_tile.hpp"

namespace snug {

/// What a walk over the columns of a tile, in the order of the curvature, tells of its error
/// e = w - v, v what the blocks hold.
struct Walk {
    Lanes<double> errors;               // e H e^T of each row
    std::vector<Lanes<float>> residuals;  // e F D, F and D the factor of the curvature
};

/// Rounds the codes of a tile; the scales stay (GPTQ with static groups, arXiv 2210.17323).
Walk round_with_feedback(WeightTile &tile, const Curvature &curvature);

/// The same of the codes as they are. It ends as soon as the error of each row is above `enough`,
/// of which the first columns, those that count most, soon convince.
Walk walk_codes(const WeightTile &tile, const Curvature &curvature, const Lanes<double> &enough);

/// -e H, in the columns' own order.
LaneRows gradient_after(const Walk &walk, const Curvature &curvature);

}  // namespace snug
