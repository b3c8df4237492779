#include "code_bindings.hpp"

#include <nanobind/stl/optional.h>

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <optional>
#include <span>

#include "arrays.hpp"
#include "codes.hpp"

using namespace nb::literals;

namespace {

snug::Chunk chunk_of(std::size_t n_bytes, unsigned n_bits,
                     const Vector<const std::int32_t> &positions) {
    const auto is_in_chunk = [&](std::int32_t position) {
        return position >= 0 && static_cast<std::size_t>(position) + n_bits <= n_bytes * 8;
    };
    if (n_bytes < 1 || n_bytes > 8 || n_bits < 1 || n_bits > 8 || positions.size() < 1 ||
        positions.size() > 32 || !std::ranges::all_of(span_of(positions), is_in_chunk))
        throw nb::value_error("a chunk has 1 to 8 bytes, with 1 to 32 codes of 1 to 8 bits in it");
    return {n_bytes, n_bits, span_of(positions)};
}

void unpack_codes(const Matrix<const std::uint8_t> &packed, std::size_t chunk_bytes,
                  unsigned n_bits, const Vector<const std::int32_t> &positions,
                  const Matrix<std::uint8_t> &codes) {
    const snug::Chunk chunk = chunk_of(chunk_bytes, n_bits, positions);
    if (packed.shape(0) != codes.shape(0) ||
        packed.shape(1) < snug::packed_bytes(chunk, codes.shape(1)))
        throw nb::value_error("packed must hold as many rows and codes as are wanted");
    const nb::gil_scoped_release unlocked;
    snug::unpack_codes(span_of(packed), packed.shape(1), chunk, codes.shape(1), span_of(codes));
}

void split_words(const Matrix<const std::uint32_t> &words, unsigned n_bits,
                 const Vector<const std::int32_t> &positions, const Matrix<std::uint8_t> &codes) {
    const snug::Chunk chunk = chunk_of(sizeof(std::uint32_t), n_bits, positions);
    if (codes.shape(0) != words.shape(0) * positions.size() || codes.shape(1) != words.shape(1))
        throw nb::value_error("each word must give one code to each of its rows");
    const nb::gil_scoped_release unlocked;
    snug::split_words(span_of(words), words.shape(1), n_bits, chunk.positions, span_of(codes));
}

// The rows of the source may lie apart, so that some of its columns can be transposed.
void transpose(const nb::ndarray<const std::uint32_t, nb::ndim<2>, nb::device::cpu> &source,
               const Matrix<std::uint32_t> &target) {
    if (source.shape(0) != target.shape(1) || source.shape(1) != target.shape(0) ||
        (source.size() > 0 && source.stride(1) != 1) || source.stride(0) < 0)
        throw nb::value_error("target must have the transposed shape, source contiguous rows");
    const nb::gil_scoped_release unlocked;
    snug::transpose(data_of(source), static_cast<std::size_t>(source.stride(0)), source.shape(0),
                    source.shape(1), data_of(target));
}

void decode_codes(const Matrix<const std::uint8_t> &codes, const Vector<const float> &table,
                  const Vector<const std::int32_t> &groups, const Matrix<const float> &scales,
                  const std::optional<Matrix<const float>> &zeros, const Matrix<float> &values) {
    const std::size_t n_groups = scales.shape(1);
    if (values.shape(0) != codes.shape(0) || values.shape(1) != codes.shape(1) ||
        scales.shape(0) != codes.shape(0) || groups.size() != codes.shape(1) ||
        table.size() != 256 ||
        (zeros && (zeros->shape(0) != scales.shape(0) || zeros->shape(1) != n_groups)))
        throw nb::value_error("codes, groups, scales, zeros and values must fit each other");
    if (!std::ranges::all_of(span_of(groups), [n_groups](std::int32_t group) {
            return group >= 0 && static_cast<std::size_t>(group) < n_groups;
        }))
        throw nb::value_error("every group must have a scale");
    const snug::Decoding how{
        .n_cols = codes.shape(1),
        .n_groups = n_groups,
        .table = span_of(table),
        .groups = span_of(groups),
        .scales = span_of(scales),
        .zeros = zeros ? span_of(*zeros) : std::span<const float>{},
    };
    const nb::gil_scoped_release unlocked;
    snug::decode_codes(span_of(codes), how, span_of(values));
}

void pack_blocks(const Matrix<const std::uint8_t> &codes, std::uint8_t offset,
                 const Matrix<const std::uint8_t> &heads, std::size_t n_elements, unsigned n_bits,
                 std::size_t stride, bool head_is_last, const Matrix<std::uint8_t> &blocks) {
    const bool is_known = n_bits == 4 ? stride == 8 || stride == 16
                                      : (n_bits == 2 || n_bits == 8) && stride == 32;
    if (!is_known || n_elements == 0 || n_elements % (8 / n_bits * stride) != 0)
        throw nb::value_error("there is no such layout of a block");
    const std::size_t n_rows = codes.shape(0);
    const std::size_t n_blocks = codes.shape(1) / n_elements;
    const std::size_t head_bytes = n_blocks == 0 ? 0 : heads.shape(1) / n_blocks;
    const snug::BlockLayout layout{n_elements, head_bytes, n_bits, stride, head_is_last};
    if (codes.shape(1) % n_elements != 0 || heads.shape(0) != n_rows ||
        heads.shape(1) != n_blocks * head_bytes || blocks.shape(0) != n_rows ||
        blocks.shape(1) != n_blocks * layout.n_bytes())
        throw nb::value_error("codes, heads and blocks must fit each other");
    const nb::gil_scoped_release unlocked;
    snug::pack_blocks(span_of(codes), offset, span_of(heads), layout, span_of(blocks));
}

}  // namespace

void bind_codes(nb::module_ &m) {
    m.def("unpack_codes", &unpack_codes, "packed"_a.noconvert(), "chunk_bytes"_a, "n_bits"_a,
          "positions"_a.noconvert(), "codes"_a.noconvert());

    m.def("split_words", &split_words, "words"_a.noconvert(), "n_bits"_a,
          "positions"_a.noconvert(), "codes"_a.noconvert());

    m.def("transpose", &transpose, "source"_a.noconvert(), "target"_a.noconvert());

    m.def("decode_codes", &decode_codes, "codes"_a.noconvert(), "table"_a.noconvert(),
          "groups"_a.noconvert(), "scales"_a.noconvert(), "zeros"_a.noconvert().none(),
          "values"_a.noconvert());

    m.def("pack_blocks", &pack_blocks, "codes"_a.noconvert(), "offset"_a, "heads"_a.noconvert(),
          "n_elements"_a, "n_bits"_a, "stride"_a, "head_is_last"_a, "blocks"_a.noconvert());
}
