// Coordinate descent on the codes and the scales of a tile, in the norm of the second moment.
#pragma once

#include "curvature.hpp"
#include "group_search.hpp"
#include "weight_tile.hpp"

namespace snug {

/// Half the gradient of each row's error (v - w) H (v - w)^T, kept up to date while codes and scales
/// change. Every change lowers the error.
class Descent {
   public:
    Descent(WeightTile &tile, const Curvature &curvature, const GroupFactors &factors,
            LaneRows gradient);

    /// Moves each code once to the best one while all others stay; tells how many moved.
    std::size_t sweep_codes();
    /// Searches scales and codes of each group, and fits the halves of each block to them.
    void refit_scales();
    /// The error of each row.
    Lanes<double> errors() const noexcept;

   private:
    struct Window;
    void refit_window(std::size_t first, std::size_t n);
    void search(Window &window, std::size_t group);
    void change(Window &window, std::size_t column, const Lanes<float> &change);
    void fit_halves(Window &window, std::size_t block);

    WeightTile &tile;
    const Curvature &curvature;
    const GroupFactors &factors;
    LaneRows gradient;
};

}  // namespace snug
