"""How many threads write, as the pace of the tokens changes."""

from __future__ import annotations

from engine.llama.threads import SHORTEST_WAIT, ThreadCount


def write(threads: ThreadCount, n_tokens: int, seconds: dict[int, float]) -> list[int]:
    """Write tokens that take `seconds[n]` with n threads; return the count used for each."""
    used = []
    for _ in range(n_tokens):
        used.append(threads.n)
        threads.note(seconds[threads.n])
    return used


def test_a_quiet_computer_uses_all_cores_after_one_short_trial() -> None:
    threads = ThreadCount(4)
    used = write(threads, 1000, {4: 0.010, 3: 0.012})
    assert set(used[:20]) == {3, 4}
    assert used.count(3) == 3
    assert threads.n == 4


def test_a_busy_neighbour_gets_a_core_and_gives_it_back() -> None:
    threads = ThreadCount(2)
    write(threads, 100, {2: 0.010, 1: 0.019})
    busy = write(threads, 300, {2: 0.1, 1: 0.021})
    assert 1 in busy[:8]
    assert busy.count(2) < 30
    assert threads.n == 1
    quiet = write(threads, 600, {2: 0.010, 1: 0.019})
    assert quiet[-1] == 2
    assert quiet.count(2) > 60


def test_a_computer_busy_from_the_start() -> None:
    used = write(ThreadCount(2), 200, {2: 0.1, 1: 0.02})
    assert used.count(2) < 12


def test_a_collapse_right_after_the_first_trial_is_not_waited_out() -> None:
    threads = ThreadCount(2)
    write(threads, 8, {2: 0.0005, 1: 0.0008})  # its first tokens happened to be quick
    assert threads.n == 2
    assert write(threads, 20, {2: 0.6, 1: 0.0008}).count(2) <= 6


def test_a_computer_that_is_slow_with_any_count_is_not_tried_for_ever() -> None:
    threads = ThreadCount(2)
    write(threads, 8, {2: 0.0005, 1: 0.0008})
    assert write(threads, 500, {2: 0.6, 1: 0.6}).count(1) < 50


def test_one_slow_token_alone_is_nothing() -> None:
    threads = ThreadCount(2)
    write(threads, 100, {2: 0.010, 1: 0.019})
    threads.note(1.0)
    assert set(write(threads, 100, {2: 0.010, 1: 0.019})) == {2}


def test_a_trial_that_is_hopeless_ends_after_one_token() -> None:
    threads = ThreadCount(2)
    write(threads, 8, {2: 0.1, 1: 0.02})
    used = write(threads, SHORTEST_WAIT + 8, {2: 1.0, 1: 0.02})
    assert used.count(2) == 1


def test_a_conversation_that_grows_slower_by_itself_is_left_alone() -> None:
    threads = ThreadCount(4)
    used = [
        n for k in range(4000) for n in write(threads, 1, {4: 0.01 + k * 1e-5, 3: 0.012 + k * 1e-5})
    ]
    assert used.count(3) <= 9


def test_one_core_has_no_choice() -> None:
    assert set(write(ThreadCount(1), 100, {1: 0.01})) == {1}
