// Bindings of the native kernels: shapes are checked here, the work is done elsewhere.
#include <nanobind/nanobind.h>
#include <nanobind/stl/optional.h>
#include <nanobind/stl/string.h>

#include <algorithm>
#include <array>
#include <cstdint>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "abort_flag.hpp"
#include "arrays.hpp"
#include "bandwidth.hpp"
#include "code_bindings.hpp"
#include "curvature.hpp"
#include "floats.hpp"
#include "ggml_rounding.hpp"
#include "gguf_strings.hpp"
#include "kl_divergence.hpp"
#include "lattice.hpp"
#include "memory_breakdown.hpp"
#include "products.hpp"
#include "rounding.hpp"
#include "scalar_blocks.hpp"
#include "second_moment.hpp"

using namespace nb::literals;

namespace {

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

std::size_t fit_lattice(const Matrix<const float> &values, const std::string &stored,
                        const std::string &lattice, const Matrix<std::uint8_t> &blocks) {
    constexpr std::array<std::string_view, 3> floats = {"F32", "F16", "BF16"};
    constexpr std::array<std::string_view, 5> lattices = {"MXFP4", "Q4_0", "Q4_1", "Q5_0", "Q8_0"};
    const auto stored_place = std::ranges::find(floats, stored) - floats.begin();
    const auto lattice_place = std::ranges::find(lattices, lattice) - lattices.begin();
    if (stored_place == floats.size() || lattice_place == lattices.size())
        throw nb::value_error("stored must be a plain float type, lattice one of those tried");
    const auto kind = static_cast<snug::Lattice>(lattice_place);
    if (values.shape(1) % 32 != 0 || blocks.shape(0) != values.shape(0) ||
        blocks.shape(1) != values.shape(1) / 32 * snug::block_bytes(kind))
        throw nb::value_error("values must be whole blocks of 32, blocks must have room for them");
    const nb::gil_scoped_release unlocked;
    return snug::fit_rows(span_of(values), values.shape(1),
                          static_cast<snug::StoredFloat>(stored_place), kind, span_of(blocks));
}

bool is_order(std::span<const std::int32_t> order) {
    std::vector<bool> seen(order.size());
    for (const std::int32_t i : order) {
        if (i < 0 || static_cast<std::size_t>(i) >= order.size() || seen[static_cast<std::size_t>(i)])
            return false;
        seen[static_cast<std::size_t>(i)] = true;
    }
    return true;
}

bool factor_moment(const Matrix<const float> &moment, const Vector<const std::int32_t> &order,
                   const Matrix<float> &feedback, const Vector<float> &pivots,
                   unsigned n_threads) {
    const std::size_t n = order.size();
    for (const std::size_t size : {moment.shape(0), moment.shape(1), feedback.shape(0),
                                   feedback.shape(1), pivots.size()})
        if (size != n) throw nb::value_error("moment, order, feedback and pivots must fit each other");
    if (!is_order(span_of(order))) throw nb::value_error("order must name each column once");
    const nb::gil_scoped_release unlocked;
    return snug::factor_moment(span_of(moment), span_of(order), span_of(feedback), span_of(pivots),
                               n_threads);
}

void mirror(const Matrix<const float> &upper, const Matrix<float> &whole) {
    const std::size_t n = upper.shape(0);
    if (upper.shape(1) < n || whole.shape(0) != n || whole.shape(1) != n)
        throw nb::value_error("upper must be [n, n or more], whole [n, n]");
    const nb::gil_scoped_release unlocked;
    snug::mirror(span_of(upper), upper.shape(1), n, span_of(whole));
}

void round_rows(const std::string &type_name, const Matrix<const float> &rows,
                const Matrix<const float> &moment, const Vector<const std::int32_t> &order,
                const Matrix<const float> &feedback, const Vector<const float> &pivots,
                const Matrix<std::uint8_t> &blocks, const Vector<double> &errors,
                bool with_feedback, unsigned n_sweeps, unsigned n_refits, unsigned n_threads,
                bool is_checked) {
    const snug::BlockType *const type = snug::find_block_type(type_name);
    if (type == nullptr) throw nb::value_error("no scalar type has this name");
    const std::size_t n_rows = rows.shape(0);
    const std::size_t n = rows.shape(1);
    for (const std::size_t size : {moment.shape(0), moment.shape(1), feedback.shape(0),
                                   feedback.shape(1), pivots.size(), order.size()})
        if (size != n) throw nb::value_error("the curvature must be that of the rows");
    if (!is_order(span_of(order))) throw nb::value_error("order must name each column once");
    if (n % type->n_elements != 0 || blocks.shape(0) != n_rows || errors.size() != n_rows ||
        blocks.shape(1) != n / type->n_elements * type->n_bytes)
        throw nb::value_error("blocks must be those of the rows");
    const snug::Curvature curvature{span_of(moment), span_of(order), span_of(feedback),
                                    span_of(pivots)};
    const nb::gil_scoped_release unlocked;
    snug::round_rows(*type, span_of(rows), curvature, {with_feedback, n_sweeps, n_refits, is_checked},
                     span_of(blocks), span_of(errors), n_threads);
}

bool round_as_ggml(const std::string &type_name, const Matrix<const float> &rows,
                   std::optional<Vector<const float>> importance,
                   const Matrix<std::uint8_t> &blocks) {
    const snug::BlockType *const type = snug::find_block_type(type_name);
    if (!snug::rounds_as_ggml || type == nullptr ||
        !snug::is_searched(*type, importance.has_value()))
        return false;
    const std::size_t n_cols = rows.shape(1);
    if ((importance && importance->size() != n_cols) || n_cols % type->n_elements != 0 ||
        blocks.shape(0) != rows.shape(0) ||
        blocks.shape(1) != n_cols / type->n_elements * type->n_bytes)
        throw nb::value_error("importance and blocks must be those of the rows");
    const std::span of_columns = importance ? span_of(*importance) : std::span<const float>();
    const std::span numbers = span_of(rows);
    const std::span bytes = span_of(blocks);
    const nb::gil_scoped_release unlocked;
    snug::round_as_ggml(*type, numbers, n_cols, of_columns, bytes);
    return true;
}

void multiply(const Matrix<const float> &left, const Matrix<const float> &right,
              const Matrix<float> &out, unsigned n_threads) {
    if (left.shape(1) != right.shape(0) || out.shape(0) != left.shape(0) ||
        out.shape(1) != right.shape(1))
        throw nb::value_error("the matrices must fit each other");
    const nb::gil_scoped_release unlocked;
    snug::multiply(span_of(left), span_of(right), left.shape(1), right.shape(1), span_of(out),
                   n_threads);
}

void add_outer_products(const Matrix<const float> &rows, const Vector<const float> &counts,
                        const Matrix<float> &sums, std::optional<Vector<double>> totals,
                        unsigned n_threads) {
    if (sums.shape(0) != rows.shape(1) || sums.shape(1) == 0 || sums.shape(1) > sums.shape(0))
        throw nb::value_error("sums must be [n_cols, n_block], rows [n_rows, n_cols]");
    if (counts.size() != rows.shape(0) || (totals && totals->size() != rows.shape(1)))
        throw nb::value_error("counts must be [n_rows], totals [n_cols]");
    const snug::OuterProducts products{.n_cols = rows.shape(1),
                                       .n_block = sums.shape(1),
                                       .rows = span_of(rows),
                                       .counts = span_of(counts),
                                       .sums = span_of(sums),
                                       .totals = totals ? span_of(*totals) : std::span<double>()};
    const nb::gil_scoped_release unlocked;
    snug::add_outer_products(products, n_threads);
}

void sum_squares(const Matrix<const float> &rows, const Vector<double> &sums, unsigned n_threads) {
    if (sums.size() != rows.shape(0)) throw nb::value_error("sums must be [n_rows]");
    const std::span numbers = span_of(rows);
    const std::span of_rows = span_of(sums);
    const nb::gil_scoped_release unlocked;
    snug::sum_squares(numbers, of_rows, n_threads);
}

nb::list memory_breakdown(std::uintptr_t function, std::uintptr_t context) {
    nb::list found;
    for (const auto &[type, weights, cache, compute] : snug::memory_breakdown(function, context))
        found.append(nb::make_tuple(type, weights, cache, compute));
    return found;
}

}  // namespace

NB_MODULE(SNUG_KERNELS, m) {
    m.doc() = "Snug's native kernels. Documented in engine/_native/__init__.pyi.";

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

    m.def("add_outer_products", &add_outer_products, "rows"_a.noconvert(), "counts"_a.noconvert(),
          "sums"_a.noconvert(), "totals"_a.noconvert().none(), "n_threads"_a = 0);

    m.def("sum_squares", &sum_squares, "rows"_a.noconvert(), "sums"_a.noconvert(),
          "n_threads"_a = 0);

    m.def("memory_breakdown", &memory_breakdown, "function"_a, "context"_a);

    m.def("fit_lattice", &fit_lattice, "values"_a.noconvert(), "stored"_a, "lattice"_a,
          "blocks"_a.noconvert());

    m.def("factor_moment", &factor_moment, "moment"_a.noconvert(), "order"_a.noconvert(),
          "feedback"_a.noconvert(), "pivots"_a.noconvert(), "n_threads"_a = 0);

    m.def("mirror", &mirror, "upper"_a.noconvert(), "whole"_a.noconvert());

    m.def("round_rows", &round_rows, "ggml_type"_a, "rows"_a.noconvert(), "moment"_a.noconvert(),
          "order"_a.noconvert(), "feedback"_a.noconvert(), "pivots"_a.noconvert(),
          "blocks"_a.noconvert(), "errors"_a.noconvert(), "with_feedback"_a, "n_sweeps"_a,
          "n_refits"_a, "n_threads"_a = 0, "is_checked"_a = true);

    m.def("round_as_ggml", &round_as_ggml, "ggml_type"_a, "rows"_a.noconvert(),
          "importance"_a.noconvert().none(), "blocks"_a.noconvert());

    m.def("multiply", &multiply, "left"_a.noconvert(), "right"_a.noconvert(), "out"_a.noconvert(),
          "n_threads"_a = 0);

    bind_codes(m);

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
