#include "abort_flag.hpp"

namespace snug {

extern "C" bool snug_abort_requested(void *data) noexcept {
    return static_cast<const AbortFlag *>(data)->is_set();
}

}  // namespace snug
