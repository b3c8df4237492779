// How fast this computer reads its main memory: what bounds the speed of a model that writes.
#pragma once

#include <cstddef>

namespace snug {

/// Bytes a second that `n_threads` threads read together from `n_bytes` of memory that no cache
/// holds; the best of several rounds, since a neighbour can only slow one down.
double read_bandwidth(unsigned n_threads, std::size_t n_bytes);

}  // namespace snug
