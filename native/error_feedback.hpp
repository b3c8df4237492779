// Rounding one column after the other, each making up for the errors of those before it.
#pragma once

#include "curvature.hpp"
#include "weight_tile.hpp"

namespace snug {

/// Rounds the codes of a tile in the order of the curvature; the scales stay (GPTQ with static
/// groups, arXiv 2210.17323). Returns each row's (w - v) H (w - v)^T, v what the blocks hold.
Lanes<double> round_with_feedback(WeightTile &tile, const Curvature &curvature);

/// The same error of the codes as they are.
Lanes<double> error_of(const WeightTile &tile, const Curvature &curvature);

}  // namespace snug
