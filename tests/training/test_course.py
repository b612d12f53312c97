"""How a run's time is shared out, by a clock that moves as the tests say."""

from __future__ import annotations

from types import SimpleNamespace

import pytest

from gmvqzip.errors import TrainingError
from gmvqzip.training import course as module
from gmvqzip.training.course import EXPORT_SHARE, FEWEST, GAP, SHARE, Course, export_seconds, in_words


class Clock:
    """Time that passes when it is told to."""

    def __init__(self) -> None:
        self.now = 1000.0

    def monotonic(self) -> float:
        return self.now


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    made = Clock()
    monkeypatch.setattr(module, "time", SimpleNamespace(monotonic=made.monotonic))
    return made


class Simulated:
    """A run whose parts take so many seconds each."""

    def __init__(self, clock: Clock, seconds: float, *, step: float, evaluation: float = 0.0, reading: float = 0.0):
        self.clock, self.step, self.evaluation = clock, step, evaluation
        self.course = Course(seconds, clock.now)
        clock.now += reading
        self.steps, self.evaluations, self.seen = 0, 0, [0.0]

    def go(self, until: float = 1.0) -> None:
        """Steps and evaluations until so much of the run is done."""
        while self.course.progress < until:
            self.clock.now += self.step
            self.steps += 1
            self.course.step_done(self.step)
            self.seen.append(self.course.progress)
            if self.course.evaluation_due(self.steps) and self.course.progress < 1:
                self.clock.now += self.evaluation
                self.course.evaluation_done(self.evaluation)
                self.evaluations += 1


@pytest.mark.parametrize("reading", [0.0, 60.0])
@pytest.mark.parametrize("evaluation", [0.0, 1.5, 20.0])
@pytest.mark.parametrize("step", [0.05, 2.3])
def test_steps_end_in_time_for_the_rest(clock: Clock, step: float, evaluation: float, reading: float) -> None:
    run = Simulated(clock, 600, step=step, evaluation=evaluation, reading=reading)
    run.go()
    assert run.seen == sorted(run.seen)
    left = 600 - run.course.elapsed
    assert left == pytest.approx(EXPORT_SHARE * 600 + evaluation, abs=max(step, evaluation) + 1)
    assert run.evaluations * evaluation <= SHARE * 600 + evaluation


def test_progress_is_even_where_nothing_is_unexpected(clock: Clock) -> None:
    run = Simulated(clock, 600, step=1.0)
    run.go()
    steps = [after - before for before, after in zip(run.seen[:-1], run.seen[1:-1], strict=False)]
    assert max(steps) == pytest.approx(min(steps))


def test_what_is_awaited_is_kept_free_and_no_phase_is_skipped_by_it(clock: Clock) -> None:
    """60 seconds between steps at 70 % of the run, of which 50 were expected."""
    run = Simulated(clock, 600, step=1.0)
    run.course.awaited = 50.0
    run.go(until=0.7)
    before = run.course.progress
    clock.now += 60
    run.course.awaited = 0.0
    run.go()
    assert run.seen == sorted(run.seen)
    assert before == pytest.approx(0.7, abs=0.01)
    assert run.seen[run.seen.index(before) + 1] - before < 0.01
    assert run.course.elapsed == pytest.approx(600 * (1 - EXPORT_SHARE), abs=2)


def test_speed_may_change(clock: Clock) -> None:
    run = Simulated(clock, 600, step=0.5)
    run.go(until=0.5)
    run.step = 3.0
    run.go()
    assert run.seen == sorted(run.seen)
    assert run.course.elapsed == pytest.approx(600 * (1 - EXPORT_SHARE), abs=4)


def test_long_runs_keep_no_more_than_their_end_needs(clock: Clock) -> None:
    run = Simulated(clock, 36_000, step=10.0)
    run.go()
    assert 36_000 - run.course.elapsed == pytest.approx(180, abs=11)


def test_a_resumed_run_has_the_rest_of_its_time(clock: Clock) -> None:
    first = Simulated(clock, 600, step=1.0)
    first.go(until=0.5)
    elapsed, progress = first.course.elapsed, first.course.progress
    clock.now += 10_000  # nobody knows how much later
    again = Simulated(clock, 600, step=1.0, reading=30)
    again.course.resumed(elapsed, first.course.trained, progress)
    again.seen = [again.course.progress]
    again.go()
    assert again.seen == sorted(again.seen)
    assert again.course.elapsed == pytest.approx(600 * (1 - EXPORT_SHARE), abs=2)
    longer = Course(1200, clock.now)
    longer.resumed(elapsed, first.course.trained, None)
    assert longer.progress == pytest.approx(elapsed / 1200)
    of_steps = Course(None, clock.now)
    of_steps.resumed(elapsed, first.course.trained, None)
    assert of_steps.progress == 0


class TestEvaluations:
    def test_they_take_a_bounded_share(self, clock: Clock) -> None:
        """Each takes 6 seconds: one in two minutes, not one in half a minute."""
        run = Simulated(clock, 3600, step=1.0, evaluation=6.0)
        run.go()
        assert 20 < run.evaluations * 6.0 <= SHARE * 3600 + 6

    def test_they_come_more_rarely_in_a_long_run(self, clock: Clock) -> None:
        run = Simulated(clock, 86_400, step=5.0, evaluation=1.0)
        run.go()
        assert 60 < run.evaluations < 130

    def test_a_number_of_steps_decides_where_it_is_given(self, clock: Clock) -> None:
        course = Course(None, clock.now, every=10)
        clock.now += 100 * GAP
        assert [step for step in range(1, 31) if course.evaluation_due(step)] == [10, 20, 30]

    def test_they_have_as_many_pictures_as_their_time_allows(self, clock: Clock) -> None:
        for seconds, pictures, most, expected in ((4.0, 4, 256, FEWEST), (0.4, 4, 256, 15), (1e-9, 4, 20, 20)):
            course = Course(600, clock.now)
            assert course.pictures_for(seconds, pictures, most) == expected
            assert course.pictures_for(100.0, 1, most) == expected  # once and for all: a trend needs equal pictures


class TestTooShort:
    def test_it_is_refused_as_soon_as_the_speed_is_known(self, clock: Clock) -> None:
        run = Simulated(clock, 60, step=2.0)
        for step in range(1, module.KNOWN_AFTER):
            clock.now += 2.0
            run.course.step_done(2.0)
            run.course.check_speed(step, 161)
        clock.now += 2.0
        run.course.step_done(2.0)
        with pytest.raises(
            TrainingError, match=r"^60 s are too short .*161 steps.* one takes 2 s here: give --time 6m or mo"
        ):
            run.course.check_speed(module.KNOWN_AFTER, 161)

    def test_what_is_asked_for_suffices(self, clock: Clock) -> None:
        run = Simulated(clock, 6 * 60, step=2.0)
        run.go()
        assert run.steps >= 161

    def test_it_is_refused_where_one_step_is_longer(self, clock: Clock) -> None:
        run = Simulated(clock, 5, step=9.0)
        run.go()
        with pytest.raises(TrainingError, match="give --time"):
            run.course.check_speed(run.steps, 4)

    def test_what_is_long_enough_is_not_refused(self, clock: Clock) -> None:
        run = Simulated(clock, 60, step=2.0)
        for step in range(1, 28):
            clock.now += 2.0
            run.course.step_done(2.0)
            run.course.check_speed(step, 25)


def test_time_left(clock: Clock) -> None:
    timed, counted = Course(600, clock.now), Course(None, clock.now)
    assert counted.seconds_left(100) is None
    clock.now += 10
    for course in (timed, counted):
        course.step_done(2.0)
    assert timed.seconds_left(0) == 590
    assert counted.seconds_left(99) == pytest.approx(198)


@pytest.mark.parametrize(("run", "end"), [(4, 1), (60, 8), (600, 48), (86_400, 180)])
def test_what_is_kept_for_the_end(run: float, end: float) -> None:
    assert export_seconds(run) == end


def test_the_export_ends_with_the_run_or_soon_after_a_late_one(clock: Clock) -> None:
    course, began = Course(600, clock.now), clock.now
    clock.now += 555
    assert course.export_end() == began + 600
    clock.now += 100
    assert course.export_end() == clock.now + 24
    assert Course(None, clock.now).export_end() is None


@pytest.mark.parametrize(("seconds", "text"), [(0.2, "1s"), (61, "61s"), (91, "2m"), (120, "2m"), (4000, "67m")])
def test_durations_in_words(seconds: float, text: str) -> None:
    assert in_words(seconds) == text
