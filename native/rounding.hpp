// Rounds rows of weights to blocks so that (w - v) H (w - v)^T is small.
#pragma once

#include <cstdint>
#include <span>

#include "curvature.hpp"
#include "scalar_blocks.hpp"

namespace snug {

struct RoundingSteps {
    bool feedback;        // codes by error feedback; else the blocks' own to begin with
    unsigned n_sweeps;    // of coordinate descent on the codes, after each choice of scales
    unsigned n_refits;    // of the scales
    bool is_checked;      // against the blocks as they came; else what is finite is taken
};

/// Changes `blocks`, which hold `rows` as another quantizer rounded them, [n_rows * row_bytes]; a row
/// only where that lowers its error, if that is checked. `errors` [n_rows]: those of the rows as they
/// are then.
void round_rows(const BlockType &type, std::span<const float> rows, const Curvature &curvature,
                const RoundingSteps &steps, std::span<std::uint8_t> blocks,
                std::span<double> errors, unsigned n_threads);

}  // namespace snug
