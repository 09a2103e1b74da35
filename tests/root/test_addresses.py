"""Addresses of files: what is one, what of it may be shown, and what a message of a file system may say."""

from __future__ import annotations

import errno
import zipfile
from pathlib import Path

import pytest

from aimlasync.addresses import (
    AddressError,
    begins_like_one,
    has_password,
    is_address,
    name_in,
    opened,
    path_of,
    reaching,
    said,
    shown,
)


@pytest.mark.parametrize(
    "text", ["s3://b/k", "S3://b/k", "zip://a::s3://b/x.zip", "simplecache::https://h/a", "gs://b", "x+y.z-1://a"]
)
def test_an_address_begins_with_its_scheme(text: str) -> None:
    assert is_address(text)
    assert begins_like_one(text)


@pytest.mark.parametrize(
    "text", ["a.csv", r"C:\rows.csv", "C:/rows.csv", "C://rows", "./s3://b", "a::b.csv", "10:30", ""]
)
def test_a_path_is_no_address(text: str) -> None:
    assert not is_address(text)


def test_an_address_without_its_slashes_is_known() -> None:
    assert begins_like_one("s3:/b/k")
    assert begins_like_one("s3:b")
    assert not begins_like_one(r"C:\rows.csv")


@pytest.mark.parametrize(
    ("address", "without"),
    [
        ("ftp://me:hunter22@host:21/a.csv", "ftp://host:21/a.csv"),
        ("ftp://me:hun/ter22@host/a.csv", "ftp://host/a.csv"),
        ("ftp://me:hun@ter22@host/a.csv", "ftp://host/a.csv"),
        ("s3://AKIA:hunter22@bucket/k", "s3://bucket/k"),
        ("zip://a.csv::ftp://me:hunter22@host/x.zip", "zip://a.csv::ftp://host/x.zip"),
        ("simplecache::https://host/a.csv?Expires=1&Signature=hunter22", "simplecache::https://host/a.csv"),
        ("https://host:8080/me@x.csv?=hunter22", "https://host:8080/me@x.csv"),
    ],
)
def test_what_is_shown_has_no_secret_in_it(address: str, without: str) -> None:
    assert shown(address) == without
    assert has_password(address) == ("?" not in address)
    for message in (f"cannot open {address}", f"no {address[12:]}", "wrong: hunter22", f"bad host {address[6:]}"):
        assert "hunter22" not in said(OSError(message), address)


@pytest.mark.parametrize(
    "address",
    ["abfs://rows@account.dfs.core.windows.net/a.csv", "s3://b/what?.csv", "s3://b/a#1 b%20.csv", "sftp://me@h:22/a"],
)
def test_what_is_no_secret_is_shown(address: str) -> None:
    assert shown(address) == address
    assert not has_password(address)


def test_a_signature_that_a_server_led_to_is_not_said() -> None:
    error = OSError("403, url='https://cdn/x?sig=hunter22&e=1'\n from ftp://me:hunter22@host/x")
    assert said(error, "https://host/x") == "OSError: 403, url='https://cdn/x' from ftp://host/x"


def test_the_name_of_a_file_in_an_archive_is_its_own() -> None:
    assert name_in("zip://rows.csv::s3://b/x.zip") == "zip://rows.csv"
    assert name_in("simplecache::https://host/rows.csv?sig=hunter22") == "https://host/rows.csv"


def test_an_address_of_this_machine_is_a_path() -> None:
    assert path_of("file:///a/b c.csv").endswith("a/b c.csv")
    assert path_of("LOCAL:///a.csv").endswith("a.csv")
    assert path_of("a.csv") == "a.csv"
    with pytest.raises(AddressError, match=r"file://host/a\.csv: .* third slash"):
        path_of("file://host/a.csv")


def test_a_disk_that_is_full_is_no_matter_of_credentials() -> None:
    with (
        pytest.raises(AddressError, match=r"s3://b/k: .*No space left on device.*; make room there"),
        reaching("s3://b/k"),
    ):
        raise OSError(errno.ENOSPC, "No space left on device")
    # The disk of a copy is here.
    with pytest.raises(OSError, match=r"No space left on device: '/tmp/x'"), reaching("s3://b/k"):
        raise OSError(errno.ENOSPC, "No space left on device", "/tmp/x")


def test_whatever_a_file_system_raises_is_one_line() -> None:
    for error in (OSError("a\nb"), KeyError("ftp://me:hunter22@host"), FileNotFoundError("x"), RuntimeError()):
        with pytest.raises(AddressError) as raised, reaching("ftp://me:hunter22@host/a.csv"):
            raise error
        assert str(raised.value).startswith("ftp://host/a.csv: ")
        assert "\n" not in str(raised.value)
        assert "hunter22" not in str(raised.value)


@pytest.mark.parametrize(
    ("address", "what"), [("memory://", "nothing behind the scheme"), ("odd://x", "Protocol not known: odd")]
)
def test_what_cannot_be_opened_is_refused(address: str, what: str) -> None:
    pytest.importorskip("fsspec")
    with pytest.raises(AddressError, match=what):
        opened(address)


def test_a_path_behind_an_archive_is_refused_with_the_address_to_write(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    pytest.importorskip("fsspec")
    monkeypatch.chdir(tmp_path)
    right = (tmp_path / "in" / "a b.zip").as_uri()
    with pytest.raises(AddressError) as refused:
        opened("zip://a.csv::in/a b.zip")
    assert str(refused.value).endswith(f"is an address too, here {right}")
    with zipfile.ZipFile(tmp_path / "x.zip", "w") as archive:
        archive.writestr("a.csv", "id")
    system, path = opened(f"zip://a.csv::file://{tmp_path}/x.zip")
    assert system.cat_file(path) == b"id"
