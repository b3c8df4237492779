// Arrays as Python gives them to the bindings.
#pragma once

#include <nanobind/nanobind.h>
#include <nanobind/ndarray.h>

#include <cstdint>
#include <span>

namespace nb = nanobind;

template <typename T>
using Vector = nb::ndarray<T, nb::ndim<1>, nb::c_contig, nb::device::cpu>;
template <typename T>
using Matrix = nb::ndarray<T, nb::ndim<2>, nb::c_contig, nb::device::cpu>;

// An array over the bytes of a file may begin anywhere; to read numbers there is undefined.
template <typename T, typename... Annotations>
T *data_of(const nb::ndarray<T, Annotations...> &array) {
    if (array.size() > 0 && reinterpret_cast<std::uintptr_t>(array.data()) % alignof(T) != 0)
        throw nb::value_error("arrays must be aligned");
    return array.data();
}

template <typename T, typename... Annotations>
std::span<T> span_of(const nb::ndarray<T, Annotations...> &array) {
    return {data_of(array), array.size()};
}
