// Bindings of the native kernels: shapes are checked here, the work is done elsewhere.
#include <nanobind/nanobind.h>
#include <nanobind/ndarray.h>

#include <algorithm>
#include <cstdint>
#include <span>

#include "abort_flag.hpp"
#include "bandwidth.hpp"
#include "floats.hpp"
#include "gguf_strings.hpp"
#include "kl_divergence.hpp"
#include "memory_breakdown.hpp"

namespace nb = nanobind;
using namespace nb::literals;

namespace {

template <typename T>
using Vector = nb::ndarray<T, nb::ndim<1>, nb::c_contig, nb::device::cpu>;
template <typename T>
using Matrix = nb::ndarray<T, nb::ndim<2>, nb::c_contig, nb::device::cpu>;

template <typename T, typename... Annotations>
std::span<T> span_of(const nb::ndarray<T, Annotations...> &array) {
    return {array.data(), array.size()};
}

void compare_logits(const Matrix<const float> &reference, const Matrix<const float> &test,
                    const Vector<const std::int32_t> &targets, const Vector<double> &kld,
                    const Vector<double> &nll_reference, const Vector<double> &nll_test,
                    const Vector<bool> &same_top, unsigned n_threads) {
    const std::size_t n_rows = reference.shape(0);
    const std::size_t n_vocab = reference.shape(1);
    if (test.shape(0) != n_rows || test.shape(1) != n_vocab)
        throw nb::value_error("reference and test must have the same shape");
    for (const std::size_t length : {targets.size(), kld.size(), nll_reference.size(),
                                     nll_test.size(), same_top.size()})
        if (length != n_rows)
            throw nb::value_error("targets and outputs must have one element for each row");
    const auto is_in_row = [n_vocab](std::int32_t target) {
        return target >= 0 && static_cast<std::size_t>(target) < n_vocab;
    };
    if (!std::ranges::all_of(span_of(targets), is_in_row))
        throw nb::value_error("every target must lie in [0, n_vocab)");

    const snug::Comparison rows{
        .n_vocab = n_vocab,
        .reference = span_of(reference),
        .test = span_of(test),
        .targets = span_of(targets),
        .kld = span_of(kld),
        .nll_reference = span_of(nll_reference),
        .nll_test = span_of(nll_test),
        .same_top = span_of(same_top),
    };
    const nb::gil_scoped_release unlocked;
    snug::compare_rows(rows, n_threads);
}

double dot_bandwidth(std::uintptr_t dot, unsigned n_threads, std::size_t n_bytes, int n_cols,
                     std::size_t row_bytes, std::size_t vector_bytes) {
    if (row_bytes == 0)
        throw nb::value_error("rows must have bytes");
    const nb::gil_scoped_release unlocked;
    return snug::dot_bandwidth(reinterpret_cast<snug::DotProduct>(dot), n_threads, n_bytes, n_cols,
                               row_bytes, vector_bytes);
}

nb::tuple step_over_strings(const Vector<const std::uint8_t> &buffer, std::size_t position,
                            std::size_t n_strings, std::uint64_t max_bytes) {
    const auto [end, n_left] =
        snug::step_over_strings(span_of(buffer), position, n_strings, max_bytes);
    return nb::make_tuple(end, n_left);
}

/// A conversion of numbers as a function for Python.
template <typename From, typename To, void (*convert)(std::span<const From>, std::span<To>)>
void convert_numbers(const Vector<const From> &in, const Vector<To> &out) {
    if (in.size() != out.size())
        throw nb::value_error("in and out must have the same length");
    const nb::gil_scoped_release unlocked;
    convert(span_of(in), span_of(out));
}

nb::list memory_breakdown(std::uintptr_t function, std::uintptr_t context) {
    nb::list found;
    for (const auto &[type, weights, cache, compute] : snug::memory_breakdown(function, context))
        found.append(nb::make_tuple(type, weights, cache, compute));
    return found;
}

}  // namespace

NB_MODULE(_native, m) {
    m.doc() = "Snug's native kernels. Documented in engine/_native.pyi.";

    // Without noconvert() nanobind copies an array of another type or layout, and what is written
    // to the copy is lost.
    m.def("compare_logits", &compare_logits, "reference"_a.noconvert(), "test"_a.noconvert(),
          "targets"_a.noconvert(), "kld"_a.noconvert(), "nll_reference"_a.noconvert(),
          "nll_test"_a.noconvert(), "same_top"_a.noconvert(), "n_threads"_a = 0);

    m.def("read_bandwidth", &snug::read_bandwidth, "n_threads"_a, "n_bytes"_a,
          nb::call_guard<nb::gil_scoped_release>());

    m.def("dot_bandwidth", &dot_bandwidth, "dot"_a, "n_threads"_a, "n_bytes"_a, "n_cols"_a,
          "row_bytes"_a, "vector_bytes"_a);

    m.def("bf16_to_float", &convert_numbers<std::uint16_t, float, &snug::bf16_to_float>,
          "in_"_a.noconvert(), "out"_a.noconvert());
    m.def("half_to_float", &convert_numbers<std::uint16_t, float, &snug::half_to_float>,
          "in_"_a.noconvert(), "out"_a.noconvert());
    m.def("float_to_bf16", &convert_numbers<float, std::uint16_t, &snug::float_to_bf16>,
          "in_"_a.noconvert(), "out"_a.noconvert());
    m.def("float_to_half", &convert_numbers<float, std::uint16_t, &snug::float_to_half>,
          "in_"_a.noconvert(), "out"_a.noconvert());

    m.def("step_over_strings", &step_over_strings, "buffer"_a.noconvert(), "position"_a,
          "n_strings"_a, "max_bytes"_a);

    m.def("memory_breakdown", &memory_breakdown, "function"_a, "context"_a);

    nb::class_<snug::AbortFlag>(m, "AbortFlag")
        .def(nb::init<>())
        .def("set", &snug::AbortFlag::set)
        .def("clear", &snug::AbortFlag::clear)
        .def_prop_ro("is_set", &snug::AbortFlag::is_set)
        .def_prop_ro("callback_address",
                     [](const snug::AbortFlag &) {
                         return reinterpret_cast<std::uintptr_t>(&snug::snug_abort_requested);
                     })
        .def_prop_ro("data_address", [](snug::AbortFlag &flag) {
            return reinterpret_cast<std::uintptr_t>(&flag);
        });
}
