// Coordinate descent on the codes and the scales of a tile, in the norm of the second moment.
#pragma once

#include <vector>

#include "curvature.hpp"
#include "weight_tile.hpp"

namespace snug {

/// Half the gradient of each row's error (v - w) H (v - w)^T, kept up to date while codes and scales
/// change. Every change lowers the error.
class Descent {
   public:
    Descent(WeightTile &tile, const Curvature &curvature);

    /// Moves each code once to the best one while all others stay; tells how many moved.
    std::size_t sweep_codes();
    /// Fits the integer scales and minimums of groups, then the halves of blocks, to their codes.
    void refit_scales();

   private:
    struct Window;
    void refit_window(std::size_t first, std::size_t n);
    void fit_integers(Window &window, std::size_t group);
    void fit_halves(Window &window, std::size_t block);

    float *gradient_row(std::size_t lane) noexcept { return gradient.data() + lane * tile.stride; }

    WeightTile &tile;
    const Curvature &curvature;
    std::vector<float> gradient;  // [n_lanes][stride]
};

}  // namespace snug
