from jobs.states import FINAL, TRANSITIONS, State


def test_every_state_has_its_row_in_the_table() -> None:
    assert set(TRANSITIONS) == set(State)


def test_exactly_the_three_ends_are_final() -> None:
    assert {State.SUCCEEDED, State.FAILED, State.CANCELLED} == FINAL


def test_every_state_can_be_reached() -> None:
    assert set().union(*TRANSITIONS.values()) == set(State)
