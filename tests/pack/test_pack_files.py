"""Packs as files: random access that reads what it needs, appends, and what is left of a damaged pack."""

from __future__ import annotations

import errno
import os
import pickle
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from packs import SMALL, Made, made, write_pack

from gmvqzip.errors import FormatError, OutputError
from gmvqzip.format.packheader import PACK_HEADER_BYTES, slot_offset
from gmvqzip.format.packindex import Kind
from gmvqzip.format.packrecord import seal_record
from gmvqzip.pack import PackFile, appending, file
from gmvqzip.pack.appending import Appender

in_a_folder = settings(suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None, max_examples=40)


def contents(path: Path) -> list[Made]:
    with PackFile(path) as pack:
        return [(name, pack.entry(name).kind, pack.record(name).payload) for name in pack.names]


@pytest.fixture
def segments(tmp_path: Path) -> Path:
    """Three segments of 4, 1 and 3 pictures."""
    return write_pack(tmp_path / "set.gmvqp", [made(4), made(1, 4), made(3, 5)])


def test_what_was_added(segments: Path) -> None:
    assert contents(segments) == made(8)
    with PackFile(segments) as pack:
        assert (len(pack), pack.segments, pack.warnings, pack.tail_bytes) == (8, 3, [], 0)
        assert pack.file_bytes == PACK_HEADER_BYTES + pack.record_bytes + pack.index_bytes == segments.stat().st_size
        assert [pack.number(key) for key in (0, 7, -1, -8, "00003")] == [0, 7, 7, 0, 3]
        assert ("00003" in pack, "x" in pack, 3 in pack) == (True, False, False)
        for key in (8, -9):
            with pytest.raises(IndexError):
                pack.entry(key)
        with pytest.raises(KeyError):
            pack.entry("x")


def test_an_empty_pack(tmp_path: Path) -> None:
    path = write_pack(tmp_path / "empty.gmvqp", [[]])
    assert contents(path) == []
    assert contents(write_pack(path, [made(2)])) == made(2)


def test_kinds(tmp_path: Path) -> None:
    large = Kind(bytes(8), 300, 2, 60, gray=True, profile=b"profile", halvings=3)
    pictures = [*made(2), ("x", large, b"abc"), ("y", SMALL, b""), ("z", large, b"d")]
    assert contents(write_pack(tmp_path / "kinds.gmvqp", [pictures])) == pictures


def test_only_header_index_and_entry_are_read(segments: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    reads: list[tuple[int, int]] = []

    def pread(descriptor: int, size: int, offset: int) -> bytes:
        reads.append((offset, size))
        return read(descriptor, size, offset)

    read = os.pread
    monkeypatch.setattr(file.os, "pread", pread)
    with PackFile(segments) as pack:
        assert reads[0] == (0, PACK_HEADER_BYTES)
        assert sum(size for _, size in reads[1:]) == pack.index_bytes
        reads.clear()
        entry = pack.entry("00005")
        assert pack.record("00005").payload == made(1, 5)[0][2]
        assert reads == [(entry.offset, entry.size)]


def test_nothing_else_matters(segments: Path) -> None:
    """Every byte but those of header, index and one record is overwritten; the picture is still there."""
    with PackFile(segments) as pack:
        wanted, entries = pack.entry(5), [pack.entry(number) for number in range(8)]
    data = bytearray(segments.read_bytes())
    for entry in entries:
        if entry != wanted:
            data[entry.offset : entry.offset + entry.size] = b"\xaa" * entry.size
    segments.write_bytes(data)
    with PackFile(segments) as pack:
        assert pack.record(5).payload == made(1, 5)[0][2]
        for number in set(range(8)) - {5}:
            with pytest.raises(FormatError, match="damaged"):
                pack.record(number)
            with pytest.raises(FormatError, match="damaged"):
                pack.check(number)


def test_every_cut_is_refused(segments: Path, tmp_path: Path) -> None:
    data = segments.read_bytes()
    for size in range(len(data)):
        (tmp_path / "cut").write_bytes(data[:size])
        with pytest.raises(FormatError) as caught:
            PackFile(tmp_path / "cut")
        assert "\n" not in str(caught.value)


def outcome(path: Path) -> list[Any] | None:
    """Payloads by number, None where a record is refused; None where the pack is. A shorter pack must say so."""
    try:
        with PackFile(path) as pack:
            pack.names  # noqa: B018
            found: list[Any] = []
            for number in range(len(pack)):
                try:
                    found.append((pack.names[number], pack.record(number).payload))
                except FormatError:
                    found.append(None)
            found += ["lost"] if pack.lost else ["warned"] if pack.warnings else []
            return found
    except FormatError:
        return None


def test_every_damaged_byte(segments: Path, tmp_path: Path) -> None:
    """It is refused, or seen in its picture alone, or takes the last append away, or none; and it is said."""
    data = segments.read_bytes()
    good = [(name, payload) for name, _, payload in made(8)]
    with PackFile(segments) as pack:
        places = {
            at: n for n in range(8) for at in range(pack.entry(n).offset, pack.entry(n).offset + pack.entry(n).size)
        }
    in_use = range(slot_offset(0), slot_offset(1))  # the third append filled slot 0 again
    for position in range(len(data)):
        for change in (1, 0x10, 0x80, 0xFF):
            damaged = bytearray(data)
            damaged[position] ^= change
            (tmp_path / "damaged").write_bytes(damaged)
            found = outcome(tmp_path / "damaged")
            if position in places:
                assert found == [None if n == places[position] else picture for n, picture in enumerate(good)]
            elif position in in_use:
                assert found == [*good[:5], "lost"]
            elif position in range(slot_offset(1), PACK_HEADER_BYTES):
                assert found == [*good, "warned"]
            else:
                assert found is None


@in_a_folder
@given(st.data())
def test_round_trip_and_any_damage(tmp_path: Path, data: st.DataObject) -> None:
    path = tmp_path / "some.gmvqp"
    path.unlink(missing_ok=True)
    counts = data.draw(st.lists(st.integers(0, 6), min_size=1, max_size=3))
    pictures = [(str(n), SMALL, data.draw(st.binary(max_size=9))) for n in range(sum(counts))]
    rest = iter(pictures)
    write_pack(path, [[next(rest) for _ in range(count)] for count in counts])
    assert contents(path) == pictures

    whole = path.read_bytes()
    good = [(name, payload) for name, _, payload in pictures]
    position = data.draw(st.integers(0, len(whole) - 1))
    damaged = bytearray(whole)
    damaged[position] ^= data.draw(st.integers(1, 255))
    path.write_bytes(damaged)
    found = outcome(path)
    if found is not None and found != good:
        if found[-1] in ("lost", "warned"):
            assert found[:-1] == (good if found[-1] == "warned" else good[: len(found) - 1])
        else:
            assert len(found) == len(good)
            assert [n for n in range(len(good)) if found[n] != good[n]] == [found.index(None)]

    path.write_bytes(whole[: data.draw(st.integers(0, len(whole) - 1))])
    assert outcome(path) is None


@in_a_folder
@given(st.binary(max_size=200), st.booleans())
def test_noise(tmp_path: Path, noise: bytes, with_header: bool) -> None:
    path = tmp_path / "noise.gmvqp"
    path.write_bytes((b"\x9dP\x20" if with_header else b"") + noise)
    assert outcome(path) is None


def test_a_record_cut_while_the_pack_is_open(segments: Path) -> None:
    with PackFile(segments) as pack:
        os.truncate(segments, pack.entry(2).offset + 1)
        assert pack.record(1).payload == made(1, 1)[0][2]
        with pytest.raises(FormatError, match="cut at byte"):
            pack.record(2)


def test_pictures_of_one_name(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Appender, "names", property(lambda self: set(), lambda self, value: None), raising=False)
    path = write_pack(tmp_path / "twice.gmvqp", [[("a", SMALL, b"1"), ("a", SMALL, b"2")]])
    with PackFile(path) as pack:
        assert pack.record(1).payload == b"2"
        with pytest.raises(FormatError, match="one name"):
            pack.number("a")


def test_too_many_segments(segments: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(file, "MAX_SEGMENTS", 2)
    with pytest.raises(FormatError, match="more than 2 segments"):
        PackFile(segments)
    monkeypatch.undo()
    monkeypatch.setattr(appending, "MAX_SEGMENTS", 3)
    appender = Appender(segments, append=True)
    appender.add("x", SMALL, seal_record(32, 32, 0, b""))
    with pytest.raises(FormatError, match="nothing more"):
        appender.finish()
    appender.discard()
    monkeypatch.undo()
    assert contents(segments) == made(8)


def test_indexes_beyond_their_limit(segments: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(file, "MAX_ALL_INDEX_BYTES", 100)
    with pytest.raises(FormatError, match="inflate to more"):
        PackFile(segments)


def test_a_full_segment_is_followed_by_another(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(appending, "MAX_SEGMENT_ENTRIES", 3)
    path = write_pack(tmp_path / "many.gmvqp", [made(8)])
    assert contents(path) == made(8)
    with PackFile(path) as pack:
        assert pack.segments == 3


def test_pickled_and_closed(segments: Path) -> None:
    pack = PackFile(segments)
    copy = pickle.loads(pickle.dumps(pack))
    pack.close()
    pack.close()
    with pytest.raises(ValueError, match="closed"):
        pack.record(0)
    assert copy.record("00001").payload == made(1, 1)[0][2]
    copy.close()


def test_what_is_no_pack(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError):
        PackFile(tmp_path / "missing")
    with pytest.raises(FormatError, match="no regular file"):
        PackFile(tmp_path)


class TestAppending:
    def test_names_are_unique(self, segments: Path) -> None:
        appender = Appender(segments, append=True)
        with pytest.raises(FormatError, match="named '00002'"):
            appender.add("00002", SMALL, b"12")
        appender.discard()
        assert contents(segments) == made(8)

    def test_what_is_discarded_leaves_no_trace(self, segments: Path) -> None:
        before = segments.read_bytes()
        appender = Appender(segments, append=True)
        appender.add("x", SMALL, bytes(3 << 20))
        assert segments.stat().st_size > len(before)
        appender.discard()
        appender.discard()
        assert segments.read_bytes() == before

    def test_nothing_to_add_changes_nothing(self, segments: Path) -> None:
        before = segments.read_bytes()
        Appender(segments, append=True).finish()
        assert segments.read_bytes() == before

    @pytest.mark.parametrize("removed", [False, True])
    def test_a_pack_that_is_replaced_meanwhile(self, segments: Path, removed: bool) -> None:
        """What was added is in no file that has a name: that is no success."""
        appender = Appender(segments, append=True)
        appender.add("x", SMALL, bytes(9))
        segments.unlink()
        if not removed:
            write_pack(segments, [made(1)])
        with pytest.raises(OutputError, match=r"replaced .*: nothing was added"):
            appender.finish()
        appender.discard()
        assert removed or contents(segments) == made(1)

    def test_nothing_old_is_written_over(self, segments: Path) -> None:
        before = segments.read_bytes()
        write_pack(segments, [made(2, 8)])
        assert segments.read_bytes()[PACK_HEADER_BYTES : len(before)] == before[PACK_HEADER_BYTES:]

    def test_what_an_interrupted_append_left(self, segments: Path) -> None:
        with segments.open("ab") as pack:
            pack.write(b"left behind")
        with PackFile(segments) as opened:
            assert opened.warnings == ["an append was not finished: the last 11 bytes are no part of the pack"]
        assert contents(segments) == made(8)
        write_pack(segments, [made(1, 8)])
        assert contents(segments) == made(9)
        with PackFile(segments) as opened:
            assert not opened.warnings

    def test_a_damaged_header_is_not_appended_to(self, segments: Path) -> None:
        data = bytearray(segments.read_bytes())
        data[slot_offset(0)] ^= 1
        segments.write_bytes(data)
        with pytest.raises(FormatError, match="nothing can be added"):
            Appender(segments, append=True)
        assert segments.read_bytes() == data

    def test_a_pack_that_cannot_be_begun_leaves_nothing(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        def fail(*_: object) -> int:
            raise OSError(errno.ENOSPC, "No space left on device")

        closed, close = list[int](), os.close
        monkeypatch.setattr(os, "pwrite", fail)
        monkeypatch.setattr(os, "close", lambda descriptor: (closed.append(descriptor), close(descriptor))[1])
        with pytest.raises(OutputError, match="no space left"):
            Appender(tmp_path / "new.gmvqp")
        assert len(closed) == 1
        assert list(tmp_path.iterdir()) == []

    def test_two_at_once(self, segments: Path) -> None:
        appender = Appender(segments, append=True)
        with pytest.raises(OutputError, match="another process is appending"):
            Appender(segments, append=True)
        appender.finish()
        Appender(segments, append=True).discard()

    def test_a_reader_sees_what_was_there(self, segments: Path) -> None:
        with PackFile(segments) as pack:
            write_pack(segments, [made(2, 8)])
            assert [pack.record(number).payload for number in range(len(pack))] == [p for _, _, p in made(8)]

    def test_a_new_pack_appears_when_it_is_finished(self, tmp_path: Path) -> None:
        path = tmp_path / "new.gmvqp"
        appender = Appender(path)
        appender.add("a", SMALL, b"12")
        assert not path.exists()
        appender.discard()
        assert not list(tmp_path.iterdir())
        write_pack(path, [made(1)])
        assert [entry.name for entry in tmp_path.iterdir()] == ["new.gmvqp"]

    def test_an_existing_pack_is_not_replaced_unasked(self, segments: Path) -> None:
        with pytest.raises(OutputError, match="exists"):
            Appender(segments)
        appender = Appender(segments, force=True)
        assert contents(segments) == made(8)
        appender.finish()
        assert contents(segments) == []

    def test_a_full_disk(self, segments: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        def full(*_: object) -> int:
            raise OSError(28, "No space left on device")

        appender = Appender(segments, append=True)
        appender.add("x", SMALL, b"12")
        monkeypatch.setattr(appending.os, "pwrite", full)
        with pytest.raises(OutputError, match="no space left"):
            appender.finish()
        appender.discard()
        monkeypatch.undo()
        assert contents(segments) == made(8)

    def test_a_place_that_cannot_be_written(self, tmp_path: Path) -> None:
        with pytest.raises(OutputError, match="create it first"):
            Appender(tmp_path / "missing" / "x.gmvqp")
        with pytest.raises(OutputError, match="directory"):
            Appender(tmp_path, append=True)
        with pytest.raises(OutputError, match="regular file"):
            Appender(Path("/dev/null"))
