// A flag that stops a running llama.cpp computation from another thread.
#pragma once

#include <atomic>

namespace snug {

class AbortFlag {
public:
    void set() noexcept { requested_.store(true, std::memory_order_relaxed); }
    void clear() noexcept { requested_.store(false, std::memory_order_relaxed); }
    bool is_set() const noexcept { return requested_.load(std::memory_order_relaxed); }

private:
    // Nothing else is published through the flag, so relaxed order is enough.
    std::atomic<bool> requested_{false};
};

// A `ggml_abort_callback`: `data` is an AbortFlag. Needs no interpreter, so ggml can ask it between
// two graph nodes while Python runs elsewhere.
extern "C" bool snug_abort_requested(void *data) noexcept;

}  // namespace snug
