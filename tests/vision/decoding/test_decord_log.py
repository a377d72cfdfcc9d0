import av
import pytest

from tests.vision.conftest import textured_pictures

decord_log = pytest.importorskip("vision.decoding.decord_log", reason="decord has no build here")


def complaints_about(path):
    """What reading each frame of a file adds."""
    import decord

    assert decord_log.watch_log()
    reader = decord.VideoReader(str(path), num_threads=1)
    before = decord_log.num_complaints()
    for index in range(len(reader)):
        try:
            reader[index]
        except decord.DECORDError:
            break
    del reader  # its thread ends
    return decord_log.num_complaints() - before


@pytest.mark.parametrize("codec", ["libx264", "libx265", "libvpx-vp9"])
def test_sound_file_gives_no_reason_to_complain(write_pictures, codec):
    assert not complaints_about(write_pictures("a.mkv", textured_pictures(20), codec=codec))


@pytest.mark.parametrize(("part", "filling"), [((0, 4), 0xFF), ((0.5, 1), 0)], ids=["head", "tail"])
def test_damage_that_decord_does_not_tell_of_is_noticed(write_pictures, part, filling):
    path = write_pictures("a.mp4", textured_pictures(20, size=(320, 240)), options={"bf": "0"})
    with av.open(str(path)) as container:
        packet = [packet for packet in container.demux(video=0) if packet.size][10]
    start, end = (int(at * packet.size) if at <= 1 else at for at in part)
    content = bytearray(path.read_bytes())
    content[packet.pos + start : packet.pos + end] = bytes([filling]) * (end - start)
    path.write_bytes(content)
    assert complaints_about(path)
