// How fast this computer goes through weights in its main memory: what bounds a model that writes.
#pragma once

#include <cstddef>

namespace snug {

/// Bytes a second that `n_threads` threads read together from `n_bytes` of memory that no cache
/// holds; the best of several rounds, since a neighbour can only slow one down.
double read_bandwidth(unsigned n_threads, std::size_t n_bytes);

/// ggml_vec_dot_t of ggml-cpu.h.
using DotProduct = void (*)(int n, float *result, std::size_t, const void *x, std::size_t,
                            const void *y, std::size_t, int n_rows);

/// The same, where each row of `row_bytes` (`n_cols` weights) is multiplied with a vector of
/// `vector_bytes` by `dot`: the kernel that computes may be slower than the memory.
double dot_bandwidth(DotProduct dot, unsigned n_threads, std::size_t n_bytes, int n_cols,
                     std::size_t row_bytes, std::size_t vector_bytes);

}  // namespace snug
