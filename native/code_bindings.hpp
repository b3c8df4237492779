// Bindings of what unpacks and packs the codes of other quantizers (codes.hpp).
#pragma once

#include <nanobind/nanobind.h>

void bind_codes(nanobind::module_ &m);
