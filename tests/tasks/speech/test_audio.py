import io
import math
import struct
from pathlib import Path

import numpy as np
import pytest
import soundfile

from redense.errors import DataError
from redense.tasks.speech.audio import decoded, lacking, look, read, resample
from redense.tasks.speech.data.mp3 import frames_of


def tone(path: Path, rate: int, seconds: float = 0.5, channels: int = 1) -> Path:
    samples = 0.5 * np.sin(2 * np.pi * 440 * np.arange(int(rate * seconds)) / rate)
    soundfile.write(path, np.stack([samples] * channels, 1), rate)
    return path


@pytest.mark.parametrize(("rate", "channels", "ending"), [(8_000, 1, "wav"), (44_100, 2, "flac"), (16_000, 1, "ogg")])
def test_any_rate_and_channels_become_the_rate_that_is_asked_for(tmp_path: Path, rate: int, channels: int, ending: str):
    samples = read(tone(tmp_path / f"a.{ending}", rate, channels=channels), 16_000)
    assert samples.dtype == np.float32
    assert len(samples) == pytest.approx(8_000, abs=2)
    power = np.abs(np.fft.rfft(samples * np.hanning(len(samples))))
    assert np.argmax(power) * 16_000 / len(samples) == pytest.approx(440, abs=3)
    assert np.sqrt(np.mean(samples**2)) == pytest.approx(0.5 / np.sqrt(2), rel=0.02)


def test_a_piece_of_a_file_is_read(tmp_path: Path):
    whole, piece = read(tone(tmp_path / "a.wav", 16_000), 16_000), read(tmp_path / "a.wav", 16_000, 0.1, 0.2)
    np.testing.assert_array_equal(piece, whole[1_600:4_800])


def test_uncompressed_sphere_is_read(tmp_path: Path):
    samples = (1000 * np.sin(np.arange(1600) / 5)).astype("<i2")
    head = b"NIST_1A\n   1024\nchannel_count -i 1\nsample_count -i 1600\nsample_rate -i 16000\nsample_n_bytes -i 2\n"
    head += b"sample_byte_format -s2 01\nsample_sig_bits -i 16\nsample_coding -s3 pcm\nend_head\n"
    (tmp_path / "a.sph").write_bytes(head.ljust(1024) + samples.tobytes())
    np.testing.assert_allclose(read(tmp_path / "a.sph", 16_000), samples / 2**15, atol=1e-4)


@pytest.mark.parametrize("said", [0, 100, 2**31 - 40, 2**32 - 1])
def test_a_header_that_lies_about_its_length_does_no_harm(tmp_path: Path, said: int):
    path = tone(tmp_path / "a.wav", 16_000)
    content = bytearray(path.read_bytes())
    place = content.index(b"data") + 4
    content[place : place + 4] = struct.pack("<I", said)
    path.write_bytes(content)
    found = look(path)
    assert found.fault or 0 < found.seconds <= 0.51


def test_a_header_that_lies_about_its_rate_is_named(tmp_path: Path):
    path = tone(tmp_path / "a.wav", 16_000)
    content = bytearray(path.read_bytes())
    place = content.index(b"fmt ") + 12
    content[place : place + 4] = struct.pack("<I", 2_000_000_000)
    path.write_bytes(content)
    assert "samples a second" in str(look(path).fault)


def test_what_cannot_be_used_is_named(tmp_path: Path):
    def fault(content: bytes) -> str:
        (tmp_path / "x.wav").write_bytes(content)
        return str(look(tmp_path / "x.wav").fault)

    assert fault(b"") == "is empty"
    assert fault(b"no sound at all" * 10).startswith("is no sound file")
    assert "sph2pipe" in fault(b"NIST_1A\n   1024\nsample_coding -s26 pcm,embedded-shorten-v2.00\n".ljust(1100))
    assert str(look(tmp_path / "missing.wav").fault).startswith("cannot be read")
    soundfile.write(tmp_path / "silent.wav", np.zeros(8_000), 8_000)
    assert look(tmp_path / "silent.wav").fault == "is silent"
    soundfile.write(tmp_path / "nan.wav", np.array([0.1, np.nan] * 100, np.float32), 8_000, subtype="FLOAT")
    assert look(tmp_path / "nan.wav").fault == "holds samples that are no numbers"
    for loud, words in ((1e30, "holds samples far beyond full scale (1e+30)"), (2.0**31, "None")):
        soundfile.write(tmp_path / "loud.wav", np.array([0.1, loud] * 100, np.float32), 8_000, subtype="FLOAT")
        assert str(look(tmp_path / "loud.wav").fault) == words
    soundfile.write(tmp_path / "none.wav", np.zeros(0), 8_000)
    assert look(tmp_path / "none.wav").fault == "holds no sound"
    with pytest.raises(DataError, match=r"none\.wav holds no sound"):
        read(tmp_path / "none.wav", 8_000)


def test_a_truncated_file_gives_what_is_there(tmp_path: Path):
    path = tone(tmp_path / "a.wav", 16_000)
    path.write_bytes(path.read_bytes()[:4_000])
    assert 0 < look(path).seconds < 0.13


def test_of_an_over_long_file_only_so_much_is_decoded(tmp_path: Path):
    assert 1 < look(tone(tmp_path / "a.wav", 8_000, seconds=5), longest=1).seconds <= 2


def test_the_same_rate_changes_nothing():
    samples = np.arange(5, dtype=np.float32)
    assert resample(samples, 8_000, 8_000) is samples


def mp3(path: Path) -> Path:
    """Write 6 s of a tone, and then of noise, as an MP3 of varying bit rates."""
    tone, noise = 0.3 * np.sin(np.arange(48_000) / 10), 0.2 * np.random.default_rng(0).standard_normal(48_000)
    soundfile.write(path, np.concatenate([tone, noise]), 16_000, compression_level=0.5, bitrate_mode="VARIABLE")
    return path


def test_an_mp3_is_what_it_is_at_once_also_block_by_block_and_in_pieces(tmp_path: Path):
    path = mp3(tmp_path / "a.mp3")
    whole, _ = soundfile.read(path, dtype="float32")
    np.testing.assert_allclose(read(path, 16_000), whole, atol=1e-5)  # two blocks of 65,536
    np.testing.assert_allclose(read(path, 16_000, 3.5, 1.0), whole[56_000:72_000], atol=1e-5)
    assert look(path).seconds == 6.0


def test_an_mp3_without_a_header_and_two_in_one_file_are_read_to_their_end(tmp_path: Path):
    content = mp3(tmp_path / "a.mp3").read_bytes()
    header = frames_of(io.BytesIO(content)).start
    bare, two = tmp_path / "bare.mp3", tmp_path / "two.mp3"
    bare.write_bytes(content[header:])
    two.write_bytes(content + b"TAG".ljust(128, b"\0") + content)
    assert soundfile.info(bare).duration < 4  # which goes by the first frame, and in the other by its header
    assert look(bare).seconds == pytest.approx(6.1, abs=0.1)
    assert look(two).seconds == pytest.approx(12.2, abs=0.1)
    samples = read(bare, 16_000)
    np.testing.assert_allclose(samples[1_105 : 1_105 + 48_000], read(tmp_path / "a.mp3", 16_000)[:48_000], atol=0.01)
    np.testing.assert_array_equal(read(bare, 16_000, 3.5, 1.0), samples[56_000:72_000])
    assert look(bare).lacking == look(two).lacking == 0.0


@pytest.mark.parametrize(
    ("ending", "place"), [("wav", (4, 40)), ("rf64", ()), ("w64", ()), ("nist", ()), ("au", (8,)), ("mp3", ())]
)
def test_what_a_file_lacks_of_what_its_header_says_is_told(tmp_path: Path, ending: str, place: tuple[int, ...]):
    channels = 2 if ending == "nist" else 1
    path = mp3(tmp_path / "a.mp3") if ending == "mp3" else tone(tmp_path / f"a.{ending}", 16_000, 2.0, channels)
    content = path.read_bytes()
    assert look(path).lacking == 0.0
    path.write_bytes(content[: len(content) // 2])
    seen = look(path)
    assert seen.fault is None
    assert seen.seconds + seen.lacking == pytest.approx(6.0 if ending == "mp3" else 2.0, abs=0.01)
    for at in place:  # as a program that streams leaves it
        content = content[:at] + b"\xff" * 4 + content[at + 4 :]
    path.write_bytes(content)
    assert look(path).lacking == 0.0


def test_an_ogg_that_is_cut_anywhere_is_told_and_one_with_a_tag_behind_it_is_whole(tmp_path: Path):
    path = tmp_path / "a.ogg"
    soundfile.write(path, np.random.default_rng(0).standard_normal(96_000) / 10, 16_000)
    content = path.read_bytes()
    last = content.rindex(b"OggS")
    for end in (last - 50, last, last + 10, len(content) - 1):
        path.write_bytes(content[:end])
        seen = look(path)
        assert seen.fault is None
        assert seen.lacking == lacking(path, seen.seconds) == math.inf
    path.write_bytes(content + b"TAG".ljust(128, b"\0"))
    assert look(path).lacking == 0.0


def noise(seconds: float, rate: int = 8_000) -> np.ndarray:
    return np.random.default_rng(0).standard_normal(int(seconds * rate)).astype(np.float32) / 10


@pytest.mark.parametrize("channels", [1, 2])
def test_a_flac_that_is_cut_off_is_read_as_far_as_it_goes_and_a_damaged_one_is_refused(tmp_path: Path, channels: int):
    path = tmp_path / "a.flac"
    soundfile.write(path, np.stack([noise(12)] * channels, 1), 8_000)
    content, whole = path.read_bytes(), read(path, 8_000)
    half, damage = len(content) // 2, bytes(100)
    for end in (half, len(content) - 1):
        path.write_bytes(content[:end])
        seen, samples = look(path), read(path, 8_000)
        assert seen.fault is None
        assert seen.seconds == len(samples) / 8_000 > 12 * end / len(content) - 0.6  # all but the frame that was cut
        assert seen.seconds + lacking(path, seen.seconds) == seen.seconds + seen.lacking == 12.0
        np.testing.assert_array_equal(samples, whole[: len(samples)])
    path.write_bytes(content[:half])
    np.testing.assert_array_equal(read(path, 8_000, 2.5, 1.0), whole[20_000:28_000])
    assert look(path, 7.0, 1.0).fault == "ends before second 7"
    path.write_bytes(content + b"TAG".ljust(128, b"\0"))
    assert (look(path).seconds, look(path).lacking) == (12.0, 0.0)
    tail = len(content) - 12_000  # within what libsndfile reads at once
    for spoilt in (
        content[:half] + damage + content[half + 100 :],
        content[:half] + content[half + 5_000 :],
        content[:tail] + damage + content[tail + 100 :],
        content[: half - 9_000] + damage + content[half - 8_900 : half],
        content[:half] + bytes(len(content) - half),
    ):
        path.write_bytes(spoilt)
        assert str(look(path).fault).startswith("is no sound file that can be read")


@pytest.mark.parametrize("kind", ["VORBIS", "OPUS"])
def test_all_streams_of_a_chained_ogg_are_heard(tmp_path: Path, kind: str):
    path, parts = tmp_path / "a.ogg", list[bytes]()
    for seconds in (1.0, 1.5, 0.5):
        soundfile.write(path, noise(seconds), 8_000, format="OGG", subtype=kind)
        parts.append(path.read_bytes())
    path.write_bytes(b"".join(parts))
    assert soundfile.info(path).duration == 1.0
    seen, samples = look(path), read(path, 8_000)
    assert (seen.seconds, seen.fault, seen.lacking, lacking(path, 3.0)) == (3.0, None, 0.0, 0.0)
    np.testing.assert_allclose(samples[8_000:16_000], samples[:8_000], atol=0.15)  # each begins as the first does
    np.testing.assert_array_equal(read(path, 8_000, 0.75, 1.0), samples[6_000:14_000])
    assert look(path, 3.5).fault == "ends before second 3.5"
    path.write_bytes(parts[0] + parts[1][:-200] + parts[2])  # its last page seems to reach into the next stream
    assert (look(path).lacking, look(path).seconds > 2.0) == (math.inf, True)
    path.write_bytes(parts[0] + parts[1][:60] + parts[2])  # a stream that cannot be opened, behind what is asked for
    assert (look(path, 0.0, 0.5).seconds, look(path).fault is None) == (0.5, False)
    soundfile.write(path, noise(1.0), 16_000, format="OGG", subtype=kind)
    path.write_bytes(parts[0] + path.read_bytes())
    assert look(path).fault == "holds streams of 8,000 and of 16,000 samples a second: convert it to one rate"


def test_channels_that_cancel_each_other_are_told_and_one_silent_channel_is_not(tmp_path: Path):
    path = tmp_path / "a.wav"
    soundfile.write(path, np.stack([noise(1), -noise(1)], 1), 8_000)
    assert str(look(path).fault).startswith("has channels that cancel each other")
    with pytest.raises(DataError, match=r"a\.wav has channels that cancel each other .*: turn the sign of one"):
        list(decoded(path))
    soundfile.write(path, np.stack([noise(1), 0 * noise(1)], 1), 8_000)
    assert look(path).fault is None


def test_a_piece_is_read_where_a_format_cannot_be_entered_in_the_middle(tmp_path: Path):
    path = tmp_path / "a.wav"
    soundfile.write(path, noise(3), 8_000, subtype="GSM610")
    np.testing.assert_array_equal(read(path, 8_000, 1.5, 1.0), read(path, 8_000)[12_000:20_000])
    assert (look(path, 1.5, 1.0).seconds, look(path, 4.0).fault) == (1.0, "ends before second 4")


def test_frames_are_found_behind_tags_and_other_bytes(tmp_path: Path):
    content = mp3(tmp_path / "a.mp3").read_bytes()
    plain = frames_of(io.BytesIO(content))
    assert (plain.samples // 576, plain.one, plain.even) == (plain.samples / 576, 576, False)
    tagged = frames_of(io.BytesIO(b"ID3\3\0\0\0\0\0\0" * 3000 + b"\xff" * 5000 + content))
    assert (tagged.samples, tagged.start) == (plain.samples, plain.start + 35_000)
    assert frames_of(io.BytesIO(b"\xff\xfb" * 40_000)).samples == frames_of(io.BytesIO(b"")).samples == 0
