"""ONNX Runtime under valgrind: files that are accepted cause no invalid reads, writes or uninitialised values."""

from __future__ import annotations

import shutil

import pytest

from support import memcheck

REPORT = """==1== Invalid read of size 4
==1==    at 0x48: memcpy (in /usr/libexec/valgrind/vgpreload_memcheck-amd64-linux.so)
==1==    by 0xEE: ??? (in /lib/onnxruntime/capi/onnxruntime_pybind11_state.so)
==1==  Address 0x1 is 4 bytes after a block of size 16 alloc'd
==1==
==1== Use of uninitialised value of size 8
==1==    at 0x49: PyObject_Free (obmalloc.c:1)
==1==    by 0xEE: ??? (in /lib/onnxruntime/capi/onnxruntime_pybind11_state.so)
==1==
==1== Source and destination overlap in memcpy_chk(0x1f, 0x1f, 4)
==1==    at 0x48: __memcpy_chk (in /usr/libexec/valgrind/vgpreload_memcheck-amd64-linux.so)
==1==    by 0xEE: ??? (in /lib/onnxruntime/capi/onnxruntime_pybind11_state.so)
==1==
==1== ERROR SUMMARY: 3 errors from 3 contexts
"""


def test_errors_of_onnx_runtime_are_separated_from_those_of_python():
    (error,) = memcheck.errors(REPORT)
    assert error.startswith("Invalid read of size 4")


@pytest.mark.slow
@pytest.mark.skipif(shutil.which("valgrind") is None, reason="valgrind is not installed")
def test_accepted_files_have_no_errors_under_valgrind(tmp_path):
    printed, errors = memcheck.check(0, 200, tmp_path / "log")
    assert "'model: ran': 4" in printed
    assert errors == []
