"""libcurl is loaded when the first token is asked for: who needs none needs no libcurl."""

import errno
import re

import pytest

from lib.client_driver import Driver
from lib.processes import program
from lib.shell import need, sh


@pytest.fixture
def without_curl(tmp_path):
    """An environment in which the library is found first that cannot be loaded."""
    (tmp_path / "libcurl.so.4").write_text("no library\n", encoding="ascii")
    return {"LD_LIBRARY_PATH": str(tmp_path)}


def test_a_client_with_a_key(hpkvd, without_curl):
    with Driver(hpkvd.url, env=without_curl, api_key=hpkvd.key) as driver:
        assert "err" not in driver.connect()
        assert "err" not in driver.request("set", "a", "b", 0)


def test_a_token(hpkvd, without_curl):
    with Driver(hpkvd.url, env=without_curl, api_key=hpkvd.key) as driver:
        for number in range(2):
            driver.do("token", ["*"], None)
            outcome = driver.wait("token", after=number)
            assert outcome["err"] == -errno.ELIBACC
            assert outcome["text"]
        assert "err" not in driver.connect()


def test_it_is_not_linked():
    need("readelf")
    for path in ("src/client/libhpkv.so", "src/cli/hpkv", "src/mount/hpkvfs"):
        section = sh('readelf --dynamic "$1"', "/", program(path)).stdout
        needed = re.findall(r"\(NEEDED\).*\[(.+)\]", section)
        assert any(name.startswith("libwebsockets.so") for name in needed), section
        assert not any("curl" in name for name in needed), section
