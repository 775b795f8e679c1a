"""Who of a connection's streams may send more."""

from inferd.protocols.grpc.intake import Intake


class Stream:
    def __init__(self) -> None:
        self.asked = 0

    def consumed(self, n: int) -> None:
        self.asked += n


def test_all_go_on_up_to_the_limit_and_then_only_the_oldest() -> None:
    intake, (first, second, third) = Intake(100), [Stream() for _ in range(3)]
    intake.took(first, 40)
    intake.took(second, 60)
    assert (first.asked, second.asked) == (40, 60)
    intake.took(second, 10)
    intake.took(third, 10)
    intake.took(first, 10)
    assert [stream.asked for stream in (first, second, third)] == [50, 60, 0]
    intake.ended(first)  # 80 are held: there is room for all
    assert [stream.asked for stream in (first, second, third)] == [50, 70, 10]


def test_the_next_oldest_is_asked_when_the_oldest_ends_over_the_limit() -> None:
    intake, (first, second, third) = Intake(100), [Stream() for _ in range(3)]
    for stream, count in ((first, 10), (second, 150), (third, 150)):
        intake.took(stream, count)
    assert [stream.asked for stream in (first, second, third)] == [10, 0, 0]
    intake.ended(first)
    assert [stream.asked for stream in (first, second, third)] == [10, 150, 0]
    intake.ended(second)
    intake.ended(third)
    assert third.asked == 150


def test_what_never_began_may_end() -> None:
    stream = Stream()
    Intake(1).ended(stream)
    assert stream.asked == 0
