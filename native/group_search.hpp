// The scale and the minimum of one group of columns, and its codes with them, while others stay.
#pragma once

#include <array>
#include <cstddef>
#include <vector>

#include "curvature.hpp"
#include "weight_tile.hpp"

namespace snug {

/// For each group of columns the factor F diag(D) F^T of its own part of the second moment.
class GroupFactors {
   public:
    static constexpr std::size_t max_size = 32;

    GroupFactors(const Curvature &curvature, std::size_t group_size);

    /// F[0][j] to F[j - 1][j], which tell how the errors before it change the target of column j.
    const float *feedback(std::size_t group, std::size_t j) const noexcept {
        return factors.data() + (group * size + j) * size;
    }
    float pivot(std::size_t group, std::size_t j) const noexcept { return feedback(group, j)[j]; }

   private:
    std::size_t size;
    std::vector<float> factors;  // [n_groups][size][size], D in place of the ones of F^T
};

/// What a group may have instead. Of a type without integer scales they are 1 and the halves change.
struct GroupScales {
    Lanes<std::int16_t> scale;
    Lanes<std::int16_t> minimum;
    Lanes<float> d;
    Lanes<float> d_minimum;
};

struct GroupChoice {
    bool is_better = false;  // in any lane; what is below is as it was in the other ones
    GroupScales scales;
    std::array<Lanes<std::uint8_t>, GroupFactors::max_size> codes;
    std::array<Lanes<float>, GroupFactors::max_size> changes;  // of the values
};

/// Tries scales around those that a group has, each with codes rounded one after the other with
/// error feedback. `gradient`: half the gradient of the error, for each column of the group.
void search_group(const WeightTile &tile, const GroupFactors &factors, std::size_t group,
                  const Lanes<float> *gradient, GroupChoice &choice) noexcept;

}  // namespace snug
