"""The keeper gets every file that the receiver writes to: it holds their locks."""

from __future__ import annotations

from pathlib import Path

from sandtrail.collector.patience import PatientSpool
from sandtrail.errors import StoreError


class _Refused(PatientSpool):
    """Loses its new file while the disk refuses."""

    refusals = 1

    def append_here(self, record: bytes) -> None:
        if self.refusals:
            self.refusals -= 1
            self.path.unlink()
            raise StoreError("no room")
        super().append_here(record)


def test_a_file_is_handed_on_that_has_the_number_of_the_one_before_the_last(tmp_path: Path) -> None:
    spool, handed = _Refused(tmp_path, "receiver"), list[int]()
    spool.on_new_file = handed.append
    number = spool.fileno()
    spool.path.unlink()
    spool.append(b"record")
    assert spool.fileno() == number, "two files have come and gone"
    assert handed == [number]
    assert spool.path.read_bytes() == b"record"
    spool.close()
