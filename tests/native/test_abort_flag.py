"""The abort flag as Python sees it and as ggml calls it: through its C function."""

from __future__ import annotations

import ctypes
import threading

from engine._native import AbortFlag

AbortCallback = ctypes.CFUNCTYPE(ctypes.c_bool, ctypes.c_void_p)


def test_is_set_and_cleared() -> None:
    flag = AbortFlag()
    assert not flag.is_set
    flag.set()
    flag.set()
    assert flag.is_set
    flag.clear()
    assert not flag.is_set


def test_the_c_function_answers_for_its_own_flag() -> None:
    one, other = AbortFlag(), AbortFlag()
    assert one.callback_address == other.callback_address
    assert one.data_address != other.data_address
    requested = AbortCallback(one.callback_address)
    one.set()
    assert requested(one.data_address)
    assert not requested(other.data_address)


def test_another_thread_sees_the_flag_through_the_c_function() -> None:
    flag = AbortFlag()
    requested = AbortCallback(flag.callback_address)
    polling = threading.Event()

    def compute() -> None:
        while not requested(flag.data_address):
            polling.set()

    thread = threading.Thread(target=compute)
    thread.start()
    assert polling.wait(timeout=10)
    assert thread.is_alive()
    flag.set()
    thread.join(timeout=10)
    assert not thread.is_alive()
